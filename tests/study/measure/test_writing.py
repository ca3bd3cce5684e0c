"""Rows of several fields wait for each other, but not long, and never behind an older row of their cell."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.folder import Folder

from study.measure.outcomes import write_row
from study.measure.writing import RowWriter
from study.plan.make import make_plan


def names() -> list[str]:
    return sorted(path.name.rpartition("-")[0] or "single" for path in Path("results/tiny/evals").glob("*"))


def test_rows_wait_for_the_end_or_for_their_time(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    config = folder.load(limits={"checkpoint_seconds": 30.0})
    cells = [cell for trial in make_plan(config) for cell in trial.cells]
    now = 100.0
    monkeypatch.setattr("study.measure.writing.time.monotonic", lambda: now)
    writer = RowWriter(config, 7)
    for cell in cells[:2]:
        writer.write({**cell.to_row(), "status": "failed"})
    assert not Path("results/tiny/evals").exists() and [writer.has(cell) for cell in cells] == [True, True, False, False]
    now += 31.0
    writer.write({**cells[2].to_row(), "status": "failed"})
    assert names() == ["bundle-00000007-3"]
    writer.flush()
    writer.begin()
    now += 31.0
    writer.write({**cells[3].to_row(), "status": "failed"})
    assert names() == ["bundle-00000007-1", "bundle-00000007-3"], "it took that long, and is written at once"
    assert len(folder.rows()) == 4


def test_a_row_takes_the_place_of_an_older_one_in_its_file(folder: Folder) -> None:
    """A file of one row is newer than any other, so the new row must not stand in another."""
    config = folder.load()
    cells = [cell for trial in make_plan(config) for cell in trial.cells]
    write_row(config, {**cells[0].to_row(), "status": "failed", "error": "old"})
    writer = RowWriter(config, 1)
    for cell in cells[:2]:
        writer.write({**cell.to_row(), "status": "failed", "error": "new"})
    writer.flush()
    assert names() == ["bundle-00000001-1", "single"] and {row["error"] for row in folder.rows().values()} == {"new"}


def test_without_a_number_every_row_has_its_file_at_once(folder: Folder) -> None:
    config = folder.load()
    (cell, *_) = make_plan(config)[0].cells
    RowWriter(config).write({**cell.to_row(), "status": "failed"})
    assert [path.name for path in Path("results/tiny/evals").iterdir()] == [f"{cell.cell_id}.parquet"]
