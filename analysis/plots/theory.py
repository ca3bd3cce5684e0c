"""Predicted curves with the measured points over them: prior error, coverage, τ, outliers, effective sources."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.plots.style import PALETTE, draw_legend, mark_failures, new_axes, note, pad_log, plain_log_ticks
from analysis.rows.meta import AnalysisError, is_given
from analysis.rows.metrics import is_log
from analysis.rows.question import MAIN
from analysis.rows.words import metric_label, plain_number
from analysis.theory.laws import DataMoments, prior_tail
from analysis.theory.outliers import outlier_map
from analysis.theory.predictions import THEORIES, theory_curves


def plot_outlier_map(frame: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the share of outliers against the truncation R/T, one line a T, with ∞ (not truncated) at the right edge.

    Dotted, on the right axis: the mass of the untruncated prior beyond R/T; triangles on the lower edge: the median R/T at
    which the outliers of each sampler point start.

    Args:
        frame: rows of `analysis.load_study`.
        ax: axes to draw on; new ones if None.
    """
    table = outlier_map(frame)
    ax = ax or new_axes()
    ax.set_xlabel("prior truncated at R/T (∞: not truncated)")
    ax.set_ylabel(metric_label(frame, "outlier_fraction"))
    drawn = table.dropna(subset=["outlier_fraction"])
    if drawn.empty:
        note(ax, "no outlier fraction was measured")
        return ax
    finite = table.loc[np.isfinite(table["max_radius_ratio"]), "max_radius_ratio"]
    seen = [*finite, *table["outlier_radius"].dropna()] or [1.0]
    low, high = min(seen) / 2, max(seen) * 2
    edge = high * 2
    ax.set_xscale("log")
    ax.set_xlim(low, edge * 1.6)
    _draw_heights(ax, drawn, edge)
    if table.attrs["dim"] is not None:
        grid = np.geomspace(low, high, 200)
        right = ax.twinx()
        right.plot(grid, prior_tail(grid, table.attrs["dim"]), ":", color="0.4", lw=1)
        right.set_ylim(0, 1.03)
        right.set_ylabel("prior beyond R/T (share of latents), dotted", color="0.35")
    plain_log_ticks(ax, "x")
    ticks = [tick for tick in ax.get_xticks() if low <= tick <= high]
    ax.set_xticks([*ticks, edge], [*(plain_number(tick) for tick in ticks), "∞"])
    ax.set_ylim(0, min(1.0, float(np.nanmax(drawn[["outlier_fraction", "high"]].to_numpy())) * 1.4 + 0.01))
    mark_failures(ax, [_place(x, edge) for x in table["max_radius_ratio"]], table["n_failed"] + table["n_diverged"])
    draw_legend(ax)
    return ax


def _place(ratio: float, edge: float) -> float:
    return ratio if math.isfinite(ratio) else edge


def _draw_heights(ax: Axes, drawn: pd.DataFrame, edge: float) -> None:
    """Draw one line a starting height: the share with its t-interval, and where its outliers start."""
    for i, (T_ratio, part) in enumerate(drawn.groupby("T_ratio")):
        colour = PALETTE[i % 10]
        x = part["max_radius_ratio"].map(lambda ratio: _place(ratio, edge))
        y = part["outlier_fraction"]
        has = part["low"].notna()
        errors = [(y - part["low"].clip(lower=0)).where(has, 0), (part["high"] - y).where(has, 0)]
        hollow = bool((part["n_failed"] + part["n_diverged"]).gt(0).any())
        ax.errorbar(x, y, yerr=errors, fmt="-o", color=colour, capsize=3, lw=1.1, markersize=5,
                    markerfacecolor="white" if hollow else colour, label=f"T = {T_ratio:.3g} × the rule's")  # fmt: skip
        starts = part["outlier_radius"].dropna()
        ax.plot(starts, [0.02] * len(starts), "^", color=colour, markersize=6, transform=ax.get_xaxis_transform(), zorder=4)
        star = part.loc[part["is_default"]]
        ax.plot([_place(r, edge) for r in star["max_radius_ratio"]], star["outlier_fraction"], "*", color=PALETTE[1],
                markeredgecolor="black", markersize=13, zorder=5, label="default" if len(star) else None)  # fmt: skip


_LABELS = {
    "prior_error": "starting height T (data units)",
    "coverage": "T over the largest trained height t_hi",
    "tau_null": "τ at a fixed height",
}


def plot_theory_curves(
    frame: pd.DataFrame, which: str = "coverage", *, metric: str = MAIN, moments: DataMoments | None = None,
    ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Draw one prediction as a line with the measured points over it, and write what was held fixed.

    ``prior_error`` has two scales: the metric at the left, the predicted KL at the right, only where it is valid. Where the
    metric is the KL itself (``prior_kl``, of an exact field), both are on one.

    Args:
        frame: rows of `analysis.load_study`.
        which: ``prior_error``, ``coverage`` or ``tau_null``.
        metric: default ``fid``.
        moments: of the data, as in `theory_curves`.
        ax: axes to draw on; new ones if None.
    Raises:
        AnalysisError: another prediction.
    """
    if which not in THEORIES:
        raise AnalysisError(f"which: got {which}; use {', '.join(THEORIES)}")
    every = theory_curves(frame, metric, moments)
    table = every.loc[every["theory"].eq(which)]
    ax = ax or new_axes()
    ax.set_xlabel(_LABELS[which])
    label = metric_label(frame, every.attrs["metric"])
    ax.set_ylabel({"coverage": "share of latents inside R_max", "tau_null": f"{label} ÷ default's"}.get(which, label))
    ax.set_title(every.attrs["notes"][which], fontsize=6.5, color="0.35", loc="left", wrap=True)
    if table.empty:
        note(ax, "nothing to compare")
        return ax
    ax.set_xscale("log")
    curve, measured = (table.loc[table["kind"].eq(kind)] for kind in ("curve", "measured"))
    _draw_measured(ax, measured, "samplings" if is_given(frame) else "fields")
    if which == "prior_error":
        _draw_prior_error(ax, every, curve, measured)
    else:
        ax.plot(curve["x"], curve["y"], "--", color="0.25", lw=1.1, label="theory", zorder=1)
    if which == "tau_null":
        ax.set_yscale("log")
        pad_log(ax, table[["y", "low", "high"]].to_numpy(float), True)
    elif which == "coverage":
        ax.set_ylim(-0.03, 1.03)
    plain_log_ticks(ax, "x")
    if which != "prior_error" or every.attrs["metric"] == "prior_kl":  # whose two axes say it, and whose curve it would cover
        draw_legend(ax)
    return ax


def _draw_measured(ax: Axes, measured: pd.DataFrame, unit: str) -> None:
    has = measured["low"].notna()
    errors = [(measured["y"] - measured["low"]).where(has, 0), (measured["high"] - measured["y"]).where(has, 0)]
    ax.errorbar(measured["x"], measured["y"], yerr=errors, fmt="o", color=PALETTE[0], capsize=3, lw=1, markersize=5,
                label=f"measured, 95 % over {unit}" if has.any() else "measured")  # fmt: skip


def _draw_prior_error(ax: Axes, every: pd.DataFrame, curve: pd.DataFrame, measured: pd.DataFrame) -> None:
    valid, metric = every.attrs["valid_from"], every.attrs["metric"]
    log = is_log(every, metric)
    if log:
        ax.set_yscale("log")
    pad_log(ax, measured[["y"]].to_numpy(float), log)
    if valid is None or curve.empty:
        return
    ax.axvspan(ax.get_xlim()[0], valid, color="0.92", lw=0, zorder=0)
    ax.text(0.02, 0.03, "grey: T too low for the expansion", transform=ax.transAxes, fontsize=6.5, color="0.35")
    if metric == "prior_kl":
        ax.plot(curve["x"], curve["y"], "--", color="0.25", lw=1.1, label="theory", zorder=1)
        return
    right = ax.twinx()
    right.set_yscale("log")
    right.plot(curve["x"], curve["y"], "--", color="0.25", lw=1.1)
    right.set_ylabel("theory: KL to the true law (nats), dashed", color="0.25")


def plot_effective_sample_size(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the effective sample size against height: a line a batch size, its whole batch dotted, a band for the largest.

    Args:
        table: rows of `effective_sample_size`.
        ax: axes to draw on; new ones if None.
    """
    ax = ax or new_axes()
    ax.set_xlabel("height t (data units)")
    ax.set_ylabel("effective number of sources 1 / Σ w²")
    if table.empty:
        note(ax, "no height to show")
        return ax
    ax.set_xscale("log")
    ax.set_yscale("log")
    sizes = sorted(table["n_ref"].unique())
    for colour, size in zip([*PALETTE] * len(sizes), sizes, strict=False):
        part = table.loc[table["n_ref"].eq(size)].sort_values("t")
        if size == sizes[-1]:  # the bands of several sizes would hide each other
            ax.fill_between(part["t"], part["low"], part["high"], color=colour, alpha=0.15, lw=0,
                            label=f"10 to 90 % of points, batch of {plain_number(size)}")  # fmt: skip
        ax.plot(part["t"], part["ess"], color=colour, lw=1.3, label=f"median, batch of {plain_number(size)}")
        ax.axhline(size, color=colour, lw=0.7, ls=":")
    plain_log_ticks(ax, "x")
    plain_log_ticks(ax, "y")
    draw_legend(ax)
    return ax
