"""Importance of the parameters, then their regional sensitivity."""

from __future__ import annotations

import math
from functools import partial

from analysis.plots.shares import plot_parameter_importance, plot_regional_sensitivity
from analysis.report.ask import Result, ask, left_out, text_table
from analysis.report.blocks import Block, Section, Text
from analysis.report.study import Study
from analysis.rows.meta import design_of, tolerance_of
from analysis.statistics.regional import regional_sensitivity


def section(study: Study) -> Section:
    """Show importance by fANOVA with interval, p-value and surrogate R², then the regional sensitivity."""
    importance = study.importance
    blocks: list[Block] = []
    if isinstance(importance, str):
        blocks.append(Text(f"Importance: {importance}"))
    elif importance.empty:
        blocks.append(Text(f"No importance could be computed. Left out: {left_out(importance)}."))
    else:
        r2 = ", ".join(f"{value:.2f} ({group})" for group, value in importance.attrs["surrogate_r2"].items())
        caption = (
            f"Share of the variance of log {study.label} by fANOVA, 95 % interval over resampled"
            " points; p: permutation of whole points, hollow above 5 %. Out-of-sample R² of the surrogate:"
            f" {r2}. Where it is near 0 or below, the shares describe noise. Left out: {left_out(importance)}."
        )
        top = importance.iloc[0]
        alt = f"Importance by parameter; the largest is {top['parameter']}, {top['importance']:.2f}, p = {top['p_value']:.3f}."
        draw = partial(plot_parameter_importance, study.frame, table=importance)
        blocks += [study.draw("importance", caption, alt, [draw]), text_table("importance", "Importance.", importance)]
    return Section("importance", "Importance", (*blocks, *_regional(study)))


def _regional(study: Study) -> list[Block]:
    table = ask(regional_sensitivity, study.frame)
    if isinstance(table, str):
        return [Text(f"Regional sensitivity: {table}")]
    if table.empty:
        return [Text(f"Regional sensitivity: no parameter to compare. Left out: {left_out(table)}.")]
    caption = (
        f"Do points within {tolerance_of(study.frame):.0%} of the default take other values than points outside? Distance of"
        f" the two distributions, p by permutation of whole points, hollow above 5 %; failed points are outside. Left out:"
        f" {left_out(table)}."
    )
    alt = "Distance between values inside and outside the tolerance by parameter."
    draws = [partial(plot_regional_sensitivity, study.frame)]
    return [study.draw("regional", caption, alt, draws), text_table("regional", "Regional sensitivity.", table)]


def in_words(importance: Result) -> dict[tuple[str, str], str]:
    """Return (group, parameter) → importance with interval and p-value; empty where importance was refused."""
    if isinstance(importance, str):
        return {}
    return {
        (str(row["group"]), str(row["parameter"])): (
            f"{row['importance']:.2f} ({row['low']:.2f} to {row['high']:.2f}), p = {row['p_value']:.3f}"
        )
        for row in importance.to_dict("records")
        if math.isfinite(row["importance"])
    }


def why_none(study: Study) -> str:
    """Return the sentence below a verdict table whose importance column is empty."""
    importance = study.importance
    if isinstance(importance, str):
        return f"Importance is not given: {importance}"
    return (
        "" if len(importance) else f"Importance is not given for the {design_of(study.frame)} design: {left_out(importance)}."
    )
