"""Contrasts: a sum and difference of mean log metrics of several groups of fields, as a ratio with its interval.

A claim such as "loses less quality with fewer steps" is about more than two means: the degradation of one process over that of
another, (b₁/b₀)/(a₁/a₀). With group g's mean ȳ_g of log values and signs c_g = ±1 the contrast is Σ c_g ȳ_g, and exp(contrast)
is the ratio. The variance of a contrast is the sum of the groups' moderated variances over their sizes
(`analysis.statistics.variance`). Values within a group are one a field, and groups are independent. A degradation within a
field enters as one group of differences.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analysis.statistics.variance import detectable, half_width, moderate, of_means, pool


class Contrast(NamedTuple):
    """exp(Σ c_g ȳ_g) with its t-interval."""

    ratio: float
    low: float
    """NaN where some group has fewer than two values and no other lends its variance."""
    high: float
    detectable_gap: float
    """The smallest gap, a fraction, that a 5 % test finds four times in five at this noise and size."""
    n: tuple[int, ...]
    """Fields of each group that have a value."""
    df: float
    n_lost: tuple[int, ...] = ()
    """Fields of each group without one (NaN): failed, diverged or pending. The ratio is over the others, so it may flatter."""


def contrast(
    groups: Sequence[tuple[int, np.ndarray]],
    confidence: float = 0.95,
    comparisons: int = 1,
    others: Sequence[np.ndarray] = (),
) -> Contrast:
    """Estimate a ratio of products of geometric means.

    Args:
        groups: (c, log values of the fields), c = +1 for a numerator, −1 for a denominator; NaN for a field that has none.
        confidence: of the interval.
        comparisons: intervals that shall hold together (Bonferroni).
        others: log values of the study's other groups, which lend their variance.
    Returns:
        NaN throughout where no field of a group has a value.
    """
    values = [_known(y) for _, y in groups]
    sizes = tuple(len(y) for y in values)
    lost = tuple(len(y) - n for (_, y), n in zip(groups, sizes, strict=True))
    if not groups or not all(sizes):
        return Contrast(math.nan, math.nan, math.nan, math.nan, sizes, 0.0, lost)
    pooled = pool([*values, *map(_known, others)])
    variance, df = of_means([(moderate(y, pooled), len(y)) for y in values])
    half = half_width(variance, df, confidence, comparisons)
    middle = sum(c * float(y.mean()) for (c, _), y in zip(groups, values, strict=True))
    low, high = math.exp(middle - half), math.exp(middle + half)
    return Contrast(math.exp(middle), low, high, detectable(variance, df, comparisons=comparisons), sizes, df, lost)


def _known(y: np.ndarray) -> np.ndarray:
    values = np.asarray(y, dtype=float)
    return np.asarray(values[~np.isnan(values)])
