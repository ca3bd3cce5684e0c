"""Nearest-neighbour measures in data space: precision and recall, memorising, outliers.

Precision and recall (Kynkäänniemi et al., arXiv 1904.06991): the share of samples inside the union of the data's k-nearest-
neighbour balls, and the share of data inside the samples'.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

CHUNK = 1024
OUTLIER_FACTOR = 2.0
"""A sample is an outlier when its nearest training point is farther than this many times the data's own median distance."""


def nearest_distance(x: Tensor, y: Tensor, k: int = 1, skip_self: bool = False) -> Tensor:
    """Distance from each x (n, d) to its k-th nearest y (m, d), shape (n,); ``skip_self`` leaves out entry i for row i."""
    out = []
    for start in range(0, len(x), CHUNK):
        distance = torch.cdist(x[start : start + CHUNK].double(), y.double())
        if skip_self:
            rows = torch.arange(len(distance), device=distance.device)
            distance[rows, start + rows] = torch.inf
        out.append(distance.kthvalue(k, dim=1).values)
    return torch.cat(out)


def precision_recall(samples: Tensor, data: Tensor, k: int = 3) -> tuple[float, float]:
    """(precision, recall) of samples (n, d) against data (m, d)."""
    radius_data = nearest_distance(data, data, k, skip_self=True)
    radius_samples = nearest_distance(samples, samples, k, skip_self=True)
    inside_data, inside_samples = [], torch.zeros(len(data), dtype=torch.bool, device=data.device)
    for start in range(0, len(samples), CHUNK):
        distance = torch.cdist(samples[start : start + CHUNK].double(), data.double())
        inside_data.append((distance <= radius_data).any(1))
        inside_samples |= (distance <= radius_samples[start : start + CHUNK, None]).any(0)
    return float(torch.cat(inside_data).double().mean()), float(inside_samples.double().mean())


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
