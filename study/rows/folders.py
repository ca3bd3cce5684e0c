"""A folder of Parquet files read as one, while the driver may be replacing files in it.

``evals/`` holds files of one row, files of a bundle's rows, and segments of many (`study.rows.segments`). Of two rows of one
cell the newer counts: a segment is older than any other file, a file of one row is newer than any other, and of two segments,
or two files of bundles, the one with the lower number is older. Readers therefore take files from the oldest to the newest,
and the last row of a cell is the one that counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from study.rows.records import DamagedFile, Where, parse
from study.rows.storage import Place

SEGMENT = "segment-"
"""How the name of a file begins that the driver made of others."""
BUNDLE = "bundle-"
"""How the name of a file begins in which a worker put the rows of several fields."""
AT_ONCE = 500
"""Files whose contents are in memory at the same time."""
LOOKS = 20
"""How often a folder is looked at again because files in it were replaced."""


def is_segment(name: str) -> bool:
    """Tell whether a file is one that the driver made of others."""
    return name.startswith(SEGMENT)


def is_of_bundle(name: str) -> bool:
    """Tell whether a file holds the rows of several fields, as a worker wrote them."""
    return name.startswith(BUNDLE)


def _age(name: str) -> tuple[bool, bool, str]:
    return not is_segment(name), not is_of_bundle(name), name


def oldest_first(names: Iterable[str]) -> list[str]:
    """Return names of Parquet files, those first whose rows are older."""
    return sorted((name for name in names if name.endswith(".parquet")), key=_age)


def read_files(
    folder: Place, names: Sequence[str], damaged: list[Place] | None = None, columns: Sequence[str] | None = None
) -> Iterator[tuple[str, pa.Table]]:
    """Yield name and table of some files; one that is gone is left out.

    Args:
        damaged: takes the files that cannot be read; without it the first one is an error.
        columns: those to read, where a file has them; None reads all.
    Raises:
        DamagedFile: a file cannot be read.
    """
    for start in range(0, len(names), AT_ONCE):
        some = names[start : start + AT_ONCE]
        for name, content in zip(some, folder.read_all(some), strict=True):
            if content is None:
                continue
            try:
                yield name, parse(content, folder / name, columns)
            except DamagedFile:
                if damaged is None:
                    raise
                damaged.append(folder / name)


def read_folder(where: Where, damaged: list[Place] | None = None, columns: Sequence[str] | None = None) -> list[pa.Table]:
    """Every Parquet file of a folder, those first whose rows are older; as `read_files`.

    A file is removed after the segment that holds its rows is there. So the folder is looked at again until no new segment
    has come; what was read is not read again.
    """
    folder, seen = Place.of(where), set[str]()
    segments: dict[str, pa.Table] = {}
    others: list[pa.Table] = []
    for look in range(LOOKS):
        names = [name for name in oldest_first(folder.files()) if name not in seen]
        new = [name for name in names if is_segment(name)]
        if look and not new:
            break
        seen.update(names)
        segments.update(read_files(folder, new, damaged, columns))
        others += gathered(table for _, table in read_files(folder, names[len(new) :], damaged, columns))
    return [*(segments[name] for name in sorted(segments)), *others]


def gathered(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield tables with those that follow each other and have the same columns put together: small ones take much memory."""
    waiting: list[pa.Table] = []
    for table in tables:
        if waiting and (len(waiting) == AT_ONCE or not waiting[0].schema.equals(table.schema, check_metadata=True)):
            yield pa.concat_tables(waiting).combine_chunks()
            waiting = []
        waiting.append(table)
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


def read_evals(
    study: Where, damaged: list[Place] | None = None, columns: Sequence[str] | None = None
) -> list[dict[str, object]]:
    """All measured rows of a study, from the oldest to the newest; of two of one cell the last counts; as `read_files`."""
    return [row for rows in read_folder(Place.of(study) / "evals", damaged, columns) for row in rows.to_pylist()]
