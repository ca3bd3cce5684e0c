"""Quality against cost as a picture: the cloud of configurations, curves, fronts, published points; and what rtol buys.

One mark has one meaning: shape and colour name the solver, a hollow mark says that something failed, a star is the default.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from analysis.plots.style import (
    FAILURE_COLOUR,
    PALETTE,
    draw_anchors,
    draw_legend,
    mark_failures,
    new_axes,
    note,
    pad_log,
    plain_log_ticks,
)
from analysis.rows.facts import column_of
from analysis.rows.meta import compares, tolerance_of
from analysis.rows.metrics import anchors, default_metric, is_log
from analysis.rows.question import MAIN, statistic
from analysis.rows.words import metric_label
from analysis.statistics.pareto import flagged, seed_fronts, solver_curves, solver_tolerance
from analysis.theory.published import published_points

SHAPES = "osD^vP<>"
STAR: dict[str, Any] = {"marker": "*", "ls": "none", "markeredgecolor": "black"}


def nfe_ticks(ax: Axes, nfe: pd.Series) -> None:
    """Frame the network calls on a log2 axis, ticked at powers of two with plain numbers."""
    ax.set_xlim(float(nfe.min()) / 1.3, float(nfe.max()) * 1.3)
    ax.xaxis.set_major_locator(LogLocator(base=2))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())


def draw_cloud(ax: Axes, drawn: pd.DataFrame, faint: bool) -> list[Line2D]:
    """Draw one mark a configuration with its min–max line, faint where curves are drawn over it; return legend handles."""
    handles = []
    alpha = 0.3 if faint else 1.0
    for i, solver in enumerate(sorted(drawn["solver"].dropna().unique())):
        colour, shape = PALETTE[i % 10], SHAPES[i % 8]
        part = drawn.loc[drawn["solver"].eq(solver)]
        if not faint:
            bars = np.stack([part[["nfe", end]].to_numpy(float) for end in ("min", "max")], axis=1)
            ax.add_collection(
                LineCollection(list(bars), colors=[colour], alpha=0.25, linewidths=2), autolim=False
            )  # limits: slow
        hollow = (part["n_failed"] + part["n_diverged"]).gt(0)
        ax.scatter(part["nfe"], part["mean"], s=14 if faint else 22, marker=shape, edgecolors=[colour], linewidths=0.9,
                   alpha=alpha, zorder=2, facecolors=[("none" if h else colour) for h in hollow])  # fmt: skip
        handles.append(Line2D([], [], marker=shape, color=colour, ls="none", label=str(solver), markersize=5))
    star = drawn.loc[drawn["is_default"]]
    ax.plot(star["nfe"], star["mean"], color=PALETTE[1], markersize=14, zorder=6, **STAR)
    if len(star):
        handles.append(Line2D([], [], color=PALETTE[1], label="default", markersize=10, **STAR))
    if (drawn["n_failed"] + drawn["n_diverged"]).gt(0).any():
        handles.append(
            Line2D([], [], marker="o", color="0.3", markerfacecolor="none", ls="none", label="some failed", markersize=5)
        )
    return handles


def draw_curves(ax: Axes, curves: pd.DataFrame, solvers: list[str], dots: bool) -> list[Line2D]:
    """Draw mean, t-interval and min–max band of each solver at the default training point; dots are the least over seeds."""
    for solver, part in curves.groupby("solver", sort=True):
        i = solvers.index(str(solver))
        colour, hollow = PALETTE[i % 10], bool((part["n_failed"] + part["n_diverged"]).gt(0).any())
        ax.fill_between(part["nfe"], part["min"], part["max"], color=colour, alpha=0.12, lw=0, zorder=1)
        has = part["low"].notna()
        errors = [(part["mean"] - part["low"]).where(has, 0), (part["high"] - part["mean"]).where(has, 0)]
        ax.errorbar(part["nfe"], part["mean"], yerr=errors, color=colour, fmt="-" + SHAPES[i % 8], markersize=5, lw=1.2,
                    markerfacecolor="white" if hollow else colour, capsize=2, elinewidth=0.8, zorder=4)  # fmt: skip
        if dots:
            ax.plot(part["nfe"], part["min_of_seeds"], ".", color=colour, markersize=4, zorder=4)
    if curves.empty:
        return []
    line = Line2D([], [], color="0.4", lw=1.2, label="default field, 95 %")
    dot = Line2D([], [], color="0.4", marker=".", ls="none", markersize=4, label="least over seeds (biased low)")
    return [line, dot] if dots else [line]


def draw_front(ax: Axes, drawn: pd.DataFrame, fronts: pd.DataFrame, tolerance: float) -> list[Line2D]:
    """Draw the front of means as dark steps and each seed's as faint ones; a ring is the knee, a square the cheapest."""
    for _, one in fronts.groupby("seed_rank"):
        ax.step(one["nfe"], one["mean"], where="post", color="0.6", lw=0.6, alpha=0.8, zorder=1)
    front = drawn.loc[drawn["on_front"]]
    ax.step(front["nfe"], front["mean"], where="post", color="0.15", lw=1.1, zorder=3)
    handles = [Line2D([], [], color="0.15", lw=1.1, label="front (faint: a seed's)")] if len(front) else []
    for column, shape, label in (
        ("knee", "o", "knee of the front"),
        ("cheapest_within", "s", f"cheapest within {tolerance:.0%}"),
    ):
        mark: dict[str, Any] = {"ls": "none", "markerfacecolor": "none", "markeredgecolor": "black", "markeredgewidth": 1.1}
        chosen = drawn.loc[drawn[column]]
        if len(chosen):
            ax.plot(chosen["nfe"], chosen["mean"], shape, markersize=11, zorder=7, **mark)
            handles.append(Line2D([], [], marker=shape, markersize=7, label=label, **mark))
    return handles


def draw_published(ax: Axes, points: pd.DataFrame) -> list[Line2D]:
    """Draw published points as numbers that the legend explains, and widen the axes for them."""
    if points.empty:
        return []
    handles = []
    style: dict[str, Any] = {"ls": "none", "color": "0.15", "markersize": 6}
    for i, point in enumerate(points.to_dict("records"), start=1):
        ax.plot(point["nfe"], point["fid"], marker=f"${i}$", zorder=8, **style)
        handles.append(Line2D([], [], marker=f"${i}$", label=f"published: {point['model']}", **style))
    low, high = ax.get_xlim()
    ax.set_xlim(min(low, points["nfe"].min() / 1.3), max(high, points["nfe"].max() * 1.3))
    bottom, top = ax.get_ylim()
    ax.set_ylim(min(bottom, points["fid"].min() / 1.3), max(top, points["fid"].max() * 1.3))
    return handles


@statistic()
def plot_quality_cost(frame: pd.DataFrame, *, metric: str = MAIN, ax: Axes | None = None) -> Axes:
    """Draw a metric against NFE (log2 axis): every configuration, the curve of each solver, and the front.

    Light marks: one a configuration, shape and colour the solver, hollow where some cells failed or diverged. Lines
    (one_at_a_time): the default training point under each solver's budget, mean with t-interval over fields and min–max
    band of rows; small dots: the least over seeds, EDM's custom, which reads low. Star: the default. Dark steps: the front
    of means, faint steps: the fronts of single train seeds; ring: the knee; square: the cheapest within tolerance.
    Published points appear where data, features and sample count are theirs.

    Args:
        frame: rows of `analysis.load_study`.
        metric: default ``fid``; shares such as ``precision`` stay linear, without front.
        ax: axes to draw on; new ones if None.
    """
    fronts = seed_fronts(frame, metric)
    table = flagged(frame, metric, fronts)
    ax = ax or new_axes()
    drawn = table.dropna(subset=["mean", "nfe"])
    ax.set_xlabel("NFE (network calls an image)")
    ax.set_ylabel(metric_label(frame, metric))
    ax.set_xscale("log", base=2)
    if is_log(frame, metric):
        ax.set_yscale("log")
    curves = solver_curves(drawn, compares(frame))
    handles = draw_cloud(ax, drawn, faint=len(curves) > 1)
    handles += draw_curves(ax, curves, sorted(drawn["solver"].dropna().unique()), dots=is_log(frame, metric))
    if metric == default_metric(frame):
        handles += draw_front(ax, drawn, fronts, tolerance_of(frame))
    if len(drawn):
        pad_log(ax, drawn[["mean", "min", "max"]].to_numpy(float), is_log(frame, metric))
        nfe_ticks(ax, drawn["nfe"])
        if column_of(frame, metric).high == 1:  # a share
            ax.set_ylim(top=min(ax.get_ylim()[1], 1.03))
    else:
        note(ax, "no complete row")
    if metric == "fid":
        handles += draw_published(ax, published_points(frame))
        if len(drawn):
            draw_anchors(ax, anchors(frame))
    draw_legend(ax, handles)
    absent = int(table["mean"].isna().sum())
    if absent:
        ax.text(0.02, 0.98, f"× {absent} without a complete row", transform=ax.transAxes, va="top",
                fontsize=7, color=FAILURE_COLOUR)  # fmt: skip
    return ax


def plot_solver_tolerance(frame: pd.DataFrame, *, quantity: str = "solver_error", ax: Axes | None = None) -> Axes:
    """Draw solver error, quality or NFE against rtol, one line a solver with t-intervals; × counts diverged cells.

    Args:
        frame: rows of `analysis.load_study`.
        quantity: ``solver_error``, ``quality`` (FID) or ``nfe``.
        ax: axes to draw on; new ones if None.
    Raises:
        ValueError: another quantity.
    """
    if quantity not in ("solver_error", "quality", "nfe"):
        raise ValueError(f"quantity: got {quantity}; use solver_error, quality or nfe")
    table = solver_tolerance(frame)
    ax = ax or new_axes()
    ax.set_xscale("log")
    ax.set_yscale("log", base=2 if quantity == "nfe" else 10)
    ax.set_xlabel("relative tolerance rtol")
    ax.set_ylabel(metric_label(frame, table.attrs["metric"] if quantity == "quality" else quantity))
    drawn = table.dropna(subset=[quantity])
    for i, (solver, part) in enumerate(drawn.groupby("solver")):
        low, high = part[f"{quantity}_low"], part[f"{quantity}_high"]
        errors = [(part[quantity] - low).fillna(0), (high - part[quantity]).fillna(0)]
        ax.errorbar(part["rtol"], part[quantity], yerr=errors, fmt="-" + "osD^"[i % 4], color=PALETTE[i % 10],
                    label=str(solver), capsize=3, lw=1.1, markersize=5)  # fmt: skip
    if drawn.empty:
        note(ax, "no complete row with a tolerance")
        return ax
    pad_log(ax, drawn[[quantity]].to_numpy(float), True)
    plain_log_ticks(ax, "x")
    mark_failures(ax, table["rtol"], table["n_diverged"])
    draw_legend(ax)
    return ax
