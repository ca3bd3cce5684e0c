"""Curves of the training parameters from points that fill the box, each over the average of the others."""

from __future__ import annotations

from functools import partial

import pandas as pd

from analysis.plots.curves import plot_parameter_curve
from analysis.report.blocks import Block, Section, TableBlock, Text
from analysis.report.study import Study
from analysis.robustness.gaussian import ParameterCurve, parameter_curves
from analysis.rows.meta import AnalysisError, tolerance_of
from analysis.rows.words import format_value
from analysis.statistics.box import SPACE_FILLING, designs


def section(study: Study) -> Section | None:
    """Print and draw the curves; None where the design does not fill the box."""
    if not designs(study.frame) <= set(SPACE_FILLING):
        return None
    try:
        curves = parameter_curves(study.frame)
    except AnalysisError as error:
        return Section("smooth", "Average effect of each training parameter", (Text(f"Not shown: {error}."),))
    caption = (
        "Curves of a Gaussian process on the log, each over the mean of the other parameters, as ratios to the default. The"
        " bands are pointwise 95 %; they rest on all points at once, where the bins of the panels rest on a few each. Inside:"
        f" the run around the default whose upper bound is within {tolerance_of(study.frame):.0%}."
    )
    blocks: list[Block] = [TableBlock("curves", caption, curve_table(curves))]
    for curve in curves:
        words = f"{curve.parameter}, averaged over the other parameters: {curve.rating} over its range."
        draw = partial(plot_parameter_curve, study.frame, curve)
        blocks.append(study.draw(f"curve-{curve.parameter}", words, words, [draw]))
    return Section("smooth", "Average effect of each training parameter", tuple(blocks))


def curve_table(curves: list[ParameterCurve]) -> pd.DataFrame:
    """Return the curves as text: where they are inside, and their largest ratio with its band."""
    rows = []
    for curve in curves:
        worst, ends = int(curve.ratio.argmax()), [format_value(v) for v in (curve.inside[:1] + curve.inside[-1:])]
        bounds = f"{curve.ratio[worst]:.3g} ({curve.low[worst]:.3g} to {curve.high[worst]:.3g})"
        inside = ", ".join(format_value(v) for v in curve.inside) if len(curve.inside) <= 2 else " … ".join(ends)
        rows.append([curve.parameter, inside or "none", bounds, format_value(curve.grid[worst]), curve.rating])
    return pd.DataFrame(rows, columns=["parameter", "inside", "largest ratio (95 %)", "at", "rating"])
