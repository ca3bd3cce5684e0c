"""One parameter's curve: the metric at every tested value with its interval.

Between tested values nothing is claimed. The rating of the same comparison is in
`analysis.robustness.interval`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.robustness.levels import axis_cells, reference_level, unit_values
from analysis.robustness.ratios import level_ratios
from analysis.rows.meta import Axis, design_of, find_axis, is_default, slim, undisturbed
from analysis.rows.metrics import is_log, metric_column, metric_values
from analysis.statistics.summary import summarize, t_interval


def robustness_curve(
    frame: pd.DataFrame, parameter: str | Axis, metrics: Sequence[str] = ("fid", "precision", "recall")
) -> pd.DataFrame:
    """Each metric against one parameter: mean and interval per tested value (or quantile bin).

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
    frame = undisturbed(frame)
    axis = find_axis(frame, parameter)
    frame = slim(frame, axis.column, *(metric_column(frame, metric) for metric in metrics))
    cells = axis_cells(frame, axis)
    drawn = cells.rows
    held = cells.held_fixed
    if axis.group == "sampler" and design_of(frame) == "one_at_a_time" and is_default(drawn, "train").any():
        drawn = drawn.loc[is_default(drawn, "train")]
        held += "; drawn at the default training point"
    reference = reference_level(cells, axis)
    skipped = dict(cells.skipped)
    table = []
    for metric in metrics:
        values, missed = metric_values(drawn, metric)
        skipped |= missed
        ratios = level_ratios(frame, axis, metric).set_index("level")
        counted = ratios[["n_failed", "n_diverged", "n_pending"]].fillna(0).astype(int)
        known = drawn.dropna(subset=["level"])
        bounds = _bounds(frame, metric)
        for level, group in known.groupby("level", sort=True):
            units = unit_values(group, values.loc[group.index])
            n_fields = int(group.loc[values.loc[group.index].notna(), "field"].nunique())
            row: dict[str, Any] = {
                "value": level,
                "metric": metric,
                **_spread(units["y"].to_numpy(), metric),
                "n_fields": n_fields,
            }
            row |= bounds.get((group["point_id"].iloc[0], group["sampler_id"].iloc[0]), {})
            row |= {name: int(counted[name].get(level, 0)) for name in counted.columns}
            row["is_default"] = level == reference
            shift = ratios["d"].get(level, math.nan)
            row |= {
                "ratio": math.exp(shift) if is_log(metric) else math.nan,
                "assumed": ratios["assumed"].get(level, ""),
            }
            table.append(row)
    columns = ["value", "metric", "mean", "low", "high", "min", "max", "n_units", "n_fields", "n_failed", "n_diverged"]
    columns += ["n_pending", "ratio", "is_default", "assumed"]
    result = pd.DataFrame(table, columns=columns)
    result.attrs = {**frame.attrs, "held_fixed": held, "skipped": skipped, "axis": axis}
    return result


def _bounds(frame: pd.DataFrame, metric: str) -> dict[tuple[str, str], dict[str, float]]:
    """Moderated intervals of every configuration; one_at_a_time only, where a value is one configuration."""
    if design_of(frame) != "one_at_a_time":
        return {}
    table = summarize(frame, metric)
    keys = zip(table["point_id"], table["sampler_id"], strict=True)
    return {key: {"low": low, "high": high} for key, low, high in zip(keys, table["low"], table["high"], strict=True)}


def _spread(y: np.ndarray, metric: str) -> dict[str, float]:
    interval = t_interval(y)
    back = math.exp if is_log(metric) else float
    low, high = (float(y.min()), float(y.max())) if len(y) else (math.nan, math.nan)
    numbers = {"mean": interval.mean, "low": interval.low, "high": interval.high, "min": low, "max": high}
    spread = {name: _safe(back, value) for name, value in numbers.items()}
    return {**spread, "n_units": interval.n}


def _safe(back: Any, value: float) -> float:
    """exp without overflow: a t-interval of two seeds may reach past the largest float."""
    return float(back(min(value, 700.0))) if math.isfinite(value) else math.nan
