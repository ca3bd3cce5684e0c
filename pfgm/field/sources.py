"""Points that are taken by index, whether they are a tensor or are decoded as they are taken: sources of a field, data of a
metric.

Both stream over chunks ``sources[a:b]`` and pick single rows ``sources[index]``; nothing else is asked of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor


class Sources(Protocol):
    """N points of d coordinates: a tensor (N, d), or `pfgm.data.points.Points`."""

    @property
    def shape(self) -> Sequence[int]:
        """(N, d)."""

    @property
    def ndim(self) -> int:
        """2."""

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the rows that are taken."""

    @property
    def device(self) -> torch.device:
        """Return the device of the rows that are taken."""

    def is_floating_point(self) -> bool:
        """Return whether ``dtype`` is one of real numbers."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Tensor: ...
