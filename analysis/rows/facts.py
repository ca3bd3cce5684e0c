"""What is known of a measured column: its label, scale, direction and bounds, as the rows themselves tell.

`analysis.load_study` keeps what the row files carry in ``frame.attrs["columns"]``. A frame without it, such as a table that
was read from CSV, is told by the list of this version (`study.rows.facts.BUILT_IN`).
"""

from __future__ import annotations

import pandas as pd

from study.rows.facts import BUILT_IN, PREFIXES, Column


def column_of(frame: pd.DataFrame, metric: str) -> Column:
    """Return what is known of a metric given as ``fid``, ``nfe`` or a full column name; of others it is the name alone."""
    carried = frame.attrs.get("columns") or {}
    for name in (prefix + metric for prefix in PREFIXES):
        if name in carried:
            return Column.of_facts(name, carried[name])
        if name in BUILT_IN:
            return BUILT_IN[name]
    return Column(metric)


def measured_columns(frame: pd.DataFrame) -> list[Column]:
    """Return what is known of all columns: those of this version, then those that only the rows tell of."""
    return [column_of(frame, name) for name in dict.fromkeys([*BUILT_IN, *(frame.attrs.get("columns") or {})])]
