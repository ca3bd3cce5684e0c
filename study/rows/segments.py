"""Segments: files of ``evals/`` that hold the rows of many cells.

A measured row is a file of its own first: 26 KB, most of it the description of its columns, and 3 ms to read. The rows of
fields that were trained together are one file, which the worker names by a number that the driver gave it. The driver, which
holds the study's lease, puts a thousand of them at a time into segments of up to ten thousand rows. A segment is written whole
and read back before the files that it replaces are removed. So no row is ever without a file. A kill in between leaves rows
twice, and `study.rows.folders` says which one counts.

The name of a segment is its number, the rows in it, and a random word: no segment ever takes the place of another. Numbers
grow: a higher one is newer.
"""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import pyarrow as pa

from study.rows.folders import gathered, is_segment, read_files
from study.rows.records import MANY, parse, write_arrow
from study.rows.storage import Place, StorageError

SEGMENT_ROWS = 10_000
"""Rows of a full segment."""
NAME = re.compile(r"segment-(\d{8})-(\d+)-[0-9a-f]{12}\.parquet")
OF_BUNDLE = re.compile(r"bundle-(\d{8})-(\d+)-[0-9a-f]{12}\.parquet")
ORDER = ("train_id", "sampler_id", "perturb_kind", "perturb_level", "seed_sample")
"""How the rows of a segment are sorted: neighbours with equal values take little room."""


def name_of_bundle(number: int, rows: int) -> str:
    """Return the name of a file with the rows of several fields; a higher ``number`` is newer."""
    return f"bundle-{number:08d}-{rows}-{uuid.uuid4().hex[:12]}.parquet"


def newest_bundle(names: Iterable[str]) -> int:
    """Return the highest number of such files; 0 where there are none."""
    return max((int(found.group(1)) for name in names if (found := OF_BUNDLE.fullmatch(name))), default=0)


def gather(folder: Place, names: Iterable[str], counts: Mapping[str, str], stopped: Callable[[], bool] = lambda: False) -> None:
    """Put the rows of some files into segments, and remove the files.

    Args:
        folder: the study's ``evals/``.
        names: the files to replace.
        counts: by cell, the name of the file whose row of it counts; other rows of the cell are left out. A cell that is not
            named is left out too.
        stopped: asked between two segments.
    Raises:
        StorageError: a file cannot be read, written or removed; no row is lost.
    """
    number = 1 + max((int(found.group(1)) for name in folder.files() if (found := NAME.fullmatch(name))), default=0)
    rows = Counter(counts.values())
    for i, some in enumerate(batches({name: rows[name] for name in names})):
        if stopped():
            return
        _replace(folder, some, counts, number + i)


def batches(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Yield names of files that make a segment together, segments before the files of single rows.

    Args:
        sizes: by name, the rows of a file that count.
    """
    batch: list[str] = []
    rows = 0
    for name in sorted(sizes, key=lambda name: (not is_segment(name), name)):
        if batch and rows + sizes[name] > SEGMENT_ROWS:
            yield batch
            batch, rows = [], 0
        batch.append(name)
        rows += sizes[name]
    if batch:
        yield batch


def _replace(folder: Place, names: Sequence[str], counts: Mapping[str, str], number: int) -> None:
    files = _Files(folder, names, counts)
    tables = [table for table in gathered(files.tables()) if table.num_rows]
    if len(names) == 1 and is_segment(names[0]) and not files.left_out:
        return  # it would become what it is
    if tables:
        publish(folder, pa.concat_tables([_with_all(table, files.schema) for table in tables]).combine_chunks(), number)
    folder.delete_all(files.read)


class _Files:
    """Some files on their way into a segment: the rows that count, the columns of all, and the names of what was read."""

    def __init__(self, folder: Place, names: Sequence[str], counts: Mapping[str, str]) -> None:
        self.folder, self.names, self.counts = folder, names, counts
        self.schema, self.read, self.left_out = pa.schema([]), list[str](), False

    def tables(self) -> Iterator[pa.Table]:
        """Yield the rows that count. A file that is damaged, or has a column of another type, stays where it is."""
        last: pa.Schema | None = None
        for name, table in read_files(self.folder, self.names, []):
            if last is None or not table.schema.equals(last, check_metadata=True):
                merged = _merged(self.schema, table.schema)
                if merged is None:
                    continue
                self.schema, last = merged, table.schema
            counted = [self.counts.get(cell) == name for cell in table["cell_id"].to_pylist()]
            self.read.append(name)
            self.left_out |= not all(counted)
            yield table if all(counted) else table.filter(pa.array(counted, pa.bool_()))


def publish(folder: Place, rows: pa.Table, number: int) -> None:
    """Write a segment, and make sure that it can be read.

    Raises:
        StorageError: it cannot be written, or is not what was written.
    """
    rows = rows.sort_by([(name, "ascending") for name in ORDER if name in rows.column_names])
    place = folder / f"segment-{number:08d}-{rows.num_rows}-{uuid.uuid4().hex[:12]}.parquet"
    content = write_arrow(place, rows, **MANY)
    if place.read() != content or parse(content, place, ["cell_id"]).num_rows != rows.num_rows:
        raise StorageError(f"{place} is not what was written; its rows stay where they were")


def _merged(schema: pa.Schema, other: pa.Schema) -> pa.Schema | None:
    """Return the columns of both, what one says of a column with it; None where they do not agree on a type."""
    fields = {field.name: field for field in schema}
    for field in other:
        known = fields.get(field.name)
        if known is not None and known.type != field.type:
            return None
        if known is None or (field.metadata and not known.metadata):
            fields[field.name] = field
    return pa.schema(fields.values())


def _with_all(table: pa.Table, schema: pa.Schema) -> pa.Table:
    there = set(table.column_names)
    return pa.table([table[f.name] if f.name in there else pa.nulls(table.num_rows, f.type) for f in schema], schema=schema)
