"""Ask a statistic for its table, or for the sentence that says why there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from analysis.report.blocks import TableBlock
from analysis.rows.meta import AnalysisError
from analysis.rows.words import format_value

Result = pd.DataFrame | str
"""A table, or the sentence that says why there is none."""


def ask(statistic: Callable[..., pd.DataFrame], frame: pd.DataFrame, **options: Any) -> Result:
    """Return the table of a statistic, or the refusal that it raised: the refusal names the cure."""
    try:
        return statistic(frame, **options)
    except AnalysisError as error:
        return str(error)


def left_out(table: pd.DataFrame) -> str:
    """Return ``reason: count`` of what a statistic skipped, or "nothing"."""
    return "; ".join(f"{reason}: {n}" for reason, n in table.attrs.get("skipped", {}).items()) or "nothing"


def text_table(name: str, caption: str, table: pd.DataFrame) -> TableBlock:
    """Return a table of a statistic as a block, its numbers as text."""
    text = {column: [format_value(v) for v in table[column].tolist()] for column in table.columns}
    return TableBlock(name, caption, pd.DataFrame(text))
