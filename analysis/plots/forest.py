"""Estimates with their intervals, one line each: configurations, comparisons, boxes; and outcomes as stacked bars.

A ratio's axis is logarithmic with 1 marked, a share's runs from 0 to 1. An estimate without an interval (one field) is hollow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.plots.style import FAILURE_COLOUR, PALETTE, draw_legend, new_axes, note, plain_log_ticks
from analysis.rows.facts import column_of
from analysis.rows.meta import tolerance_of
from analysis.rows.metrics import default_metric, is_log
from analysis.rows.question import MAIN, statistic
from analysis.rows.words import format_value, metric_label
from analysis.statistics.comparison import Configuration, compare
from analysis.statistics.summary import configuration_name, failure_table, summarize
from analysis.statistics.volume import tolerance_volume, worst_case

MAX_LINES = 40
"""More configurations than this are not drawn; the best are, and the title says so."""
STATUS_COLOURS = {
    "complete": "#0173b2", "failed": FAILURE_COLOUR, "diverged": "#de8f05", "solver_limit": "#ece133", "timeout": "#949494",
    "pending": "#d5d5d5",
}  # fmt: skip


def draw_lines(ax: Axes, names: Sequence[str], table: pd.DataFrame, column: str) -> None:
    """Draw one line a row: the estimate in ``column`` with ``low`` and ``high``, hollow where there is no interval."""
    places = np.arange(len(table))
    known = table["low"].notna().to_numpy()
    ax.hlines(places[known], table["low"][known], table["high"][known], color=PALETTE[0], lw=1.2)
    for chosen, face in ((known, PALETTE[0]), (~known, "white")):
        ax.plot(table[column][chosen], places[chosen], "o", ls="none", color=PALETTE[0], markerfacecolor=face)
    ax.set_yticks(places, list(names), fontsize=7)
    ax.set_ylim(len(table) - 0.5, -0.5)


@statistic()
def plot_summary(frame: pd.DataFrame, metric: str = MAIN, *, ax: Axes | None = None) -> Axes:
    """Draw mean and interval of every configuration, best first, named by what differs from the default.

    Args:
        frame: rows of `analysis.load_study`.
        metric: default ``fid``.
        ax: axes to draw on; new ones if None.
    """
    table = (
        summarize(frame, metric)
        .dropna(subset=["mean"])
        .sort_values("mean", ascending=not column_of(frame, metric).higher_is_better)
    )
    ax = ax or new_axes()
    ax.set_xlabel(metric_label(frame, metric))
    if table.empty:
        note(ax, "no complete row")
        return ax
    if len(table) > MAX_LINES:
        ax.set_title(f"the best {MAX_LINES} of {len(table)} configurations", fontsize=8)
    table = table.head(MAX_LINES).reset_index(drop=True)
    draw_lines(ax, [configuration_name(frame, row) for row in table.to_dict("records")], table, "mean")
    if is_log(frame, metric):
        ax.set_xscale("log")
        plain_log_ticks(ax, "x")
    return ax


def plot_comparisons(
    frame: pd.DataFrame, others: Mapping[str, Configuration], reference: Configuration = "default", *, ax: Axes | None = None,
    **options: Any,
) -> Axes:  # fmt: skip
    """Draw ratios of several configurations to one, with intervals; the dashed line is the tolerance.

    Args:
        frame: rows of `analysis.load_study`.
        others: configurations by the name to draw, as `compare` takes them.
        reference: what they are compared with.
        ax: axes to draw on; new ones if None.
        options: passed to `compare`.
    """
    found = [compare(frame, reference, other, **options) for other in others.values()]
    ax = ax or new_axes()
    table = pd.DataFrame([{"ratio": c.ratio, "low": c.low, "high": c.high} for c in found], columns=["ratio", "low", "high"])
    draw_lines(ax, [f"{name}: {c.verdict}" for name, c in zip(others, found, strict=True)], table, "ratio")
    _ratio_axis(ax, found[0].tolerance if found else tolerance_of(frame), found[0].metric if found else default_metric(frame))
    return ax


def _ratio_axis(ax: Axes, tolerance: float, metric: str) -> None:
    ax.set_xscale("log")
    ax.axvline(1.0, color="0.3", lw=0.8)
    ax.axvline(1 + tolerance, color=PALETTE[1], ls="--", lw=0.9)
    ax.set_xlabel(f"ratio of {metric} to the reference")
    plain_log_ticks(ax, "x")


def plot_tolerance_volume(frame: pd.DataFrame, *, ax: Axes | None = None, **options: Any) -> Axes:
    """Draw the share of each box within tolerance, with its interval; ``options`` go to `tolerance_volume`."""
    table = tolerance_volume(frame, **options)
    ax = ax or new_axes()
    ax.set_xlim(0, 1)
    ax.set_xlabel(f"share of the box within {options.get('tolerance') or tolerance_of(frame):.0%} of the default")
    if table.empty:
        note(ax, "; ".join(table.attrs["skipped"]) or "nothing was searched")
        return ax
    draw_lines(ax, [f"{box} (n = {n})" for box, n in zip(table["box"], table["n_points"], strict=True)], table, "share")
    return ax


def plot_worst_case(frame: pd.DataFrame, *, ax: Axes | None = None, **options: Any) -> Axes:
    """Draw the largest ratio met in each box, with its interval; ``options`` go to `worst_case`."""
    table = worst_case(frame, **options)
    ax = ax or new_axes()
    if table.empty:
        note(ax, "; ".join(table.attrs["skipped"]) or "nothing was searched")
        return ax
    names = [
        f"{b} (n = {n}, {f} failed)" for b, n, f in zip(table["box"], table["n_configurations"], table["n_failed"], strict=True)
    ]
    draw_lines(ax, names, table, "ratio")
    _ratio_axis(ax, tolerance_of(frame), table.attrs["metric"])
    return ax


def plot_failures(frame: pd.DataFrame, by: str | None = None, *, ax: Axes | None = None) -> Axes:
    """Draw the cells of each status, stacked, by value of a parameter; see `failure_table`."""
    table = failure_table(frame, by)
    ax = ax or new_axes()
    places, left = np.arange(len(table)), np.zeros(len(table))
    for status, colour in STATUS_COLOURS.items():
        if table[status].any():
            ax.barh(places, table[status], left=left, color=colour, label=status)
            left = left + table[status].to_numpy()
    ax.set_yticks(places, [format_value(value) for value in table["value"]])
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.set_xlabel("cells")
    draw_legend(ax)
    return ax
