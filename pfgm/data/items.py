"""What a reader returns: the items of a data set as arrays, before anything is decided about training.

Images are (N, C, H, W), vectors (N, d). uint8 stands for v/127.5 − 1; other images are float32, vectors floats of any width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pfgm.config import DataConfig
from pfgm.data.labels import Labels


@dataclass(frozen=True)
class Items:
    """Items to train on, the test split where the data set has one, and a sentence on what was done to read them."""

    values: np.ndarray
    test: np.ndarray | None = None
    how: str = ""
    notes: tuple[str, ...] = ()
    """What a user should know before training on them, a sentence each."""
    columns: tuple[str, ...] = ()
    """Names of the coordinates of vectors, where they have any."""
    labels: Labels | None = None
    """The class of every item, where it is known."""


PICTURE_KEYS = frozenset({"path", "size", "crop", "channels"})
"""Keys of ``data`` that every reader of pictures has."""


@dataclass(frozen=True)
class Reader:
    """The card of a data set: how it is read, and the keys of ``data`` that it has besides name, center, flip and holdout."""

    read: Callable[[DataConfig], Items]
    keys: frozenset[str] = frozenset()
