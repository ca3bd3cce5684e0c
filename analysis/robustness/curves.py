"""One parameter's curve: the metric at every tested value with its interval.

Between tested values nothing is claimed. The rating of the same comparison is in
`analysis.robustness.interval`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.robustness.levels import axis_cells
from analysis.robustness.ratios import compare_levels
from analysis.rows.meta import Axis
from analysis.rows.metrics import skipped_rows
from analysis.rows.question import Question, ask
from analysis.statistics.summary import configuration_means, t_interval

_COLUMNS = [
    "value", "metric", "mean", "low", "high", "min", "max", "n_units", "n_fields", "n_failed", "n_diverged", "n_pending",
    "ratio", "is_default", "assumed",
]  # fmt: skip


def robustness_curve(
    frame: pd.DataFrame, parameter: str | Axis, metrics: Sequence[str] = ("fid", "precision", "recall")
) -> pd.DataFrame:
    """Compute each metric against one parameter: mean and interval at every tested value (or quantile bin).

    mean = exp(ȳ) with ȳ the mean log metric over units (linear for shares). one_at_a_time: a value is a configuration, with
    the interval of `summarize`; else bounds ȳ ± t·s/√n back-transformed. A sampler parameter is drawn at the default training
    point; its ``ratio`` (paired) and its counts use every field.

    Args:
        frame: rows of `analysis.load_study`.
        parameter: a searched parameter.
        metrics: metrics that exist as columns.
    Returns:
        value, metric, mean, low, high, min, max, n_fields, n_failed, n_diverged, n_pending, ratio, is_default, assumed;
        ``attrs``: held_fixed, skipped.
    """
    curves = [curve_of(ask(frame, parameter, metric)) for metric in metrics]
    result = pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(columns=_COLUMNS)
    skipped = {reason: n for curve in curves for reason, n in curve.attrs["skipped"].items()}
    result.attrs = {**(curves[0] if curves else frame).attrs, "skipped": skipped}
    return result


def curve_of(question: Question) -> pd.DataFrame:
    """Return the part of `robustness_curve` that one question asks for."""
    setting, log = question.setting, question.measured.log
    cells = axis_cells(question)
    drawn, held, units = cells.rows, cells.held_fixed, cells.units
    at_default = setting.default["train"].loc[drawn.index]
    if setting.axis.group == "sampler" and setting.one and at_default.any():
        drawn, held = drawn.loc[at_default], f"{held}; drawn at the default training point"
        units = units.loc[units["unit"].isin(drawn["unit"])]
    ratios = compare_levels(question, cells).set_index("level")
    skipped = {**cells.skipped, **skipped_rows(drawn, drawn["raw"], question.measured)}
    counted = ratios[["n_failed", "n_diverged", "n_pending"]].fillna(0).astype(int)
    bounds = _bounds(question)
    of_level = dict(list(units.groupby("level")["y"]))
    table = []
    for level, group in drawn.dropna(subset=["level"]).groupby("level", sort=True):
        y = of_level[level].to_numpy() if level in of_level else np.array([])
        own = bounds.get((group["point_id"].iloc[0], group["sampler_id"].iloc[0]))
        table.append({
            "value": level, "metric": question.measured.metric, **_spread(y, log, own),
            "n_fields": int(group.loc[group["y"].notna(), "field"].nunique()),
            **{name: int(counted[name].get(level, 0)) for name in counted.columns}, "is_default": level == cells.reference,
            "ratio": math.exp(ratios["d"].get(level, math.nan)) if log else math.nan,
            "assumed": ratios["assumed"].get(level, ""),
        })  # fmt: skip
    result = pd.DataFrame(table, columns=_COLUMNS)
    result.attrs = {**setting.frame.attrs, "held_fixed": held, "skipped": skipped, "axis": setting.axis}
    return result


def _bounds(question: Question) -> dict[tuple[str, str], tuple[float, float]]:
    """Return the moderated interval of every configuration; one_at_a_time only, where a value is one configuration."""
    if not question.setting.one:
        return {}
    table = configuration_means(question.frame, ["point_id", "sampler_id"], log=question.measured.log)
    keys = zip(table["point_id"], table["sampler_id"], strict=True)
    return dict(zip(keys, zip(table["low"], table["high"], strict=True), strict=True))


def _spread(y: np.ndarray, log: bool, own: tuple[float, float] | None) -> dict[str, float]:
    """Return mean, bounds and extremes of the units' values; the bounds are those of the configuration where it is one."""
    interval = t_interval(y) if own is None else None
    numbers = {"mean": float(y.mean()), "min": float(y.min()), "max": float(y.max())} if len(y) else {}
    bounds = {"low": interval.low, "high": interval.high} if interval is not None else {}
    spread = {name: _back(value, log) for name, value in {**numbers, **bounds}.items()}
    ends = dict(zip(("low", "high"), own, strict=True)) if own is not None else {}
    return {**dict.fromkeys(("mean", "low", "high", "min", "max"), math.nan), **spread, **ends, "n_units": len(y)}


def _back(value: float, log: bool) -> float:
    """Undo the logarithm without overflow: a t-interval of two seeds may reach past the largest float."""
    if not math.isfinite(value):
        return math.nan
    return math.exp(min(value, 700.0)) if log else float(min(value, 700.0))
