r"""Samples that land far from all data, against where on the starting plane they came from.

The prior of a Poisson flow is heavy-tailed: R/T, the starting radius over the starting height, exceeds r with probability
I_{1/(1+r²)}(1/2, d/2), about √(d·2/π)/r far out, and its mean is infinite. A latent that starts beyond what training
covered ends as an outlier, so the share of outliers should fall where the prior is truncated at max_radius_ratio = R/T,
and ``diag_outlier_radius`` (the median R/T of those samples that became outliers) says where they start. An outlier is
a sample whose nearest data point is farther than the data's own distances, each left out once, allow.

Source: PFGM (arXiv 2209.11178), the prior on z = z_max and the clipping of its radius.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy import special

from analysis.plots.legends import draw_legend
from analysis.plots.style import mark_failures, metric_label, new_axes, note, palette, plain_log_ticks, plain_number
from analysis.rows.load import design_of, has_role, is_default, undisturbed
from analysis.rows.units import unit_key
from analysis.statistics.summary import metric_values, outcome_counts, t_interval

_COLUMNS = [
    "max_radius_ratio", "T_ratio", "outlier_fraction", "low", "high", "prior_truncated", "outlier_radius", "coverage",
    "n_fields", "n_rows", "n_failed", "n_diverged", "n_pending", "is_default",
]  # fmt: skip


def prior_tail(ratio: np.ndarray | float, dim: int) -> np.ndarray:
    r"""P(R/T > r) of the untruncated Poisson prior: I_{1/(1+r²)}(1/2, d/2), without the cancellation of 1 − CDF.

    Args:
        ratio: r ≥ 0, the radius in units of the starting height.
        dim: dimension d of the data.
    Source: R²/(R² + T²) ~ Beta(d/2, 1/2), from the radial law r^{d−1}(r² + T²)^{−(d+1)/2}.
    """
    return np.asarray(special.betainc(0.5, 0.5 * dim, 1.0 / (1.0 + np.square(ratio))))


def outlier_map(frame: pd.DataFrame) -> pd.DataFrame:
    """Share of outliers at every tested truncation of the prior (and starting height), mean and t-interval over fields.

    one_at_a_time: default training point, sampler points that differ from the default in R/T and T only. Other designs:
    all rows, so the other parameters vary from point to point. A field counts once: the mean over its rows.

    Args:
        frame: rows of `analysis.load_study`.
    Returns:
        max_radius_ratio (inf: not truncated), T_ratio, outlier_fraction, low, high, prior_truncated (mass of the prior cut
        off), outlier_radius (median R/T where outliers start, over rows), coverage, n_fields, n_rows, n_failed,
        n_diverged, n_pending, is_default; ``attrs``: skipped, held_fixed, dim.
    """
    frame = undisturbed(frame)
    rows, skipped, held = frame, {}, "the other parameters vary"
    if design_of(frame) == "one_at_a_time":
        arms = has_role(frame["design_sampler_role"], "default", "arm:max_radius_ratio", "arm:T_ratio", "arm:T")
        keep = is_default(frame, "train") & arms
        if not keep.all():
            skipped["another training point or another arm of the sampler"] = int((~keep).sum())
        rows, held = frame.loc[keep], "default training point; solver and tolerance at their defaults"
    y, missed = metric_values(rows, "outlier_fraction")
    ratio = rows["sampler_max_radius_ratio"].astype(float).fillna(math.inf)
    rows = rows.assign(_y=y, _field=unit_key(rows), _ratio=ratio, _T=rows["sampler_T_ratio"].astype(float))
    rows.attrs = {}
    table = [
        _outlier_row(ratio, T_ratio, group)
        for (ratio, T_ratio), group in rows.groupby(["_ratio", "_T"], sort=True, dropna=False)
    ]
    result = pd.DataFrame(table, columns=_COLUMNS)
    dims = frame["data_dim"].dropna().unique()
    dim = int(dims[0]) if len(dims) == 1 else None
    result.attrs = {**frame.attrs, "skipped": {**skipped, **missed}, "held_fixed": held, "dim": dim}
    return result


def _outlier_row(ratio: Any, T_ratio: Any, group: pd.DataFrame) -> dict[str, object]:
    interval = t_interval(group.dropna(subset=["_y"]).groupby("_field")["_y"].mean().to_numpy())
    return {
        "max_radius_ratio": ratio, "T_ratio": T_ratio, "outlier_fraction": interval.mean,
        "low": interval.low, "high": interval.high, "prior_truncated": float(group["diag_prior_truncated"].mean()),
        "outlier_radius": float(group["diag_outlier_radius"].median()), "coverage": float(group["diag_coverage"].mean()),
        "n_fields": interval.n, "n_rows": len(group), **outcome_counts(group),
        "is_default": bool(is_default(group, "sampler").any()),
    }  # fmt: skip


def plot_outlier_map(frame: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Outlier share against the truncation R/T, log axis, ∞ (not truncated) at the right edge; one line a T.

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
    """One line a starting height: share with t-interval, and where its outliers start."""
    for i, (T_ratio, part) in enumerate(drawn.groupby("T_ratio")):
        colour = palette()[i % 10]
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
        ax.plot([_place(r, edge) for r in star["max_radius_ratio"]], star["outlier_fraction"], "*", color=palette()[1],
                markeredgecolor="black", markersize=13, zorder=5, label="default" if len(star) else None)  # fmt: skip
