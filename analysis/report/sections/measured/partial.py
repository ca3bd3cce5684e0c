"""Each parameter alone, the others averaged: for designs that fill the box."""

from __future__ import annotations

from functools import partial

import pandas as pd

from analysis.plots.curves import plot_partial_curve
from analysis.report.ask import left_out, text_table
from analysis.report.blocks import Block, Section, Text
from analysis.report.study import Study
from analysis.robustness.partial import partial_ratings
from analysis.rows.meta import find_axis, tolerance_of
from analysis.rows.words import format_value


def section(study: Study) -> Section | None:
    """Draw the curve of every parameter that the design spread over its range, and rate it; None for other designs."""
    if (curves := study.curves) is None:
        return None
    title = "Each parameter alone, the others averaged"
    if isinstance(curves, str):
        return Section("partial", title, (Text(curves),))
    ratings = partial_ratings(curves)
    if ratings.empty:
        return Section("partial", title, (Text(f"No parameter has a curve. Left out: {left_out(curves)}."),))
    caption = (
        f"Ratings by the curve: a Gaussian process of all parameters on log {study.label}, one point a unit. robust: the band"
        f" of the whole curve is within {tolerance_of(study.frame):.0%} at every value; sensitive: it is beyond it somewhere."
        f" Each parameter by itself. A failed point has no value here. Left out: {left_out(curves)}."
    )
    return Section("partial", title, (text_table("partial", caption, ratings), *_panels(study, curves, ratings)))


def _panels(study: Study, curves: pd.DataFrame, ratings: pd.DataFrame) -> list[Block]:
    """Draw the curves, two a figure."""
    blocks: list[Block] = []
    rows = ratings.to_dict("records")
    for i in range(0, len(rows), 2):
        pair = rows[i : i + 2]
        axes = [find_axis(study.frame, f"{row['group']}.{row['parameter']}") for row in pair]
        words = [f"{row['parameter']}: {row['rating']}, worst × {format_value(row['worst_ratio'])}" for row in pair]
        draws = [partial(plot_partial_curve, study.frame, axis, curves=curves) for axis in axes]
        name = "-".join(["partial", *(f"{row['group']}-{row['parameter']}" for row in pair)])
        caption = f"{'; '.join(words)}. The ratio to the default, with the other parameters averaged over their ranges."
        blocks.append(study.draw(name, caption, caption, draws))
    return blocks
