"""A study is planned once, and the row of a cell is made once: between loading and the first training step, and after it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

import pytest
from helpers.folder import Folder

from study.config.study import StudyConfig
from study.host.progress import Progress
from study.plan.cell import Cell, planned_table
from study.plan.designs.design import GrowingDesign
from study.plan.make import make_plan
from study.plan.own_columns import manifest_schema
from study.plan.worklist import Worklist
from study.rows.records import read_table, table

ROW = Cell.to_row


@contextmanager
def counted(*functions: Callable[..., object]) -> Iterator[Counter[str]]:
    """Count the calls of some functions, whichever name they are called by."""
    codes: dict[CodeType, str] = {f.__code__: f.__name__ for f in functions}
    counts = Counter[str](dict.fromkeys(codes.values(), 0))

    def see(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code in codes:
            counts[codes[frame.f_code]] += 1

    before = sys.getprofile()
    sys.setprofile(see)
    try:
        yield counts
    finally:
        sys.setprofile(before)


def test_a_study_is_planned_once_before_its_first_step(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading, the work list before and after the lease, the manifest and the display share one plan."""
    seen: list[Counter[str]] = []

    def stop(config: StudyConfig, work: Worklist, progress: Progress, start: object) -> None:
        seen.append(counts.copy())
        raise KeyboardInterrupt

    folder.write(perturb={"weight_bits": [4]})
    with monkeypatch.context() as patch, counted(make_plan, ROW) as counts:
        patch.setattr("study.driver.run_inline", stop)
        folder.run("--inline", expect=1)
    assert seen == [Counter({"make_plan": 1, "to_row": 0})], "the manifest is made column by column"
    assert counts == seen[0], "counting what is left plans nothing"


def test_a_whole_run_builds_one_row_a_cell(folder: Folder) -> None:
    folder.write()
    with counted(make_plan, ROW) as counts:
        folder.run("--inline")
    assert len(folder.rows()) == 4
    assert counts == {"make_plan": 1, "to_row": 4}


def test_failed_cells_are_measured_again_without_another_plan(folder: Folder) -> None:
    folder.write(train={"steps": 20, "batch_size": 32, "learning_rate": 1e38})
    folder.run("--inline", expect=1)
    with counted(make_plan) as counts:
        folder.run("--inline", "--retry-failed", expect=1)
    assert counts == {"make_plan": 1}


def test_a_dry_run_plans_once_and_builds_no_row(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("study.driver.estimate_line", lambda config, work, n_slots: "")
    folder.write()
    with counted(make_plan, ROW) as counts:
        folder.run("--inline", "--dry-run")
    assert counts == {"make_plan": 1, "to_row": 0}


def test_a_proposal_builds_no_row(folder: Folder) -> None:
    """However many points there are: the cells of each are written down in a file of their own."""
    search = {"train": {"sigma": {"choice": [0.1, 0.2]}}, "sampler": {"steps": {"choice": [4, 6]}}}
    config = folder.load(search=search, design={"name": "tpe", "trials": 4})
    with counted(ROW) as counts:
        work = Worklist(config, make_plan(config))
        while (trial := work.take()) is not None:
            work.give_back(trial.trial_id)
    assert isinstance(work.growing, GrowingDesign)
    assert counts["to_row"] == 0 and len(work.cells) == 4
    work.fold()
    written = read_table(config.folder / "manifest.parquet")
    assert written == table([cell.to_row() for cell in work.cells], manifest_schema()).to_pylist()


def test_cells_are_made_once_a_trial(folder: Folder) -> None:
    for trial in make_plan(folder.load()):
        assert trial.cells is trial.cells and isinstance(trial.cells, tuple)
        for cell in trial.cells:
            row = cell.to_row()
            assert row == cell.to_row()
            identities = (row["cell_id"], row["train_id"], row["point_id"], row["sampler_id"], row["design_point"])
            assert identities == (cell.cell_id, trial.train_id, cell.point_id, cell.sampler_id, cell.declared)


@pytest.mark.parametrize(
    "sections",
    [
        {"seeds": {"train": 2, "sample": 2}, "perturb": {"noise": [0.1], "weight_bits": [4]}},
        {
            "field": {"exact": "empirical"},
            "train": None,
            "network": None,
            "search": {"sampler": {"T_ratio": {"choice": [1, 2]}}},
        },
    ],
    ids=["disturbed", "exact"],
)
def test_the_written_plan_holds_the_rows_of_its_cells(folder: Folder, sections: dict[str, Any]) -> None:
    """Made column by column, it is what the rows of all cells would be."""
    cells = [cell for trial in make_plan(folder.load(**sections)) for cell in trial.cells]
    assert len(cells) > 1
    assert planned_table(cells, manifest_schema()).equals(table([cell.to_row() for cell in cells], manifest_schema()))
    with pytest.raises(KeyError, match="columns not in the row schema: cell_id"):
        planned_table(cells, manifest_schema().remove(manifest_schema().get_field_index("cell_id")))
