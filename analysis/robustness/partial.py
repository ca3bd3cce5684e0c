"""Each parameter of a design that fills the box, with the others averaged: a curve with bands, and the interval it implies.

`analysis.robustness.interval` puts the points of such a design into bins, which say little with 64 points. A Gaussian process
of all parameters (`analysis.robustness.gaussian`) explains what the others do, so the same points say more of each. A point is
one unit: its fields are averaged. The curve is the ratio to the default, as a partial dependence: the mean over the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from analysis.robustness.gaussian import Partial, partial_dependence
from analysis.rows.meta import AnalysisError, Axis, Value, tolerance_of
from analysis.rows.question import MAIN, statistic
from analysis.statistics.box import Points, need_box, searched_points

MIN_POINTS = 16
VALUES = 33
"""Values of a numeric parameter that the curve is given at."""
_DRAWS = 4000
_CURVE = ["parameter", "group", "value", "ratio", "low", "high", "low_all", "high_all", "is_default"]
_RATING = ["parameter", "group", "default", "rating", "low", "high", "worst_ratio", "worst_value", "n_points", "n_failed"]


@statistic(ratio=True)
def partial_curves(frame: pd.DataFrame, metric: str = MAIN, *, force: bool = False) -> pd.DataFrame:
    """Return every parameter's ratio to the default with the other parameters averaged over their ranges.

    Bands hold 95 % at each value (low, high), and 95 % of whole curves (low_all, high_all), each parameter by itself. They
    cover the curve that is true where it is smooth; at a step, the curve is a ramp. Points that failed have no value and are
    left out; so are parameters whose default is inactive.

    Args:
        frame: rows of `analysis.load_study`; design sobol, random or grid.
        metric: one averaged on the log of which less is better.
        force: compute for any design.
    Returns:
        parameter, group, value, ratio, low, high, low_all, high_all, is_default; ``attrs``: n_points and n_failed (by group),
        skipped.
    Raises:
        AnalysisError: another design, or fewer than 16 points with a value.
    """
    need_box(frame, metric, "partial_curves", force)
    skipped: dict[str, int] = {}
    rows: list[list[object]] = []
    n_points, n_failed = dict[str, int](), dict[str, int]()
    for points in searched_points(frame, metric, skipped):
        n_points[points.group], n_failed[points.group] = int(points.table["y"].notna().sum()), int(points.table["failed"].sum())
        if n_failed[points.group]:
            skipped[f"failed {points.group} points"] = n_failed[points.group]
        if n_points[points.group] >= MIN_POINTS:
            rows += _curves(points, skipped)
        elif points.group == "train":
            raise AnalysisError(
                f"partial_curves needs {MIN_POINTS} training points with a value, this study has {n_points['train']}."
                " Raise design.trials"
            )
        else:
            skipped[f"sampler parameters: {n_points[points.group]} points, fewer than {MIN_POINTS}"] = len(points.axes)
    result = pd.DataFrame(rows, columns=_CURVE)
    result.attrs = {**frame.attrs, "metric": metric, "skipped": skipped, "n_points": n_points, "n_failed": n_failed}
    return result


def partial_ratings(curves: pd.DataFrame, tolerance: float | None = None) -> pd.DataFrame:
    """Rate every parameter by its curve, with bands that hold for the whole curve.

    *robust*: the upper band is within the tolerance at every value. *sensitive*: at some value the lower band is beyond it.
    *undetermined*: neither.

    Args:
        curves: from `partial_curves`.
        tolerance: default: that of the study.
    Returns:
        parameter, group, default, rating, low and high (the values around the default at which the upper band is within the
        tolerance; None for categories), worst_ratio, worst_value, n_points, n_failed.
    """
    limit = 1 + (tolerance_of(curves) if tolerance is None else tolerance)
    rows = []
    for (group, parameter), curve in curves.groupby(["group", "parameter"], sort=False):
        inside = curve["high_all"].le(limit)
        sensitive = curve["low_all"].gt(limit).any()
        rating = "robust" if inside.all() else "sensitive" if sensitive else "undetermined"
        worst = curve.iloc[int(curve["ratio"].to_numpy().argmax())]
        default = curve.loc[curve["is_default"], "value"].iloc[0]
        span = (None, None) if isinstance(default, str) else _around(curve, inside)
        counts = [curves.attrs[name][group] for name in ("n_points", "n_failed")]
        rows.append([parameter, group, default, rating, *span, worst["ratio"], worst["value"], *counts])
    result = pd.DataFrame(rows, columns=_RATING)
    result.attrs = dict(curves.attrs)
    return result


def _around(curve: pd.DataFrame, inside: pd.Series) -> tuple[float, float]:
    """Return the ends of the run of values within tolerance that holds the default."""
    values, good, own = curve["value"].tolist(), inside.tolist(), curve["is_default"].tolist().index(True)
    first, last = own, own
    while first > 0 and good[first - 1]:
        first -= 1
    while last + 1 < len(good) and good[last + 1]:
        last += 1
    return float(values[first]), float(values[last])


def _curves(points: Points, skipped: dict[str, int]) -> Iterator[list[object]]:
    """Yield the rows of every parameter that has a default."""
    axes = [axis for axis in points.axes if points.table[axis.column].notna().any()]
    table = points.table.dropna(subset=["y"])
    wanted = [_values(axis, table[axis.column]) for axis in axes]
    x = np.column_stack([_unit(axis, table[axis.column].tolist(), values) for axis, values in zip(axes, wanted, strict=True)])
    values = [_unit(axis, names, names) for axis, names in zip(axes, wanted, strict=True)]
    known = [axis.default is not None for axis in axes]
    own = [_unit(a, [a.default], n)[0] if k else 0.0 for a, n, k in zip(axes, wanted, known, strict=True)]
    found = partial_dependence(x, table["y"].to_numpy(float), [axis.categorical for axis in axes], values, own)
    for axis, names, curve, has in zip(axes, wanted, found, known, strict=True):
        if has:
            yield from _rows(axis, names, curve)
        else:
            skipped[f"{axis.name}: inactive at the default"] = 1


def _rows(axis: Axis, names: Sequence[Value], curve: Partial) -> Iterator[list[object]]:
    sd = np.sqrt(np.maximum(np.diag(curve.covariance), 0.0))
    each, every = float(stats.norm.ppf(0.975)), _simultaneous(curve, sd)
    for k, name in enumerate(names):
        ends = [curve.mean[k] + sign * width * sd[k] for width in (each, every) for sign in (-1, 1)]
        yield [axis.name, axis.group, name, *np.exp([curve.mean[k], *ends]).tolist(), name == _own(axis)]


def _simultaneous(curve: Partial, sd: np.ndarray) -> float:
    """Return the number of standard deviations within which 95 % of whole curves lie."""
    moves = sd > 1e-9 * max(float(sd.max()), 1e-300)
    values, vectors = np.linalg.eigh(curve.covariance[np.ix_(moves, moves)])
    z = np.random.default_rng(1).standard_normal((_DRAWS, int(moves.sum())))
    drawn = (z * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return float(np.quantile(np.abs(drawn / sd[moves]).max(axis=1), 0.95)) if moves.any() else 0.0


def _own(axis: Axis) -> Value | None:
    """Return the default, where a number in the digits that values are given in."""
    return axis.default if axis.categorical or axis.default is None else float(f"{float(axis.default):.10g}")


def _values(axis: Axis, drawn: pd.Series) -> list[Value]:
    """Return the values that a curve is given at, in order: a grid between the least and the largest, and the default."""
    if axis.categorical:
        return sorted({str(value) for value in drawn.dropna()} | ({str(axis.default)} if axis.default is not None else set()))
    ends = [float(drawn.min()), float(drawn.max()), *([float(axis.default)] if axis.default is not None else [])]
    low, high = min(ends), max(ends)
    grid = np.geomspace(low, high, VALUES) if axis.log and low > 0 else np.linspace(low, high, VALUES)
    own = _own(axis)
    return sorted({float(f"{value:.10g}") for value in grid} | ({float(own)} if own is not None else set()))


def _unit(axis: Axis, values: Sequence[Value | None], grid: Sequence[Value]) -> np.ndarray:
    """Return values on [0, 1] of the axis, or the number of each category; NaN where the parameter is inactive."""
    if axis.categorical:
        return np.array([grid.index(str(value)) if pd.notna(value) else math.nan for value in values], dtype=float)
    scale = np.log if axis.log and float(grid[0]) > 0 else np.asarray
    low, high = scale(float(grid[0])), scale(float(grid[-1]))
    return np.asarray((scale(np.asarray(values, dtype=float)) - low) / ((high - low) or 1.0), dtype=float)
