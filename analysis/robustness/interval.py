"""Find how far a parameter may move before the metric leaves the tolerance: the tolerance interval and the rating.

The reference is the declared default, never a raw minimum. With d_k the log ratio of tested value k to the reference and
simultaneous 95 % bounds over the K values: the tolerance interval is the *inner* set of tested values next to the
default whose upper bound is at most log(1 + tolerance). *Robust*: every tested value is inside. *Sensitive*: at some
value the lower bound is above, or cells fail or diverge. Otherwise *undetermined*, with the smallest gap that this
many seeds can tell from none and the number that would settle the tolerance. Between tested values nothing is claimed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.robustness.rating import inner_run, rate, verdicts
from analysis.robustness.ratios import level_ratios
from analysis.rows.meta import AnalysisError, Axis, Value
from analysis.rows.metrics import need_ratio_metric
from analysis.rows.question import ask


class ToleranceInterval(NamedTuple):
    """The verdict on one parameter."""

    parameter: str
    group: str
    label: str
    default: Value | None
    tested: tuple[Value, ...]
    """Tested values (or bin medians), the reference included."""
    inside: tuple[Value, ...]
    """The inner set: consecutive tested values around the default that are within tolerance."""
    low: float | None
    high: float | None
    decades: float | None
    """log10(high / low) of the inner set, for a positive numeric parameter."""
    rating: str
    worst_ratio: float
    """Largest ratio of mean metric to the reference over the tested values."""
    worst_value: Value | None
    detectable_gap: float
    """Smallest relative gap that the widest comparison finds with 80 % power (simultaneous 5 %); NaN without an interval."""
    n_needed: int | None
    """Fields a side (paired: fields) that would settle the tolerance with 80 % power."""
    tolerance: float
    n_reference: int
    n_failed: int
    rule: str
    """The rating in words, with its numbers."""
    assumed: str
    held_fixed: str
    skipped: dict[str, int]
    levels: pd.DataFrame
    """The comparison per tested value; see `analysis.robustness.ratios.level_ratios`."""
    df: float
    """Fewest degrees of freedom that the variance of a comparison rests on; NaN where none has an interval."""
    metric: str
    """The metric that is compared."""


def tolerance_interval(
    frame: pd.DataFrame, parameter: str | Axis, *, metric: str | None = None, tolerance: float | None = None
) -> ToleranceInterval:
    """Rate one parameter, and find the inner set of tested values within tolerance of the default.

    Inside: exp(upper simultaneous 95 % bound) ≤ 1 + tolerance and nothing failed or diverged there. Only increases count.

    Args:
        frame: rows of `analysis.load_study`.
        parameter: a searched parameter.
        metric: default: ``fid``, or ``sliced_wasserstein`` where no FID was measured.
        tolerance: default: ``analysis.tolerance`` of the study (0.10).
    """
    question = ask(frame, parameter, metric)
    setting, axis, metric = question.setting, question.setting.axis, question.measured.metric
    need_ratio_metric(frame, metric, "tolerance_interval")
    limit = _positive(setting.tolerance if tolerance is None else tolerance)
    levels = level_ratios(question)
    failed = levels["n_failed"].fillna(0) + levels["n_diverged"].fillna(0)
    levels["verdict"] = verdicts(setting, levels, failed, math.log1p(limit))
    inside = inner_run(levels)
    low, high, decades = (None, None, None) if axis.categorical else _span([float(value) for value in inside])
    rating = rate(setting, levels, limit)
    worst_ratio, worst_value = _worst(levels)
    return ToleranceInterval(
        parameter=axis.name,
        group=axis.group,
        label=axis.label,
        default=axis.default,
        tested=tuple(levels["level"]),
        inside=inside,
        low=low,
        high=high,
        decades=decades,
        rating=rating.word,
        worst_ratio=worst_ratio,
        worst_value=worst_value,
        detectable_gap=rating.gap,
        n_needed=rating.needed,
        tolerance=limit,
        n_reference=int(levels["n_reference"].max()) if levels["n_reference"].notna().any() else 0,
        n_failed=int(failed.sum()),
        rule=rating.rule,
        assumed="; ".join(sorted({str(a) for a in levels["assumed"].dropna() if a})),
        held_fixed=str(levels.attrs["held_fixed"]),
        skipped=levels.attrs["skipped"],
        levels=levels,
        df=rating.df,
        metric=metric,
    )


def _positive(tolerance: float) -> float:
    if not tolerance > 0:
        raise AnalysisError(f"tolerance: must be above 0, e.g. 0.10 for 10 %, got {tolerance:g}")
    return tolerance


def _span(inside: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Return the ends of the inner set, and its width in decades where it is positive; None where it is empty."""
    if not inside:
        return None, None, None
    low, high = min(inside), max(inside)
    return low, high, math.log10(high / low) if low > 0 else None


def _worst(levels: pd.DataFrame) -> tuple[float, Value | None]:
    """Return the largest ratio to the reference and its value; NaN and None where none is known."""
    if not levels["d"].notna().any():
        return math.nan, None
    worst = levels.iloc[int(np.nanargmax(levels["d"].to_numpy(float)))]
    return math.exp(worst["d"]), worst["level"]
