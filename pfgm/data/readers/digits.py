"""The embedded default: 1,797 grey 8 × 8 digits that come with scikit-learn, no download."""

from __future__ import annotations

import numpy as np

from pfgm.config import DataConfig
from pfgm.data.items import Items, Reader
from pfgm.data.labels import Labels


def read_digits(config: DataConfig) -> Items:
    """Return grey levels 0 … 16 as −1 … 1, shape (1797, 1, 8, 8), float32."""
    from sklearn.datasets import load_digits  # over a second that other data do not need

    digits = load_digits()
    images: np.ndarray = digits.images
    return Items((images / 8.0 - 1.0).astype(np.float32)[:, None], labels=Labels.known("0123456789", digits.target))


DIGITS = Reader(read_digits)
