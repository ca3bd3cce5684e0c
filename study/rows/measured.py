"""The measured rows of a study as its driver knows them: of each a few columns, read once.

`Measured.refresh` reads the files that it has not seen, and those that were replaced. `Measured.gather` puts files of single
rows into segments. Both may be called from several threads; one waits for the other.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from study.rows.folders import is_of_bundle, is_segment, oldest_first, read_files
from study.rows.segments import SEGMENT_ROWS, batches, gather, newest_bundle
from study.rows.storage import Place, Stamp

logger = logging.getLogger(__name__)
Kept = TypeVar("Kept")
LOOSE = 1_000
"""Files of single rows from which on they are put into segments."""


class Measured(Generic[Kept]):
    """The rows in a study's ``evals/``, as far as they were read.

    Args:
        study: the study's folder.
        columns: what is read of a row, beside ``cell_id``.
        keep: makes of those columns what is kept in memory; None for a row that is to be measured again.

    Attributes:
        rows: by cell what was kept of the row that counts; cells to be measured again are left out.
    """

    def __init__(self, study: Place, columns: Sequence[str], keep: Callable[[Mapping[str, object]], Kept | None]) -> None:
        self.folder, self.columns, self.keep = study / "evals", ["cell_id", *columns], keep
        self.rows: dict[str, Kept] = {}
        self._files: dict[str, dict[str, Kept | None]] = {}
        self._stamps: dict[str, Stamp] = {}
        self._lock = threading.RLock()
        self._bundles = 0

    def next_number(self) -> int:
        """Return the number of the next file with the rows of a bundle: higher than that of any other."""
        with self._lock:
            self._bundles = 1 + max(self._bundles, newest_bundle(self._files))
            return self._bundles

    def refresh(self) -> None:
        """Read what is new. Damaged files are set aside: what they held is measured again."""
        with self._lock:
            stamps, damaged = self.folder.stamps(), list[Place]()
            if self._files.keys() - stamps.keys():
                stamps = self.folder.stamps()  # a listing that is made while files come and go can miss a segment
            new = [name for name in oldest_first(stamps) if self._stamps.get(name) != stamps[name]]
            if not new and self._files.keys() <= stamps.keys():
                return
            self._files = {name: rows for name, rows in self._files.items() if self._stamps.get(name) == stamps.get(name)}
            for name, table in read_files(self.folder, new, damaged, self.columns):
                self._files[name] = {str(row["cell_id"]): self.keep(row) for row in table.to_pylist()}
            for place in damaged:
                logger.warning("%s cannot be read; it is set aside and measured again", place)
                place.set_aside()
            self._stamps = stamps
            self._count()

    def look(self, cells: Iterable[str]) -> None:
        """Read the rows of some cells that have come since; on a directory without a look at the files of all others."""
        if self.folder.remote:
            self.refresh()
            return
        with self._lock:
            names = [f"{cell}.parquet" for cell in cells if cell not in self.rows]
            for _, table in read_files(self.folder, names, [], self.columns):
                for row in table.to_pylist():
                    if (kept := self.keep(row)) is not None:
                        self.rows[str(row["cell_id"])] = kept

    def _count(self) -> None:
        rows: dict[str, Kept | None] = {}
        for name in oldest_first(self._files):
            rows.update(self._files[name])
        self.rows = {cell: row for cell, row in rows.items() if row is not None}

    def tidy(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Leave no row twice, and segments alone where there are any, while no trial runs.

        A study of fewer than `LOOSE` rows keeps a file a row, unless some are files of bundles.

        Raises:
            StorageError: a file cannot be read, written or removed; no row is lost.
        """
        with self._lock:
            self.refresh()
            if self.untidy:
                gather(self.folder, self._to_tidy(), self._sources(), stopped)
                self.refresh()

    @property
    def untidy(self) -> bool:
        """Whether `tidy` has something to do."""
        return bool(self._to_tidy())

    def _to_tidy(self) -> list[str]:
        loose = self._loose(())
        segments = [name for name in self._files if is_segment(name)]
        if not segments and len(loose) < LOOSE and not any(is_of_bundle(name) for name in loose):
            return []
        rows = Counter(self._sources().values())
        stale = [name for name in segments if rows[name] < len(self._files[name])]
        some = [name for name in segments if rows[name] < SEGMENT_ROWS]
        merge = len(list(batches({name: rows[name] for name in some}))) < len(some)
        return list(dict.fromkeys([*stale, *some, *loose])) if loose or stale or merge else []

    def gather(self, in_use: Callable[[], set[str]], stopped: Callable[[], bool] = lambda: False) -> None:
        """Put files of single rows into segments, together with segments that are not full; nothing below `LOOSE` files.

        Args:
            in_use: cells of running trials, whose workers may still look at their rows.
            stopped: asked on the way.
        Raises:
            StorageError: a file cannot be read, written or removed; no row is lost.
        """
        with self._lock:
            if sum(not is_segment(name) for name in oldest_first(self.folder.files())) < LOOSE:
                return
            self.refresh()
            if len(loose := self._loose(in_use())) >= LOOSE:
                few = [name for name, rows in self._files.items() if is_segment(name) and len(rows) < SEGMENT_ROWS]
                gather(self.folder, [*few, *loose], self._sources(), stopped)
                self.refresh()

    def drop(self, cells: Collection[str]) -> None:
        """Forget all rows of some cells, so that they are measured again, while no trial runs; errors as `tidy`."""
        with self._lock:
            self.refresh()
            dropped, sources = set(cells), self._sources()
            names = [name for name, rows in self._files.items() if not dropped.isdisjoint(rows)]
            whole = [name for name in names if dropped.issuperset(self._files[name])]
            self.folder.delete_all(whole)
            kept = {cell: name for cell, name in sources.items() if cell not in dropped}
            gather(self.folder, set(names) - set(whole), kept)
            self.refresh()

    def _sources(self) -> dict[str, str]:
        """Return, by cell, the file whose row of it counts."""
        return {cell: name for name in oldest_first(self._files) for cell in self._files[name]}

    def _loose(self, in_use: Collection[str]) -> list[str]:
        """Return the files outside segments that nobody writes again: rows that are final, of cells not in use."""
        counts = self._sources()
        return [
            name
            for name, rows in self._files.items()
            if not is_segment(name)
            and all(counts[cell] != name or (row is not None and cell not in in_use) for cell, row in rows.items())
        ]
