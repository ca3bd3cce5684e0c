"""All parameters at a glance: where the tested values lie, which of them keep the quality, and the worst and best of each.

Parameters have different units, so each is drawn from its lowest (0) to its highest tested value (1), logarithmic where its
search was; categories and values without a scale (∞) stand at equal distances. The ratings are those of
`analysis.robustness.interval`; `ratings_by_length` has them for fields that were trained less long.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.robustness.edges import Edge, edges_of
from analysis.robustness.gains import better_levels
from analysis.robustness.interval import ToleranceInterval, tolerance_interval
from analysis.rows.meta import Axis, Value, compares, find_axis, searched_axes, tolerance_of
from analysis.rows.metrics import default_metric
from analysis.rows.on_the_way import at_length, lengths, unnamed
from analysis.rows.question import decided_rows, statistic
from study.rows.settle.edges import bracket, outward

_COLUMNS = [
    "parameter", "group", "value", "place", "mark", "in_interval", "ratio", "low", "high", "extreme", "n_bad", "rating",
]  # fmt: skip


@statistic()
def parameter_overview(frame: pd.DataFrame, intervals: Sequence[ToleranceInterval] | None = None) -> pd.DataFrame:
    """Put every tested value of every searched parameter on a common scale, with its ratio to the default.

    Args:
        frame: rows of `analysis.load_study`.
        intervals: the ratings of its parameters, where they are known already.
    Returns:
        One row a tested value: parameter, group, value, place (0 to 1), mark (default, inside, better, outside, undetermined),
        in_interval (whether the tolerance interval holds it), ratio, low, high (to the default; simultaneous 95 % bounds),
        extreme ("worst", "best" or ""; with one value beside the default, what it is), n_bad (cells that failed or diverged),
        rating; ``attrs``: tolerance, metric, skipped, brackets (by group and parameter the places between which the tolerance
        is surely left).
    """
    if intervals is None:
        axes = [axis for axis in searched_axes(frame) if axis.column in frame.columns]
        intervals = [tolerance_interval(frame, axis) for axis in axes]
    skipped: dict[str, int] = {}
    parts = [_of_parameter(frame, interval) for interval in intervals]
    for interval in intervals:
        skipped |= {f"{interval.parameter}: {reason}": n for reason, n in interval.skipped.items()}
    rows = [row for part in parts for row in part]
    result = pd.DataFrame(rows, columns=_COLUMNS)
    tolerance = intervals[0].tolerance if intervals else tolerance_of(frame)
    metric = intervals[0].metric if intervals else ""
    brackets = {(t.group, t.parameter): _brackets(frame, t) for t in intervals}
    result.attrs = {**frame.attrs, "skipped": skipped, "tolerance": tolerance, "metric": metric, "brackets": brackets}
    return result


def _of_parameter(frame: pd.DataFrame, interval: ToleranceInterval) -> list[dict[str, object]]:
    levels = interval.levels
    axis = find_axis(frame, f"{interval.group}.{interval.parameter}")
    places = _places(list(levels["level"]), axis.log and not axis.categorical)
    rated = interval.rating != "not rated"
    better = set(better_levels(interval).index) if rated else set()
    others = levels.loc[~levels["is_reference"] & levels["d"].notna()]
    worst = others["d"].astype(float).idxmax() if len(others) else None
    best = others["d"].astype(float).idxmin() if len(others) else None
    if worst is not None and worst == best:  # one value: it is the worse or the better one
        worst, best = (worst, None) if float(others["d"].iloc[0]) >= 0 else (None, best)
    rows = []
    for place, (i, level) in zip(places, levels.iterrows(), strict=True):
        mark = "default" if level["is_reference"] else "better" if i in better else str(level["verdict"])
        ratio, low, high = (_exp(level[name]) for name in ("d", "low", "high"))
        bad = int(np.nan_to_num([float(level["n_failed"]), float(level["n_diverged"])]).sum())
        rows.append({
            "parameter": interval.parameter, "group": interval.group, "value": level["level"], "place": place,
            "mark": mark if rated or mark == "default" else "undetermined",
            "in_interval": rated and level["level"] in interval.inside, "ratio": ratio, "low": low, "high": high,
            "extreme": "worst" if i == worst else "best" if i == best else "", "n_bad": bad, "rating": interval.rating,
        })  # fmt: skip
    return rows


def _brackets(frame: pd.DataFrame, interval: ToleranceInterval) -> list[tuple[float, float]]:
    """Return the places of the two ends of each bracket of a parameter."""
    axis, levels = find_axis(frame, f"{interval.group}.{interval.parameter}"), interval.levels
    at = np.flatnonzero(levels["is_reference"].to_numpy(bool))
    if axis.categorical or not len(at) or not compares(frame) or interval.rating == "not rated":
        return []
    places, verdicts = _places(list(levels["level"]), axis.log), levels["verdict"].tolist()
    sides = [bracket(side, verdicts, int(at[0])) for side in outward(levels["level"].astype(float).tolist(), int(at[0]))]
    return [(places[s.inside], places[s.outside]) for s in sides if s.inside is not None and s.outside is not None]


def _exp(value: float) -> float:
    number = float(value)
    return math.exp(min(number, 700.0)) if not math.isnan(number) else math.nan


def _places(values: Sequence[Value], log: bool) -> list[float]:
    """Return where each value stands between the lowest (0) and the highest (1); equal distances where there is no scale."""
    if len(values) < 2:
        return [0.5] * len(values)
    if all(isinstance(v, (int, float, np.number)) and math.isfinite(v) for v in values):
        numbers = np.asarray(values, dtype=float)
        scaled = np.log(numbers) if log and numbers.min() > 0 else numbers
        if np.ptp(scaled) > 0:
            return [float(v) for v in (scaled - scaled.min()) / np.ptp(scaled)]
    return [float(v) for v in np.linspace(0, 1, len(values))]


_LENGTH_COLUMNS = [
    "share", "step", "parameter", "group", "default", "rating", "low", "high", "lower_inside", "lower_outside", "upper_inside",
    "upper_outside", "lower_crossing", "upper_crossing", "worst_ratio", "n_reference", "rule",
]  # fmt: skip


def ratings_by_length(frame: pd.DataFrame, *, metric: str | None = None, tolerance: float | None = None) -> pd.DataFrame:
    """Rate every training parameter at each share of the training, by the rules of the end, and find its edges there.

    Sampler parameters have no rating on the way, where the default sampler point alone is measured.

    Args:
        frame: rows of `analysis.load_study` with ``on_the_way=True``, of a study with ``evaluate.at_steps``.
        metric: default: the main one.
        tolerance: default: the study's.
    Returns:
        One row a parameter and share, the end (1) last: share, step (NaN where trainings differ in length), parameter, group,
        default, rating, low, high (the tolerance interval), lower_inside, lower_outside, upper_inside, upper_outside (the
        brackets of the edges), lower_crossing, upper_crossing, worst_ratio, n_reference (fields at the default), rule;
        ``attrs``: metric, tolerance, skipped (by share and parameter; of `missed` rows the field was trained before they were
        asked for).
    Raises:
        AnalysisError: no row on the way; or another tolerance or metric than `analysis.tolerance_interval` takes.
    """
    metric, skipped, rows = metric or default_metric(frame), dict[str, int](), []
    for share in lengths(frame):
        part = decided_rows(at_length(frame, share))
        steps = part["step"].dropna().unique()
        step = float(steps[0]) if len(steps) == 1 else math.nan
        for axis in searched_axes(part):
            if axis.group == "train" and axis.column in part.columns:
                interval = tolerance_interval(part, axis, metric=metric, tolerance=tolerance)
                rows.append({"share": share, "step": step, **_at_length(part, axis, interval)})
                skipped |= {f"at {share:.4g}, {axis.name}: {reason}": n for reason, n in interval.skipped.items()}
    if n := unnamed(frame):
        skipped["row of a step that evaluate.at_steps does not name"] = n
    result = pd.DataFrame(rows, columns=_LENGTH_COLUMNS)
    limit = tolerance_of(frame) if tolerance is None else tolerance
    result.attrs = {**frame.attrs, "metric": metric, "tolerance": limit, "skipped": skipped}
    return result


def _at_length(frame: pd.DataFrame, axis: Axis, interval: ToleranceInterval) -> dict[str, object]:
    edges = edges_of(frame, axis, interval)
    sides: dict[str, object] = {}
    for name in ("lower", "upper"):
        edge: Edge | None = None if edges is None else getattr(edges, name)
        for end in ("inside", "outside", "crossing"):
            sides[f"{name}_{end}"] = None if edge is None else getattr(edge, end)
    return {
        "parameter": axis.name, "group": axis.group, "default": interval.default, "rating": interval.rating,
        "low": interval.low, "high": interval.high, **sides, "worst_ratio": interval.worst_ratio,
        "n_reference": interval.n_reference, "rule": interval.rule,
    }  # fmt: skip
