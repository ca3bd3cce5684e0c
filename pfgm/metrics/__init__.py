"""Distances between samples and data, on un-centred samples clamped to the data's range."""

from pfgm.metrics.frechet import frechet_distance, moments
from pfgm.metrics.kernels import energy_distance, kernel_distance
from pfgm.metrics.neighbours import nearest_distance, neighbour_gap, neighbour_statistics, own_distance, precision_recall
from pfgm.metrics.sliced import sliced_wasserstein

__all__ = [
    "energy_distance",
    "frechet_distance",
    "kernel_distance",
    "moments",
    "nearest_distance",
    "neighbour_gap",
    "neighbour_statistics",
    "own_distance",
    "precision_recall",
    "sliced_wasserstein",
]
