"""Regional sensitivity (Hornberger and Spear 1981): do points inside the tolerance take other values than points outside?

The question needs no surrogate and has an answer where points fail.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.rows.meta import Axis, tolerance_of
from analysis.rows.question import MAIN, statistic
from analysis.statistics.box import Points, as_frame, need_box, permutation_p, permutations, searched_points

MIN_SIDE = 5
"""Regional sensitivity needs this many points inside and outside the tolerance."""


class Regional(NamedTuple):
    """The sensitivity to one parameter."""

    parameter: str
    group: str
    statistic: float
    """Distance of the values inside and outside."""
    p_value: float
    n_inside: int
    n_outside: int


@statistic()
def regional_sensitivity(
    frame: pd.DataFrame,
    metric: str = MAIN,
    *,
    tolerance: float | None = None,
    n_permutations: int = 999,
    force: bool = False,
) -> pd.DataFrame:
    """Test whether points within tolerance of the default take other values of a parameter than points outside.

    Statistic: Kolmogorov–Smirnov distance sup |F_inside − F_outside| of the parameter (a categorical one: half the summed
    differences of frequencies), against its values after permuting inside and outside among whole points.

    Args:
        frame: rows of `analysis.load_study`.
        metric: default ``fid``.
        tolerance: default: the study's. Failed points are outside.
        n_permutations: B of the p-value.
        force: compute for any design.
    Returns:
        parameter, group, statistic, p_value, n_inside, n_outside; ``attrs``: skipped. A group with fewer than 5 points on
        a side is counted in skipped and left out.
    Raises:
        AnalysisError: an invalid design.
    """
    need_box(frame, metric, "regional_sensitivity", force)
    limit = math.log1p(tolerance_of(frame) if tolerance is None else tolerance)
    rows: list[Regional] = []
    skipped: dict[str, int] = {}
    for points in searched_points(frame, metric, skipped):
        inside = (points.table["y"] <= points.reference + limit).to_numpy()
        sides = min(int(inside.sum()), int((~inside).sum()))
        if math.isnan(points.reference) or sides < MIN_SIDE:
            counted = f"{int(inside.sum())} of {len(inside)} points inside the tolerance; it takes {MIN_SIDE} on either side"
            why = "the default has no value" if math.isnan(points.reference) else counted
            skipped[f"{points.group} parameters: {why}"] = len(points.axes)
            continue
        rows += [_regional(points, axis, inside, n_permutations) for axis in points.axes]
    rows.sort(key=lambda row: (row.group != "train", -np.nan_to_num(row.statistic, nan=-1.0)))
    return as_frame(rows, Regional._fields, {**dict(frame.attrs), "skipped": skipped, "metric": metric})


def _regional(points: Points, axis: Axis, inside: np.ndarray, n_permutations: int) -> Regional:
    values = points.table[axis.column]
    active = values.notna().to_numpy()
    label = inside[active].astype(float)
    n_in, n_out = int(label.sum()), int(len(label) - label.sum())
    if not n_in or not n_out:
        return Regional(axis.name, points.group, math.nan, math.nan, n_in, n_out)
    distance = _category_distance if axis.categorical else _ks_distance
    labels = np.vstack([label, label[permutations(len(label), n_permutations, np.random.default_rng(2))]])
    d = distance(values[active], labels / n_in, (1 - labels) / n_out)
    return Regional(axis.name, points.group, float(d[0]), permutation_p(float(d[0]), d[1:]), n_in, n_out)


def _ks_distance(values: pd.Series, inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    numbers = values.to_numpy(float)
    order = np.argsort(numbers, kind="stable")
    last = np.append(np.diff(numbers[order]) > 0, True)  # of equal values, the step is at the last
    gap = np.cumsum((inside - outside)[:, order], axis=1)[:, last]
    return np.asarray(np.abs(gap).max(axis=1))


def _category_distance(values: pd.Series, inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    member = pd.get_dummies(values.astype(str)).to_numpy(float)
    return np.asarray(np.abs((inside - outside) @ member).sum(axis=1) / 2)
