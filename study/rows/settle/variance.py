"""Variances from two or three seeds: each configuration's own, moderated by what the whole study shows.

With n seeds a configuration's variance s² has n − 1 degrees of freedom. Student's t with one or two of them gives intervals
too wide to be of use (t₀.₉₇₅ is 12.7 and 4.3). One variance pooled over all configurations gives narrow intervals
that are wrong where noise differs: with standard deviations that differ threefold they cover 76 % in the noisiest fifth. In
between, the pooled variance s₀² counts as ``PRIOR_DF`` degrees of freedom beside the configuration's own:

    ν = (d₀ s₀² + d s²) / (d₀ + d),   d = n − 1,   d₀ = min(PRIOR_DF, degrees of freedom of the other configurations)

with Student's t of d₀ + d degrees of freedom. It is the moderated variance of Smyth (2004, Statistical Applications in Genetics
and Molecular Biology 3, 3) with d₀ fixed, not estimated: estimates from a dozen configurations vary too much to be trusted.
``benchmarks/statistics/coverage.py`` prints what it covers. The report and the design `settle` judge by the same variances.

Fields that are trained with equal seeds begin with equal weights, see equal batches, and are sampled from equal latents. Where
a parameter changes the training little, their log metrics rise and fall together. On digits the correlation over twelve seeds
was 0.87 between σ = 0.14 and 0.2, above 0.99 between τ = 0.02 and 0.03, and none between a reference batch of 128 and of all,
which draws other numbers. With D the difference of two fields of a seed,

    mean against mean:   d = ȳ − ȳ₀,   variance ν / n + ν₀ / n₀
    seed by seed:        d = D̄,        variance ν_D / n

each ν moderated; those of D by the differences at all values of the same parameter, and by nothing else. All values of a
parameter are compared in one way: seed by seed where the squares of its intervals are in sum at most `GAIN` of the other's.
``benchmarks/statistics/settle.py`` prints how often a verdict errs, with this choice.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

PRIOR_DF = 3.0
"""Degrees of freedom that the study's pooled variance counts for, beside a configuration's own."""
GAIN = 0.5
"""The share of the squared intervals of means that those at equal seeds may have, so that they are taken."""
LEAST_DF = 2
"""Degrees of freedom that the variance of differences must have for that."""


class Pooled(NamedTuple):
    """One variance over several configurations, the mean weighted by degrees of freedom."""

    variance: float
    df: int
    """Σ (n_i − 1)."""
    how: str


class Moderated(NamedTuple):
    """A configuration's variance after moderation, in the parts that it is the sum of; both 0 where nothing is known."""

    prior: float
    """d₀ s₀² / (d₀ + d): what the other configurations say, the same luck for every configuration."""
    prior_df: float
    own: float
    """d s² / (d₀ + d)."""
    own_df: float
    total_df: float = math.inf
    """Degrees of freedom of all configurations together: no comparison among them has more."""

    @property
    def known(self) -> bool:
        """Return whether there is any variance to go by."""
        return self.prior_df + self.own_df > 0


def pool(groups: Sequence[np.ndarray]) -> Pooled | None:
    """Return s₀² = Σ d_i s_i² / Σ d_i over groups of independent values; None when no group has two."""
    replicated = [np.asarray(g, dtype=float) for g in groups if len(g) > 1]
    df = sum(len(g) - 1 for g in replicated)
    if df == 0:
        return None
    variance = sum(float(g.var(ddof=1)) * (len(g) - 1) for g in replicated) / df
    name = "configuration" if len(replicated) == 1 else "configurations"
    return Pooled(variance, df, f"mean over {len(replicated)} {name}")


def moderate(values: np.ndarray, pooled: Pooled | None) -> Moderated:
    """Return the variance of one configuration's values, moderated by the pooled one (which includes it)."""
    own = float(max(len(values) - 1, 0))
    s2 = float(np.var(values, ddof=1)) if own else 0.0
    prior = max(min(PRIOR_DF, pooled.df - own), 0.0) if pooled is not None else 0.0
    df = prior + own
    if not df:
        return Moderated(0.0, 0.0, 0.0, 0.0)
    if pooled is None:
        return Moderated(0.0, 0.0, s2, own)
    return Moderated(prior * pooled.variance / df, prior, own * s2 / df, own, float(pooled.df))


def of_means(sides: Sequence[tuple[Moderated, int]]) -> tuple[float, float]:
    """Return the variance of a sum or difference of means of independent values, and its degrees of freedom.

    Each side contributes ν/n. The pooled part is common to the sides, so it counts once, not once a side. Where a single
    configuration has seeds, both sides take their variance from it. The sum then has no more degrees of freedom than it has.

    Args:
        sides: (moderated variance of the values, how many there are).
    Returns:
        Variance and degrees of freedom; NaN and 0 where a side has no values or no variance.
    """
    if not sides or not all(spread.known and n > 0 for spread, n in sides):
        return math.nan, 0.0
    prior = sum(spread.prior / n for spread, n in sides)
    parts = [(prior, max(spread.prior_df for spread, _ in sides))]
    variance, df = satterthwaite([*parts, *((spread.own / n, spread.own_df) for spread, n in sides)])
    return variance, min(df, *(spread.total_df for spread, _ in sides))


def mean_differences(
    base: np.ndarray, groups: Sequence[np.ndarray], lenders: Sequence[np.ndarray]
) -> tuple[list[tuple[float, float, float]], Pooled | None]:
    """Compare the mean of every group with that of one, each variance moderated by what all lenders say together.

    Args:
        base: values of the reference, independent.
        groups: values of the others.
        lenders: groups whose pooled variance counts beside each own one.
    Returns:
        (difference, its variance, degrees of freedom) of each group, with (NaN, NaN, 0) where a side is empty; the pooled
        variance, or None.
    """
    pooled = pool(lenders)
    found = []
    for y in groups:
        if not len(base) or not len(y):
            found.append((math.nan, math.nan, 0.0))
            continue
        variance, df = of_means([(moderate(side, pooled), len(side)) for side in (base, y)])
        found.append((float(y.mean() - base.mean()), variance, df))
    return found, pooled


class Values(NamedTuple):
    """What was measured at one training point."""

    y: np.ndarray
    """Log metric of each field, shape (n,)."""
    seeds: np.ndarray
    """The seed of each field, all different, shape (n,)."""


class Compared(NamedTuple):
    """Every group against the base."""

    found: list[tuple[float, float, float]]
    """(difference, its variance, degrees of freedom) of each group, with (NaN, NaN, 0) where a side is empty."""
    pooled: Pooled | None
    """The variance that all lenders share."""
    by_seed: bool
    """Whether groups were compared seed by seed."""


def compare_fields(base: Values, groups: Sequence[Values], lenders: Sequence[np.ndarray]) -> Compared:
    """Compare the values of one parameter with its default.

    Args:
        base: fields of the default.
        groups: fields of the other values.
        lenders: log metrics of all training points of the study: they lend their variance.
    """
    by_mean, pooled = mean_differences(base.y, [group.y for group in groups], lenders)
    differences = [_differences(base, group) for group in groups]
    shared = _shared(base, [group for group, d in zip(groups, differences, strict=True) if len(d) > 1])
    if shared is None or shared.df < LEAST_DF:
        return Compared(by_mean, pooled, False)
    by_seed = [
        (float(d.mean()), *of_means([(moderate(d, shared), len(d))])) if len(d) else other
        for d, other in zip(differences, by_mean, strict=True)
    ]
    if _width(by_seed) > GAIN * _width(by_mean):
        return Compared(by_mean, pooled, False)
    return Compared(by_seed, pooled, True)


def _shared(base: Values, groups: Sequence[Values]) -> Pooled | None:
    """Return the variance of a difference that values and default show together, at the seeds that all of them have.

    It is 2 s² with s² the mean square that is left of y where every value and every seed has its mean: differences to the same
    default are not independent, so their own variances must not be averaged as if they were.
    """
    sides = [base, *groups]
    common = functools.reduce(np.intersect1d, [side.seeds for side in sides])
    df = (len(sides) - 1) * (len(common) - 1)
    if df < 1:
        return None
    y = np.array([side.y[np.argsort(side.seeds)][np.isin(np.sort(side.seeds), common)] for side in sides])
    left = y - y.mean(axis=0) - y.mean(axis=1, keepdims=True) + y.mean()
    return Pooled(2 * float((left**2).sum()) / df, df, f"differences at {len(common)} seeds of {len(sides)} values")


def _width(found: Sequence[tuple[float, float, float]]) -> float:
    """Return the sum of the squared half-widths of 95 % intervals, of the comparisons that have one."""
    return sum(float(stdtrit(df, 0.975)) ** 2 * variance for _, variance, df in found if df > 0)


def _differences(base: Values, group: Values) -> np.ndarray:
    """Return the differences at common seeds, in the order of the seeds; none where a seed stands for several fields."""
    common, here, there = np.intersect1d(group.seeds, base.seeds, return_indices=True)
    several = len(set(group.seeds)) < len(group.seeds) or len(set(base.seeds)) < len(base.seeds)
    return np.asarray(group.y[here] - base.y[there]) if len(common) and not several else np.zeros(0)


def satterthwaite(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the variance of a sum of independent estimates, and its degrees of freedom V² / Σ (a_i² / d_i).

    Args:
        parts: (variance of the estimate a_i, its degrees of freedom d_i).
    """
    variance = sum(a for a, _ in parts)
    if not variance > 0:
        return variance, max(sum(d for _, d in parts), 1.0)
    return variance, variance**2 / sum(a**2 / d for a, d in parts if a > 0)
