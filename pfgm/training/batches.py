"""What one training draws: its data points, its training points and their targets, from streams of its own.

The streams derive from (seed, role) alone, never from the configuration, and they are used in the order of the steps. So a
training draws the same whoever is trained beside it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pfgm.field.plane import Plane
from pfgm.field.target import Doubts
from pfgm.networks.base import FieldNetwork
from pfgm.process.base import Process
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
        y, sources = self._data()
        return self.objective.points(self.process, y.to(self.dtype), sources, self.generators["perturb"]), sources

    def _data(self) -> tuple[Tensor, Plane]:
        """y (B, d) and the reference sources (N_ref, d), of which y is a part."""
        n, size, g = len(self.plane), self.process.train.batch_size, self.generators["order"]
        reference, device = self.process.train.reference_batch_size, self.plane.device
        if reference is None or reference == n:
            return self.plane[torch.randint(n, (size,), generator=g, device=device)], self.plane
        assert isinstance(reference, int)
        sources = self.plane.part(torch.randperm(n, generator=g, device=device)[:reference])
        return sources[:size], sources

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
