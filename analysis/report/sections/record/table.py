"""The full table of the report: every planned cell, or as many as a page can hold, and where the others are."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.report.blocks import Section, TableBlock
from analysis.report.study import Study
from analysis.rows.facts import measured_columns
from analysis.rows.meta import is_default, searched_axes
from analysis.rows.words import format_value

PAGE_ROWS = 2000
"""Rows on the page: a browser sorts and filters so many at once, and prints them on some 40 sheets."""
_KEYS = {"cell_id": "cell", "status": "status", "design_role": "training point", "design_sampler_role": "sampler point",
         "seed_train": "train seed", "seed_sample": "sample seed"}  # fmt: skip


def section(study: Study) -> Section:
    """Show the planned cells, sortable and filterable; tables/rows.csv and tables/disturbed.csv hold every column."""
    frame, disturbed = study.frame, study.disturbed
    columns = dict(_KEYS)
    columns |= {axis.column: axis.name for axis in searched_axes(frame) if axis.column in frame.columns}
    told = [column for column in measured_columns(frame) if column.shown and column.name in frame.columns]
    columns |= {column.name: column.short for column in told if frame[column.name].notna().any()}
    chosen = choose_rows(frame, PAGE_ROWS)
    shown = frame.iloc[chosen][list(columns)].rename(columns=columns)
    text = pd.DataFrame({column: [format_value(v) for v in shown[column].tolist()] for column in shown.columns})
    which = (
        f"All {len(frame)} cells."
        if len(chosen) == len(frame)
        else f"{len(chosen)} of {len(frame)} cells, so that the page stays quick: those at the default, then those that did not"
        " complete, then the others in the order planned; a filter sees no more than these."
    )
    apart = "" if disturbed is None else f", of the {len(disturbed)} rows of disturbed fields in tables/disturbed.csv"
    caption = f"{which} Click a heading to sort. Every column of every row is in tables/rows.csv{apart}."
    return Section("rows", "Full table", (TableBlock("cells", caption, text, interactive=True, source="rows"),))


def choose_rows(frame: pd.DataFrame, n: int) -> np.ndarray:
    """Return the positions of at most ``n`` rows, ascending: the default's first, then those that failed, then the rest."""
    default = is_default(frame, "train") & is_default(frame, "sampler")
    bad = ~frame["status"].isin(["complete", "pending"])
    rank = np.where(default, 0, np.where(bad, 1, 2))
    return np.sort(np.argsort(rank, kind="stable")[:n])
