"""Columns of the keys and metrics that the row schema does not know: those of parts that were added to a registry."""

from __future__ import annotations

from types import NoneType
from typing import Any, get_args

import pyarrow as pa

from pfgm.metrics.columns import all_columns
from pfgm.registry import HEADS, NETWORKS, PROCESSES
from study.rows.facts import OWN, TYPES, field_of
from study.rows.records import COLUMNS, EVALS, MANIFEST


def manifest_schema() -> pa.Schema:
    """Return the schema of a manifest: that of `study.rows.records`, and the keys of added parts."""
    return pa.schema([*MANIFEST, *_keys()])


def evals_schema() -> pa.Schema:
    """Return the schema of a measured row: that of `study.rows.records`, and the keys and metrics of added parts."""
    measured = [field_of(column, own=True) for name, column in all_columns().items() if name not in COLUMNS]
    return pa.schema([*EVALS, *_keys(), *measured])


def _keys() -> list[pa.Field]:
    found: dict[str, pa.DataType] = {}
    for section, kinds in (("train", PROCESSES), ("network", NETWORKS), ("network", HEADS)):
        for _, kind in kinds.items():
            for key, field in kind.Keys.model_fields.items():
                found[f"{section}_{key}"] = TYPES.get(_scalar(field.annotation), pa.string())
    return [pa.field(name, kind, metadata=OWN) for name, kind in found.items() if name not in COLUMNS]


def _scalar(annotation: Any) -> type:
    """Return the type of a key; a number where it may also be a word."""
    parts = [_scalar(part) for part in get_args(annotation) if part is not NoneType and not isinstance(part, str)]
    return parts[0] if parts else annotation if isinstance(annotation, type) else str
