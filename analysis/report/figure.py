"""One figure of the report: drawn once, kept as PNG and SVG with equal bytes for equal rows."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from analysis.plots.style import share_legend
from analysis.report.blocks import Figure

_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "analysis.report",
    "svg.fonttype": "path",
    "font.size": 8.5,
    "savefig.facecolor": "white",
}
DPI = 120
"""Resolution of the stored pictures and of their layout: at another, letters are a little wider or narrower."""
HEIGHT = 3.5
"""Height in inches of a panel with the legend below it."""
ALONE, ASIDE = 1.35, 2.0
"""Widths, in panels, of a panel that stands alone, and of one with its legend beside it."""


class Draw(Protocol):
    """Draws one panel: a plot function of `analysis.plots` with its data bound."""

    def __call__(self, *, ax: Axes) -> object:
        """Draw on the axes."""


def figure(
    folder: Path, name: str, caption: str, alt: str, draws: Sequence[Draw], least: float = ALONE,
    height: float = HEIGHT,
) -> Figure:  # fmt: skip
    """Draw panels side by side, store figures/<name>.png and .svg without dates or versions, return the block.

    Args:
        folder: the report's figures.
        name: of the files.
        caption, alt: what is said below it, and in its place.
        draws: one for each panel.
        least: width in panels that it has at least.
        height: of the panels with their legends, inches.
    """
    with mpl.rc_context({**mpl.rcParamsDefault, **_STYLE, "backend": mpl.rcParams["backend"]}):
        canvas = Canvas(figsize=(3.7 * max(len(draws), least), height), dpi=DPI, layout="constrained")
        for draw, ax in zip(draws, canvas.subplots(1, len(draws), squeeze=False)[0], strict=True):
            draw(ax=ax)
        if len(draws) > 1:
            share_legend(canvas)
        _rasterize_clouds(canvas)
        engine = canvas.get_layout_engine()
        assert engine is not None
        engine.execute(canvas)
        canvas.set_layout_engine(None)  # keep the positions found: each file would lay out again
        png = io.BytesIO()
        canvas.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
        folder.mkdir(parents=True, exist_ok=True)
        canvas.savefig(folder / f"{name}.svg", dpi=150, metadata={"Date": None, "Creator": None})
    (folder / f"{name}.png").write_bytes(png.getvalue())
    return Figure(name, caption, alt, png.getvalue())


CLOUD = 1000
"""Marks of one artist above which an SVG holds them as a picture: a shape each would make files of many megabytes."""


def _rasterize_clouds(canvas: Canvas) -> None:
    for ax in canvas.axes:
        for marks in ax.collections:
            marks.set_rasterized(max(np.shape(marks.get_offsets())[0], len(marks.get_paths())) > CLOUD)
        for line in ax.lines:
            line.set_rasterized(np.size(line.get_xdata()) > CLOUD)
