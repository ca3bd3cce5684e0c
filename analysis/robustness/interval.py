"""How far a parameter may move before the metric leaves the tolerance: the tolerance interval and the rating.

The reference is the declared default, never a raw minimum. With d_k the log ratio of tested value k to the reference and
simultaneous 95 % bounds over the K values: the tolerance interval is the *inner* set of tested values next to the
default whose upper bound is at most log(1 + tolerance). *Robust*: every tested value is inside. *Sensitive*: at some
value the lower bound is above, or cells fail or diverge. Otherwise *undetermined*, with the smallest gap that this
many seeds can tell from none and the number that would settle the tolerance. Between tested values nothing is claimed.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.robustness.ratios import level_ratios
from analysis.rows.meta import AnalysisError, Axis, design_of, find_axis, tolerance_of, undisturbed
from analysis.rows.metrics import default_metric, need_ratio_metric
from analysis.rows.units import is_given
from analysis.rows.words import format_value, percent
from analysis.statistics.summary import seeds_needed
from analysis.statistics.variance import detectable, few

MIN_BINS = 3
"""Fewer bins of a range are never rated robust."""
MORE_UNITS = {
    "fields": "seeds.train",
    "samplings": "seeds.sample",
    "training points": "design.trials",
    "sampler points": "design.sampler_points",
}
"""The key that makes more units of a kind."""


class ToleranceInterval(NamedTuple):
    """The verdict on one parameter."""

    parameter: str
    group: str
    label: str
    default: Any
    tested: tuple[Any, ...]
    """Tested values (or bin medians), the reference included."""
    inside: tuple[Any, ...]
    """The inner set: consecutive tested values around the default that are within tolerance."""
    low: float | None
    high: float | None
    decades: float | None
    """log10(high / low) of the inner set, for a positive numeric parameter."""
    rating: str
    worst_ratio: float
    """Largest ratio of mean metric to the reference over the tested values."""
    worst_value: Any
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
    """What is compared."""


def tolerance_interval(
    frame: pd.DataFrame, parameter: str | Axis, *, metric: str | None = None, tolerance: float | None = None
) -> ToleranceInterval:
    """The inner set of tested values within tolerance of the default, and the rating.

    Inside: exp(upper simultaneous 95 % bound) ≤ 1 + tolerance and nothing failed or diverged there. A lower metric is
    better, so only increases count.

    Args:
        frame: rows of `analysis.load_study`.
        parameter: a searched parameter.
        metric: default: ``fid``, or ``sliced_wasserstein`` where no FID was measured.
        tolerance: default: ``analysis.tolerance`` of the study (0.10).
    """
    frame = undisturbed(frame)
    axis = find_axis(frame, parameter)
    metric = metric or default_metric(frame)
    need_ratio_metric(metric, "tolerance_interval")
    limit = tolerance_of(frame) if tolerance is None else tolerance
    if not limit > 0:
        raise AnalysisError(f"tolerance: must be above 0, e.g. 0.10 for 10 %, got {limit:g}")
    levels = level_ratios(frame, axis, metric)
    failed = levels["n_failed"].fillna(0) + levels["n_diverged"].fillna(0)
    levels["verdict"] = _verdicts(frame, axis, levels, failed, math.log1p(limit))
    inside = _inner_run(levels)
    numeric = [float(v) for v in inside] if not axis.categorical else []
    rating, rule, gap, needed = _rate(frame, axis, levels, limit)
    df = float(levels.loc[~levels["is_reference"] & levels["se"].notna() & levels["n"].fillna(0).gt(0), "df"].min())
    rule += f"; variance from {df:.2g} {'degree' if df == 1 else 'degrees'} of freedom{few(df)}" if few(df) else ""
    worst = levels.iloc[int(np.nanargmax(levels["d"].to_numpy(float)))] if levels["d"].notna().any() else None
    return ToleranceInterval(
        parameter=axis.name,
        group=axis.group,
        label=axis.label,
        default=axis.default,
        tested=tuple(levels["level"]),
        inside=inside,
        low=min(numeric) if numeric else None,
        high=max(numeric) if numeric else None,
        decades=math.log10(max(numeric) / min(numeric)) if numeric and min(numeric) > 0 else None,
        rating=rating,
        worst_ratio=math.exp(worst["d"]) if worst is not None else math.nan,
        worst_value=worst["level"] if worst is not None else None,
        detectable_gap=gap,
        n_needed=needed,
        tolerance=limit,
        n_reference=int(levels["n_reference"].max()) if levels["n_reference"].notna().any() else 0,
        n_failed=int(failed.sum()),
        rule=rule,
        assumed="; ".join(sorted({str(a) for a in levels["assumed"].dropna() if a})),
        held_fixed=str(levels.attrs["held_fixed"]),
        skipped=levels.attrs["skipped"],
        levels=levels,
        df=df,
        metric=metric,
    )


def _verdicts(frame: pd.DataFrame, axis: Axis, levels: pd.DataFrame, failed: pd.Series, bound: float) -> pd.Series:
    """inside, outside or undetermined for every level."""
    usable = levels["n"].fillna(0) > 0
    verdict = pd.Series("undetermined", index=levels.index)
    verdict[usable & (levels["high"] <= bound)] = "inside"
    verdict[usable & levels["is_reference"]] = "inside"
    # marginal designs: every training point lies in a bin of every parameter, so one failure blames none of them
    own = failed[levels["is_reference"]]
    blamed = failed.gt(own.max() if len(own) else 0) & (
        levels["failure_p"].lt(0.05 / max(len(levels), 1)) | (design_of(frame) == "one_at_a_time")
    )
    verdict[(levels["low"] > bound) | blamed] = "outside"
    unsure = failed.gt(0) | levels["n_pending"].fillna(0).gt(0) | (_too_coarse(frame, axis, levels) & ~levels["is_reference"])
    verdict[unsure & verdict.eq("inside")] = "undetermined"
    return verdict


def _inner_run(levels: pd.DataFrame) -> tuple[Any, ...]:
    """Consecutive inside levels that hold the reference (no reference: the longest run); categories need no order."""
    good = levels["verdict"].eq("inside").tolist()
    values = levels["level"].tolist()
    if not pd.api.types.is_numeric_dtype(levels["level"]):
        return tuple(value for value, ok in zip(values, good, strict=True) if ok)
    runs: list[list[int]] = []
    for i, ok in enumerate(good):
        if ok and runs and runs[-1][-1] == i - 1:
            runs[-1].append(i)
        elif ok:
            runs.append([i])
    if levels["is_reference"].any():
        at = levels.index[levels["is_reference"]][0]
        runs = [run for run in runs if at in run]
    return tuple(values[i] for i in max(runs, key=len)) if runs else ()


def _rate(frame: pd.DataFrame, axis: Axis, levels: pd.DataFrame, limit: float) -> tuple[str, str, float, int | None]:
    """Rating, the printed rule, the smallest detectable gap, the fields that would settle the tolerance."""
    others = levels.loc[~levels["is_reference"]]
    known = others.loc[others["se"].notna() & others["n"].fillna(0).gt(0)]
    pairs = zip(known["se"].astype(float), known["df"].astype(float), strict=True)
    gaps = [detectable(se**2, df, comparisons=len(others)) for se, df in pairs]
    gap = max((g for g in gaps if math.isfinite(g)), default=math.nan)
    needed = _needed(frame, axis, levels, limit)
    if design_of(frame) == "tpe":
        return "not rated", "tpe moves to good values, so its rows favour them; use one_at_a_time or sobol", gap, needed
    if not levels["n_reference"].fillna(0).gt(0).any():
        why = f"{axis.name} is not active at the default" if axis.default is None else "the default has no complete row here"
        return "undetermined", f"{why}, so there is no reference", gap, needed
    if others.empty:
        return "undetermined", "no other value was measured", gap, needed
    bad = others.loc[others["verdict"].eq("outside")]
    if len(bad):
        return "sensitive", "; ".join(_why(row, limit) for row in bad.to_dict("records")), gap, needed
    own = levels.loc[levels["is_reference"]]
    if not own["verdict"].eq("inside").all():
        count = int(own[["n_failed", "n_diverged", "n_pending"]].fillna(0).to_numpy().sum())
        return "undetermined", f"{count} cells failed, diverged or are pending at the default itself", gap, needed
    if others["verdict"].eq("inside").all():
        worst = math.expm1(float(others["high"].max()))
        return "robust", f"upper bound {worst:+.0%} ≤ {limit:.0%} at every tested value", gap, needed
    coarse = _too_coarse(frame, axis, levels)
    return "undetermined", _undetermined(others, gap, needed, limit, _unit(frame, axis), coarse), gap, needed


def _too_coarse(frame: pd.DataFrame, axis: Axis, levels: pd.DataFrame) -> bool:
    """Two bins of a range: the default's own bin is half of it, and being no worse than that half says nothing."""
    return design_of(frame) != "one_at_a_time" and not axis.categorical and len(levels) < MIN_BINS


def _why(row: dict[Any, Any], limit: float) -> str:
    value = format_value(row["level"])
    n_failed, n_diverged = int(row["n_failed"]), int(row["n_diverged"])
    if n_failed or n_diverged:
        words = ([f"{n_failed} failed"] if n_failed else []) + ([f"{n_diverged} diverged"] if n_diverged else [])
        return f"at {value}: {' and '.join(words)}"
    return f"at {value}: lower bound {math.expm1(row['low']):+.0%} > {limit:.0%}"


def _unit(frame: pd.DataFrame, axis: Axis) -> str:
    if design_of(frame) == "one_at_a_time":
        return "samplings" if is_given(frame) else "fields"
    return "training points" if axis.group == "train" else "sampler points"


def _undetermined(others: pd.DataFrame, gap: float, needed: int | None, limit: float, unit: str, coarse: bool) -> str:
    n_pending, n_bad = (int(others[c].fillna(0).to_numpy().sum()) for c in ("n_pending", ["n_failed", "n_diverged"]))
    parts = [f"{n_pending} cells pending"] if n_pending else []
    parts += [f"{n_bad} cells failed or diverged, no more here than elsewhere"] if n_bad else []
    if coarse:
        parts.append(f"{len(others) + 1} wide bins, too few to say where the default's lies; raise {MORE_UNITS[unit]}")
    elif len(empty := others.loc[others["n"].fillna(0).eq(0), "level"]):
        parts.append(f"no complete value at {', '.join(format_value(v) for v in empty)}")
    elif math.isnan(gap):
        seeds = {"fields": "one train seed", "samplings": "one sample seed"}
        one, enough = seeds.get(unit, f"one {unit.removesuffix('s')} a value"), " to 3 or more" if unit in seeds else ""
        parts.append(f"{one}: no variance, so no interval; raise {MORE_UNITS[unit]}{enough}")
    else:
        parts.append(f"smallest detectable gap {percent(gap)}")
        parts.append(f"about {needed} {unit} a value would settle {limit:.0%}" if needed else "")
    return "; ".join(part for part in parts if part)


def _needed(frame: pd.DataFrame, axis: Axis, levels: pd.DataFrame, limit: float) -> int | None:
    """Fields that would settle the tolerance, from the seed sd (pooled, else the largest sd along the axis)."""
    paired = axis.group == "sampler" and design_of(frame) == "one_at_a_time"
    pooled = levels.attrs["pooled"]
    known = levels.loc[~levels["is_reference"], "sd"].dropna() if paired else levels["sd"].dropna()
    if pooled is None and known.empty:
        return None
    sd = math.sqrt(pooled.variance) if pooled is not None else float(known.max())
    return seeds_needed(sd, limit, comparisons=int(levels.attrs["comparisons"]), paired=paired)
