"""Where a worker's rows go: into a file each, the moment they are measured, or together into one file for several fields.

A file of one row takes 5 ms to write and as much to gather; trials that take next to nothing would do little else. So the
rows of fields that were handed out together wait for each other, as long as they come within `limits.checkpoint_seconds`: that
is what a killed worker may have to do again. A row that took longer is written at once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from study.config.study import StudyConfig
from study.measure.outcomes import is_measured, row_path, write_row
from study.measure.provenance import provenance
from study.plan.cell import Cell
from study.plan.own_columns import evals_schema
from study.rows.records import write_table
from study.rows.segments import name_of_bundle


class RowWriter:
    """The rows of one hand-out.

    Args:
        config: the study.
        number: of the file for several fields (`study.rows.measured.Measured.next_number`); None for a file a row.
    """

    def __init__(self, config: StudyConfig, number: int | None = None) -> None:
        self.config, self.number = config, number
        self.waiting: list[Mapping[str, object]] = []
        self.done = set[str]()
        """Cells whose rows were taken, written or waiting."""
        self.begin()

    def begin(self) -> None:
        """Measuring begins, or goes on with no row that waits."""
        self._since = time.monotonic()

    def write(self, row: Mapping[str, object]) -> None:
        """Take one cell's row.

        A row that takes the place of another, in a file of its own, is written there: such a file is newer than any other.

        Raises:
            StorageError: it cannot be written.
        """
        cell_id = str(row["cell_id"])
        self.done.add(cell_id)
        if self.number is None or row_path(self.config, cell_id).is_file():
            write_row(self.config, row)
            return
        self.waiting.append({**row, **provenance(self.config)})
        if time.monotonic() - self._since > self.config.limits.checkpoint_seconds:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait; errors as `write`."""
        if self.waiting and self.number is not None:
            name = name_of_bundle(self.number, len(self.waiting))
            write_table(self.config.folder / "evals" / name, self.waiting, evals_schema())
            self.waiting = []
            self.begin()

    def has(self, cell: Cell) -> bool:
        """Return whether a cell has its row: of this worker, or of a process of this trial that was killed."""
        return cell.cell_id in self.done or is_measured(self.config, cell)
