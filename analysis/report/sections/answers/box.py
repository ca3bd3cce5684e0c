"""The whole searched box: how much of it is within tolerance, and the worst that was met in it."""

from __future__ import annotations

from analysis.report.ask import ask, left_out, text_table
from analysis.report.blocks import Block, Section, Text
from analysis.report.study import Study
from analysis.rows.meta import tolerance_of
from analysis.statistics.volume import tolerance_volume, worst_case


def section(study: Study) -> Section:
    """Say how much of the declared box is within tolerance, and the worst that was met in it."""
    frame = study.frame
    volume, worst = ask(tolerance_volume, frame), ask(worst_case, frame)
    blocks: list[Block] = []
    for name, found, caption in (
        ("volume", volume, f"Share of the declared box within {tolerance_of(frame):.0%} of the default, 95 % interval over"
         " whole points; failed ones are outside."),
        ("worst", worst, "The largest ratio to the default that was met, with bounds that know it was picked. The box may hold"
         " worse points between those sampled."),
    ):  # fmt: skip
        if isinstance(found, str):
            blocks.append(Text(found))
        elif found.empty:
            blocks.append(Text(f"{caption} Nothing to print: {left_out(found)}."))
        else:
            blocks.append(text_table(name, f"{caption} Left out: {left_out(found)}.", found))
    return Section("box", "The whole searched box", tuple(blocks))
