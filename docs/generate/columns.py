"""The reference of the rows: every column of `study.rows.records` with its type and what it means."""

from __future__ import annotations

from generate import keys
from generate.column_words import WORDS
from study.rows.records import HISTORY, KEYS, MEASUREMENTS, PARAMETERS, PROVENANCE

TYPES = {"string": "text", "double": "number", "int64": "whole number", "bool": "true or false"}

LEAD = """# Columns of a row

A row is one measured [cell](../concepts/cells.md). Rows lie as Parquet files in `<storage>/<study>/evals/`.
`analysis.load_study` joins them with the plan: every planned cell is then one row, with status `pending` where it was not
measured yet. A column that does not apply is null.

| prefix | what |
|---|---|
| `data_`, `network_`, `train_`, `sampler_`, `perturb_` | what was done |
| `metric_` | how good the samples are |
| `cost_` | what they cost |
| `diag_` | what may explain a value |
| `prov_` | where and with which versions it was computed |

Numbers under `train_` and `sampler_` are resolved: `rule` and ratios have become numbers there.
"""


def meaning(column: str) -> str:
    """What a column means: its own words, else those of the key of search.yaml that it holds."""
    if column in WORDS:
        return WORDS[column]
    section, name = column.split("_", 1)
    words = {key.name: key.words for key in keys.keys(section)}[f"{section}.{name}"]
    return f"{words} Key [`{section}.{name}`](keys.md#{section}.{name})."


def table(columns: dict[str, object]) -> str:
    """A table of columns."""
    told = {name: meaning(name).replace("|", "\\|") for name in columns}
    lines = [f"| `{name}` {TYPES[str(type_)]} | {told[name]} |" for name, type_ in columns.items()]
    return "\n".join(["| column and type | meaning |", "|---|---|", *lines, ""])


def pages() -> dict[str, str]:
    """The page of all columns."""
    parts = [LEAD]
    for title, columns in (
        ("Keys", KEYS),
        ("What was done", PARAMETERS),
        ("What came out", MEASUREMENTS),
        ("Provenance", PROVENANCE),
    ):
        parts += [f"## {title}\n", table(dict(columns))]
    names = ", ".join(f"`{name}`" for name in HISTORY.names)
    parts.append(f"## Training history\n\n`history/<train_id>.parquet` holds {names}: means since the row before.\n")
    return {"reference/columns.md": "\n".join(parts)}
