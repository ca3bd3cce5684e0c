"""The metric over the measured pairs of two parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import FuncFormatter, LogLocator

from analysis.plots.style import FAILURE_COLOUR, new_axes, note, plain_log_ticks, set_parameter_axis
from analysis.robustness.pairs import interaction
from analysis.rows.meta import Axis, Value
from analysis.rows.metrics import is_log
from analysis.rows.question import MAIN, statistic
from analysis.rows.words import metric_label, plain_number


@statistic()
def plot_interaction(
    frame: pd.DataFrame, p1: str | Axis, p2: str | Axis, *, metric: str = MAIN, ax: Axes | None = None
) -> Axes:
    """Draw measured pairs of two parameters, coloured by the metric: × where no cell is complete, a ring where some failed.

    Args:
        frame: rows of `analysis.load_study`.
        p1: parameter of the x axis.
        p2: parameter of the y axis.
        metric: default ``fid``.
        ax: axes to draw on; new ones if None.
    """
    cells = interaction(frame, p1, p2, metric)
    first, second = cells.attrs["axes"]
    ax = ax or new_axes()
    x = set_parameter_axis(ax, first, cells["value_1"].tolist())
    y = _set_second_axis(ax, second, cells["value_2"].tolist())
    cells = cells.assign(x=[x[v] for v in cells["value_1"]], y=[y[v] for v in cells["value_2"]])
    done, empty = (
        cells.dropna(subset=["mean"]),
        cells.loc[cells["mean"].isna() & (cells["n_failed"] + cells["n_diverged"] > 0)],
    )
    if len(done):
        low, high = float(done["mean"].min()), float(done["mean"].max()) * 1.0001
        norm = LogNorm(low, high) if is_log(frame, metric) else Normalize(low, high)
        some = (done["n_failed"] + done["n_diverged"]).gt(0)
        sound = "0.3" if len(cells) <= 1000 else "none"  # above, edges would hide the colours
        edges = [FAILURE_COLOUR if failed else sound for failed in some]
        size, edge = _mark_size(len(cells))
        marks = ax.scatter(
            done["x"], done["y"], c=done["mean"], norm=norm, cmap="cividis", s=size, edgecolors=edges, linewidths=edge
        )
        subs = (1.0, 2.0, 5.0) if high / low > 3 else (1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 7.0)
        ticks = LogLocator(10, subs=subs) if is_log(frame, metric) else None
        bar = ax.figure.colorbar(
            marks, ax=ax, label=metric_label(frame, metric), ticks=ticks, format=FuncFormatter(plain_number)
        )
        bar.minorticks_off()
    else:
        note(ax, "no complete row")
    ax.plot(
        empty["x"], empty["y"], "x", color=FAILURE_COLOUR, markersize=max(3.0, 8 * math.sqrt(_mark_size(len(cells))[0] / 90))
    )
    return ax


def _mark_size(n: int) -> tuple[float, float]:
    """Return area and edge of a mark in points, for n pairs: above 300 marks shrink, so that they hide each other less."""
    share = min(1.0, 300 / max(n, 1))
    return max(4.0, 90 * share), max(0.3, 0.8 * share**0.5)


def _set_second_axis(ax: Axes, axis: Axis, values: Sequence[Value]) -> dict[Value, float]:
    ax.set_ylabel(axis.label)
    if axis.categorical:
        names = sorted({str(v) for v in values})
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(-0.5, max(len(names) - 0.5, 0.5))
        return {value: float(names.index(str(value))) for value in values}
    positions = {value: float(value) for value in values}
    if axis.log and positions and min(positions.values()) > 0:
        ax.set_yscale("log")
        room = max((max(positions.values()) / min(positions.values())) ** 0.1, 1.05)
        ax.set_ylim(min(positions.values()) / room, max(positions.values()) * room)
        plain_log_ticks(ax, "y")
    return positions
