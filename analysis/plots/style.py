"""Marks, axes and legends that the plots share.

Every plot takes data first and ``ax=None``, returns its Axes, changes no global style, shows nothing and writes nothing.

Legends stand outside the axes. A legend inside hides what the next study draws there, and matplotlib's "best" place is only the
least bad one. Below the axes there is always room, since the layout of the report (and of new axes) shrinks the axes for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation

from analysis.rows.meta import Axis, Value
from analysis.rows.words import ANCHOR_WORDS, ANCHORS, plain_number, plain_numbers

FAILURE_COLOUR = "#c00000"


EDGE: dict[str, Any] = {"fmt": "none", "ecolor": "#6a3d9a", "elinewidth": 2.2, "capsize": 4.5, "capthick": 1.6, "zorder": 3}
"""The bracket of an edge, from the last value surely inside to the first surely outside."""
EDGE_WORDS = "bracket of an edge"
PALETTE: Sequence[tuple[float, float, float]] = list(sns.color_palette("colorblind"))
"""Colours that colour-blind readers tell apart (seaborn "colorblind")."""


def new_axes() -> Axes:
    """Return axes on a new figure, for a plot that was given none."""
    _, ax = plt.subplots(figsize=(5.0, 3.4), layout="constrained")
    return ax


LABEL_HEIGHT = 0.04
"""Height of an anchor's label, as a fraction of the frame."""


def draw_anchors(ax: Axes, values: Mapping[str, float]) -> None:
    """Draw anchors of FID as thin labelled lines; those outside the frame as one line of text.

    Args:
        ax: axes with FID as y.
        values: from `analysis.rows.metrics.anchors`.
    """
    low, high = ax.get_ylim()
    outside = []
    below = 0.0  # height of the label before, as a fraction of the frame: labels closer than a line change sides
    left = True
    for name, value in sorted(values.items(), key=lambda item: item[1]):
        if low < value < high:
            ax.axhline(value, color="0.55", lw=0.7, ls=":", zorder=0)
            height = float(ax.transAxes.inverted().transform(ax.transData.transform((1.0, value)))[1])
            at_top = height > 1 - LABEL_HEIGHT  # where the legend often is, and the title above
            left = at_top or (not left if height - below < LABEL_HEIGHT else False)
            below = height
            ax.annotate(f"{ANCHORS[name]} {value:.3g}", (0.005 if left else 0.995, value), xycoords=("axes fraction", "data"),
                        ha="left" if left else "right", va="top" if at_top else "bottom", fontsize=6.5, color="0.35",
                        zorder=0.5)  # fmt: skip
        else:
            outside.append(f"{ANCHOR_WORDS[name]} {value:.3g}")
    if outside:
        ax.set_title("off the frame: " + ", ".join(outside), fontsize=6.5, color="0.35", loc="right")


def limits(
    values: np.ndarray, ends: np.ndarray, below: float, above: float, reach: float, little: float
) -> tuple[float, float]:
    """Return the frame of an axis, on a linear scale: room around values, and no interval cut that ends near them.

    Args:
        values: what the frame must hold, finite.
        ends: of intervals; those further than ``reach`` from all values run past the frame.
        below, above: room beyond the values.
        little: room beyond such an end.
    """
    low, high = float(values.min()), float(values.max())
    near = ends[(ends > low - reach) & (ends < high + reach)]
    return min([low - below, *(near - little)]), max([high + above, *(near + little)])


def log_limits(values: np.ndarray, ends: np.ndarray, below: float, above: float) -> tuple[float, float]:
    """Return the frame of a log axis; ``below`` and ``above`` are factors, and intervals end near within a factor of 2.5."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = limits(np.log(values), np.log(ends), math.log(below), math.log(above), math.log(2.5), math.log(1.05))
    return math.exp(found[0]), math.exp(found[1])


def pad_log(ax: Axes, values: np.ndarray, log: bool, ends: np.ndarray | None = None) -> None:
    """Frame the means and extremes; a t-interval of two seeds may run past the frame.

    Args:
        ax: axes.
        values: what the frame must hold.
        log: whether y is logarithmic.
        ends: of intervals; those near the values are not cut.
    """
    finite, ends = values[np.isfinite(values)], np.empty(0) if ends is None else ends
    if not len(finite):
        return
    if log:
        ax.set_ylim(log_limits(finite, ends, 1.5, 1.7))
        plain_log_ticks(ax, "y")
    else:
        room = max(float(np.ptp(finite)), 0.05)
        bottom, top = limits(finite, ends, 0.3 * room, 0.35 * room, room, 0.05 * room)
        ax.set_ylim(max(bottom, -0.03 * room) if finite.min() >= 0 else bottom, top)  # a share has no room below nought


def plain_log_ticks(ax: Axes, which: str) -> None:
    """Set the ticks of a log axis at 1, 2, 5 × 10^k over less than two decades, with plain numbers."""
    axis = ax.yaxis if which == "y" else ax.xaxis
    low, high = ax.get_ylim() if which == "y" else ax.get_xlim()
    decades = math.log10(high / low) if low > 0 else 3.0
    subs = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if decades < 0.9 else (1.0, 2.0, 5.0) if decades < 2.5 else (1.0,)
    axis.set_major_locator(LogLocator(base=10, subs=subs))
    axis.set_major_formatter(FuncFormatter(plain_number))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def parameter_axes(ax: Axes | None, axis: Axis, values: Sequence[Value]) -> tuple[Axes, dict[Value, float]]:
    """Return axes (new ones if None) whose x axis is that of a parameter, and where each value goes."""
    ax = ax or new_axes()
    return ax, set_parameter_axis(ax, axis, values)


def set_parameter_axis(ax: Axes, axis: Axis, values: Sequence[Value]) -> dict[Value, float]:
    """Set scale, label and ticks of the x axis for one parameter, and return where each value goes."""
    ax.set_xlabel(axis.label)
    if axis.categorical:
        names = sorted({str(v) for v in values})
        ax.set_xticks(range(len(names)), names)
        ax.set_xlim(-0.5, max(len(names) - 0.5, 0.5))
        return {value: float(names.index(str(value))) for value in values}
    if not all(math.isfinite(float(value)) for value in values):  # extra dimensions up to ∞: places in order, no scale
        ordered = sorted({float(value) for value in values})
        ax.set_xticks(range(len(ordered)), plain_numbers(ordered))
        ax.set_xlim(-0.5, len(ordered) - 0.5)
        return {value: float(ordered.index(float(value))) for value in values}
    positions = {value: float(value) for value in values}
    low, high = (min(positions.values()), max(positions.values())) if positions else (1.0, 1.0)
    log = axis.log and low > 0
    if log:
        ax.set_xscale("log")
        room = max((high / low) ** 0.08, 1.05)
        ax.set_xlim(low / room, high * room)
        plain_log_ticks(ax, "x")
    else:
        room = 0.08 * (high - low) or 0.5
        ax.set_xlim(low - room, high + room)
    _tick_values(ax, sorted(set(positions.values())), log)
    return positions


def _tick_values(ax: Axes, values: list[float], log: bool) -> None:
    """Set ticks at the tested values themselves, where they are few and stand apart."""
    places = np.log(values) if log else np.asarray(values)
    alone = len(values) == 1
    if alone or (2 <= len(values) <= 7 and np.diff(places).min() > 0.14 * (places[-1] - places[0])):
        ax.set_xticks(values, plain_numbers(values))


def mark_failures(ax: Axes, x: Iterable[float], counts: Iterable[int]) -> None:
    """Draw a red × on the top edge, with the number of cells that failed or diverged there."""
    for position, n in zip(x, counts, strict=True):
        if n:
            ax.annotate(f"×\n{int(n)}", (position, 0.995), xycoords=("data", "axes fraction"), color=FAILURE_COLOUR,
                        ha="center", va="top", fontsize=8, fontweight="bold", annotation_clip=False)  # fmt: skip


def note(ax: Axes, text: str) -> None:
    """Write a sentence in the middle of empty axes."""
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color="0.35", wrap=True)


POINTS = 72.0
ENTRY, LETTER = 34.0, 3.7
"""Points that an entry takes beside its text, and that a letter of it takes."""
LONG = 26
"""Letters of a label above which a legend has one column: two would be wider than a panel."""


def draw_legend(ax: Axes, handles: Sequence[Any] | None = None, *, aside: bool = False, columns: int | None = None) -> None:
    """Draw a small legend below the axes and their label, or to their right; none where nothing has a label.

    Args:
        ax: axes whose labelled marks are explained.
        handles: the marks, where they are not those of the axes.
        aside: to the right of the axes, in one column: for many entries.
        columns: below the axes; default: two, and one for long labels.
    """
    handles = list(ax.get_legend_handles_labels()[0] if handles is None else handles)
    if not handles:
        return
    style: dict[str, Any] = {"fontsize": 7, "frameon": False, "borderaxespad": 0.0}
    if aside:
        ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.02, 1.0), **style)
        return
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = columns or (2 if longest <= LONG else 1)
    below = ax.transAxes + ScaledTranslation(0, -_label_height() / POINTS, ax.figure.dpi_scale_trans)
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.0, 0.0), bbox_transform=below, ncols=columns,
              columnspacing=1.0, handletextpad=0.5, **style)  # fmt: skip


def share_legend(canvas: Figure) -> None:
    """Draw one legend below all panels of a figure, in place of theirs: every entry once, in as many columns as fit."""
    entries: dict[str, Any] = {}
    for ax in canvas.axes:
        if (legend := ax.get_legend()) is None:
            continue
        handles, labels = ax.get_legend_handles_labels()
        own = dict(zip(labels, handles, strict=True))
        for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True):
            entries.setdefault(text.get_text(), own.get(text.get_text(), handle))
        legend.remove()
    if entries:
        room = POINTS * canvas.get_figwidth() / (ENTRY + LETTER * max(map(len, entries)))
        columns = min(len(entries), max(1, int(room)))
        canvas.legend(list(entries.values()), list(entries), loc="outside lower left", ncols=columns, fontsize=7, frameon=False,
                      columnspacing=1.0, handletextpad=0.5)  # fmt: skip


def _label_height() -> float:
    """Return the points that ticks, their labels and the axis label take below the frame, each with its padding."""
    size = float(mpl.font_manager.FontProperties(size=mpl.rcParams["xtick.labelsize"]).get_size_in_points())
    label = float(mpl.font_manager.FontProperties(size=mpl.rcParams["axes.labelsize"]).get_size_in_points())
    ticks = mpl.rcParams["xtick.major.size"] + mpl.rcParams["xtick.major.pad"]
    return float(ticks + 1.2 * size + mpl.rcParams["axes.labelpad"] + 1.3 * label + 3)
