"""Sources on their plane, and what every target over them needs: computed once for as long as they are used.

Distances are taken from a point near the middle of the data, where a matrix product loses least. Data of up to `KEPT_ELEMENTS`
numbers are kept as the products take them; of more, every target converts one chunk after the other. A GPU takes larger chunks
than a CPU, whose caches they have to fit.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pfgm.field.distances import EPS, EXACT_DIM, Middle, chunk_elements, less, middle, squared_norms
from pfgm.field.sources import Sources

KEPT_ELEMENTS = 1 << 24
"""Float64 numbers that are kept at most: 128 MiB."""
LEAST_ROWS = 256
"""Sources of a chunk, at least."""


class Chunk(NamedTuple):
    """Some sources from the centre, in float64."""

    y: Tensor  # (n, d)
    squared: Tensor  # (n,) ‖y‖²


class Plane:
    """N sources of d coordinates. It can be indexed as they can.

    Args:
        points: sources, shape (N, d).
        parent: a plane of which they are a part, whose centre and radius they take; None: they have their own.
        asks: whether the host may read from the device, to spare work on what needs it not.
        elements: numbers of a chunk, in the sources and in their distances to a batch, and of what is kept; None: as the
            device likes it.
        double: no float32 anywhere.
    """

    def __init__(
        self,
        points: Sources,
        parent: "Plane | None" = None,
        *,
        asks: bool = True,
        elements: int | None = None,
        double: bool = False,
    ) -> None:
        self.points, self._parent, self._asks = points, parent, asks
        self._elements, self._most = elements or chunk_elements(points.device), elements or KEPT_ELEMENTS
        single = asks and not double and points.device.type == "cpu" and points.shape[1] > EXACT_DIM
        self.low = torch.float32 if single else torch.float64
        """What weights are computed in, at first."""
        self._buffers: dict[torch.dtype, Tensor] = {} if parent is None else parent._buffers

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, rows: Any, /) -> Tensor:
        return self.points[rows]

    @property
    def shape(self) -> Sequence[int]:
        """(N, d)."""
        return self.points.shape

    @property
    def ndim(self) -> int:
        return 2

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the rows that are taken."""
        return self.points.dtype

    @property
    def device(self) -> torch.device:
        """Return the device of the rows that are taken."""
        return self.points.device

    def is_floating_point(self) -> bool:
        """Return whether ``dtype`` is one of real numbers."""
        return self.points.is_floating_point()

    def from_centre(self, points: Tensor) -> Tensor:
        """Return points (n, d) less the centre, in float64."""
        return less(points, self.centre)

    def part(self, rows: Tensor) -> "Plane":
        """Return the plane of some of the sources."""
        double = self.low is torch.float64
        part = Plane(self.points[rows], self, asks=self._asks, elements=self._elements, double=double)
        part._most = self._most
        return part

    @cached_property
    def centre(self) -> Middle:
        """Return the point from which distances are taken."""
        return middle(self.points, silent=not self._asks) if self._parent is None else self._parent.centre

    @cached_property
    def radius(self) -> Tensor:
        """The largest ‖y − centre‖, a number in data units."""
        if self._parent is not None:
            return self._parent.radius
        return torch.stack([chunk.squared.amax() for chunk in self.chunks(1)]).amax().sqrt()

    @cached_property
    def rounding(self) -> Tensor:
        """Bound on what float64 loses in sums of coordinates, a number in data units."""
        if self._parent is not None:
            return self._parent.rounding
        reach: Tensor = 5.0 * self.radius + torch.linalg.vector_norm(self.centre.point)
        return 40.0 * EPS * reach

    @cached_property
    def _kept(self) -> Chunk | None:
        return self._chunk(slice(None)) if len(self) * self.shape[1] <= self._most else None

    def chunks(self, rows: int) -> Iterator[Chunk]:
        """Yield the sources in parts of bounded size, whose distances to ``rows`` points are bounded too."""
        kept = self._kept
        width = max(rows, 1) if kept is not None else max(rows, self.shape[1])
        size = max(LEAST_ROWS, self._elements // width)
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            if kept is None:
                yield self._chunk(part)
            else:
                yield kept if size >= len(self) else Chunk(*(tensor[part] for tensor in kept))

    def buffer(self, rows: int, n: int, dtype: torch.dtype) -> Tensor:
        """Return memory (rows, n) for distances or weights: that of a call before where it suffices, as new pages cost time."""
        known = self._buffers.get(dtype)
        if known is None or known.numel() < rows * n:
            self._buffers.pop(dtype, None)
            known = self._buffers[dtype] = torch.empty(rows * n, dtype=dtype, device=self.device)
        return known[: rows * n].view(rows, n)

    def free_buffers(self) -> None:
        """Give that memory back."""
        self._buffers.clear()

    def _chunk(self, rows: slice) -> Chunk:
        y = self.from_centre(self.points[rows])
        return Chunk(y, squared_norms(y))
