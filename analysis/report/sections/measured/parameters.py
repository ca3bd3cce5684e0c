"""A panel for each parameter, and all parameters at a glance."""

from __future__ import annotations

import math
from functools import partial

from analysis.plots.curves import plot_robustness
from analysis.plots.overview import plot_parameter_overview
from analysis.report.blocks import Block, Section, Text
from analysis.report.figure import ASIDE
from analysis.report.study import Study
from analysis.robustness.edges import Edge, edges_of
from analysis.robustness.interval import ToleranceInterval
from analysis.robustness.overview import parameter_overview
from analysis.rows.meta import Axis, searched_axes
from analysis.rows.metrics import measured
from analysis.rows.words import format_value

_LEGEND = (
    "How to read a panel: points are means over independent units (their number n at the bottom), bars 95 %"
    " t-intervals, which run"
    " on where they meet the frame, the band min–max, the star the default; all panels share the"
    " legend. A hollow point or a red × with a"
    " number: that many"
    " cells failed or diverged there."
)


def overview_panel(study: Study) -> list[Block]:
    """Draw all parameters at a glance; nothing where nothing was searched."""
    intervals = study.intervals
    if not intervals:
        return []
    table = parameter_overview(study.frame, intervals)
    caption = (
        "All parameters at a glance. Left: the tested values from the lowest to the highest, their marks the verdicts, the bar"
        " the tolerance interval, a line with ends the two values between which the tolerance is surely left. Right: the worst"
        " and the best of them, as a ratio to the default with simultaneous 95 % bounds, which run on where they meet the"
        " frame; hollow: no bounds. A red × counts cells that failed or diverged."
    )
    alt = "Ratings by parameter: " + ", ".join(f"{t.parameter} {t.rating}" for t in intervals) + "."
    draw = partial(plot_parameter_overview, study.frame, table=table)
    return [study.draw("overview", caption, alt, [draw], ASIDE, 1.5 + 0.52 * len(intervals))]


def parameter_panels(study: Study, group: str) -> list[Block]:
    """Draw one figure a parameter of a group: the rated metric, and precision, recall and class accuracy where measured."""
    frame = study.frame
    metrics = list(dict.fromkeys([study.metric, *measured(frame, "precision", "recall", "class_accuracy")]))
    axes = [axis for axis in searched_axes(frame) if axis.group == group]
    blocks: list[Block] = [Text(_LEGEND)] if axes else []
    for axis in axes:
        interval = next(t for t in study.intervals if t.parameter == axis.name and t.group == group)
        held = interval.held_fixed[:1].upper() + interval.held_fixed[1:]
        caption = f"{axis.label}: {interval.rating} ({interval.rule}). {held}."
        edges = edges_of(frame, axis, interval)
        caption += "".join(f" {edge.words[:1].upper()}{edge.words[1:]}." for edge in edges or () if isinstance(edge, Edge))
        draws = [partial(plot_robustness, frame, axis, metric=metric, edges=edges) for metric in metrics]
        blocks.append(study.draw(f"{group}-{axis.name}", caption, _alt(study, axis, interval), draws))
    return blocks


def _alt(study: Study, axis: Axis, interval: ToleranceInterval) -> str:
    known = interval.levels.dropna(subset=["d"])
    pairs = zip(known["level"], known["d"].astype(float), strict=True)
    ratios = [f"{format_value(level)}: × {math.exp(d):.2f}" for level, d in pairs]
    shown = "; ratios to the default by value: " + ", ".join(ratios) if ratios else "; no complete comparison"
    return f"{study.label} against {axis.label}, rated {interval.rating}{shown}."


def section(study: Study) -> Section:
    """Draw a panel for each training parameter."""
    panels = parameter_panels(study, "train")
    return Section("training", "Training parameters", tuple(panels) or (Text("No training parameter was searched."),))
