"""What each parameter does on average over the others, from points that fill the box: curves of a Gaussian process.

Quantile bins of 32 points say little about five parameters at once. Here log metric is a constant, a smooth function of each
parameter, a smooth function of all of them together, and noise between training points:

    y = c + Σ_j g_j(x_j) + h(x) + ε,   cov g_j = a_j² exp(−Δ_j²/2l_j²),   cov h = b² exp(−Σ_j Δ_j²/8l_j²)

with x scaled to [0, 1] over the search (categories differ by 1). The curve of a parameter is its partial dependence, the mean
over the measured points with x_j alone moved, less that at its default. Scales, lengths and noise are not fitted but averaged
over their posterior (a Metropolis chain), because fitted ones make bands too narrow. Source: Rasmussen and Williams (2006),
Gaussian Processes for Machine Learning, chapters 2 and 5; Friedman (2001) for partial dependence.
``benchmarks/gaussian_curves.py`` prints what the bands cover.
"""

from __future__ import annotations

import math
import zlib
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular

from analysis.rows.meta import AnalysisError, Axis, Value, tolerance_of
from analysis.rows.question import MAIN, statistic
from analysis.statistics.box import design_points, need_box

GRID, BASE = 21, 32
"""Values of a range, and measured points that a curve is the mean over."""
STEPS, KEPT = 600, 40
"""Steps of the chain, the first third left out, and how many of the others are kept."""
MIN_POINTS, MAX_POINTS = 16, 160
"""Fewer points tell no curve; of more, the first are taken (of a Sobol' sequence they fill the box too)."""
LOOKS = 4
"""Independent places of a smooth curve, about: what *sensitive* anywhere along it is corrected for."""


class ParameterCurve(NamedTuple):
    """The curve of one parameter, as ratios to its default."""

    parameter: str
    group: str
    grid: tuple[Value, ...]
    ratio: np.ndarray
    low: np.ndarray
    """Pointwise 95 % band."""
    high: np.ndarray
    inside: tuple[Value, ...]
    """The run of values around the default whose upper bound is within the tolerance."""
    rating: str
    """robust, sensitive or undetermined, over the whole range."""
    n_points: int


@statistic(ratio=True)
def parameter_curves(frame: pd.DataFrame, metric: str = MAIN, *, tolerance: float | None = None) -> list[ParameterCurve]:
    """Return the curve of every training parameter of a study whose points fill the box.

    A training point is one unit, the mean of its fields. Points that failed are left out. The band is pointwise; *sensitive*
    needs a lower bound above the tolerance that is corrected for looking along the curve, *robust* an upper bound within it
    everywhere.

    Args:
        frame: rows of `analysis.load_study`.
        metric: one averaged on the log; default ``fid``.
        tolerance: default: the study's.
    Raises:
        AnalysisError: a design that does not fill the box, or fewer than 16 complete training points.
    """
    need_box(frame, metric, "parameter_curves", False)
    points = design_points(frame, "train", metric)
    table = (
        points.table.loc[~points.table["failed"]].dropna(subset=["y", *(axis.column for axis in points.axes)]).head(MAX_POINTS)
    )
    if len(table) < MIN_POINTS or not points.axes:
        raise AnalysisError(
            f"parameter_curves: {len(table)} complete training points, {MIN_POINTS} at least; raise design.trials"
        )
    axes = [axis for axis in points.axes if len(table[axis.column].unique()) > 1]
    x = np.column_stack([_scaled(axis, table[axis.column].tolist()) for axis in axes])
    y, limit = table["y"].to_numpy(float), math.log1p(tolerance_of(frame) if tolerance is None else tolerance)
    kinds = np.array([axis.categorical for axis in axes])
    chain = _Chain(x, (y - y.mean()) / (y.std() + 1e-9), kinds)
    kept = chain.run(np.random.default_rng(0))
    df = max(len(y) - 2 * len(axes) - 2, 4)
    curves = []
    for j, axis in enumerate(axes):
        if axis.default is None:
            continue
        values: list[Value] = sorted(table[axis.column].unique()) if axis.categorical else _places(axis)
        d, se = chain.curve(kept, j, _scaled(axis, values), float(_scaled(axis, [axis.default])[0]))
        curves.append(_rated(axis, values, d * (y.std() + 1e-9), se * (y.std() + 1e-9), df, limit, len(y)))
    return curves


def _places(axis: Axis) -> list[Value]:
    assert axis.low is not None and axis.high is not None
    space = np.geomspace if axis.log else np.linspace
    return [float(f"{value:.6g}") for value in space(axis.low, axis.high, GRID)]


def _scaled(axis: Axis, values: list[Value]) -> np.ndarray:
    """Return values of a range in [0, 1]; categories as numbers whose differences mean nothing."""
    if axis.categorical:
        return np.array([float(zlib.crc32(str(value).encode())) for value in values])
    assert axis.low is not None and axis.high is not None
    numbers = np.asarray(values, dtype=float)
    low, high, at = (np.log(v) if axis.log else np.asarray(v, dtype=float) for v in (axis.low, axis.high, numbers))
    return np.asarray((at - low) / (high - low))


def _rated(
    axis: Axis, values: list[Value], d: np.ndarray, se: np.ndarray, df: int, limit: float, n: int
) -> ParameterCurve:  # fmt: skip
    half = float(stats.t.ppf(0.975, df)) * se
    low, high = d - half, d + half
    surely = d - float(stats.t.ppf(1 - 0.025 / LOOKS, df)) * se > limit
    rating = "sensitive" if surely.any() else "robust" if (high <= limit).all() else "undetermined"
    inside = [bool(ok) for ok in high <= limit]
    if axis.categorical:
        run = tuple(value for value, ok in zip(values, inside, strict=True) if ok)
    else:
        assert isinstance(axis.default, (int, float))
        at = int(np.argmin(np.abs(_scaled(axis, values) - _scaled(axis, [axis.default]))))
        first, last = at, at
        while first > 0 and inside[first - 1]:
            first -= 1
        while last < len(values) - 1 and inside[last + 1]:
            last += 1
        run = tuple(values[first : last + 1]) if inside[at] else ()
    return ParameterCurve(axis.name, axis.group, tuple(values), np.exp(d), np.exp(low), np.exp(high), run, rating, n)


class _Chain:
    """The posterior of the logarithms θ = (a_1 … a_p, l_1 … l_p, b, noise).

    Args:
        x: points, shape (n, p).
        z: standardised values, shape (n,).
        kinds: which parameters are categories, shape (p,).
    """

    def __init__(self, x: np.ndarray, z: np.ndarray, kinds: np.ndarray) -> None:
        self.x, self.z, self.kinds = x, z, kinds
        p = x.shape[1]
        self.middle = np.log(np.concatenate([np.full(p, 0.5), np.full(p, 0.35), [0.3, 0.4]]))
        self.spread = np.concatenate([np.full(p, 1.0), np.full(p, 0.7), [0.8, 0.8]])
        self.squares = np.stack([self._squares(j, x[:, j], x[:, j]) for j in range(p)], axis=-1)

    def _squares(self, j: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        difference = u[:, None] - v[None]
        return np.asarray((difference != 0).astype(float) if self.kinds[j] else difference**2)

    def _parts(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, float]:
        p = self.x.shape[1]
        own = np.exp(theta)
        return own[:p] ** 2, own[p : 2 * p], float(own[2 * p]) ** 2, float(own[-1]) ** 2 + 1e-8

    def _factor(self, theta: np.ndarray) -> np.ndarray:
        a, length, b, noise = self._parts(theta)
        scaled = self.squares / length**2
        joint = np.exp(-scaled.sum(axis=-1) / 8)
        lower: np.ndarray = cholesky(np.exp(-scaled / 2) @ a + b * joint + 1.0 + noise * np.eye(len(self.z)), lower=True)
        return lower

    def _log_posterior(self, theta: np.ndarray) -> float:
        try:
            lower = self._factor(theta)
        except LinAlgError:
            return -math.inf
        white = solve_triangular(lower, self.z, lower=True)
        prior = float((((theta - self.middle) / self.spread) ** 2).sum()) / 2
        return -float(white @ white) / 2 - float(np.log(np.diag(lower)).sum()) - prior

    def run(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Return θ at some steps of a Metropolis chain."""
        theta, kept = self.middle.copy(), []
        now, moves = self._log_posterior(theta), max(0.25, 2 / len(theta))
        for step in range(STEPS):
            proposed = theta + (rng.random(len(theta)) < moves) * rng.normal(0, 0.42 * self.spread)
            new = self._log_posterior(proposed)
            if math.log(rng.random()) < new - now:
                theta, now = proposed, new
            if step >= STEPS // 3 and (step - STEPS // 3) % (2 * STEPS // 3 // KEPT) == 0:
                kept.append(theta)
        return kept

    def curve(self, kept: list[np.ndarray], j: int, places: np.ndarray, default: float) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of the curve of one parameter less its value at the default."""
        base = self.x[np.linspace(0, len(self.x) - 1, min(BASE, len(self.x))).astype(int)]
        at = np.append(places, default)
        means, variances = [], []
        others = [i for i in range(self.x.shape[1]) if i != j]
        for theta in kept:
            a, length, b, _ = self._parts(theta)
            lower = self._factor(theta)
            to_data, within = (
                np.exp(-sum((self._squares(i, base[:, i], side[:, i]) / length[i] ** 2 for i in others), np.zeros(1)) / 8)
                for side in (self.x, base)
            )
            near, own = (self._squares(j, at, side) / length[j] ** 2 for side in (self.x[:, j], at))
            cross = a[j] * np.exp(-near / 2) + b * np.exp(-near / 8) * to_data.mean(axis=0)
            prior = a[j] * np.exp(-own / 2) + b * np.exp(-own / 8) * within.mean()
            white = solve_triangular(lower, cross.T, lower=True)
            covariance = prior - white.T @ white
            mean = cross @ cho_solve((lower, True), self.z)
            means.append(mean[:-1] - mean[-1])
            variances.append(np.diag(covariance)[:-1] + covariance[-1, -1] - 2 * covariance[:-1, -1])
        spread = np.mean(variances, axis=0) + np.var(means, axis=0)
        return np.mean(means, axis=0), np.sqrt(np.maximum(spread, 0.0))
