"""What the training of a conditional field draws: a class for every point, and a target over the points of that class.

The field of class c is that of the charges of class c alone, so the target of a row of class c is computed over the points of
the reference batch that are of class c. Rows without their class (a share ``label_dropout``, drawn from a stream of its own)
have the whole reference batch: what the network learns there is the field of all classes.

Each class of a batch is drawn and has its target by itself, one after the other, so that every objective, one's own among them,
sees a smaller batch with the sources that belong to it. The rows of a batch therefore stand in the order of their classes. On a
GPU every step waits for the device once, to learn which classes its batch has.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pfgm.field.plane import Plane
from pfgm.field.target import Doubts
from pfgm.networks.base import FieldNetwork
from pfgm.process.base import Process
from pfgm.training.batches import Batches
from pfgm.training.history import derive_seed
from pfgm.training.objectives import Drawn


class ConditionalBatches(Batches):
    """The draws of one conditional training.

    Args:
        process: what is trained.
        plane: all points, on the device of the training.
        labels: the class of every point (N,).
        seed: train seed.
        dtype: of what is drawn.
    """

    def __init__(self, process: Process, plane: Plane, labels: Tensor, seed: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(process, plane, seed, dtype)
        self.classes = len(process.info.classes)
        self.labels = labels.to(plane.device)
        self.generators["labels"] = torch.Generator(plane.device).manual_seed(derive_seed(seed, "labels"))
        self._planes: dict[int, Plane] = {}
        self.told: Tensor | None = None
        """The classes of the rows that were drawn last (B,); the number of classes stands for none."""

    def draw(self, doubts: Doubts | None) -> Drawn:
        """The next batch, its rows in the order of their classes; those without one come last."""
        rows, reference = self._rows()
        told = self.labels[rows]
        dropped = torch.rand(len(rows), generator=self.generators["labels"], device=rows.device)
        dropout = self.process.train.label_dropout
        assert dropout is not None
        told = torch.where(dropped < dropout, self.classes, told)
        self.told, order = told.sort(stable=True)
        parts, y = [], self.plane[rows[order]].to(self.dtype)
        for label, some in zip(*self._blocks(), strict=True):
            sources = self._sources(label, reference)
            drawn = self.objective.points(self.process, y[some], sources, self.generators["perturb"])
            parts.append(self.objective.target(self.process, drawn, sources, doubts))
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))

    def tell(self, network: FieldNetwork) -> FieldNetwork:
        """Return the network, told the classes of the rows that were drawn last."""
        assert self.told is not None
        return network.told(self.told)

    def _rows(self) -> tuple[Tensor, Tensor | None]:
        """Numbers of the points of the batch (B,), and of the reference batch (N_ref,); None: of all points."""
        n, size, g = len(self.plane), self.process.train.batch_size, self.generators["order"]
        reference, device = self.process.train.reference_batch_size, self.plane.device
        if reference is None or reference == n:
            return torch.randint(n, (size,), generator=g, device=device), None
        chosen = torch.randperm(n, generator=g, device=device)[: int(reference)]
        return chosen[:size], chosen

    def _blocks(self) -> tuple[list[int], list[slice]]:
        """The classes of the batch, and where the rows of each stand."""
        assert self.told is not None
        labels, counts = self.told.unique_consecutive(return_counts=True)
        ends = counts.cumsum(0).tolist()
        return labels.tolist(), [slice(end - n, end) for end, n in zip(ends, counts.tolist(), strict=True)]

    def _sources(self, label: int, reference: Tensor | None) -> Plane:
        """The points whose field a row of this class is trained for."""
        if reference is not None:
            return self.plane.part(reference if label == self.classes else reference[self.labels[reference] == label])
        if label == self.classes:
            return self.plane
        if label not in self._planes:
            self._planes[label] = self.plane.part((self.labels == label).nonzero().flatten())
        return self._planes[label]


def batches_of(process: Process, plane: Plane, labels: Tensor | None, seed: int, dtype: torch.dtype) -> Batches:
    """Return the draws of a training, conditional or not."""
    if not process.train.conditional:
        return Batches(process, plane, seed, dtype)
    assert labels is not None  # `pfgm.process.resolve.resolve_train` refuses data without
    return ConditionalBatches(process, plane, labels, seed, dtype)
