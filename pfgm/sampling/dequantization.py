"""Dequantisation: grey levels as intervals, so that data of bytes have a density.

An image is of grey levels v, whole numbers that the data sets write as v/a + b. A continuous density could be raised without
end at those numbers alone; spread over their intervals, x = (v + u)/a + b with u ~ U[0, 1), they cannot tell more than their
levels do: −log2 p(x) + d log2 a is an upper bound of the bits of v, in the mean over u.

Source: Theis et al., A note on the evaluation of generative models (arXiv 1511.01844).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pfgm.data.dataset import Dataset
from pfgm.data.points import GREY_LEVELS
from pfgm.prior.streams import stream

DIGIT_LEVELS = 8.0
"""`digits` are v/8 − 1, v from 0 to 16."""


class Quantization(NamedTuple):
    """a, grey levels a data unit, and the dequantisation in words."""

    levels: float
    words: str


def quantization(data: Dataset) -> Quantization:
    """Return how the numbers of a data set come from grey levels: stored as bytes, or `digits`.

    Raises:
        ValueError: they do not.
    """
    if data.raw.stored.dtype == torch.uint8:
        levels = GREY_LEVELS
    elif data.info.name == "digits":
        levels = DIGIT_LEVELS
    else:
        raise ValueError(f"data are not quantised: {data.info.name} are floats; use nats per dimension, bits need grey levels")
    return Quantization(levels, f"(v + u)/{levels:g} − 1")


def dequantize(x: Tensor, levels: float, seed: int = 0) -> Tensor:
    """(v + u)/a + b of the numbers x = v/a + b, with u ~ U[0, 1) drawn row by row.

    Args:
        x: points (n, d), in data units.
        levels: a, of `quantization`.
        seed: of u; the first rows do not depend on n.
    Returns:
        shape (n, d), float64.
    """
    u = torch.from_numpy(stream(seed, "likelihood/dequantize").random(tuple(x.shape)))
    return x.double() + u.to(x.device) / levels
