"""A study is planned once, and the row of a cell is made for the manifest and for its measurement alone."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType

import pytest
from helpers.folder import Folder

from study.config.study import StudyConfig
from study.host.progress import Progress
from study.plan.cell import Cell
from study.plan.designs.design import GrowingDesign
from study.plan.make import make_plan
from study.plan.worklist import Worklist

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
    n_cells = 2 * (2 + 1)  # two fields at two sampler points, and the default one of each disturbed
    assert seen == [Counter({"make_plan": 1, "to_row": n_cells})]
    assert counts == seen[0], "counting what is left plans nothing"


def test_a_whole_run_makes_the_row_of_a_cell_for_the_plan_and_for_its_measurement(folder: Folder) -> None:
    folder.write()
    with counted(make_plan, ROW) as counts:
        folder.run("--inline")
    assert len(folder.rows()) == 4
    assert counts == {"make_plan": 1, "to_row": 2 * 4}


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


def test_a_proposal_makes_the_rows_of_its_own_cells_alone(folder: Folder) -> None:
    """However many points there are: each is written down in a file of its own."""
    search = {"train": {"sigma": {"choice": [0.1, 0.2]}}, "sampler": {"steps": {"choice": [4, 6]}}}
    config = folder.load(search=search, design={"name": "tpe", "trials": 4})
    with counted(ROW) as counts:
        work = Worklist(config, make_plan(config))
        while (trial := work.take()) is not None:
            work.give_back(trial.trial_id)
    assert isinstance(work.growing, GrowingDesign)
    assert counts["to_row"] == len(work.cells) == 4


def test_cells_are_made_once_a_trial(folder: Folder) -> None:
    for trial in make_plan(folder.load()):
        assert trial.cells is trial.cells and isinstance(trial.cells, tuple)
        for cell in trial.cells:
            row = cell.to_row()
            identities = (row["cell_id"], row["train_id"], row["point_id"], row["sampler_id"], row["design_point"])
            assert identities == (cell.cell_id, trial.train_id, cell.point_id, cell.sampler_id, cell.declared)
