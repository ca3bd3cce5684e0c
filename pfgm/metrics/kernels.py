r"""Distances by pairwise kernels: KID on features, the energy distance on points.

KID is the squared maximum mean discrepancy of the cubic kernel k(a, b) = (a·b/d + 1)³ between features of samples and of data:
its unbiased estimate Σ_{i≠j} k(x_i, x_j)/(m(m−1)) + Σ_{i≠j} k(y_i, y_j)/(m(m−1)) − 2 Σ_{ij} k(x_i, y_j)/m², averaged over
blocks that share no point, whose spread gives the standard error. Unlike the Fréchet distance it does not fall with the
number of samples, and may come out below zero.

The energy distance √(2 E‖X − Y‖ − E‖X − X'‖ − E‖Y − Y'‖) is zero only for equal laws, in any dimension, without features.

Sources: Bińkowski et al., arXiv 1801.01401 (KID); Székely & Rizzo 2013 (energy distance).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pfgm.field.sources import Sources
from pfgm.metrics.neighbours import CHUNK, column_blocks

BLOCK, MIN_BLOCKS = 1000, 5


class KernelDistance(NamedTuple):
    """KID, and its standard error over blocks."""

    kid: float
    standard_error: float


def kernel_distance(features: Tensor, reference: Tensor) -> KernelDistance:
    """KID between features of samples (n, k) and of data (m, k).

    Blocks of at most `BLOCK` points, at least `MIN_BLOCKS` of them, each of features and reference rows used once.

    Raises:
        ValueError: fewer than two points a block.
    """
    n = min(len(features), len(reference))
    size = min(BLOCK, n // MIN_BLOCKS)
    if size < 2:
        raise ValueError(f"kid: {n} points make no {MIN_BLOCKS} blocks of two; give at least {2 * MIN_BLOCKS}")
    x, y = features[: n // size * size].double(), reference[: n // size * size].double()
    blocks = torch.stack([unbiased_mmd2(a, b) for a, b in zip(x.split(size), y.split(size), strict=True)])
    return KernelDistance(float(blocks.mean()), float(blocks.std()) / math.sqrt(len(blocks)))


def unbiased_mmd2(x: Tensor, y: Tensor) -> Tensor:
    """Squared discrepancy of x (m, k) and y (m, k), the same number of rows, under the cubic kernel; a number, float64."""
    m, k = x.shape
    within = torch.zeros((), dtype=torch.float64, device=x.device)
    for z in (x, y):
        gram = (z @ z.T / k + 1) ** 3
        within += (gram.sum() - gram.diagonal().sum()) / (m * (m - 1))
    return within - 2 * ((x @ y.T / k + 1) ** 3).mean()


def energy_distance(x: Sources, y: Sources) -> float:
    """√(2 E‖X − Y‖ − E‖X − X'‖ − E‖Y − Y'‖) over all pairs of x (n, d) and y (m, d), in √(data units)."""
    return math.sqrt(max(2 * _mean_distance(x, y) - _mean_distance(x, x) - _mean_distance(y, y), 0.0))


def _mean_distance(x: Sources, y: Sources) -> float:
    total = 0.0
    for start in range(0, len(x), CHUNK):
        part = x[start : start + CHUNK].double()
        total += sum(float(torch.cdist(part, block.to(part.device)).sum()) for _, block in column_blocks(y))
    return total / (len(x) * len(y))
