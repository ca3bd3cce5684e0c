"""The verdict on every parameter: ratings with the printed rule, what was held fixed, and what was assumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from analysis.report.blocks import Block, Items, Section, TableBlock, Text
from analysis.report.sections.measured.importance import in_words, why_none
from analysis.report.study import Study
from analysis.robustness.gains import improvements
from analysis.robustness.interval import ToleranceInterval
from analysis.rows.meta import tolerance_of
from analysis.rows.words import format_value

Importance = Mapping[tuple[str, str], str]
"""(group, parameter) → the parameter's importance in words."""


def section(study: Study) -> Section:
    """Print the table of ratings with its rule, what is better than the default, and what each comparison held fixed."""
    frame, intervals, why = study.frame, study.intervals, why_none(study)
    limit = tolerance_of(frame)
    blocks: list[Block] = [] if intervals else [Text("Nothing was searched, so there is nothing to rate.")]
    if intervals:
        caption = (
            f"Ratings on {study.label}, tolerance {limit:.0%}. robust: the"
            " simultaneous 95 % upper"
            " bound is within tolerance at every tested value. sensitive: at some value the lower bound is"
            " beyond it, or cells"
            " fail or diverge. undetermined: neither. The interval is the inner set of tested values; nothing is"
            " claimed between."
        )
        blocks.append(TableBlock("verdict", caption, verdict_table(intervals, in_words(study.importance))))
        blocks += [Text(why)] if why else []
        blocks += _better(frame, intervals)
        held = [f"{t.parameter}: {t.held_fixed}" + (f". Variance: {t.assumed}" if t.assumed else "") for t in intervals]
        blocks += [Text("What each comparison held fixed, and what it assumed:"), Items(tuple(held))]
    return Section("verdict", "Verdict", tuple(blocks))


def _better(frame: pd.DataFrame, intervals: Sequence[ToleranceInterval]) -> list[Block]:
    table = improvements(frame, intervals)
    if table.empty:
        return []
    caption = (
        f"Values that are better than the default by more than {tolerance_of(frame):.0%}, and what else is different there:"
        " change with simultaneous 95 % bounds, a ratio for FID, distances and NFE, a difference for the others."
    )
    text = {column: [format_value(v) for v in table[column].tolist()] for column in table.columns}
    return [TableBlock("better", caption, pd.DataFrame(text))]


def verdict_table(intervals: Sequence[ToleranceInterval], importance: Importance | None = None) -> pd.DataFrame:
    """Return the verdict on each parameter as text, with its importance where that is known."""
    columns = ["parameter", "default", "tested", "tolerance interval", "width (decades)", "rating", "rule"]
    rows = []
    for t in intervals:
        inside = ", ".join(format_value(v) for v in t.inside) if t.low is None else ""
        span = f"{format_value(t.low)} … {format_value(t.high)}" if t.low is not None else inside
        span = f"{format_value(t.low)} alone" if t.low is not None and t.low == t.high else span
        tested = ", ".join(format_value(v) for v in t.tested)
        width = f"{t.decades:.2f}" if t.decades is not None else "–"
        rows.append([t.parameter, format_value(t.default), tested, span or "none", width, t.rating, t.rule])
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(importance=[importance.get((t.group, t.parameter), "–") for t in intervals]) if importance else table
