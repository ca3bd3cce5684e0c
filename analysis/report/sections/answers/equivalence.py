"""The equivalence of two values of one training parameter, where the seeds are disjoint."""

from __future__ import annotations

import math

import pandas as pd

from analysis.report.blocks import Section, Text
from analysis.report.study import Study
from analysis.rows.meta import compares, searched_axes, study_of
from analysis.rows.words import format_value, metric_label
from analysis.statistics.comparison import compare, equals

EQUIVALENCE_FACTOR = 1.25


def section(study: Study) -> Section | None:
    """Print the equivalence; None where the study does not ask for it."""
    found = equivalence_result(study.frame)
    return Section("equivalence", "Equivalence", (Text(found, lead=True),)) if found is not None else None


def equivalence_result(frame: pd.DataFrame) -> str | None:
    """Compare the two values of an equivalence study in a sentence: disjoint seeds, one training parameter, two values.

    Two one-sided tests at 5 %: equal where the 90 % interval of the ratio lies inside 0.80 to 1.25. None when the study is not
    of this kind.
    """
    if not (study_of(frame).get("seeds") or {}).get("disjoint") or not compares(frame):
        return None
    pairs = []
    for axis in (a for a in searched_axes(frame) if a.group == "train" and a.column in frame.columns):
        values = sorted(frame[axis.column].dropna().unique())
        if len(values) > 1:
            pairs.append((axis, values))
    if len(pairs) != 1 or len(pairs[0][1]) != 2:
        return None
    axis, values = pairs[0]
    a, b = values if equals(pd.Series(values[:1]), axis.default).all() or axis.default is None else values[::-1]
    result = compare(frame, {axis.name: a}, {axis.name: b}, tolerance=EQUIVALENCE_FACTOR - 1, confidence=0.90)
    if math.isnan(result.low):
        return f"{axis.name}: {result.n_a} and {result.n_b} complete fields; at least 2 a side are needed."
    word = "different" if result.verdict in ("worse", "better") else result.verdict
    inside = result.low >= 1 / EQUIVALENCE_FACTOR and result.high <= EQUIVALENCE_FACTOR
    left_out = "; ".join(f"{reason}: {n}" for reason, n in result.skipped.items())
    return (
        f"Equivalence of {axis.name} = {format_value(b)} to {format_value(a)}: ratio of mean"
        f" {metric_label(frame, result.metric)} {result.ratio:.3f}, 90 % interval {result.low:.3f} to {result.high:.3f}"
        f" ({result.n_a} and {result.n_b} fields), {'inside' if inside else 'not inside'} 0.80 to 1.25:"
        f" {word}{f'; left out: {left_out}' if left_out else ''}."
    )
