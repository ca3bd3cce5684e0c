"""The metric against one parameter, with intervals, the default and what failed.

Between tested values nothing is claimed; the line only joins what belongs together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
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
from analysis.robustness.gaussian import ParameterCurve
from analysis.rows.meta import Axis, Value, find_axis, tolerance_of
from analysis.rows.metrics import anchors, default_metric
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
    small: dict[str, Any] = {"fontsize": 6.5, "color": "0.4"}
    if len(set(drawn["n_units"])) == 1:
        ax.annotate(f"n={drawn['n_units'].iloc[0]} each", (0.01, 0.01), xycoords="axes fraction", **small)
    else:
        for row in drawn.itertuples():
            ax.annotate(f"n={row.n_units}", (row.x, 0.01), xycoords=("data", "axes fraction"), ha="center", **small)


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
        pad_log(ax, drawn[["mean", "min", "max"]].to_numpy(), log)
        _draw_reference(ax, question, drawn, edges, positions)
    bad = curve["n_failed"] + curve["n_diverged"]
    if bad.any():
        mark_failures(ax, curve["x"], bad)
    if drawn.empty:
        note(ax, "no complete row")
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


def plot_parameter_curve(frame: pd.DataFrame, curve: ParameterCurve, *, ax: Axes | None = None) -> Axes:
    """Draw a parameter's average effect over the others as a ratio to its default, with its pointwise 95 % band.

    Args:
        frame: the rows that the curve is of.
        curve: one of `analysis.parameter_curves`.
        ax: axes to draw on; new ones if None.
    """
    axis = find_axis(frame, f"{curve.group}.{curve.parameter}")
    ax, positions = parameter_axes(ax, axis, list(curve.grid))
    x = [positions[value] for value in curve.grid]
    ax.set_yscale("log")
    ax.set_ylabel(f"{metric_label(frame, default_metric(frame))} ÷ the default's")
    if axis.categorical:
        ax.errorbar(
            x, curve.ratio, yerr=[curve.ratio - curve.low, curve.high - curve.ratio], fmt="o", color=PALETTE[0], capsize=3
        )
    else:
        ax.fill_between(x, curve.low, curve.high, color=PALETTE[0], alpha=0.2, lw=0, label="95 % band")
        ax.plot(x, curve.ratio, color=PALETTE[0], lw=1.4, label="mean over the other parameters")
    pad_log(ax, np.concatenate([curve.low, curve.high]), True)
    ax.axhline(1.0, color="0.55", lw=0.8)
    limit = 1 + tolerance_of(frame)
    ax.axhline(limit, color=PALETTE[1], ls="--", lw=0.9, label=f"default + {tolerance_of(frame):.0%}")
    draw_legend(ax)
    return ax
