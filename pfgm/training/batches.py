"""What one training draws: its data points, its training points and their targets, from streams of its own.

The streams derive from (seed, role) alone, never from the configuration, and they are used in the order of the steps. So a
training draws the same whoever is trained beside it. `Together` draws for several: each from its own streams, all else at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pfgm.field.plane import Plane
from pfgm.field.target import Doubts
from pfgm.networks.base import FieldNetwork
from pfgm.process.base import Process
from pfgm.process.placed import Number, PlacedProcess
from pfgm.registry import OBJECTIVES
from pfgm.training.history import derive_seed
from pfgm.training.objectives import Drawn


class Batches:
    """The draws of one training.

    Args:
        process: what is trained.
        plane: all points, on the device of the training.
        seed: train seed.
        dtype: of what is drawn.
    """

    def __init__(self, process: Process, plane: Plane, seed: int, dtype: torch.dtype = torch.float32) -> None:
        self.process, self.plane, self.dtype = process, plane, dtype
        self.objective = OBJECTIVES[str(process.train.objective)]
        self.generators = {
            role: torch.Generator(plane.device).manual_seed(derive_seed(seed, role)) for role in ("order", "perturb")
        }

    def draw(self, doubts: Doubts | None) -> Drawn:
        """The next batch: training points, targets, and what else the objective's loss takes."""
        drawn, sources = self.points()
        return self.objective.target(self.process, drawn, sources, doubts)

    def tell(self, network: FieldNetwork) -> FieldNetwork:
        """Return the network as it is to be called on the rows that were drawn last."""
        return network

    def points(self) -> tuple[Drawn, Plane]:
        """The random part of the next batch, and the sources of its target."""
        index, sources = self.chosen()
        y = self.plane[index]
        return self.objective.points(self.process, y.to(self.dtype), sources, self.generators["perturb"]), sources

    def chosen(self) -> tuple[Tensor, Plane]:
        """Which points of the data are the next batch (B,), and the reference sources, which these are among."""
        n, size, g = len(self.plane), self.process.train.batch_size, self.generators["order"]
        reference, device = self.process.train.reference_batch_size, self.plane.device
        if reference is None or reference == n:
            return torch.randint(n, (size,), generator=g, device=device), self.plane
        assert isinstance(reference, int)
        rows = torch.randperm(n, generator=g, device=device)[:reference]
        return rows[:size], self.plane.part(rows)

    def state(self) -> dict[str, Tensor]:
        """Return the states of the streams, under the names that a training state has for them."""
        return {f"generator.{role}": generator.get_state() for role, generator in self.generators.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue the streams.

        Raises:
            ValueError: the state was made on another kind of device, whose random numbers are others.
        """
        for role, generator in self.generators.items():
            if len(state[f"generator.{role}"]) != len(generator.get_state()):
                raise ValueError(
                    f"the training state is of another kind of device than {self.plane.device.type}; train from the start"
                )
        for role, generator in self.generators.items():
            generator.set_state(state[f"generator.{role}"].cpu())


class Together:
    """The draws of several trainings of one process, objective and batch size, on one plane."""

    def __init__(self, batches: Sequence[Batches]) -> None:
        self._each, first = batches, batches[0]
        self._objective, self._process, self._rows = first.objective, first.process, first.process.train.batch_size
        placed = [b.process.numbers for b in batches if isinstance(b.process, PlacedProcess)]
        self._numbers = tuple(self._by_row(column) for column in zip(*placed, strict=True))
        gammas = [b.process.train.gamma for b in batches if b.process.train.gamma is not None]
        self._gamma = self._by_row(gammas) if gammas else None

    def _by_row(self, numbers: Sequence[float]) -> Number:
        """A number of each training: itself where all have the same, else one a row."""
        if len(set(numbers)) == 1:
            return numbers[0]
        whole = torch.tensor(numbers, dtype=torch.float64, device=self._each[0].plane.device)
        return whole.repeat_interleave(self._rows)

    def draw(self, doubts: Doubts | None) -> Drawn:
        """The next batches, one after the other."""
        process, around = self._process, self._objective.around
        sources: tuple[Plane, ...]
        if isinstance(process, PlacedProcess) and around is not None:
            first = self._each[0]
            chosen, sources = zip(*(batches.chosen() for batches in self._each), strict=True)
            y = first.plane[torch.cat(chosen)].to(first.dtype)
            parts = zip(self._each, y.split(self._rows), strict=True)
            own = [process.draws(part, batches.generators["perturb"]) for batches, part in parts]
            drawn = around(*process.placed(y, _joined(own), self._numbers), y, self._gamma)
        else:
            points, sources = zip(*(batches.points() for batches in self._each), strict=True)
            drawn = _joined(points)
        return self._objective.target(process, drawn, sources, doubts)


def _joined(drawn: Sequence[Drawn]) -> Drawn:
    return tuple(torch.cat(column) for column in zip(*drawn, strict=True))
