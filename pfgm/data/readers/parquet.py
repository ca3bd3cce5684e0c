"""Pictures in Parquet, as on the Hugging Face Hub: a column of {bytes, path} structs, or of bytes.

A folder may hold the splits side by side, as the Hub names them: ``train-…`` files are trained on, ``test-…`` (or else
``validation-…``) are the test split; a folder without ``train-…`` files is one data set.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pfgm.config import DataConfig
from pfgm.data.errors import DataError
from pfgm.data.items import PICTURE_KEYS, Items, Reader
from pfgm.data.labels import Labels
from pfgm.data.pictures.cache import cached
from pfgm.data.pictures.gallery import Picture, decoded
from pfgm.data.pictures.picture import BadPicture

ROWS = 256
"""Rows that are read at a time."""


def read_parquet(config: DataConfig) -> Items:
    """Pictures of a column, (N, C, H, W) uint8, in the order of the files' names and of their rows."""
    if config.path is None:
        raise DataError("data.path", "parquet needs a file or a folder of .parquet files, e.g. path: train.parquet")
    path = Path(config.path).expanduser()
    train, test = _splits(path)
    classes = _classes(train, config.labels)
    values, how = _pictures(train, config)
    if not test:
        return Items(values, how=how, labels=None if classes is None else Labels.of(classes, len(values)))
    test_values, _ = _pictures(test, config)
    if test_values.shape[1:] != values.shape[1:]:
        raise DataError(
            "data.path",
            f"in {path} the test pictures have shape {test_values.shape[1:]}, those to train on {values.shape[1:]};"
            " say size and channels",
        )
    labels = None if classes is None else Labels.of(classes, len(values), _classes(test, config.labels))
    return Items(values, test_values, how, labels=labels)


def _classes(files: Sequence[Path], column: str | None) -> np.ndarray | None:
    """What a column says of each row of the files; None where none is named."""
    if column is None:
        return None
    found: list[object] = []
    for path in files:
        try:
            if column not in (names := pq.read_schema(path).names):
                raise DataError("data.labels", f"no column {column} in {path}; it has {', '.join(names)}, write one of these")
            found += pq.read_table(path, columns=[column]).column(0).to_pylist()
        except (pa.ArrowException, OSError) as error:
            words = " ".join(str(error).split())[:200]
            raise DataError("data.path", f"{path} is not a readable Parquet file ({words}); get it again") from error
    return np.array(found, dtype=object)


def _splits(path: Path) -> tuple[list[Path], list[Path]]:
    """(files to train on, files of the test split)."""
    if path.is_file():
        return [path], []
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else []
    if not files:
        raise DataError("data.path", f"no .parquet file at {path}; give the file, or the folder of the files")
    by_split = {name: [f for f in files if f.name.startswith(name)] for name in ("train", "test", "validation")}
    if not by_split["train"]:
        return files, []
    return by_split["train"], by_split["test"] or by_split["validation"]


def _pictures(files: Sequence[Path], config: DataConfig) -> tuple[np.ndarray, str]:
    column = config.column or "image"
    facts = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    options = (column, config.size, config.crop, config.channels)
    return cached(("parquet", facts, options), lambda: decoded(lambda: _rows(files, column), config))


def _rows(files: Sequence[Path], column: str) -> Iterator[Picture]:
    for path in files:
        try:
            with pq.ParquetFile(path) as file:
                _check_column(file.schema_arrow, column, path)
                row = 0
                for batch in file.iter_batches(ROWS, columns=[column]):
                    for value in batch.column(0).to_pylist():
                        yield f"{path.name} row {row}", functools.partial(_open_value, value)
                        row += 1
        except (pa.ArrowException, OSError) as error:
            words = " ".join(str(error).split())[:200]
            raise DataError("data.path", f"{path} is not a readable Parquet file ({words}); get it again") from error


def _holders(schema: pa.Schema) -> list[str]:
    """Columns that may hold pictures: bytes, or structs with bytes."""

    def holds_bytes(kind: pa.DataType) -> bool:
        if pa.types.is_struct(kind):
            return any(f.name == "bytes" and holds_bytes(f.type) for f in kind)
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    return [field.name for field in schema if holds_bytes(field.type)]


def has_pictures(path: Path) -> bool:
    """Return whether a Parquet file has a column that may hold pictures; one that cannot be read is left to its reader."""
    try:
        return bool(_holders(pq.read_schema(path)))
    except (pa.ArrowException, OSError):
        return True


def _check_column(schema: pa.Schema, column: str, path: Path) -> None:
    able = _holders(schema)
    if column not in able:
        what = f"is {schema.field(column).type}" if column in schema.names else "is not there"
        others = f"say column: {' or '.join(able)}" if able else "no column holds pictures as bytes"
        numbers = "" if able else "; for a table of numbers use name: vectors"
        raise DataError("data.column", f"{column} {what} in {path}; {others}{numbers}")


def _open_value(value: bytes | dict[str, object] | None) -> BinaryIO:
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes):
        where = value.get("path") if isinstance(value, dict) else None
        raise BadPicture(f"no bytes, only the path {where!r}" if where else "null")
    return io.BytesIO(content)


PARQUET = Reader(read_parquet, PICTURE_KEYS | {"column", "labels"})
