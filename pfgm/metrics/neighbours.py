"""Nearest-neighbour measures: precision, recall, density and coverage; memorising; outliers.

Precision and recall (Kynkäänniemi et al., arXiv 1904.06991) are the share of samples inside the union of the data's
k-nearest-neighbour balls, and the share of data inside the samples'. Density counts how many of the data's balls hold a sample,
over k, and coverage is the share of those balls that hold any (Naeem et al., arXiv 2002.09797): an outlier among the data with
its large ball flatters precision, not these.

Distances are taken in blocks of rows against blocks of columns, so the memory does not depend on how many points there are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from pfgm.field.sources import Sources
from pfgm.memory import ByRows

CHUNK = 1024
"""Rows of a block of distances."""
BLOCK_ELEMENTS = 1 << 22
"""Most float64 numbers of a converted block of columns (32 MiB), and most columns · rows / 2 of a block of distances."""
OUTLIER_FACTOR = 2.0
"""A sample is an outlier when its nearest training point is farther than this many times the data's own median distance."""
K_NEAREST = 3
"""The balls of precision and recall reach to this neighbour."""
N_OWN = 4000
"""Most data points whose own distance to the rest of the data is looked up."""


def column_blocks(y: Sources) -> Iterator[tuple[int, Tensor]]:
    """Pairs (first row, y[rows] in float64)."""
    size = max(256, min(2 * BLOCK_ELEMENTS // CHUNK, BLOCK_ELEMENTS // y.shape[1]))
    for start in range(0, len(y), size):
        yield start, y[start : start + size].double()


def _rows(x: Sources) -> Iterator[Tensor]:
    """Indices of x in parts."""
    return iter(torch.arange(len(x), device=x.device).split(CHUNK))


def nearest_distance(x: Sources, y: Sources, k: int = 1, own: Tensor | None = None) -> Tensor:
    """Distance from each x (n, d) to its k-th nearest y (m, d), shape (n,), float64.

    Args:
        own: for every x its own index among y (n,), which is left out.
    Raises:
        ValueError: y has fewer than k points besides x's own.
    """
    if len(y) - (own is not None) < k:
        raise ValueError(f"the {k}-th nearest of {len(y)} points does not exist; give more points")

    def kth(rows: Tensor) -> Tensor:
        part = x[rows].double()
        best = torch.full((len(part), k), torch.inf, dtype=torch.float64, device=part.device)
        for start, block in column_blocks(y):
            distance = torch.cdist(part, block.to(part.device))
            if own is not None:
                mine = own[rows] - start
                here = (mine >= 0) & (mine < len(block))
                distance[here.nonzero()[:, 0], mine[here]] = torch.inf
            best = torch.cat([best, _smallest(distance, min(k, distance.shape[1]))], 1).topk(k, 1, largest=False).values
        return best[:, -1]

    by_rows = ByRows(kth)
    return torch.cat([by_rows(rows) for rows in _rows(x)])


def _smallest(distance: Tensor, k: int) -> Tensor:
    """The k smallest numbers of each row; one is found much faster than several."""
    return distance.amin(1, keepdim=True) if k == 1 else distance.topk(k, 1, largest=False).values


def own_distance(x: Sources, k: int = 1) -> Tensor:
    """Distance from each x (n, d) to its k-th nearest other x, shape (n,)."""
    return nearest_distance(x, x, k, torch.arange(len(x), device=x.device))


class PrecisionRecall(NamedTuple):
    """Precision, recall, density and coverage; density alone may exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float


def precision_recall(samples: Sources, data: Sources, k: int = K_NEAREST, radius_data: Tensor | None = None) -> PrecisionRecall:
    """Precision, recall, density and coverage of samples (n, d) against data (m, d).

    Args:
        k: the balls reach to the k-th nearest neighbour of their own kind.
        radius_data: ``own_distance(data, k)`` (m,), where it is known already.
    """
    radius_data = own_distance(data, k) if radius_data is None else radius_data
    radius_samples = own_distance(samples, k)
    in_samples = torch.zeros(len(data), dtype=torch.bool, device=samples.device)
    covered = torch.zeros_like(in_samples)

    def held(rows: Tensor) -> Tensor:
        """Return how many of the data's balls hold each sample."""
        part, radius = samples[rows].double(), radius_samples[rows]
        count = torch.zeros(len(part), dtype=torch.float64, device=part.device)
        for start, block in column_blocks(data):
            stop = start + len(block)
            distance = torch.cdist(part, block.to(part.device))
            inside = distance <= radius_data[start:stop]
            count += inside.sum(1)
            covered[start:stop] |= inside.any(0)
            in_samples[start:stop] |= (distance <= radius[:, None]).any(0)
        return count

    by_rows = ByRows(held)
    count = torch.cat([by_rows(rows) for rows in _rows(samples)])
    return PrecisionRecall(_share(count > 0), _share(in_samples), float(count.mean()) / k, _share(covered))


def _share(mask: Tensor) -> float:
    return float(mask.double().mean())


def median_own_distance(data: Sources, seed: int = 0) -> float:
    """Median distance of data points to the nearest other one, over at most `N_OWN` of them drawn by ``seed``."""
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:N_OWN].to(data.device)
    return float(nearest_distance(data[order], data, 1, order).median())


class Neighbours(NamedTuple):
    """ratio: median distance to the data over the data's own (< 0.8: memorising; NaN where most data are duplicates);
    outliers: mask (n,) of far samples."""

    ratio: float
    outliers: Tensor


def neighbour_statistics(samples: Sources, data: Sources, own: float | None = None) -> Neighbours:
    """Distances of samples (n, d) to their nearest data (m, d), against ``own``, the data's own (`median_own_distance`)."""
    own = median_own_distance(data) if own is None else own
    distance = nearest_distance(samples, data)
    return Neighbours(float(distance.median()) / own if own > 0 else math.nan, distance > OUTLIER_FACTOR * own)


def neighbour_gap(samples: Sources, data: Sources, test: Sources, seed: int = 0) -> float:
    """Median distance of samples to training data over that to held-out data, as many of the one as of the other.

    1: samples are no closer to what was trained on than to what was not; well below 1: memorising. NaN where both are 0.
    """
    size = min(len(data), len(test))
    g = torch.Generator().manual_seed(seed)
    near, far = (
        nearest_distance(samples, part[torch.randperm(len(part), generator=g)[:size].to(part.device)]).median()
        for part in (data, test)
    )
    return float(near / far)
