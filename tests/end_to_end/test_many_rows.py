"""Studies whose rows are gathered into segments as they come: what they measure and tell is what it would be without."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.folder import Folder, same_rows
from helpers.processes import FOUR
from helpers.s3_server import s3_server

from analysis import load_study
from study.config.study import StudyConfig
from study.host import gathering
from study.measure.trial import run_trial
from study.plan.make import make_plan
from study.plan.worklist import Worklist
from study.rows import measured, segments
from study.rows.folders import is_segment, read_evals
from study.rows.storage import Place
from study.status import status


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    with s3_server():
        yield


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of four rows, from three files on, looked for all the time."""
    monkeypatch.setattr(measured, "LOOSE", 3)
    for module in (measured, segments):
        monkeypatch.setattr(module, "SEGMENT_ROWS", 4)
    monkeypatch.setattr(gathering, "LOOK_S", {False: 0.05, True: 0.05})


def one_row_a_cell(study: Place, n: int) -> None:
    """Fail unless a study has so many rows, each once, in segments alone."""
    rows, names = read_evals(study), (study / "evals").files()
    assert len(rows) == len({row["cell_id"] for row in rows}) == n, names
    assert all(is_segment(name) for name in names) and len(names) <= -(-n // 4) + 1
    frame = load_study(study)
    assert len(frame) == n and "duplicate row" not in frame.attrs["skipped"]


@pytest.mark.parametrize("storage", ["results", "s3://bucket/results"])
def test_gathering_changes_no_row(folder: Folder, storage: str, server: None, request: pytest.FixtureRequest) -> None:
    """Measured, continued after the end, extended by a metric, whose rows are measured again: as without segments."""
    more = ("--set", "evaluate.metrics=[fid, sliced_wasserstein, precision_recall]", "--set", "seeds.sample=2")
    folder.write(search=FOUR)
    folder.run("--inline", "--set", "storage=plain")
    first = folder.rows(storage="plain")
    folder.run("--inline", "--set", "storage=plain", *more)
    request.getfixturevalue("small")
    there = ("--inline", "--set", f"storage={storage}")
    study = Place.of(storage) / "tiny"
    folder.run(*there)
    one_row_a_cell(study, 8)
    same_rows({str(row["cell_id"]): row for row in read_evals(study)}, first)
    before = (study / "evals").stamps()
    out, _ = folder.run(*there)
    assert "finished, nothing to do" in out and (study / "evals").stamps() == before
    out, _ = folder.run(*there, *more)
    assert "8 different, 8 already trained" not in out and "16 planned, 0 measured" in out
    one_row_a_cell(study, 16)
    same_rows({str(row["cell_id"]): row for row in read_evals(study)}, folder.rows(storage="plain"))
    assert "16 of 16 rows, 16 complete" in status(study)[0]


def test_rows_that_failed_are_measured_again_out_of_a_segment(folder: Folder, small: None) -> None:
    folder.write(train={"steps": 500, "batch_size": 32}, search={"sampler": {"steps": {"choice": [4, 5, 6, 7, 8]}}})
    folder.run("--inline", "--set", "limits.trial_minutes=0.005", expect=1)
    study = Place.of("results/tiny")
    assert {row["status"] for row in read_evals(study)} == {"timeout"}
    one_row_a_cell(study, 5)
    folder.run("--inline", "--retry-failed")
    assert {row["status"] for row in read_evals(study)} == {"complete"}
    one_row_a_cell(study, 5)


def test_a_worker_that_outlives_its_driver_spoils_no_row_in_a_segment(folder: Folder, small: None) -> None:
    """It has no file any more for what it measured, and runs out of time: it writes nothing over that."""
    config = folder.load()
    folder.run("--inline")
    before = folder.rows()
    late: StudyConfig = replace(config, limits=config.limits.model_copy(update={"trial_minutes": 1e-9}))
    said: list[Any] = []
    for trial in make_plan(config):
        run_trial(late, trial, [c.cell_id for c in trial.cells], said.append)
    assert [word["bad"] for word in said if word["phase"] == "done"] == [0, 0]
    assert folder.rows() == before and len(read_evals("results/tiny")) == 4


def test_a_trial_that_is_tried_again_measures_what_is_missing(folder: Folder, small: None) -> None:
    """Rows of a trial that its dead worker left behind, and that were gathered, are not measured again."""
    config = folder.load(search=FOUR)
    folder.run("--inline")
    work = Worklist(config, make_plan(config))
    lost = {c.cell_id for c in work.cells[:3]}
    work.measured.drop(lost)
    work.restart()
    handed_out = []
    while (trial := work.take()) is not None:
        handed_out += work.missing(trial)
        work.postpone(work.give_back(trial.trial_id))
    assert set(handed_out) == lost


DRIVER = """\
import sys
from study.host import gathering
from study.rows import measured, segments
from study.run import main

measured.LOOSE = 3
measured.SEGMENT_ROWS = segments.SEGMENT_ROWS = 4
gathering.LOOK_S = {False: 0.01, True: 0.01}
sys.exit(main(["search.yaml", "--inline", "--no-report"]))
"""


@pytest.mark.slow
def test_killed_drivers_lose_no_row(folder: Folder) -> None:
    """Killed at random moments of its writing and gathering, and started again: the rows of an undisturbed run, each once."""
    folder.write(search={**FOUR, "sampler": {"steps": {"int_uniform": [2, 5], "levels": 4}}}, design={"name": "grid"})
    folder.run("--inline", "--set", "storage=plain")
    study, moments, kills = folder.path / "results/tiny/evals", random.Random(1), 0
    path = os.pathsep.join([str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")])
    command, environment = [sys.executable, "-c", DRIVER], {**os.environ, "PYTHONPATH": path}

    def names() -> set[str]:
        return set(os.listdir(study)) if study.is_dir() else set()

    while True:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        begun = names()
        while process.poll() is None and names() <= begun:
            time.sleep(0.01)
        time.sleep(moments.uniform(0.0, 0.3))
        if kills == 3 or process.poll() is not None:
            assert process.wait() == 0
            break
        process.kill()
        process.wait()
        kills += 1
        there = {str(row["cell_id"]): row for row in read_evals("results/tiny")}
        every = folder.rows(storage="plain")
        same_rows(there, {cell: row for cell, row in every.items() if cell in there})
    assert kills == 3
    same_rows(folder.rows(), every)
    one_row_a_cell(Place.of("results/tiny"), 16)
