"""The metric of each row on its averaging scale, and the outcomes of the rows that have none."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.rows.facts import column_of
from analysis.rows.meta import AnalysisError, undisturbed
from analysis.rows.words import ANCHORS
from study.rows.facts import PREFIXES


def metric_column(frame: pd.DataFrame, metric: str) -> str:
    """Return the column of a metric given as ``fid``, ``nfe`` or a full column name.

    Raises:
        ValueError: no such column; the message lists the metrics.
    """
    for column in (prefix + metric for prefix in PREFIXES):
        if column in frame.columns:
            return column
    names = [c for c in frame.columns if c.startswith("metric_") and not column_of(frame, c).companion]
    known = sorted({name.removeprefix("metric_") for name in names}, key=_fid_first)
    raise AnalysisError(f"{metric}: no such metric; use one of {', '.join(known)}, nfe")


def _fid_first(name: str) -> tuple[bool, str]:
    return name != "fid", name


def is_log(frame: pd.DataFrame, metric: str) -> bool:
    """Return whether a metric is averaged on the log."""
    return column_of(frame, metric).log


def default_metric(frame: pd.DataFrame) -> str:
    """Return the main metric: ``fid`` where it was measured, else ``sliced_wasserstein`` or ``energy``, else ``fid``."""
    return _main_metric(undisturbed(frame))


def _main_metric(rows: pd.DataFrame) -> str:
    for metric in ("fid", "sliced_wasserstein", "energy"):
        column = f"metric_{metric}"
        if column in rows.columns and rows[column].notna().any():
            return metric
    return "fid"


BAD = ("failed", "timeout", "diverged", "solver_limit")
"""Statuses that are outcomes: measured, and not good."""


def need_ratio_metric(frame: pd.DataFrame, metric: str, statistic: str) -> None:
    """Refuse a metric that is not averaged on the log, and one of which more is better: its ratios say little.

    Raises:
        AnalysisError: naming the metrics that do.
    """
    column = column_of(frame, metric)
    if not column.is_ratio:
        why = f"of {metric} more is better" if column.log else f"{metric} is averaged as it is"
        raise AnalysisError(
            f"metric: {statistic} is for ratios, and less must be better; {why}."
            " Use fid, sliced_wasserstein, solver_error or nfe"
        )


@dataclass(frozen=True)
class Measured:
    """A metric of every row."""

    metric: str
    main: str
    """The main metric of the rows; often the same."""
    log: bool
    """Whether it is averaged on the log."""
    raw: pd.Series
    """Values as measured."""
    y: pd.Series
    """On its averaging scale (log or linear), NaN where a row is not complete or its number cannot be used."""


def on_scale(frame: pd.DataFrame, metric: str | None = None) -> Measured:
    """Put a metric on its averaging scale.

    Args:
        frame: rows of one study.
        metric: see `metric_column`; default: the main one of these rows.
    Raises:
        AnalysisError: no such metric, or a frame of several studies.
    """
    if frame.attrs.get("studies"):
        raise AnalysisError("these are rows of several studies; take one with analysis.of_study(rows, name)")
    main = _main_metric(frame)
    metric = metric or main
    log, raw = is_log(frame, metric), pd.to_numeric(frame[metric_column(frame, metric)]).astype(float)
    usable = frame["status"].eq("complete") & np.isfinite(raw) & ((raw > 0) | (not log))
    values = raw.where(usable)
    return Measured(metric, main, log, raw, values.map(math.log, na_action="ignore") if log else values)


def skipped_rows(rows: pd.DataFrame, raw: pd.Series, measured: Measured, perturbed: bool = False) -> dict[str, int]:
    """Count the rows that have no value, by reason.

    Args:
        rows: the rows.
        raw: their metric as measured.
        measured: which metric it is, and its scale.
        perturbed: rows of disturbed fields are wanted, so they are not counted.
    """
    skipped = {f"status {s}": int(n) for s, n in rows["status"].value_counts().sort_index().items() if s != "complete"}
    complete, finite = rows["status"].eq("complete"), np.isfinite(raw)
    if n := int((complete & ~finite).sum()):
        skipped[f"{measured.metric} missing"] = n
    if n := int((complete & finite & (raw <= 0)).sum()) if measured.log else 0:
        skipped[f"{measured.metric} not positive"] = n
    disturbed = int(rows["perturb_kind"].notna().sum()) if "perturb_kind" in rows else 0
    if (n := disturbed + int(rows.attrs.get("disturbed", 0))) and not perturbed:
        skipped["row of a disturbed field"] = n
    if n := int(rows.attrs.get("on_the_way", 0)):
        skipped["row of a field on the way"] = n
    return skipped


def metric_values(frame: pd.DataFrame, metric: str, perturbed: bool = False) -> tuple[pd.Series, dict[str, int]]:
    """Return the metric of every complete row on its averaging scale, NaN elsewhere, and what was skipped.

    Args:
        frame: rows of one study.
        metric: see `metric_column`.
        perturbed: take the rows of disturbed fields too.
    Raises:
        AnalysisError: a frame of several studies.
    """
    measured = on_scale(frame, metric)
    y = measured.y.where(frame["perturb_kind"].isna()) if "perturb_kind" in frame and not perturbed else measured.y
    return y, skipped_rows(frame, measured.raw, measured, perturbed)


OUTCOMES = {"n_failed": ["failed", "timeout"], "n_diverged": ["diverged", "solver_limit"], "n_pending": ["pending"]}
"""Columns that count what is not complete, and the statuses in each."""


def outcome_counts(rows: pd.DataFrame) -> dict[str, int]:
    """Return n_failed (failed, timeout), n_diverged (diverged, solver_limit) and n_pending of some rows."""
    return {name: int(rows["status"].isin(statuses).sum()) for name, statuses in OUTCOMES.items()}


def anchors(frame: pd.DataFrame) -> dict[str, float]:
    """Return the values of FID with a known meaning: medians of the floor, half-against-half and the pixel Gaussian."""
    frame = frame.loc[frame["perturb_kind"].isna()] if "perturb_kind" in frame else frame
    found = {name: frame[f"metric_{name}"].median() for name in ANCHORS if f"metric_{name}" in frame.columns}
    return {name: float(value) for name, value in found.items() if pd.notna(value)}


def measured(frame: pd.DataFrame, *metrics: str) -> list[str]:
    """Return those metrics that some row has."""
    return [metric for metric in metrics if frame[metric_column(frame, metric)].notna().any()]
