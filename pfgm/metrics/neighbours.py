"""Nearest-neighbour measures in data space: precision and recall, memorising, outliers.

Precision and recall (Kynkäänniemi et al., arXiv 1904.06991): the share of samples inside the union of the data's k-nearest-
neighbour balls, and the share of data inside the samples'.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pfgm.memory import ByRows

CHUNK = 1024
OUTLIER_FACTOR = 2.0
"""A sample is an outlier when its nearest training point is farther than this many times the data's own median distance."""


def nearest_distance(x: Tensor, y: Tensor, k: int = 1, skip_self: bool = False) -> Tensor:
    """Distance from each x (n, d) to its k-th nearest y (m, d), shape (n,); ``skip_self`` leaves out entry i for row i."""

    def kth(part: Tensor, own: Tensor) -> Tensor:
        distance = torch.cdist(part.double(), y.double())
        if skip_self:
            distance[torch.arange(len(part), device=x.device), own] = torch.inf
        return distance.kthvalue(k, dim=1).values

    by_rows, index = ByRows(kth), torch.arange(len(x), device=x.device)
    return torch.cat([by_rows(part, own) for part, own in zip(x.split(CHUNK), index.split(CHUNK), strict=True)])


def precision_recall(samples: Tensor, data: Tensor, k: int = 3) -> tuple[float, float]:
    """(precision, recall) of samples (n, d) against data (m, d)."""
    radius_data = nearest_distance(data, data, k, skip_self=True)
    radius_samples = nearest_distance(samples, samples, k, skip_self=True)
    inside_samples = torch.zeros(len(data), dtype=torch.bool, device=data.device)

    def inside_data(part: Tensor, radius: Tensor) -> Tensor:
        distance = torch.cdist(part.double(), data.double())
        inside_samples.logical_or_((distance <= radius[:, None]).any(0))
        return (distance <= radius_data).any(1)

    by_rows, chunks = ByRows(inside_data), zip(samples.split(CHUNK), radius_samples.split(CHUNK), strict=True)
    inside = torch.cat([by_rows(*chunk) for chunk in chunks])
    return float(inside.double().mean()), float(inside_samples.double().mean())


class Neighbours(NamedTuple):
    """ratio: median distance to the data over the data's own (< 0.8: memorising; NaN where most data are duplicates);
    outliers: mask (n,) of far samples."""

    ratio: float
    outliers: Tensor


def neighbour_statistics(samples: Tensor, data: Tensor) -> Neighbours:
    """Distances of samples (n, d) to their nearest data (m, d), against the data's own leave-one-out distances."""
    own = nearest_distance(data, data, skip_self=True).median()
    distance = nearest_distance(samples, data)
    return Neighbours(float(distance.median() / own) if own > 0 else math.nan, distance > OUTLIER_FACTOR * own)
