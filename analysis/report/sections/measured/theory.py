"""Show what the theory predicts for T, the heights and τ, over the points that were measured."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import pandas as pd

from analysis.plots.theory import plot_theory_curves
from analysis.report.blocks import Block, Section, Text
from analysis.report.study import Study
from analysis.rows.meta import is_given
from analysis.rows.question import MAIN
from analysis.theory.predictions import theory_curves


def section(study: Study) -> Section:
    """Draw each prediction with its measured points, or say why it is not shown."""
    frame = study.frame
    every = theory_curves(frame)
    kl = theory_curves(frame, "prior_kl") if _has_kl(frame) else every
    blocks: list[Block] = []
    for which, title in _THEORIES.items():
        table = kl if which == "prior_error" else every
        notes: Mapping[str, str] = table.attrs["notes"]
        part = table.loc[table["theory"].eq(which)]
        if part.empty:
            blocks.append(Text(f"{title}: not shown, {notes[which]}."))
            continue
        n = int(part["kind"].eq("measured").sum())
        dashed = "dashed the prediction, " if part["kind"].eq("curve").any() else ""
        unit = "samplings" if is_given(frame) else "fields"
        caption = f"{title}: {dashed}points measured, bars 95 % over {unit}. {notes[which]}."
        draw = partial(plot_theory_curves, frame, which, metric="prior_kl" if table is not every else MAIN)
        blocks.append(study.draw(f"theory-{which}", caption, f"{title}, {n} measured points.", [draw]))
    return Section("theory", "Theory beside measurement", tuple(blocks))


_THEORIES = {
    "prior_error": "Error of starting at a finite height T",
    "coverage": "Share of latents that training covered",
    "tau_null": "No effect of τ at a fixed height",
}


def _has_kl(frame: pd.DataFrame) -> bool:
    """Return whether the error of the prior was measured itself, as it is for exact fields."""
    return "metric_prior_kl" in frame and bool(frame["metric_prior_kl"].notna().any())
