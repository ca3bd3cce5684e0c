"""Degradation of a metric against the level of a disturbance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.plots.style import PALETTE, draw_legend, mark_failures, new_axes, note, plain_log_ticks
from analysis.rows.meta import AnalysisError, tolerance_of
from analysis.rows.question import MAIN
from analysis.rows.words import metric_label
from analysis.statistics.disturbances import perturbation_robustness

KINDS = {
    "noise": "noise α before every step (× its noise level)",
    "weight_noise": "noise on the weights (relative)",
    "weight_bits": "bits of a weight",
    "steps": "solver steps",
}
MOST_INSIDE = 4
"""Series whose legend has room inside the axes."""


def plot_perturbation_robustness(
    frame: pd.DataFrame, kind: str = "steps", *, metric: str = MAIN, by: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Draw degradation against the level of one disturbance, with t-intervals; the line at 1 means undisturbed.

    Args:
        frame: rows of `analysis.load_study` with ``perturbed=True``.
        kind: ``noise``, ``weight_noise``, ``weight_bits`` or ``steps``.
        metric: default ``fid``.
        by: columns whose values make a series, as in `perturbation_robustness`.
        ax: axes to draw on; new ones if None.
    Raises:
        AnalysisError: another kind.
    """
    if kind not in KINDS:
        raise AnalysisError(f"kind: got {kind}; use {', '.join(KINDS)}")
    every = perturbation_robustness(frame, metric, by)
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
    groups = list(table.dropna(subset=["ratio"]).groupby("series", sort=False))
    levels = np.sort(table["perturb_level"].unique())
    room = (levels[-1] / levels[0]) ** 0.012 if positive and len(levels) > 1 else 1.0  # bars side by side, not in one another
    for i, (series, part) in enumerate(groups):
        x = part["perturb_level"] * room ** (i - (len(groups) - 1) / 2)
        _draw_series(ax, part.assign(x=x), i, f"mean of {part['n_fields'].max()} fields" if series == "all" else str(series))
    ax.axhline(1.0, color="0.4", lw=0.8, zorder=0)
    tolerance = tolerance_of(frame)
    ax.axhline(1 + tolerance, color=PALETTE[1], ls="--", lw=0.9, label=f"+ {tolerance:.0%}")
    _frame(ax, table, positive, kind)
    lost = (table["n_failed"] + table["n_diverged"]).groupby(table["perturb_level"]).sum()  # of all series
    mark_failures(ax, lost.index, lost)
    draw_legend(ax, aside=table["series"].nunique() > MOST_INSIDE)
    return ax


def _draw_series(ax: Axes, part: pd.DataFrame, i: int, label: str) -> None:
    has = part["low"].notna()
    errors = [(part["ratio"] - part["low"]).where(has, 0), (part["high"] - part["ratio"]).where(has, 0)]
    clean = (part["n_failed"] + part["n_diverged"]).eq(0).all()
    colour = PALETTE[i % 10]
    ax.errorbar(part["x"], part["ratio"], yerr=errors, fmt="-" + "osD^"[i % 4], color=colour, label=label,
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
