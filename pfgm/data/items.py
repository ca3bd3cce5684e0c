"""What a reader returns: the items of a data set as arrays, before anything is decided about training.

Images are (N, C, H, W), vectors (N, d). uint8 images stand for v/127.5 − 1; everything else is float32 in data units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pfgm.config import DataConfig


@dataclass(frozen=True)
class Items:
    """Items to train on, and the test split where the data set has one: (N, d) or (N, C, H, W), uint8 or float32."""

    values: np.ndarray
    test: np.ndarray | None = None


@dataclass(frozen=True)
class Reader:
    """A way to read a data set, and the keys of ``data`` that it has besides name, center, flip and holdout."""

    read: Callable[[DataConfig], Items]
    keys: frozenset[str] = frozenset()
    has_test: bool = False
