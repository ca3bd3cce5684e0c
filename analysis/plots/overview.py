"""All parameters at a glance: tested values with their verdicts, and the worst and the best ratio of each. And one parameter at
every length of the training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.plots.style import (
    EDGE,
    EDGE_WORDS,
    FAILURE_COLOUR,
    PALETTE,
    draw_legend,
    log_limits,
    new_axes,
    note,
    parameter_axes,
    plain_log_ticks,
)
from analysis.robustness.edges import edges_of
from analysis.robustness.interval import tolerance_interval
from analysis.robustness.overview import parameter_overview
from analysis.rows.meta import Axis, compares
from analysis.rows.metrics import default_metric
from analysis.rows.on_the_way import at_length, lengths, trained_axis
from analysis.rows.question import decided_rows
from analysis.rows.words import RATING_MARKS, format_value, metric_label

RATING_COLOURS = {"robust": "#00674f", "sensitive": "#a33a00", "undetermined": "#555555", "not rated": "#555555"}
BETTER = "#0b57a4"
_MARKS: dict[str, dict[str, Any]] = {
    "inside": {"marker": "o", "color": RATING_COLOURS["robust"]},
    "better": {"marker": "v", "color": BETTER},
    "undetermined": {"marker": "o", "color": RATING_COLOURS["undetermined"], "markerfacecolor": "white"},
    "outside": {"marker": "^", "color": RATING_COLOURS["sensitive"]},
    "default": {"marker": "*", "color": PALETTE[1], "markeredgecolor": "black", "markersize": 12},
}
_WORDS = {
    "default": "default", "inside": "within tolerance", "better": "better beyond the tolerance", "undetermined": "undetermined",
    "outside": "outside the tolerance",
}  # fmt: skip
LEFT = 0.56
"""Share of the width for the tested values; the rest is for the ratios."""
MANY = 9
"""Tested values of a parameter above which only the ends and the default carry their number."""


def plot_parameter_overview(frame: pd.DataFrame, *, table: pd.DataFrame | None = None, ax: Axes | None = None) -> Axes:
    """Draw one line a parameter: its tested values on a common scale, then its worst and best ratio to the default.

    Left: a star is the default (or the bin that holds it), the bar the tolerance interval, a line with ends the bracket of an
    edge, and each value's mark its verdict; a red × counts cells that failed or diverged. Right (an inset of the axes): ratios
    with simultaneous 95 % bounds, the dashed line the tolerance. The rating is told by sign, word and colour.

    Args:
        frame: rows of `analysis.load_study`.
        table: from `parameter_overview`; computed if None.
        ax: axes to draw on; new ones if None.
    """
    table = parameter_overview(frame) if table is None else table
    ax = ax or new_axes()
    ax.set_xlim(-0.09, 1.12 / LEFT - 0.06)
    ax.set_xticks([0, 1], ["lowest tested", "highest tested"])
    low, high = ax.get_xticklabels()
    low.set_horizontalalignment("left")
    high.set_horizontalalignment("right")
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines["bottom"].set_bounds(-0.06, 1.06)
    keys = list(dict.fromkeys(zip(table["group"], table["parameter"], strict=True)))
    ax.set_ylim(max(len(keys), 1) - 0.4, -0.6)
    if not keys:
        ax.set_yticks([])
        note(ax, "nothing was searched")
        return ax
    right = ax.inset_axes((LEFT + 0.03, 0.0, 0.97 - LEFT, 1.0), sharey=ax)
    right.tick_params(labelleft=False, left=False)
    ratings = []
    for y, (group, parameter) in enumerate(keys):
        part = table.loc[table["group"].eq(group) & table["parameter"].eq(parameter)]
        ratings.append(str(part["rating"].iloc[0]))
        _draw_values(ax, part, y, RATING_COLOURS[ratings[-1]])
        _draw_brackets(ax, table.attrs.get("brackets", {}).get((group, parameter), []), y)
        _draw_extremes(right, part, y)
    names = [f"{name}\n{RATING_MARKS[rating]} {rating}" for (_, name), rating in zip(keys, ratings, strict=True)]
    ax.set_yticks(range(len(keys)), names)
    for text, rating in zip(ax.get_yticklabels(), ratings, strict=True):
        text.set_color(RATING_COLOURS[rating])
    _finish_right(right, frame, table)
    default = "default" if compares(frame) else "bin of the default"
    draw_legend(ax, _handles(table, {**_WORDS, "default": default}), columns=4)
    return ax


def plot_ratings_by_length(
    frame: pd.DataFrame, parameter: str | Axis, *, metric: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the verdicts on one training parameter at each length of the training, a line a length, the whole training lowest.

    A star is the default, the bar the tolerance interval, a line with ends the bracket of an edge. Marks are verdicts.

    Args:
        frame: rows of `analysis.load_study` with ``on_the_way=True``.
        parameter: a searched training parameter.
        metric: default: the main one.
        ax: axes to draw on; new ones if None.
    Raises:
        AnalysisError: no such parameter, one of the sampler, or no row on the way.
    """
    axis, shares, metric = trained_axis(frame, parameter), lengths(frame), metric or default_metric(frame)
    parts = [decided_rows(at_length(frame, share)) for share in shares]
    intervals = [tolerance_interval(part, axis, metric=metric) for part in parts]
    tables = [parameter_overview(part, [interval]) for part, interval in zip(parts, intervals, strict=True)]
    ax, places = parameter_axes(ax, axis, [value for table in tables for value in table["value"]])
    names = []
    for y, (share, part, interval, table) in enumerate(zip(shares, parts, intervals, tables, strict=True)):
        table["place"] = [places[value] for value in table["value"]]
        ends = (min(places.values()), max(places.values()))
        _draw_values(ax, table, y, RATING_COLOURS[interval.rating], ends)
        edges = edges_of(part, axis, interval)
        sides = [edge for edge in (edges.lower, edges.upper) if edge is not None] if edges is not None else []
        known = [(edge.inside, edge.outside) for edge in sides if edge.inside is not None and edge.outside is not None]
        _draw_brackets(ax, [(places[inside], places[outside]) for inside, outside in known], y)
        names.append(f"{share:.0%} of the steps\n{RATING_MARKS[interval.rating]} {interval.rating}")
        table.attrs["brackets"] = {axis.name: known}
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    for text, interval in zip(ax.get_yticklabels(), intervals, strict=True):
        text.set_color(RATING_COLOURS[interval.rating])
    draw_legend(ax, _handles_of_values(tables, {**_WORDS, "default": "default" if compares(frame) else "bin of the default"}))
    return ax


def _draw_values(ax: Axes, part: pd.DataFrame, y: int, colour: str, ends: tuple[float, float] = (0.0, 1.0)) -> None:
    ax.plot(ends, [y, y], color="0.75", lw=1, zorder=1)
    inside = part.loc[part["in_interval"], "place"]
    if len(inside) > 1 and _is_run(part):
        ax.plot([inside.min(), inside.max()], [y, y], color=colour, lw=7, alpha=0.3, solid_capstyle="butt", zorder=2)
    few = len(part) <= MANY
    for i, row in enumerate(part.to_dict("records")):
        ax.plot(row["place"], y, ls="none", zorder=4, **{"markersize": 6, **_MARKS[row["mark"]]})
        if few or row["mark"] == "default" or row["place"] in ends:
            shift, side = (-7.5, "top") if i % 2 == 0 else (7, "bottom")
            ax.annotate(format_value(row["value"]), (row["place"], y), xytext=(0, shift), textcoords="offset points",
                        ha="center", va=side, fontsize=6.5, color="0.25")  # fmt: skip
        if row["n_bad"]:
            ax.annotate(f"× {row['n_bad']}", (row["place"], y), xytext=(5, 0), textcoords="offset points", va="center",
                        fontsize=7, fontweight="bold", color=FAILURE_COLOUR, zorder=5)  # fmt: skip


def _draw_brackets(ax: Axes, brackets: Sequence[tuple[float, float]], y: int) -> None:
    """Draw where the tolerance is surely left: a line with ends, from the last value inside to the first one outside."""
    for inside, outside in brackets:
        ax.errorbar((inside + outside) / 2, y, xerr=abs(outside - inside) / 2, **EDGE)


def _is_run(part: pd.DataFrame) -> bool:
    """Return whether the interval has values in order and none between its ends is left out."""
    chosen = np.flatnonzero(part["in_interval"].to_numpy())
    return bool((np.diff(chosen) == 1).all()) and pd.api.types.is_numeric_dtype(pd.Series(part["value"].tolist()))


def _draw_extremes(ax: Axes, part: pd.DataFrame, y: int) -> None:
    for row in part.loc[part["extreme"].ne("")].to_dict("records"):
        worst = row["extreme"] == "worst"
        at, colour = (y - 0.17, "0.15") if worst else (y + 0.17, BETTER)
        if not math.isnan(row["low"]):
            ax.plot([row["low"], row["high"]], [at, at], color=colour, lw=1.2, zorder=2)
        mark: dict[str, Any] = {"marker": "^" if worst else "v", "color": colour, "markersize": 6}
        ax.plot(row["ratio"], at, ls="none", zorder=3, markerfacecolor="white" if math.isnan(row["low"]) else colour, **mark)
        ax.annotate(format_value(row["value"]), (row["ratio"], at), xytext=(0, 4 if worst else -4), textcoords="offset points",
                    ha="center", va="bottom" if worst else "top", fontsize=6.5, color=colour,
                    bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.4})  # fmt: skip


def _finish_right(ax: Axes, frame: pd.DataFrame, table: pd.DataFrame) -> None:
    limit = 1 + float(table.attrs["tolerance"])
    ax.set_xscale("log")
    extremes = table.loc[table["extreme"].ne("")]
    shown = extremes["ratio"].to_numpy(float)
    values = np.array([1 / limit, limit, *shown[np.isfinite(shown)]])
    ax.set_xlim(log_limits(values, extremes[["low", "high"]].to_numpy(float).ravel(), 1.35, 1.35))
    plain_log_ticks(ax, "x")
    ax.axvline(1.0, color="0.55", lw=0.8, zorder=0)
    ax.axvline(limit, color=PALETTE[1], ls="--", lw=0.9, zorder=0)
    ax.set_xlabel(f"{metric_label(frame, table.attrs['metric'])} ÷ the default's")


def _handles_of_values(tables: Sequence[pd.DataFrame], words: Mapping[str, str]) -> list[Any]:
    """Return legend handles for the tested values."""
    marks = {mark for table in tables for mark in table["mark"]}
    found: list[Any] = [
        Line2D([], [], ls="none", label=words[name], **{"markersize": 6, **style})
        for name, style in _MARKS.items()
        if name in marks
    ]
    if any(table["in_interval"].any() for table in tables):
        found.append(Patch(color="0.5", alpha=0.3, label="tolerance interval"))
    if any(any(table.attrs.get("brackets", {}).values()) for table in tables):
        found.append(Line2D([], [], color=EDGE["ecolor"], lw=EDGE["elinewidth"], label=EDGE_WORDS))
    return found


def _handles(table: pd.DataFrame, words: Mapping[str, str]) -> list[Any]:
    """Return legend handles for what stands in the figure, and for nothing else."""
    found = _handles_of_values([table], words)
    for name, colour, shape in (("worst", "0.15", "^"), ("best", BETTER, "v")):
        if table["extreme"].eq(name).any():
            found.append(Line2D([], [], color=colour, marker=shape, lw=1.2, markersize=6, label=f"{name} value, 95 %"))
    dashed = f"default + {table.attrs['tolerance']:.0%}"
    return [*found, Line2D([], [], color=mpl.colors.to_hex(PALETTE[1]), ls="--", lw=0.9, label=dashed)]
