"""Distances between samples and data, on un-centred samples clamped to the data's range."""

from pfgm.metrics.frechet import frechet_distance, moments
from pfgm.metrics.neighbours import nearest_distance, neighbour_statistics, precision_recall
from pfgm.metrics.sliced import sliced_wasserstein

__all__ = [
    "frechet_distance",
    "moments",
    "nearest_distance",
    "neighbour_statistics",
    "precision_recall",
    "sliced_wasserstein",
]
