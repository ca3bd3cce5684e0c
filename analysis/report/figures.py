"""The figures of the report: drawn once, kept as PNG and SVG with equal bytes for equal rows."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from analysis.plots.curves import plot_robustness
from analysis.plots.front import plot_quality_cost, plot_solver_tolerance
from analysis.plots.overview import plot_parameter_overview
from analysis.plots.pairs import plot_interaction
from analysis.plots.runs import plot_learning_curves, plot_samples, samples_title
from analysis.plots.style import share_legend
from analysis.report.blocks import Block, Figure, Section, Text
from analysis.robustness.interval import ToleranceInterval
from analysis.robustness.overview import parameter_overview
from analysis.rows.load import learning_curves
from analysis.rows.meta import Axis, design_of, find_axis, searched_axes
from analysis.rows.metrics import default_metric, metric_column
from analysis.rows.words import format_value, metric_label
from analysis.statistics.pareto import outlier_axis, pareto_front, solver_tolerance
from analysis.statistics.pick import choose_cell
from study.rows.storage import Place

_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "analysis.report",
    "svg.fonttype": "path",
    "font.size": 8.5,
    "savefig.facecolor": "white",
}


DPI = 120
"""Of the stored pictures, and of their layout: letters are a little wider or narrower at another."""
HEIGHT = 3.5
"""Inches of a panel with the legend below it."""
ALONE, ASIDE = 1.35, 2.0
"""Widths, in panels, of a panel that stands alone, and of one with its legend beside it."""


def figure(
    folder: Path, name: str, caption: str, alt: str, draws: list[Callable[[Axes], object]], least: float = ALONE,
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
            draw(ax)
        if len(draws) > 1:
            share_legend(canvas)
        _rasterize_clouds(canvas)
        canvas.draw_without_rendering()
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


def measured(frame: pd.DataFrame, *metrics: str) -> list[str]:
    """Those metrics that some row has."""
    return [metric for metric in metrics if frame[metric_column(frame, metric)].notna().any()]


_LEGEND = (
    "How to read a panel: points are means over independent units (their number n at the bottom), bars 95 %"
    " t-intervals, which run"
    " on where they meet the frame, the band min–max, the star the default; all panels share the"
    " legend. A hollow point or a red × with a"
    " number: that many"
    " cells failed or diverged there."
)


def overview_panel(frame: pd.DataFrame, folder: Path, intervals: list[ToleranceInterval]) -> list[Block]:
    """All parameters at a glance; nothing where nothing was searched."""
    if not intervals:
        return []
    table = parameter_overview(frame, intervals)
    caption = (
        "All parameters at a glance. Left: the tested values from the lowest to the highest, their marks the verdicts, the bar"
        " the tolerance interval. Right: the worst and the best of them, as a ratio to the default with simultaneous 95 %"
        " bounds, which run on where they meet the frame; hollow: no bounds. A red × counts cells that failed or diverged."
    )
    alt = "Ratings by parameter: " + ", ".join(f"{t.parameter} {t.rating}" for t in intervals) + "."
    draw: list[Callable[[Axes], object]] = [lambda ax: plot_parameter_overview(frame, table=table, ax=ax)]
    return [figure(folder, "overview", caption, alt, draw, ASIDE, 1.5 + 0.52 * len(intervals))]


def parameter_panels(frame: pd.DataFrame, folder: Path, group: str, intervals: list[ToleranceInterval]) -> list[Block]:
    """One figure a parameter of a group: the rated metric, precision and recall."""
    metrics = list(dict.fromkeys([default_metric(frame), *measured(frame, "precision", "recall")]))
    axes = [axis for axis in searched_axes(frame) if axis.group == group]
    blocks: list[Block] = [Text(_LEGEND)] if axes else []
    for axis in axes:
        interval = next(t for t in intervals if t.parameter == axis.name and t.group == group)
        held = interval.held_fixed[:1].upper() + interval.held_fixed[1:]
        caption = f"{axis.label}: {interval.rating} ({interval.rule}). {held}."
        draws = [_robustness(frame, axis, metric) for metric in metrics]
        blocks.append(figure(folder, f"{group}-{axis.name}", caption, _alt(frame, axis, interval), draws))
    return blocks


def _robustness(frame: pd.DataFrame, axis: Axis, metric: str) -> Callable[[Axes], object]:
    return lambda ax: plot_robustness(frame, axis, metric=metric, ax=ax)


def _alt(frame: pd.DataFrame, axis: Axis, interval: ToleranceInterval) -> str:
    known = interval.levels.dropna(subset=["d"])
    pairs = zip(known["level"], known["d"].astype(float), strict=True)
    ratios = [f"{format_value(level)}: × {math.exp(d):.2f}" for level, d in pairs]
    shown = "; ratios to the default by value: " + ", ".join(ratios) if ratios else "; no complete comparison"
    return f"{metric_label(frame, default_metric(frame))} against {axis.label}, rated {interval.rating}{shown}."


def training_section(frame: pd.DataFrame, folder: Path, intervals: list[ToleranceInterval]) -> Section:
    """A panel per training parameter."""
    panels = parameter_panels(frame, folder, "train", intervals)
    return Section("training", "Training parameters", tuple(panels) or (Text("No training parameter was searched."),))


def sampler_section(frame: pd.DataFrame, folder: Path, intervals: list[ToleranceInterval]) -> Section:
    """Front, solver tolerance, outliers, then a panel per sampler parameter."""
    blocks: list[Block] = []
    if not any(axis.group == "sampler" for axis in searched_axes(frame)):
        blocks.append(Text("No sampler parameter was searched: every field was sampled one way, the default."))
    blocks += sampler_panels(frame, folder)
    return Section("sampler", "Sampler", (*blocks, *parameter_panels(frame, folder, "sampler", intervals)))


def sampler_panels(frame: pd.DataFrame, folder: Path) -> list[Block]:
    """Quality–cost front with precision and recall, solver tolerance, outliers, and T or rtol against a training parameter."""
    main = default_metric(frame)
    shown = list(dict.fromkeys([main, *measured(frame, "precision", "recall")]))
    front = pareto_front(frame)
    cheapest = front.loc[front["cheapest_within"]]
    text = (
        f"Cheapest configuration within tolerance of the default: {cheapest['nfe'].iloc[0]:.0f} NFE at"
        f" {metric_label(frame, main)} {cheapest['mean'].iloc[0]:.3g} ({cheapest['solver'].iloc[0]})."
        if len(cheapest)
        else "No configuration is known to be within tolerance of the default."
    )
    front_caption = (
        "Quality against cost. A mark a configuration; coloured lines: the default field under each solver's budget, with 95 %"
        f" intervals over fields; dark steps: what nothing beats on both. All panels share the legend. {text}"
    )
    draws = [_front(frame, metric) for metric in shown]
    blocks: list[Block] = [
        figure(folder, "quality-cost", front_caption, f"{metric_label(frame, main)} against NFE. {text}", draws)
    ]
    blocks += _tolerance_panels(frame, folder)
    outlier = outlier_axis(frame)
    if outlier:
        caption = f"Outlier fraction against {outlier}: FID hardly sees samples that stay noise, this share does."
        draw = _robustness(frame, find_axis(frame, outlier), "outlier_fraction")
        blocks.append(figure(folder, "outliers", caption, caption, [draw]))
    return blocks


def _front(frame: pd.DataFrame, metric: str) -> Callable[[Axes], object]:
    return lambda ax: plot_quality_cost(frame, metric=metric, ax=ax)


def _tolerance_panels(frame: pd.DataFrame, folder: Path) -> list[Block]:
    table = solver_tolerance(frame)
    if table["rtol"].nunique() < 2:
        return []
    quantities = [q for q in ("solver_error", "quality", "nfe") if table[q].notna().any()]
    if not quantities:
        return [Text("No cell with a solver tolerance is complete.")]
    share = table["diverged_share"].max()
    skipped = "; ".join(f"{k}: {v}" for k, v in table.attrs["skipped"].items()) or "nothing"
    held = table.attrs["held_fixed"]
    caption = (
        "What the tolerance buys: solver error, quality and NFE against rtol, means over fields with"
        " t-intervals. Largest share of"
        f" diverged or step-limited cells: {share:.0%}. Held fixed: {held}. Left out: {skipped}."
    )
    draws = [_tolerance(frame, quantity) for quantity in quantities]
    return [figure(folder, "solver-tolerance", caption, "Solver error, quality and NFE against relative tolerance.", draws)]


def _tolerance(frame: pd.DataFrame, quantity: str) -> Callable[[Axes], object]:
    return lambda ax: plot_solver_tolerance(frame, quantity=quantity, ax=ax)


def interaction_section(frame: pd.DataFrame, folder: Path) -> Section:
    """Every training parameter against the searched T, or a sentence that says why there is none."""
    if design_of(frame) == "tpe":
        why = "Not shown: the tpe design moves to good values, so its cells are no sample of the two parameters."
    else:
        why = "Not shown: it takes a numeric training parameter and a numeric sampler parameter, both searched."
    pairs = interaction_pairs(frame)
    n = max((len(frame[[a.column, b.column]].dropna().drop_duplicates()) for a, b in pairs), default=0)
    if n > MAX_PAIRS:
        a, b = pairs[0]
        text = (
            f"Not drawn: up to {n} pairs of values would hide each other in a figure."
            f" analysis.plot_interaction(frame, {a.name!r}, {b.name!r}) draws them at any size."
        )
        return Section("interaction", "Training × sampler", (Text(text),))
    blocks: Sequence[Block] = interaction_panels(frame, folder) or [Text(why)]
    return Section("interaction", "Training × sampler", tuple(blocks))


MAX_PAIRS = 5000
"""Marks that a panel of pairs can hold and still be read; 20,000 take two seconds a panel, but hide each other."""


def interaction_pairs(frame: pd.DataFrame) -> list[tuple[Axis, Axis]]:
    """Every numeric training parameter with the searched T (or the first numeric sampler parameter); none for tpe."""
    axes = [axis for axis in searched_axes(frame) if axis.column in frame.columns and not axis.categorical]
    seconds = [a for a in axes if a.group == "sampler"]
    seconds.sort(key=lambda a: a.name not in ("T", "T_ratio"))
    firsts = [a for a in axes if a.group == "train"]
    return [(first, seconds[0]) for first in firsts if seconds and design_of(frame) != "tpe"]


def interaction_panels(frame: pd.DataFrame, folder: Path) -> list[Block]:
    """The pairs of `interaction_pairs`, two a figure: measured cells only."""
    pairs = interaction_pairs(frame)
    firsts, seconds = [first for first, _ in pairs], [second for _, second in pairs]
    blocks: list[Block] = []
    for i in range(0, len(firsts), 2):
        pair = firsts[i : i + 2]
        names = " and ".join(axis.name for axis in pair)
        caption = f"{names} with {seconds[0].name}: measured cells, nothing interpolated; "
        caption += "red ×: no complete cell, red ring: some failed."
        draws = [_interaction(frame, axis, seconds[0]) for axis in pair]
        blocks.append(
            figure(folder, f"interaction-{'-'.join(a.name for a in pair)}-{seconds[0].name}", caption, caption, draws)
        )
    return blocks


def _interaction(frame: pd.DataFrame, first: Axis, second: Axis) -> Callable[[Axes], object]:
    return lambda ax: plot_interaction(frame, first, second, ax=ax)


def learning_section(frame: pd.DataFrame, folder: Path) -> Section:
    """Training loss of every field."""
    history = learning_curves(frame)
    if history.empty:
        return Section("learning", "Learning curves", (Text("No training history was stored."),))
    caption = f"Training loss of {history['train_id'].nunique()} fields. Objectives with other γ or targets have other scales."
    block = figure(folder, "learning-curves", caption, caption, [lambda ax: plot_learning_curves(history, ax=ax)])
    return Section("learning", "Learning curves", (block,))


def samples_section(frame: pd.DataFrame, folder: Path) -> Section:
    """Sample grids of the default, best and worst configuration, from the same latents where the seeds agree."""
    rows = {which: choose_cell(frame, which) for which in ("default", "best", "worst")}
    pictures = (Place.of(str(frame.attrs["path"])) / "samples").files()
    shown = {which: row for which, row in rows.items() if row is not None and f"{row['cell_id']}.png" in pictures}
    if not shown:
        return Section("samples", "Samples", (Text("No sample grid was stored for the default, best or worst configuration."),))
    seeds = {which: int(row["seed_sample"]) for which, row in shown.items()}
    latents = (
        f"All from the latents of sample seed {next(iter(seeds.values()))}."
        if len(set(seeds.values())) == 1
        else f"From different latents: sample seeds {', '.join(f'{seed} ({which})' for which, seed in seeds.items())}."
    )
    caption = (
        f"64 samples a grid. {latents} Best and worst by mean over seeds among configurations without failures: raw extremes."
    )
    alt = f"Grids of generated samples: {', '.join(shown)}."
    block = figure(folder, "samples", caption, alt, [_grid(frame, str(row["cell_id"]), n) for n, row in shown.items()])
    return Section("samples", "Samples", (block,))


def _grid(frame: pd.DataFrame, cell: str, which: str) -> Callable[[Axes], object]:
    def draw(ax: Axes) -> None:
        plot_samples(frame, cell, ax=ax)
        ax.set_title(samples_title(frame, frame.loc[frame["cell_id"].eq(cell)].iloc[0], which), fontsize=9)

    return draw
