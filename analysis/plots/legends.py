"""Where legends stand: outside the axes, so that none lies on a line, a bar or a mark, whatever the data are.

A legend inside hides what the next study draws there; matplotlib's "best" place is only the least bad one. Below the axes
there is always room, since the layout of the report (and of new axes) shrinks the axes for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

POINTS = 72.0
ENTRY, LETTER = 34.0, 3.7
"""Points that an entry takes beside its text, and that a letter of it takes."""
LONG = 26
"""Letters of a label above which a legend has one column: two would be wider than a panel."""


def draw_legend(ax: Axes, handles: Sequence[Any] | None = None, *, aside: bool = False, columns: int | None = None) -> None:
    """A small legend below the axes and their label, or to their right; none where nothing has a label.

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
    """One legend below all panels of a figure, in place of theirs: every entry once, in as many columns as have room."""
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
    """Points that ticks, their labels and the axis label take below the frame, each with its padding."""
    size = float(mpl.font_manager.FontProperties(size=mpl.rcParams["xtick.labelsize"]).get_size_in_points())
    label = float(mpl.font_manager.FontProperties(size=mpl.rcParams["axes.labelsize"]).get_size_in_points())
    ticks = mpl.rcParams["xtick.major.size"] + mpl.rcParams["xtick.major.pad"]
    return float(ticks + 1.2 * size + mpl.rcParams["axes.labelpad"] + 1.3 * label + 3)
