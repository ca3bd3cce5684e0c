"""Every failed, diverged or timed-out group of cells, with its error and log file."""

from __future__ import annotations

import pandas as pd

from analysis.report.blocks import Block, Section, TableBlock, Text
from analysis.report.study import Study
from analysis.rows.meta import searched_axes
from analysis.rows.words import format_value
from analysis.statistics.summary import failure_table


def section(study: Study) -> Section:
    """List every failed, diverged or timed-out group of cells, with error and log file; rows of disturbed fields apart."""
    frame, disturbed = study.frame, study.disturbed
    blocks: list[Block] = []
    bad = _bad(frame)
    if bad.empty:
        blocks.append(Text("No cell failed, diverged, met the step limit or timed out."))
    else:
        caption = f"{_statuses(bad)} of {len(frame)} cells. Log files are relative to the study folder."
        blocks.append(TableBlock("failures", caption, _grouped(bad, ["design_role"])))
    for axis in searched_axes(frame) if len(bad) else ():
        counts = failure_table(frame, axis)
        if counts["total"].sum() > counts["complete"].sum() + counts["pending"].sum():
            shown = counts.assign(value=counts["value"].map(format_value))
            blocks.append(TableBlock(f"failures-{axis.name}", f"Outcomes by {axis.label}.", shown))
    if disturbed is not None and len(lost := _bad(disturbed)):
        caption = f"{_statuses(lost)} of {len(disturbed)} rows of disturbed fields, by disturbance and level."
        table = _grouped(lost, ["design_role", "perturb_kind", "perturb_level"])
        blocks.append(TableBlock("failures-disturbed", caption, table))
    return Section("failures", "Failures", tuple(blocks))


def _bad(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.loc[~rows["status"].isin(["complete", "pending"])]


def _statuses(bad: pd.DataFrame) -> str:
    return ", ".join(f"{int(n)} {status}" for status, n in bad["status"].value_counts().sort_index().items())


def _grouped(bad: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Count the cells that ended alike, and name the first of them."""
    known = bad.assign(error=bad["error"].fillna("–").str.split("\n").str[0], log=bad["error_log"].fillna("–"))
    groups = known.groupby(["status", *by, "error", "log"], dropna=False, sort=True)
    table = groups.agg(cells=("cell_id", "size"), first_cell=("cell_id", "first")).reset_index()
    return table.rename(columns={"design_role": "training point", "perturb_kind": "disturbance", "perturb_level": "level"})
