"""Images of random bytes, and stored points as images again."""

from __future__ import annotations

import numpy as np

from pfgm.data.points import Points


def some(*shape: int, seed: int = 0) -> np.ndarray:
    """Random bytes of a shape."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def stored(points: Points) -> np.ndarray:
    """The stored rows, each in the shape of an item."""
    return points.stored.numpy().reshape(-1, *points.item)
