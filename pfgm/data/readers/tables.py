"""Tables of numbers as vectors, a row a point: .csv, .tsv (also .gz) and Parquet.

The first line of a text is its header where anything in it is no number. A semicolon separates where there is no comma outside
numbers, and a decimal comma is understood then. Every column must be of numbers, without a gap: what to do about the others is
for whoever knows them, so they are named, with the line where the first one is.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from pfgm.data.errors import DataError
from pfgm.data.items import Items
from pfgm.data.labels import Labels

TEXTS = {".csv": ",", ".tsv": "\t"}
"""Suffix → what separates columns."""
MISSING = {"", "#n/a", "n/a", "na", "nan", "null", "none", "-nan"}
NAMED = 4
"""Columns that a message names before it counts the rest."""
EXACT = 2**53
"""Largest whole number up to which float64 has all of them."""


def is_table(path: Path) -> bool:
    """Return whether a file is a table, by its suffix."""
    return path.suffix.lower() == ".parquet" or _text_suffix(path) is not None


def _text_suffix(path: Path) -> str | None:
    name = path.name.lower().removesuffix(".gz")
    return next((suffix for suffix in TEXTS if name.endswith(suffix)), None)


def read_table(path: Path, labels: str | None = None) -> Items:
    """The rows of a table, (N, d) float64.

    Args:
        labels: the column that names the class of each row, and is no coordinate.
    Raises:
        DataError: a column that is not of numbers, or lacks some; no such column of classes; or no readable table.
    """
    try:
        if _text_suffix(path) is None:
            table, first_line, what = _parquet(path), 1, "row"
        else:
            table, first_line = _text(path)
            what = "line"
    except (pa.ArrowException, OSError, UnicodeError) as error:
        words = " ".join(str(error).split())[:200]
        raise DataError("data.path", f"{path} is not a readable table ({words}); write it again, as UTF-8") from error
    classes = None
    if labels is not None:
        if labels not in table.column_names:
            raise DataError("data.labels", f"no column {labels!r} in {path}; it has {', '.join(table.column_names[:8])}")
        classes = Labels.of(np.array(table.column(labels).to_pylist(), dtype=object), table.num_rows)
        table = table.drop_columns([labels])
    names = tuple(table.column_names)
    if not table.num_rows or not names:
        raise DataError("data.path", f"{path} has {table.num_rows} rows of {len(names)} columns; give a table with numbers")
    _refuse(path, "no numbers", [_no_number(table, k, first_line, what) for k in range(len(names))], _cure_of_words)
    values = np.empty((table.num_rows, len(names)))
    for k in range(len(names)):
        values[:, k] = table.column(k).cast(pa.float64(), safe=False).to_numpy()  # a gap becomes NaN
    _refuse(path, "gaps", [_gap(values[:, k], name, first_line, what) for k, name in enumerate(names)], _cure_of_gaps)
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    notes = tuple(_notes(values, names, path))
    return Items(values, how=f"{len(values)} rows, columns {shown}", columns=names, notes=notes, labels=classes)


def _text(path: Path) -> tuple[pa.Table, int]:
    """(the table, the line of its first row)."""
    with pa.input_stream(str(path), compression="detect") as stream:
        head = stream.read(1 << 16)
    text = head.decode("utf-8-sig") if len(head) < 1 << 16 else head.decode("utf-8-sig", "ignore")
    first, second = [*text.splitlines()[:2], "", ""][:2]
    separator = TEXTS[str(_text_suffix(path))]
    comma = False
    if separator == "," and ";" in first and (";" in second or not second):
        separator, comma = ";", "," in text and "." not in "".join(text.splitlines()[1:])
    names = [name.strip().lstrip("#").strip() for name in next(csv.reader(io.StringIO(first), delimiter=separator), [])]
    header = any(not _is_number(name, comma) and name.lower() not in MISSING for name in names) or _counts(names)
    if header and names and not names[0] and len(names) > 1:
        raise DataError(
            "data.path",
            f"the first column of {path} has no name, as pandas writes its index; write the table again with"
            " index=False, or name the column",
        )
    twice = sorted({name for name in names if header and names.count(name) > 1})
    if twice:
        raise DataError("data.path", f"{path} has several columns {twice[0]!r}; give each a name of its own")
    shown = names if header else [str(k) for k in range(len(names))]
    table = pa_csv.read_csv(
        str(path),
        read_options=pa_csv.ReadOptions(column_names=shown, skip_rows=int(header)),
        parse_options=pa_csv.ParseOptions(delimiter=separator),
        convert_options=pa_csv.ConvertOptions(decimal_point="," if comma else "."),
    )
    return table, 1 + header


def _is_number(text: str, comma: bool) -> bool:
    try:
        float(text.replace(",", ".") if comma else text)
    except ValueError:
        return False
    return True


def _counts(names: Sequence[str]) -> bool:
    """Return whether a first line is 0, 1, 2, …: pandas' names of columns that have none."""
    named = names[1:] if names and not names[0] else names
    return len(named) > 1 and list(named) == [str(k) for k in range(len(named))]


def _parquet(path: Path) -> pa.Table:
    """The table without pandas' index; a column of lists of one length as columns of their own."""
    table = pq.read_table(path)
    told = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}"))
    index = [name for name in told.get("index_columns", []) if isinstance(name, str) and name in table.column_names]
    table = table.drop_columns(index)
    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        kind = column.type
        if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            columns |= _of_lists(column, name, path)
        elif pa.types.is_dictionary(kind):
            columns[name] = column.cast(kind.value_type)
        else:
            columns[name] = column
    return pa.table(columns)


def _of_lists(column: pa.Array, name: str, path: Path) -> dict[str, pa.Array]:
    rows = column.to_pylist()
    lengths = {len(row) if row is not None else 0 for row in rows}
    if len(lengths) != 1 or lengths == {0}:
        raise DataError(
            "data.path", f"column {name!r} of {path} has lists of several lengths, or none; bring all to one length"
        )
    return {f"{name}[{k}]": pa.array([row[k] for row in rows]) for k in range(lengths.pop())}


def _no_number(table: pa.Table, k: int, first_line: int, what: str) -> tuple[str, str] | None:
    """(a column that is not of numbers, in words; its kind)."""
    name, kind = table.column_names[k], table.schema.field(k).type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
        return None
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_struct(kind):
        return f"{name!r} ({'pictures, or other bytes' if not pa.types.is_struct(kind) else 'a structure'})", "bytes"
    if pa.types.is_temporal(kind):
        return f"{name!r} (dates or times)", "times"
    if pa.types.is_boolean(kind):
        return f"{name!r} (true and false)", "truth"
    values = table.column(k).to_pylist()
    bad = [i for i, value in enumerate(values) if value is not None and not _is_number(str(value), False)]
    example = f"{str(values[bad[0]])[:20]!r} in {what} {bad[0] + first_line}" if bad else "text"
    return f"{name!r} ({len(bad)} of {len(values)} values are words: {example})", "words"


def _cure_of_words(kinds: set[str]) -> str:
    cures = {
        "words": "words: a column of 0 and 1 for each value",
        "times": "times: seconds",
        "truth": "true and false: 1 and 0",
        "bytes": "pictures: use name: parquet",
    }
    return "remove the column, or write numbers in their place (" + "; ".join(cures[k] for k in sorted(kinds)) + ")"


def _gap(values: np.ndarray, name: str, first_line: int, what: str) -> tuple[str, str] | None:
    """(a column with gaps or infinities, in words; "")."""
    bad = np.flatnonzero(~np.isfinite(values))
    if not len(bad):
        return None
    return f"{name!r} lacks {len(bad)} of {len(values)} values (the first in {what} {bad[0] + first_line})", ""


def _cure_of_gaps(kinds: set[str]) -> str:
    return "remove those rows or the column, or fill them in, for example with the median"


def _refuse(path: Path, what: str, found: Sequence[tuple[str, str] | None], cure: Any) -> None:
    bad = [entry for entry in found if entry is not None]
    if bad:
        more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        shown = ", ".join(text for text, _ in bad[:NAMED])
        raise DataError("data.path", f"{path} has columns with {what}: {shown}{more}; {cure({kind for _, kind in bad})}")


def _notes(values: np.ndarray, names: Sequence[str], path: Path) -> list[str]:
    notes = []
    counting = [name for k, name in enumerate(names) if _is_counter(values[:, k])]
    if counting:
        notes.append(f"column {counting[0]!r} of {path} counts the rows; remove it where it is no measurement")
    large = [name for k, name in enumerate(names) if np.abs(values[:, k]).max() > EXACT and math.isfinite(values[0, k])]
    if large:
        notes.append(f"column {large[0]!r} of {path} reaches more than 2^53, where whole numbers have no neighbours any more")
    return notes


def _is_counter(column: np.ndarray) -> bool:
    return len(column) > 2 and column[0] in (0, 1) and bool((np.diff(column) == 1).all())
