"""Does the verdict survive longer training? Ratings, edges and quality at shares of the training."""

from __future__ import annotations

from functools import partial
from itertools import groupby

import pandas as pd

from analysis.plots.overview import plot_ratings_by_length
from analysis.plots.runs import plot_learning_curves
from analysis.report.ask import left_out, text_table
from analysis.report.blocks import Block, Items, Section, Text
from analysis.report.study import Study
from analysis.robustness.overview import ratings_by_length
from analysis.rows.on_the_way import lengths

TITLE = "Does the verdict survive longer training?"
SHOWN = ["parameter", "share", "step", "rating", "low", "high", "lower_crossing", "upper_crossing", "worst_ratio", "rule"]


def section(study: Study) -> Section | None:
    """Rate every training parameter at every length of the training; None where none is searched or measured on the way."""
    rows = study.measured_early
    if rows is None or (table := ratings_by_length(rows)).empty:
        return None
    early = ", ".join(f"{share:.0%}" for share in lengths(rows) if share < 1)
    lead = (
        f"The averaged network of every field was measured at {early} of its training too, at the default sampler point, and"
        " rated by the rules of the end. A rating that is the same at all lengths did not hang on how long these fields were"
        " trained, as far as was measured; nothing is claimed of still longer trainings."
    )
    if not rows["train_constant_rate"].eq(True).all():
        lead += " Their learning rate decays to zero at the end alone, so a field on the way is not that of a shorter training."
    words = Items(tuple(verdict_by_length(part) for _, part in table.groupby("parameter", sort=False)))
    left = f"Ratings by length of training. Left out: {left_out(table)}."
    blocks: list[Block] = [Text(lead), words]
    for name in dict.fromkeys(table["parameter"]):
        caption = (
            f"{name}: verdicts by length of training (left), and {study.label} on the way, means over fields with 95 %"
            " intervals (right). The bar is the tolerance interval, a line with ends the bracket of an edge."
        )
        draws = [partial(plot_ratings_by_length, rows, name), partial(plot_learning_curves, rows, parameter=name)]
        blocks.append(study.draw(f"length-{name}", caption, caption, draws))
    return Section("length", TITLE, (*blocks, text_table("length", left, table[SHOWN])))


def verdict_by_length(part: pd.DataFrame) -> str:
    """Return in a sentence how the rating of one parameter changed; its lengths grow."""
    shares, ratings = part["share"].tolist(), part["rating"].tolist()
    same = len(ratings) - 1
    while same and ratings[same - 1] == ratings[-1]:
        same -= 1
    name, last = part["parameter"].iloc[0], ratings[-1]
    if same == 0:
        return f"{name}: {last} at every length."
    runs = groupby(zip(ratings[:same], shares[:same], strict=True), key=lambda pair: pair[0])
    before = "; ".join(f"{rating} at {', '.join(f'{share:.0%}' for _, share in pairs)}" for rating, pairs in runs)
    since = "at the end alone" if same == len(ratings) - 1 else f"from {shares[same]:.0%} on"
    return f"{name}: {before}; {last} {since}."
