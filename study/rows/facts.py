"""What is known of a measured column, written into the Parquet file beside its values.

`pfgm.metrics.columns` declares the facts. They travel in the metadata of the Parquet field, so that rows describe themselves:
who reads them needs no metric of the program that wrote them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from pfgm.metrics.columns import MEASURED
from pfgm.metrics.columns import Column as Column

TYPES: dict[type, pa.DataType] = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
FACTS = b"facts"
"""The key of a field's metadata that holds the facts, JSON."""
OWN = {b"column": b"of an added part"}
"""Metadata of a column that a part outside this package brought: readers keep it though the schema lacks it."""
BUILT_IN = {column.name: column for column in MEASURED}
"""The measured columns of this version, by name."""
PREFIXES = ("", "metric_", "cost_", "diag_")
"""What may stand before the short name of a measured column, in the order in which it is looked for."""


def field_of(column: Column, own: bool = False) -> pa.Field:
    """Return the field of a measured column, with its facts.

    Args:
        column: the column.
        own: it is one of an added part.
    """
    facts = column.facts()
    told = {FACTS: json.dumps(facts, ensure_ascii=False, separators=(",", ":")).encode()} if facts else {}
    return pa.field(column.name, TYPES[column.kind], metadata={**told, **(OWN if own else {})} or None)


def own_fields(schema: pa.Schema) -> list[pa.Field]:
    """Return the columns of a table that an added part brought."""
    return [field for field in schema if field.metadata and OWN.items() <= field.metadata.items()]


def carried_facts(schemas: Iterable[pa.Schema]) -> dict[str, dict[str, Any]]:
    """Return the facts that some tables carry, by column; the first table that has some of a column decides."""
    found: dict[str, dict[str, Any]] = {}
    last: pa.Schema | None = None
    for schema in schemas:
        if last is not None and schema.equals(last, check_metadata=True):
            continue
        last = schema
        for field in schema:
            if field.name not in found and field.metadata and FACTS in field.metadata:
                found[field.name] = json.loads(field.metadata[FACTS])
    return found
