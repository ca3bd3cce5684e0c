"""Points as they are stored, and decoded as they are taken.

An 8-bit image is a byte a coordinate: the byte v is the number v/127.5 − 1, so that 0 … 255 becomes [−1, 1]. A data set
stays in its bytes, on the host or on the device, and only the rows that are asked for become float32: 60,000 images of
28 × 28 are 47 MB instead of 188. Vectors are stored as float32. The mean of centred data is subtracted while decoding.

With ``flip`` the N stored images are 2N points: point N + i is image i mirrored left–right. Flips are then a property of
the distribution that is learned, not of the loop that trains: every sum over the data sees each of them exactly once.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

GREY_LEVELS = 127.5
"""Half the range of a byte: v/127.5 − 1 is in [−1, 1]."""

HASHED_ROWS = 1024
"""Stored rows that enter a hash at a time; the hash does not depend on it."""

Index = slice | int | Sequence[int] | Tensor


@dataclass(frozen=True, eq=False)
class Points:
    """N points of d coordinates; ``points[rows]`` are float32, in the units of training.

    Args:
        stored: (n, d), uint8 (images) or float32, in data units.
        item: shape of one point: (d,), or (C, H, W) for images.
        shift: (d,), subtracted from every point; None for none.
        rows: the stored rows that are points, in their order; None for all.
        flip: count every image a second time, mirrored.
        device: where decoded points live; that of ``stored`` by default.
    Raises:
        ValueError: the dtype is neither uint8 nor float32, or flips of what is no image.
    """

    stored: Tensor
    item: tuple[int, ...]
    shift: Tensor | None = None
    rows: Tensor | None = None
    flip: bool = False
    device: torch.device = field(default=None)  # type: ignore[assignment]  # filled in below

    def __post_init__(self) -> None:
        if self.stored.dtype not in (torch.uint8, torch.float32):
            raise ValueError(f"points are stored as uint8 or float32, got {self.stored.dtype}: convert them")
        if self.stored.ndim != 2 or self.stored.shape[1] != math.prod(self.item):
            raise ValueError(f"points of shape {self.item} need stored rows of their size, got {tuple(self.stored.shape)}")
        if self.flip and len(self.item) != 3:
            raise ValueError(f"only images (C, H, W) can be mirrored, got points of shape {self.item}: remove flip")
        if self.device is None:
            object.__setattr__(self, "device", self.stored.device)

    @property
    def n_stored(self) -> int:
        """Stored images or vectors among the points, flips not counted."""
        return len(self.stored) if self.rows is None else len(self.rows)

    def __len__(self) -> int:
        return self.n_stored * (2 if self.flip else 1)

    @property
    def shape(self) -> torch.Size:
        """(N, d)."""
        return torch.Size((len(self), self.stored.shape[1]))

    @property
    def ndim(self) -> int:
        return 2

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the decoded points."""
        return torch.float32

    def is_floating_point(self) -> bool:
        """Return True, for decoded points are floats."""
        return True

    def __getitem__(self, index: Index) -> Tensor:
        """Decoded points, float32: (…, d) for an index of shape (…), (n, d) for a slice or a mask of n true rows."""
        if isinstance(index, slice):
            return self._span(range(len(self))[index])
        index = torch.as_tensor(index, device=self.stored.device)
        if index.dtype == torch.bool:
            index = index.nonzero().flatten()
        flat = index.flatten()
        if self.flip:
            flat = torch.where(flat < 0, flat + len(self), flat)
            mirrored = flat >= self.n_stored
            taken = self._stored_rows(flat - self.n_stored * mirrored)
            taken = torch.where(mirrored[:, None], self._mirror(taken), taken)
        else:
            taken = self._stored_rows(flat)
        return self._decode(taken).reshape(*index.shape, self.shape[1])

    def bytes_stored(self, index: slice) -> Tensor:
        """Stored rows (n, d) as they are, uint8 or float32, flips left out."""
        return self._stored_rows(index)

    def feed(self, digest: hashlib._Hash) -> None:
        """Update a hash with the stored rows, flips left out."""
        for start in range(0, self.n_stored, HASHED_ROWS):
            digest.update(self.bytes_stored(slice(start, start + HASHED_ROWS)).contiguous().numpy().data)

    def unflipped(self) -> Points:
        """The stored images alone."""
        return replace(self, flip=False)

    def to(self, device: torch.device | str) -> Points:
        """Return these points, decoded on ``device``.

        The stored rows move there too if they fit into half of its free memory; else they stay on the host, and the rows
        that are taken are moved.
        """
        device = torch.device(device)
        if device == self.device:
            return self
        shift = None if self.shift is None else self.shift.to(device)
        if device.type == "cuda":
            size = self.n_stored * self.stored.shape[1] * self.stored.element_size()
            if size > torch.cuda.mem_get_info(device)[0] // 2:
                return replace(self, shift=shift, device=device)
        stored = self.stored if self.rows is None else self.stored[self.rows]
        return replace(self, stored=stored.to(device), shift=shift, rows=None, device=device)

    def _span(self, index: range) -> Tensor:
        """Decoded points of a slice: stored rows, then mirrored ones."""
        n = self.n_stored
        plain = len(range(index.start, min(index.stop, n), index.step)) if self.flip else len(index)
        parts = []
        if plain or not index:
            parts.append(self._stored_rows(slice(index.start, index.start + plain * index.step, index.step)))
        if plain < len(index):
            parts.append(self._mirror(self._stored_rows(slice(index[plain] - n, index.stop - n, index.step))))
        return self._decode(parts[0] if len(parts) == 1 else torch.cat(parts))

    def _stored_rows(self, index: slice | Tensor) -> Tensor:
        return self.stored[index] if self.rows is None else self.stored[self.rows[index]]

    def _mirror(self, taken: Tensor) -> Tensor:
        return taken.reshape(len(taken), *self.item).flip(-1).flatten(1)

    def _decode(self, taken: Tensor) -> Tensor:
        """Stored rows in the units of training; a view of what is stored where nothing is to be done."""
        taken = taken.to(self.device)
        if taken.dtype == torch.uint8:
            # A divisor on the device: by a number, CUDA multiplies with its rounded inverse, and 255 would miss 1.
            taken = taken.float().div_(torch.full((), GREY_LEVELS, device=self.device)).sub_(1.0)
            return taken if self.shift is None else taken.sub_(self.shift)
        return taken if self.shift is None else taken - self.shift
