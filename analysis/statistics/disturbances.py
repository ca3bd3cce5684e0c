"""Measure how much worse samples get when the field or its solver is disturbed, paired by field and latent.

Rows with ``perturb_kind`` are measurements of a trained field that was disturbed after training. The kinds are:

* "noise": x ← x + α t n before every solver step, t its noise level;
* "weight_noise": noise on the weights, relative to the rms of each tensor;
* "weight_bits": weights rounded to so many bits.

Fewer solver steps are a disturbance too, and need no extra rows. The disturbed and the undisturbed row share the field, the
sampler point and the latents. So the degradation is a log ratio in which train-seed and sample-seed noise cancel:
r_f = mean over sample seeds of [log metric(disturbed) − log metric(undisturbed)]. Fields are the units:
ratio = exp(r̄), bounds exp(r̄ ± t_{0.975, n−1} s/√n).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.rows.meta import AnalysisError, study_of
from analysis.rows.metrics import OUTCOMES, metric_values, outcome_counts
from analysis.rows.question import MAIN, statistic
from analysis.rows.units import unit_key
from analysis.rows.words import plain_number
from analysis.statistics.summary import t_interval

_COLUMNS = [
    "perturb_kind", "series", "perturb_level", "ratio", "low", "high", "n_fields", "n_pairs", "n_failed", "n_diverged",
    "n_pending",
]  # fmt: skip
_NOT_SHARED = ("sampler_id", "sampler_steps")
SERIES = {"train_process": "process", "train_n_aug": "D", "network_width": "width", "network_depth": "depth"}
"""Columns that make a series of their own for every value, and what they are called."""
_ALONE = "no undisturbed row of this field, sampler point and seed"
_NO_MOST = "no complete row at the largest number of steps"


@statistic(ratio=True, perturbed=True)
def perturbation_robustness(frame: pd.DataFrame, metric: str = MAIN, by: Sequence[str] | None = None) -> pd.DataFrame:
    """Estimate the degradation of a metric by kind and level of disturbance, against the same field and latents.

    One series for each process, number of extra dimensions and size of the network, where these differ and are searched as
    choices: the values of a range hold one point each, and stand together. "steps" compares a
    fixed-step solver with its own largest number of steps, all other sampler parameters equal; the reference level is listed
    with ratio 1. Failed and diverged disturbed rows have no ratio and are counted.

    Args:
        frame: rows of `analysis.load_study` with ``perturbed=True``.
        metric: default ``fid``; one that is averaged on the log.
        by: columns whose values make a series (default: those of `SERIES` that differ, without ranges); none: all fields
            together.
    Returns:
        perturb_kind, series ("all" where there is one; for "steps" the solver too), perturb_level, ratio, low, high (NaN for
        one field),
        n_fields, n_pairs, n_failed, n_diverged, n_pending; ``attrs["skipped"]``: rows by status, and rows without a pair.
    Raises:
        AnalysisError: a metric that has no ratio, such as precision.
    """
    values, skipped = metric_values(frame, metric, perturbed=True)
    rows = frame.assign(_y=values, _field=unit_key(frame), _series=series_of(frame, by))
    rows.attrs = {}
    table = _disturbed(rows, skipped) + _steps(rows, skipped)
    table.sort(key=lambda row: (row["perturb_kind"], _natural(str(row["series"])), row["perturb_level"]))
    result = pd.DataFrame(table, columns=_COLUMNS)
    result.attrs = {**frame.attrs, "skipped": skipped, "metric": metric}
    return result


def series_of(frame: pd.DataFrame, by: Sequence[str] | None = None) -> pd.Series:
    """Return the series that each row belongs to, in words: ``pfgmpp, D = 128``; "all" where there is one.

    Args:
        frame: rows of `analysis.load_study` with ``perturbed=True``.
        by: columns whose values make a series; default: those of `SERIES` that differ, but for searched ranges.
    """
    differ = [c for c in SERIES if c in frame and len(frame[c].unique()) > 1]
    columns = [c for c in differ if c not in _ranges(frame)] if by is None else list(by)
    words = [[_series_word(column, value) for value in frame[column]] for column in columns]
    names = [", ".join(word for word in row if word) or "all" for row in zip(*words, strict=True)] if words else "all"
    return pd.Series(names, index=frame.index)


def _ranges(frame: pd.DataFrame) -> set[str]:
    """Return columns of the training parameters that were searched over a range, not among choices."""
    search = (study_of(frame).get("search") or {}).get("train") or {}
    return {f"{group}_{name}" for name, how in search.items() if "choice" not in how for group in ("train", "network")}


def _natural(text: str) -> list[tuple[float, str]]:
    """Return a sort key that puts D = 8 before D = 64, and ∞ last."""
    parts = re.split(r"(\d+(?:\.\d+)?|∞)", text)
    return [(math.inf if p == "∞" else float(p), "") if i % 2 else (-1.0, p) for i, p in enumerate(parts)]


def _series_word(column: str, value: Any) -> str:
    if pd.isna(value):
        return ""
    if column == "train_process":
        return str(value)
    number = value if isinstance(value, str) else plain_number(float(value)) if math.isfinite(value) else "∞"
    return f"{SERIES.get(column, column)} = {number}"


@statistic(ratio=True, perturbed=True)
def degradation(frame: pd.DataFrame, kind: str, level: float, metric: str = MAIN) -> pd.DataFrame:
    """Return the log ratio of a disturbed to the undisturbed metric, one a field, for `analysis.statistics.contrasts`.

    Args:
        frame: rows of `analysis.load_study` with ``perturbed=True``.
        kind: ``noise``, ``weight_noise``, ``weight_bits``, or ``steps`` against the largest number of steps.
        level: one that was measured.
        metric: default ``fid``.
    Returns:
        series, field, log_ratio (NaN for a field without a value, which `contrast` counts; else the mean over its sample seeds
        that have one), n_failed, n_diverged, n_pending (disturbed rows of the field); ``attrs["skipped"]``: of the rows at this
        level, those by status and those without a pair.
    Raises:
        AnalysisError: no such kind, or level; the message lists those there are.
    """
    values, _ = metric_values(frame, metric, perturbed=True)
    rows = frame.assign(_y=values, _field=unit_key(frame), _series=series_of(frame))
    rows.attrs = {}
    pairs = _step_pairs(rows, {}) if kind == "steps" else _pairs(rows, {})
    column = "sampler_steps" if kind == "steps" else "perturb_level"
    of_kind = pairs if kind == "steps" else pairs.loc[pairs["perturb_kind"].eq(kind)]
    chosen = of_kind.loc[np.isclose(of_kind[column].astype(float), level)]
    if chosen.empty:
        there = ", ".join(f"{v:g}" for v in sorted(of_kind[column].dropna().astype(float).unique())) or "none"
        raise AnalysisError(f"degradation: no row with {kind} at {level:g}; measured: {there}")
    fields = [chosen["_series"].rename("series"), chosen["_field"].rename("field")]
    counts = {name: chosen["status"].isin(statuses) for name, statuses in OUTCOMES.items()}
    table = pd.DataFrame({"log_ratio": (chosen["_y"] - chosen["_base"]).groupby(fields).mean()})
    result = table.assign(**{name: bad.groupby(fields).sum() for name, bad in counts.items()}).reset_index()
    _, skipped = metric_values(chosen, metric, perturbed=True)
    if alone := int((chosen["_base"].isna() & chosen["_y"].notna()).sum()):
        skipped[_NO_MOST if kind == "steps" else _ALONE] = alone
    result.attrs = {**frame.attrs, "skipped": skipped, "metric": metric}
    return result


def _pairs(rows: pd.DataFrame, skipped: dict[str, int]) -> pd.DataFrame:
    """Return disturbed rows with ``_base``, the undisturbed value of the same field, sampler point and latents."""
    kinds = rows["perturb_kind"]
    keys = ["_field", "point_id", "sampler_id", "seed_sample"]
    base = rows.loc[kinds.isna()].groupby(keys)["_y"].mean().rename("_base").dropna()
    pairs = rows.loc[kinds.notna()].join(base, on=keys)
    if alone := int((pairs["_base"].isna() & pairs["_y"].notna()).sum()):
        skipped[_ALONE] = skipped.get(_ALONE, 0) + alone
    return pairs


def _disturbed(rows: pd.DataFrame, skipped: dict[str, int]) -> list[dict[str, object]]:
    return [
        _level(str(kind), str(series), float(str(level)), group)
        for (kind, series, level), group in _pairs(rows, skipped).groupby(["perturb_kind", "_series", "perturb_level"])
    ]


def _steps(rows: pd.DataFrame, skipped: dict[str, int]) -> list[dict[str, object]]:
    pairs = _step_pairs(rows, skipped)
    if pairs.empty:
        return []
    alone = len(pairs["_series"].unique()) == 1
    return [
        _level("steps", str(solver) if alone else f"{series}, {solver}", float(str(steps)), group)
        for (series, solver, steps), group in pairs.groupby(["_series", "sampler_solver", "sampler_steps"])
    ]


def _step_pairs(rows: pd.DataFrame, skipped: dict[str, int]) -> pd.DataFrame:
    """Pair fixed-step rows with the same solver's largest number of steps, all other sampler parameters equal."""
    fixed = rows.loc[rows["perturb_kind"].isna() & rows["sampler_steps"].notna()]
    shared = [c for c in fixed.columns if c.startswith("sampler_") and c not in _NOT_SHARED]
    keys = ["_field", "point_id", "seed_sample", *shared]
    if fixed.empty:
        return fixed.assign(_base=math.nan)
    groups = fixed.groupby(keys, dropna=False)
    most = groups["sampler_steps"].transform("max")
    several = groups["sampler_steps"].transform("nunique").gt(1)
    if (~several).any():
        skipped["a single number of steps at this sampler point"] = int((~several).sum())
    fixed = fixed.assign(_most=most).loc[several]
    base = fixed.loc[fixed["sampler_steps"].eq(fixed["_most"]), [*keys, "_y"]].rename(columns={"_y": "_base"})
    pairs = fixed.merge(base.drop_duplicates(keys), on=keys, how="left")
    lost = int((pairs["_base"].isna() & pairs["_y"].notna()).sum())
    if lost:
        skipped[_NO_MOST] = lost
    return pairs


def _level(kind: str, series: str, level: float, pairs: pd.DataFrame) -> dict[str, object]:
    difference = (pairs["_y"] - pairs["_base"]).dropna()
    interval = t_interval(difference.groupby(pairs["_field"]).mean().to_numpy())
    return {
        "perturb_kind": kind, "series": series, "perturb_level": level, "ratio": math.exp(interval.mean),
        "low": math.exp(interval.low), "high": math.exp(interval.high), "n_fields": interval.n, "n_pairs": len(difference),
        **outcome_counts(pairs),
    }  # fmt: skip
