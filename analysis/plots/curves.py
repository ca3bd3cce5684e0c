"""The metric against one parameter, with intervals, the default and what failed.

Between tested values nothing is claimed; the line only joins what belongs together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from analysis.plots.style import (
    EDGE,
    EDGE_WORDS,
    PALETTE,
    draw_anchors,
    draw_legend,
    mark_failures,
    note,
    pad_log,
    parameter_axes,
)
from analysis.robustness.curves import curve_of
from analysis.robustness.edges import Edges
from analysis.robustness.partial import partial_curves
from analysis.rows.meta import Axis, Value, find_axis, tolerance_of
from analysis.rows.metrics import anchors
from analysis.rows.question import Question, ask
from analysis.rows.words import metric_label


def draw_curve(ax: Axes, drawn: pd.DataFrame, axis: Axis) -> None:
    """Draw means with t-intervals and the min–max band, hollow where something failed, and the number of units."""
    colour = PALETTE[0]
    if not axis.categorical:
        ax.fill_between(drawn["x"], drawn["min"], drawn["max"], color=colour, alpha=0.15, lw=0, label="min–max of units")
        ax.plot(drawn["x"], drawn["mean"], color=colour, lw=1.2)
    has = drawn["low"].notna()
    below, above = (drawn["mean"] - drawn["low"]).where(has, 0), (drawn["high"] - drawn["mean"]).where(has, 0)
    ax.errorbar(drawn["x"], drawn["mean"], yerr=[below, above], fmt="none", ecolor=colour, capsize=3, lw=1)
    for clean, face in ((True, colour), (False, "white")):
        part = drawn.loc[(drawn["n_failed"] + drawn["n_diverged"]).eq(0) == clean]
        ax.plot(part["x"], part["mean"], "o", color=colour, markerfacecolor=face, markersize=5)
    paper = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.5}
    small: dict[str, Any] = {"fontsize": 6.5, "color": "0.4", "bbox": paper, "zorder": 4}
    if len(set(drawn["n_units"])) == 1:
        ax.annotate(f"n={drawn['n_units'].iloc[0]} each", (0.012, 0.02), xycoords="axes fraction", **small)
    else:
        for row in drawn.itertuples():
            ax.annotate(f"n={row.n_units}", (row.x, 0.02), xycoords=("data", "axes fraction"), ha="center", **small)


def plot_robustness(
    frame: pd.DataFrame, parameter: str | Axis, *, metric: str | None = None, edges: Edges | None = None, ax: Axes | None = None
) -> Axes:
    """Draw a metric against one parameter: means with intervals, min–max band, the default as a star, tolerance as a line.

    Values where cells failed or diverged carry a red × with the count on the top edge.

    Args:
        frame: rows of `analysis.load_study`.
        parameter: a searched parameter.
        metric: default ``fid`` (or what `analysis.rows.metrics.default_metric` finds).
        edges: from `tolerance_edges`; a line with ends joins the two values between which the tolerance is surely left.
        ax: axes to draw on; new ones if None.
    """
    question = ask(frame, parameter, metric)
    curve, log = curve_of(question), question.measured.log
    ax, positions = parameter_axes(ax, question.setting.axis, curve["value"].tolist())
    curve = curve.assign(x=[positions[v] for v in curve["value"]])
    drawn = curve.dropna(subset=["mean"])
    if log:
        ax.set_yscale("log")
    ax.set_ylabel(metric_label(question.setting.frame, question.measured.metric))
    if len(drawn):  # an empty frame has no numbers, only objects
        draw_curve(ax, drawn, question.setting.axis)
        pad_log(ax, drawn[["mean", "min", "max"]].to_numpy(), log, drawn[["low", "high"]].to_numpy(float))
        _draw_reference(ax, question, drawn, edges, positions)
    bad = curve["n_failed"] + curve["n_diverged"]
    if bad.any():
        mark_failures(ax, curve["x"], bad)
    if drawn.empty:
        note(ax, "no complete row")
    return ax


def plot_partial_curve(
    frame: pd.DataFrame, parameter: str | Axis, *, curves: pd.DataFrame | None = None, ax: Axes | None = None, **options: Any
) -> Axes:
    """Draw one parameter's ratio to the default with the others averaged: curve, band of the whole curve, tolerance.

    For designs that fill the box; see `partial_curves`.

    Args:
        frame: rows of `analysis.load_study`.
        parameter: a searched parameter.
        curves: what `partial_curves` returned, where it is at hand.
        ax: axes to draw on; new ones if None.
        options: passed to `partial_curves`.
    """
    table, axis = partial_curves(frame, **options) if curves is None else curves, find_axis(frame, parameter)
    curve = table.loc[table["parameter"].eq(axis.name) & table["group"].eq(axis.group)]
    ax, positions = parameter_axes(ax, axis, curve["value"].tolist())
    ax.set_ylabel(f"{metric_label(frame, table.attrs['metric'])} ÷ the default's")
    if curve.empty:
        note(ax, "; ".join(table.attrs["skipped"]) or "not searched")
        return ax
    x, limit = [positions[value] for value in curve["value"]], 1 + tolerance_of(frame)
    ax.set_yscale("log")
    if axis.categorical:
        ends = [curve["ratio"] - curve["low_all"], curve["high_all"] - curve["ratio"]]
        ax.errorbar(x, curve["ratio"], yerr=ends, fmt="o", color=PALETTE[0], capsize=3, label="95 % of all values")
    else:
        ax.fill_between(
            x, curve["low_all"], curve["high_all"], color=PALETTE[0], alpha=0.12, lw=0, label="95 % of whole curves"
        )
        ax.fill_between(x, curve["low"], curve["high"], color=PALETTE[0], alpha=0.22, lw=0, label="95 % at each value")
        ax.plot(x, curve["ratio"], color=PALETTE[0], lw=1.4)
    own = curve.loc[curve["is_default"], "value"].iloc[0]
    mark: dict[str, Any] = {"color": PALETTE[1], "markersize": 13, "markeredgecolor": "black", "zorder": 5}
    ax.plot([positions[own]], [1.0], "*", label="default", **mark)
    ax.axhline(limit, color=PALETTE[1], ls="--", lw=0.9, label=f"default + {tolerance_of(frame):.0%}")
    pad_log(ax, curve[["low_all", "high_all"]].to_numpy(), True)
    draw_legend(ax)
    return ax


def _draw_reference(
    ax: Axes, question: Question, drawn: pd.DataFrame, edges: Edges | None, positions: Mapping[Value, float]
) -> None:
    setting, metric = question.setting, question.measured.metric
    star = drawn.loc[drawn["is_default"]]
    if len(star):
        mark: dict[str, Any] = {"color": PALETTE[1], "markersize": 13, "markeredgecolor": "black", "zorder": 5}
        ax.plot(star["x"], star["mean"], "*", label="default" if setting.one else "bin of the default", **mark)
        if question.measured.log and metric == question.measured.main:
            y = float(star["mean"].iloc[0]) * (1 + setting.tolerance)
            ax.axhline(y, color=PALETTE[1], ls="--", lw=0.9, label=f"default + {setting.tolerance:.0%}")
            if edges is not None:
                _draw_edges(ax, edges, y, positions)
    if metric == "fid":
        draw_anchors(ax, anchors(setting.frame))
    draw_legend(ax)


def _draw_edges(ax: Axes, edges: Edges, y: float, positions: Mapping[Value, float]) -> None:
    """Join the two ends of each bracket at the height of the tolerance."""
    label = EDGE_WORDS
    for edge in (edges.lower, edges.upper):
        if edge is not None and edge.inside is not None and edge.outside is not None:
            ends = positions[edge.inside], positions[edge.outside]
            middle = math.sqrt(ends[0] * ends[1]) if ax.get_xscale() == "log" else sum(ends) / 2
            ax.errorbar(middle, y, xerr=[[middle - min(ends)], [max(ends) - middle]], label=label, **EDGE)
            label = "_nolegend_"
