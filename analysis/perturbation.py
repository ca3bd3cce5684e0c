"""How much worse samples get when the field or its solver is disturbed, paired by field and latent.

Rows with ``perturb_kind`` are measurements of a trained field that was disturbed after training: "noise" (α, relative noise
added to every output of the network), "weight_noise" (relative noise on the weights) or "weight_bits" (weights rounded to
so many bits). Fewer solver steps are a disturbance too, and need no extra rows. The disturbed and the undisturbed row share
the field, the sampler point and the latents, so the degradation is a log ratio whose train-seed and sample-seed noise cancel:
r_f = mean over sample seeds of [log metric(disturbed) − log metric(undisturbed)], and fields are the units:
ratio = exp(r̄), bounds exp(r̄ ± t_{0.975, n−1} s/√n).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.load import AnalysisError, tolerance_of
from analysis.plots import draw_legend, mark_failures, metric_label, new_axes, note, palette, plain_log_ticks
from analysis.statistics import default_metric, metric_values, need_ratio_metric, outcome_counts, t_interval
from analysis.units import unit_key

KINDS = {
    "noise": "noise α added to the field (relative)",
    "weight_noise": "noise on the weights (relative)",
    "weight_bits": "bits of a weight",
    "steps": "solver steps",
}
_COLUMNS = [
    "perturb_kind", "series", "perturb_level", "ratio", "low", "high", "n_fields", "n_pairs", "n_failed", "n_diverged",
    "n_pending",
]  # fmt: skip
_NOT_SHARED = ("sampler_id", "sampler_steps")


def perturbation_robustness(frame: pd.DataFrame, metric: str | None = None) -> pd.DataFrame:
    """Degradation of a metric by kind and level of disturbance, against the same field and latents undisturbed.

    "steps" compares a fixed-step solver with its own largest number of steps, all other sampler parameters equal; the
    reference level is listed with ratio 1. Failed and diverged disturbed rows have no ratio and are counted.

    Args:
        frame: rows of `analysis.load_study` with ``perturbed=True``.
        metric: default ``fid``; one that is averaged on the log.
    Returns:
        perturb_kind, series (the solver for "steps", else "all"), perturb_level, ratio, low, high (NaN for one field),
        n_fields, n_pairs, n_failed, n_diverged, n_pending; ``attrs["skipped"]``: rows by status, and rows without a pair.
    Raises:
        AnalysisError: a metric that has no ratio, such as precision.
    """
    metric = metric or default_metric(frame)
    need_ratio_metric(metric, "perturbation_robustness")
    values, skipped = metric_values(frame, metric, perturbed=True)
    rows = frame.assign(_y=values, _field=unit_key(frame))
    rows.attrs = {}
    table = _disturbed(rows, skipped) + _steps(rows, skipped)
    result = pd.DataFrame(table, columns=_COLUMNS)
    result.attrs = {**frame.attrs, "skipped": skipped, "metric": metric}
    return result


def _disturbed(rows: pd.DataFrame, skipped: dict[str, int]) -> list[dict[str, Any]]:
    kinds = rows["perturb_kind"]
    keys = ["_field", "point_id", "sampler_id", "seed_sample"]
    base = rows.loc[kinds.isna()].groupby(keys)["_y"].mean().rename("_base").dropna()
    table = []
    for kind, of_kind in rows.loc[kinds.notna()].groupby("perturb_kind"):
        for level, group in of_kind.groupby("perturb_level"):
            pairs = group.join(base, on=keys)
            alone = int((pairs["_base"].isna() & pairs["_y"].notna()).sum())
            if alone:
                skipped["no undisturbed row of this field, sampler point and seed"] = (
                    skipped.get("no undisturbed row of this field, sampler point and seed", 0) + alone
                )
            table.append(_level(str(kind), "all", float(str(level)), pairs))
    return table


def _steps(rows: pd.DataFrame, skipped: dict[str, int]) -> list[dict[str, Any]]:
    """Fixed-step rows against the same solver's largest number of steps with all other sampler parameters equal."""
    fixed = rows.loc[rows["perturb_kind"].isna() & rows["sampler_steps"].notna()]
    shared = [c for c in fixed.columns if c.startswith("sampler_") and c not in _NOT_SHARED]
    keys = ["_field", "point_id", "seed_sample", *shared]
    if fixed.empty:
        return []
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
        skipped["no complete row at the largest number of steps"] = lost
    return [
        _level("steps", str(solver), float(str(steps)), group)
        for (solver, steps), group in pairs.groupby(["sampler_solver", "sampler_steps"])
    ]


def _level(kind: str, series: str, level: float, pairs: pd.DataFrame) -> dict[str, Any]:
    difference = (pairs["_y"] - pairs["_base"]).dropna()
    interval = t_interval(difference.groupby(pairs["_field"]).mean().to_numpy())
    return {
        "perturb_kind": kind, "series": series, "perturb_level": level, "ratio": math.exp(interval.mean),
        "low": math.exp(interval.low), "high": math.exp(interval.high), "n_fields": interval.n, "n_pairs": len(difference),
        **outcome_counts(pairs),
    }  # fmt: skip


def plot_perturbation_robustness(
    frame: pd.DataFrame, kind: str = "steps", *, metric: str | None = None, ax: Axes | None = None
) -> Axes:
    """Degradation against the level of one disturbance, log axis, with t-intervals; the line at 1 is undisturbed.

    Args:
        frame: rows of `analysis.load_study` with ``perturbed=True``.
        kind: ``noise``, ``weight_noise``, ``weight_bits`` or ``steps``.
        metric: default ``fid``.
        ax: axes to draw on; new ones if None.
    Raises:
        AnalysisError: another kind.
    """
    if kind not in KINDS:
        raise AnalysisError(f"kind: got {kind}; use {', '.join(KINDS)}")
    every = perturbation_robustness(frame, metric)
    table = every.loc[every["perturb_kind"].eq(kind)]
    ax = ax or new_axes()
    ax.set_xlabel(KINDS[kind])
    reference = "most steps" if kind == "steps" else "undisturbed"
    ax.set_ylabel(f"{metric_label(frame, every.attrs['metric'])} ÷ {reference}")
    if table.empty:
        note(ax, f"no row with perturb_kind {kind}" if kind != "steps" else "no solver with two numbers of steps")
        return ax
    positive = bool(table["perturb_level"].gt(0).all())
    if positive:
        ax.set_xscale("log", base=2 if kind in ("steps", "weight_bits") else 10)
    ax.set_yscale("log")
    for i, (series, part) in enumerate(table.dropna(subset=["ratio"]).groupby("series")):
        _draw_series(ax, part, i, str(series) if kind == "steps" else f"mean of {part['n_fields'].max()} fields")
    ax.axhline(1.0, color="0.4", lw=0.8, zorder=0)
    tolerance = tolerance_of(frame)
    ax.axhline(1 + tolerance, color=palette()[1], ls="--", lw=0.9, label=f"+ {tolerance:.0%}")
    _frame(ax, table, positive, kind)
    mark_failures(ax, table["perturb_level"], table["n_failed"] + table["n_diverged"])
    draw_legend(ax)
    return ax


def _draw_series(ax: Axes, part: pd.DataFrame, i: int, label: str) -> None:
    has = part["low"].notna()
    errors = [(part["ratio"] - part["low"]).where(has, 0), (part["high"] - part["ratio"]).where(has, 0)]
    clean = (part["n_failed"] + part["n_diverged"]).eq(0).all()
    colour = palette()[i % 10]
    ax.errorbar(part["perturb_level"], part["ratio"], yerr=errors, fmt="-" + "osD^"[i % 4], color=colour, label=label,
                markerfacecolor=colour if clean else "white", capsize=3, lw=1.1, markersize=5)  # fmt: skip


def _frame(ax: Axes, table: pd.DataFrame, positive: bool, kind: str) -> None:
    means = table["ratio"].dropna().to_numpy(float)
    if len(means):
        ax.set_ylim(min(means.min(), 1.0) / 1.3, max(means.max(), 1.1) * 1.5)
        plain_log_ticks(ax, "y")
    levels = np.sort(table["perturb_level"].unique())
    if positive and len(levels) <= 8:
        ax.set_xticks(levels, [f"{level:g}" for level in levels])
        ax.set_xticks([], minor=True)
    if kind == "weight_bits":
        ax.invert_xaxis()  # to the right: rougher, as on the other axes
