"""Every training parameter against the searched T."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd

from analysis.plots.pairs import plot_interaction
from analysis.report.blocks import Block, Section, Text
from analysis.report.study import Study
from analysis.rows.meta import Axis, searched_axes, seeks_best


def section(study: Study) -> Section:
    """Draw every training parameter against the searched T, or say why there is none."""
    frame = study.frame
    if seeks_best(frame):
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
    blocks: Sequence[Block] = _panels(study, pairs) or [Text(why)]
    return Section("interaction", "Training × sampler", tuple(blocks))


MAX_PAIRS = 5000
"""Marks that a panel of pairs can hold and still be read; 20,000 take two seconds a panel, but hide each other."""


def interaction_pairs(frame: pd.DataFrame) -> list[tuple[Axis, Axis]]:
    """Return every numeric training parameter with the searched T (or the first numeric sampler parameter); none for tpe."""
    axes = [axis for axis in searched_axes(frame) if axis.column in frame.columns and not axis.categorical]
    seconds = [a for a in axes if a.group == "sampler"]
    seconds.sort(key=lambda a: a.name not in ("T", "T_ratio"))
    firsts = [a for a in axes if a.group == "train"]
    return [(first, seconds[0]) for first in firsts if seconds and not seeks_best(frame)]


def _panels(study: Study, pairs: Sequence[tuple[Axis, Axis]]) -> list[Block]:
    """Draw the pairs, two a figure: measured cells only."""
    firsts, seconds = [first for first, _ in pairs], [second for _, second in pairs]
    blocks: list[Block] = []
    for i in range(0, len(firsts), 2):
        pair = firsts[i : i + 2]
        names = " and ".join(axis.name for axis in pair)
        caption = f"{names} with {seconds[0].name}: measured cells, nothing interpolated; "
        caption += "red ×: no complete cell, red ring: some failed."
        draws = [partial(plot_interaction, study.frame, axis, seconds[0]) for axis in pair]
        blocks.append(study.draw(f"interaction-{'-'.join(a.name for a in pair)}-{seconds[0].name}", caption, caption, draws))
    return blocks
