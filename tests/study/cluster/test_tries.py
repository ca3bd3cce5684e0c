"""Which ends of a worker count against ``retries``: those of workers that had started, each once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.folder import Folder

from study.cluster.searcher import STARTS, ProgressCallback, WorklistSearcher
from study.host.stop import Stop
from study.measure.outcomes import write_row
from study.plan.make import make_plan
from study.plan.trial import Trial
from study.plan.worklist import Worklist


class Display:
    """Notes what is said of trials that end."""

    def __init__(self) -> None:
        self.ended: list[tuple[bool, bool]] = []

    def finish(self, trial_id: str, lost: bool = False, postponed: bool = False) -> None:
        self.ended.append((lost, postponed))


class Silence:
    """No trial says how it goes."""

    def look(self) -> None:
        """Nothing to pass on."""


class Tune:
    """As much of Ray Tune as the searcher and its callback see, for a study of one trial, or of some that go together."""

    def __init__(self, folder: Folder, retries: int, search: dict[str, Any] | None = None) -> None:
        config = folder.load(search=search, retries=retries)
        self.folder, self.display = folder, Display()
        self.handed_out: list[Trial] = []
        self.work = Worklist(config, make_plan(config))
        self.work.most = 4
        self.searcher = WorklistSearcher(config, self.work, self.display, self.handed_out.append, Stop(), slots=1)  # type: ignore[arg-type]
        self.callback = ProgressCallback(self.display, self.searcher, self.searcher.stop, Silence())  # type: ignore[arg-type]

    def hand_out(self) -> Any:
        """A trial of Tune's for what comes next; the time that a trial waits is over."""
        self.work.not_before.clear()
        name = f"ray{len(self.handed_out)}"
        assert isinstance(self.searcher.suggest(name), dict)
        assert self.searcher.suggest("another") is None, "one at a time"
        log = self.folder.path / f"{name}.txt"
        log.write_text(f"what Ray knows of {name}")
        return SimpleNamespace(trial_id=name, status="PENDING", error_file=str(log), get_pickled_error=lambda: None)

    def die(self, trial: Any) -> None:
        """Tune's order: the searcher first, then the callback."""
        trial.status = "ERROR"
        self.searcher.on_trial_complete(trial.trial_id, error=True)
        self.callback.on_trial_error(0, [trial], trial)
        self.callback.on_step_begin(0, [trial])

    def start(self, trial: Any) -> None:
        trial.status = "RUNNING"
        self.callback.on_trial_start(0, [trial], trial)


@pytest.fixture
def tune(folder: Folder) -> Callable[[int], Tune]:
    return lambda retries: Tune(folder, retries)


def test_deaths_of_started_workers_are_the_tries(tune: Callable[[int], Tune], folder: Folder) -> None:
    ray = tune(1)
    for _ in range(2):
        assert not list(Path("results").rglob("evals/*.parquet"))
        trial = ray.hand_out()
        ray.start(trial)
        ray.die(trial)
    (row,) = folder.rows().values()
    assert row["status"] == "failed" and row["error"] == "the worker failed 2 times (killed, or out of memory)"
    assert (folder.path / "results/tiny" / row["error_log"]).read_text() == "what Ray knows of ray1"
    assert ray.display.ended == [(False, True), (True, False)] and ray.searcher.suggest("x") == "FINISHED"


def test_a_failed_start_costs_no_try_but_they_are_bounded(tune: Callable[[int], Tune], folder: Folder) -> None:
    """Without a retry, a start fails nine times, the trial then runs; ten failed starts are a row that says so."""
    ray = tune(0)
    for _ in range(STARTS - 1):
        ray.die(ray.hand_out())
    assert len(ray.work.waiting) == 1 and not list(Path("results").rglob("evals/*.parquet"))
    trial = ray.hand_out()
    ray.die(trial)
    (row,) = folder.rows().values()
    assert row["status"] == "failed" and row["error"].startswith(f"no worker could be started ({STARTS} times; ")
    assert ray.searcher.suggest("x") == "FINISHED"


def test_a_death_after_a_failed_start_is_the_first(tune: Callable[[int], Tune], folder: Folder) -> None:
    ray = tune(1)
    ray.die(ray.hand_out())
    first = ray.hand_out()
    ray.start(first)
    ray.die(first)
    ray.start(last := ray.hand_out())
    assert not list(Path("results").rglob("evals/*.parquet"))
    ray.die(last)
    (row,) = folder.rows().values()
    assert "failed 2 times" in row["error"]


def test_what_tune_gives_up_without_a_word_comes_back(tune: Callable[[int], Tune]) -> None:
    """A worker that could not be taken over: Tune marks the trial, and tells neither searcher nor callback."""
    ray = tune(0)
    trial = ray.hand_out()
    trial.status = "ERROR"
    assert len(ray.work.busy) == 1
    ray.callback.on_step_begin(0, [trial])
    assert len(ray.work.waiting) == 1 and not ray.work.busy


def test_a_node_that_was_taken_away_costs_no_try(tune: Callable[[int], Tune]) -> None:
    ray = tune(0)
    trial = ray.hand_out()
    ray.start(trial)
    trial.get_pickled_error = lambda: SimpleNamespace(preempted=True)
    ray.die(trial)
    assert len(ray.work.waiting) == 1 and ray.searcher.deaths.total() == 0


THREE = {"train": {"sigma": {"choice": [0.1, 0.15, 0.2]}}}


def test_a_death_of_several_is_a_try_of_each_but_the_last_try_is_alone(folder: Folder) -> None:
    """Three together without a retry: what was measured stays, the two others go alone, and the death of one is a row."""
    ray = Tune(folder, 0, THREE)
    ray.start(trial := ray.hand_out())
    assert len(ray.handed_out) == 3
    measured, *others = ray.handed_out
    write_row(ray.work.config, {**measured.cells[0].to_row(), "status": "complete", "metric_names": "fid,sliced_wasserstein"})
    ray.die(trial)
    assert ray.work.waiting == others and not ray.work.busy
    assert ray.display.ended == [(False, False), (False, True), (False, True)]
    ray.start(last := ray.hand_out())
    assert ray.handed_out[3:] == [others[0]], "alone"
    ray.die(last)
    (failed,) = [row for row in folder.rows().values() if row["status"] == "failed"]
    assert failed["train_id"] == others[0].train_id and failed["error"].startswith("the worker failed 2 times")
    assert ray.work.waiting == [others[1]]


def test_a_death_of_several_leaves_them_together_while_they_have_tries(folder: Folder) -> None:
    ray = Tune(folder, 2, THREE)
    for n in (3, 6):
        ray.start(trial := ray.hand_out())
        assert len(ray.handed_out) == n
        ray.die(trial)
        assert len({ray.work.not_before[t.trial_id] for t in ray.work.waiting}) == 1, "they come back together"
    ray.start(ray.hand_out())
    assert len(ray.handed_out) == 7, "the last of three tries"


def test_failed_starts_of_several_are_bounded_too(folder: Folder) -> None:
    ray = Tune(folder, 0, THREE)
    for _ in range(STARTS):
        ray.die(ray.hand_out())
    assert len(ray.handed_out) == 3 * STARTS and not list(Path("results").rglob("evals/*.parquet"))
    for n in range(3):
        ray.die(ray.hand_out())
        assert len(folder.rows()) == n + 1
    assert ray.searcher.suggest("x") == "FINISHED"


DIES_BEFORE_IT_STARTS = """\
import os, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "ray.tune.trainable.function_trainable" and any("default_worker" in a for a in sys.orig_argv):
            marks = os.environ["MARKS"]
            if not os.listdir(marks):
                open(os.path.join(marks, f"start {os.getpid()}"), "w").close()
                os._exit(1)

sys.meta_path.insert(0, Finder())
"""
DIES_AS_IT_IS_TAKEN_OVER = """\
import gc, os, sys
import study.run, study.cluster.scheduler

def trial(handout, config, owner, board, every_s):
    from study.cluster.scheduler import ray_trial

    def die(*arguments, **more):
        open(os.path.join(os.environ["MARKS"], f"next {os.getpid()}"), "w").close()
        os._exit(1)

    for worker in gc.get_objects():
        if type(worker).__name__ == "ImplicitFunc":
            worker.reset_config = die
    ray_trial(handout, config, owner, board, every_s)

study.cluster.scheduler.ray_trial = trial
sys.exit(study.run.main(["search.yaml", "--no-report"]))
"""


@pytest.mark.slow
def test_a_worker_that_dies_before_its_trial_begins(folder: Folder) -> None:
    """Once while it loads the trial's code, then as it goes from one trial to the next: without a retry, all is measured."""
    marks = folder.path / "marks"
    marks.mkdir()
    (folder.path / "sitecustomize.py").write_text(DIES_BEFORE_IT_STARTS)
    (folder.path / "script.py").write_text(DIES_AS_IT_IS_TAKEN_OVER)
    folder.write(retries=0, resources={"concurrent": 1})
    path = os.pathsep.join([str(folder.path), *sys.path])
    done = subprocess.run(
        [sys.executable, "script.py"], capture_output=True, text=True, timeout=500, check=False,
        env=os.environ | {"PYTHONPATH": path, "MARKS": str(marks)},
    )  # fmt: skip
    died = Counter(mark.name.partition(" ")[0] for mark in marks.iterdir())
    assert died == {"start": 1, "next": 1}
    assert done.returncode == 0 and done.stderr == "", f"{done.stdout}\n{done.stderr}"
    assert [row["status"] for row in folder.rows().values()] == ["complete"] * 4
