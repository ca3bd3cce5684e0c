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
from scipy import stats

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
    variance: float = math.nan
    """Of the log ratio."""


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
    return Contrast(math.exp(middle), low, high, detectable(variance, df, comparisons=comparisons), sizes, df, lost, variance)


def p_values(log_ratio: float, variance: float, df: float, limit: float) -> tuple[float, float]:
    """Return how surely a log ratio is another than 0, and how surely it lies within a limit, as p-values.

    The first is two-sided. The second is the larger of two one-sided tests, against −limit and against +limit.

    Args:
        log_ratio: the estimate.
        variance: of the estimate; 0 where all values are the same.
        df: degrees of freedom of the variance.
        limit: log(1 + tolerance).
    Returns:
        1 and 1 where nothing is known of the noise.
    """
    if not (df > 0 and math.isfinite(variance) and math.isfinite(log_ratio)):
        return 1.0, 1.0
    error = math.sqrt(variance)
    if error == 0.0:
        return float(log_ratio == 0.0), float(abs(log_ratio) > limit)
    different = 2 * float(stats.t.sf(abs(log_ratio) / error, df))
    return different, float(stats.t.sf((limit - abs(log_ratio)) / error, df))


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values that hold together: those at most α are wrong anywhere with probability α at most.

    p₍ᵢ₎* = max over j ≤ i of min(1, (m − j + 1) p₍ⱼ₎), in rising order, whatever the dependence of the tests.

    Source: Holm (1979), Scandinavian Journal of Statistics 6, 65.
    """
    adjusted, highest = [1.0] * len(p), 0.0
    for rank, at in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[at]))
        adjusted[at] = highest
    return adjusted


def _known(y: np.ndarray) -> np.ndarray:
    values = np.asarray(y, dtype=float)
    return np.asarray(values[~np.isnan(values)])
