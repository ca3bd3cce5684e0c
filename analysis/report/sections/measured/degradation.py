"""Degradation under injected noise, rounded weights and fewer steps."""

from __future__ import annotations

from functools import partial

from analysis.plots.disturbances import MOST_INSIDE, plot_perturbation_robustness
from analysis.report.ask import ask, left_out, text_table
from analysis.report.blocks import Block, Section
from analysis.report.figure import ALONE, ASIDE
from analysis.report.study import Study
from analysis.statistics.disturbances import perturbation_robustness


def section(study: Study) -> Section | None:
    """Show the degradation by each disturbance; None where nothing of the kind was measured."""
    table = ask(perturbation_robustness, study.every)
    if isinstance(table, str) or table.empty:
        return None
    blocks: list[Block] = []
    for kind in table["perturb_kind"].unique():
        caption = f"Degradation by {kind.replace('_', ' ')}: ratio to the same field and latents undisturbed, 95 % over fields."
        many = table.loc[table["perturb_kind"].eq(kind), "series"].nunique() > MOST_INSIDE
        draw = partial(plot_perturbation_robustness, study.every, kind)
        blocks.append(study.draw(f"degradation-{kind}", caption, caption, [draw], ASIDE if many else ALONE))
    blocks.append(text_table("degradation", f"Degradation. Left out: {left_out(table)}.", table))
    return Section("degradation", "Degradation", tuple(blocks))
