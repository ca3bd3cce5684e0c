"""Means, intervals and power on log metrics, with the trained field as the unit.

Metrics such as FID carry multiplicative noise, so means are geometric and intervals are Student's t on the log. Rows of
one field are not independent: a field is first reduced to the mean of its log metric, and n counts fields. A
percentile or BCa bootstrap of three seeds covers about 72 % where it promises 95 %; Student's t covers 94 %. The best of a few
seeds, the field's custom, reads low by about 0.84 sd at three seeds and is a labelled column only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from analysis.rows.meta import AnalysisError, Axis, final, find_axis, is_given, searched_axes, undisturbed
from analysis.rows.metrics import OUTCOMES, is_log, metric_values
from analysis.rows.question import statistic
from analysis.rows.units import unit_key
from analysis.rows.words import format_value
from analysis.statistics.variance import intervals
from study.rows.records import STATUSES


class Interval(NamedTuple):
    """A mean with its Student-t interval; ``low`` and ``high`` are NaN when n < 2."""

    mean: float
    low: float
    high: float
    n: int


def t_interval(values: Sequence[float] | np.ndarray, confidence: float = 0.95) -> Interval:
    """Return Student's t interval of a mean: ȳ ± t_{(1+c)/2, n−1} · s/√n, s the sample standard deviation.

    Args:
        values: one number per independent unit (field).
        confidence: coverage c in (0, 1).
    Returns:
        Mean and bounds on the scale of ``values``; null bounds (NaN) when n < 2, all NaN when n = 0.
    """
    y = np.asarray(values, dtype=float)
    n = len(y)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = float(y.mean())
    if n == 1:
        return Interval(mean, math.nan, math.nan, 1)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1) * y.std(ddof=1) / math.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


@statistic()
def summarize(
    frame: pd.DataFrame, metric: str = "fid", by: Sequence[str] = ("point_id", "sampler_id"), confidence: float = 0.95
) -> pd.DataFrame:
    """Return one row a configuration: the geometric mean over fields with its interval.

    With y_f the mean of the log metric over the sample seeds of field f, n fields and S sample seeds:

        mean = exp(ȳ),  bounds = exp(ȳ ± t √(ν/n + σ_S²/S))

    ν is the variance between fields, moderated by that of the other training points at the same sampler point. σ_S² is the
    variance that equal sample seeds add to all fields alike (`analysis.statistics.variance`). t is Student's quantile with
    Satterthwaite's degrees of freedom. Precision and other shares stay linear.

    With one sample seed σ_S² cannot be known, and the interval holds for those latents. With two, its one degree of freedom is
    too few where latents matter more than retraining (on images they do a third as much). At three times as much, intervals
    cover 88 to 91 %, with five sample seeds 95 %.

    Args:
        frame: rows of `analysis.load_study`.
        metric: ``fid``, ``precision``, ``nfe``, … or a column.
        by: columns that name a configuration (training point × sampler point).
        confidence: coverage of the interval.
    Returns:
        ``by``, roles, searched values, n_train_seeds, n_sample_seeds (n, where one field is given), n_rows, mean, low, high
        (NaN when n = 1),
        se and df (of the log mean), few_df (df below 5: it may be luck), min_of_seeds (biased low), n_failed, n_diverged,
        n_pending; ``attrs["skipped"]``.
    """
    values, skipped = metric_values(frame, metric)
    rows = frame.assign(y=values, field=unit_key(frame), config=frame.groupby(list(by), sort=False, dropna=False).ngroup())
    rows.attrs = {}  # grouping would copy them once a group
    keep = [axis.column for axis in searched_axes(frame) if axis.column in frame.columns]
    keep = [column for column in ["design_role", "design_sampler_role", *keep] if column not in by]
    table = configuration_means(rows, by, keep, log=is_log(frame, metric), confidence=confidence)
    for name, statuses in OUTCOMES.items():
        table[name] = rows["status"].isin(statuses).groupby(rows["config"]).sum()
    if is_given(frame):  # whose units are its samplings: one field
        table[["n_train_seeds", "n_sample_seeds"]] = table[["n_sample_seeds", "n_train_seeds"]].to_numpy()
    result = table.reset_index(drop=True)
    result.insert(list(result.columns).index("mean"), "n_rows", rows.groupby("config").size().to_numpy())
    result.attrs = {**frame.attrs, "skipped": skipped, "metric": metric}
    return result


def configuration_means(
    rows: pd.DataFrame, by: Sequence[str], keep: Sequence[str] = (), *, log: bool, confidence: float = 0.95
) -> pd.DataFrame:
    """Return the mean and the interval of every configuration, on the metric's own scale.

    Args:
        rows: undisturbed rows with ``y`` (the metric on its averaging scale) and ``field`` (the unit).
        by: columns that name a configuration.
        keep: other columns, of which the first value of each configuration is kept.
        log: whether ``y`` is a logarithm.
        confidence: coverage of the interval.
    Returns:
        ``by``, ``keep`` and the columns of `analysis.statistics.variance.intervals`.
    """
    rows = rows.assign(config=rows.groupby(list(by), sort=False, dropna=False).ngroup())
    rows.attrs = {}  # grouping would copy them once a group
    table = rows.groupby("config")[[*by, *keep]].first()
    within = [column for column in by if column != "point_id"]
    pooled = table.groupby(within, dropna=False).ngroup() if within else pd.Series(0, index=table.index)
    groups = pooled.to_numpy() if "point_id" in by else np.arange(len(table))
    table = table.join(intervals(rows.dropna(subset=["y"]), table.index, groups, confidence))
    if log:
        ends = ["mean", "low", "high", "min_of_seeds"]
        table[ends] = np.exp(table[ends].clip(upper=700.0))
    return table


def failure_table(frame: pd.DataFrame, by: str | Axis | None = None) -> pd.DataFrame:
    """Count the cells of each status, overall or by value of a searched parameter (or any column).

    Args:
        frame: rows of `analysis.load_study`.
        by: a searched parameter, a column, or None for one row over all cells. Rows of disturbed fields are counted by
            ``perturb_kind`` and ``perturb_level`` only.
    Returns:
        value, complete, failed, diverged, solver_limit, timeout, pending, total; null values count as "inactive".
    """
    frame = final(frame) if by in ("perturb_kind", "perturb_level") else undisturbed(frame)
    if by is None:
        value = pd.Series("all", index=frame.index)
    else:
        column = by if isinstance(by, str) and by in frame.columns else find_axis(frame, by).column
        value = frame[column].astype(object).where(frame[column].notna(), "inactive")
    table = pd.crosstab(value, frame["status"]).reindex(columns=[*STATUSES, "pending"], fill_value=0)
    table = table.loc[sorted(table.index, key=lambda v: (isinstance(v, str), v))]
    table["total"] = table.sum(axis=1)
    result = table.rename_axis(index="value", columns=None).reset_index()
    n = int(frame.attrs.get("disturbed", 0))
    result.attrs = {**frame.attrs, "skipped": {"row of a disturbed field": n} if n else {}}
    return result


def seeds_needed(sd: float, gap: float, comparisons: int = 1, power: float = 0.80, paired: bool = False) -> int:
    """Return the fields a side that detect a ratio 1 + gap: the least n with (t_{1−α/2m} + t_power) s √(k/n) ≤ log(1 + gap).

    k = 2 and Student's t with 2(n − 1) degrees of freedom for two sides; k = 1 and n − 1 for pairs. The usual normal
    approximation answers "2" where two fields a side could never tell.

    Args:
        sd: standard deviation of the log metric over fields (paired: of the log ratio).
        gap: relative difference to detect, e.g. 0.10.
        comparisons: m, the number of simultaneous comparisons (Bonferroni), at α = 0.05.
        power: probability of detection.
        paired: one sample of paired log ratios instead of two samples.
    Returns:
        At least 2; 20 % seed noise needs about 70 a side for 10 % and 700 for 3 %.
    """
    k, level = 1 if paired else 2, 1 - 0.025 / max(comparisons, 1)
    z = stats.norm.ppf(level) + stats.norm.ppf(power)
    if not gap > 0:
        raise AnalysisError(f"gap: must be above 0, e.g. 0.10 for 10 %, got {gap:g}")
    n: int = max(2, math.ceil(k * (z * sd / math.log1p(gap)) ** 2))
    while (stats.t.ppf(level, k * (n - 1)) + stats.t.ppf(power, k * (n - 1))) * sd * math.sqrt(k / n) > math.log1p(gap):
        n += 1
    return n


def sd_interval(sd: float, df: int) -> tuple[float, float]:
    """Return the 95 % interval of the sd of normal values: s √(df / χ²_{df; 0.975}) to s √(df / χ²_{df; 0.025})."""
    low, high = (sd * math.sqrt(df / float(stats.chi2.ppf(q, df))) for q in (0.975, 0.025))
    return low, high


def configuration_name(frame: pd.DataFrame, row: Mapping[Any, Any]) -> str:
    """Name what differs from the default in a row of `summarize`: ``sigma = 0.3, T = 20``, or "default"."""
    moved = [
        f"{axis.name} = {format_value(row[axis.column])}"
        for axis in searched_axes(frame)
        if axis.column in row and pd.notna(row[axis.column]) and row[axis.column] != axis.default
    ]
    return ", ".join(moved) or "default"
