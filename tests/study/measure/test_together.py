"""Fields that are trained together in one process: each is claimed, stored, stopped and measured as it would be alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.folder import Folder, near_rows, same_rows

from pfgm.networks.base import FieldNetwork
from pfgm.training import bundle
from pfgm.training.trainer import Trainer
from study.config.study import StudyConfig
from study.fields.store import FieldStore
from study.measure.job import data_of
from study.measure.limits import Deadline
from study.measure.trial import Task, run_trials
from study.plan.make import make_plan
from study.plan.trial import Trial

SIX: dict[str, Any] = {"train": {"sigma": {"choice": [0.1, 0.12, 0.14, 0.16, 0.18, 0.2]}}}
TOGETHER = ("--inline", "--set", "resources.bundle=3")
ALONE = ("--inline", "--set", "storage=alone")

pytestmark = pytest.mark.usefixtures("one_thread")


class Right:
    """The right to train: of every field but those that another holds; notes who got it and who gave it back."""

    def __init__(self, others: set[str]) -> None:
        self.others, self.log = others, list[tuple[str, str]]()

    def acquire(self, train_id: str) -> bool:
        if train_id not in self.others:
            self.log.append(("got", train_id))
        return train_id not in self.others

    def release(self, train_id: str) -> None:
        self.log.append(("gave", train_id))


def run_all(config: StudyConfig, trials: list[Trial], right: Right | None = None, number: int = 1) -> dict[str, list[str]]:
    """Run some trials together; the phases that each told, in their order."""
    said: dict[str, list[str]] = {t.trial_id: [] for t in trials}

    def report_of(trial: Trial) -> Callable[[Any], None]:
        return lambda told: said[trial.trial_id].append(str(told["phase"]))

    run_trials(config, [Task(t, [c.cell_id for c in t.cells], report_of(t), right) for t in trials], number)
    return said


def test_a_field_that_another_holds_or_has_trained_is_left_out(folder: Folder) -> None:
    """Of six, one is there and another is being trained elsewhere: four are trained together, and given back."""
    config = folder.load(search=SIX)
    trials = make_plan(config)
    there, held = trials[1], trials[3]
    run_all(config, [there], number=1)
    right = Right({held.train_id})
    said = run_all(config, trials, right, number=2)
    assert said[held.trial_id] == ["elsewhere"] and said[there.trial_id] == ["measure", "done"]
    trained = [t for t in trials if t not in (there, held)]
    assert all(said[t.trial_id] == ["train", "measure", "done"] for t in trained)
    assert right.log[:4] == [("got", t.train_id) for t in trained]
    assert sorted(right.log[4:]) == sorted(("gave", t.train_id) for t in trained)
    rows = {row["train_id"]: row for row in folder.rows().values()}
    assert {t.train_id: rows[t.train_id]["prov_bundle"] for t in trials if t is not held} == {
        t.train_id: 1 if t is there else 4 for t in trials if t is not held
    }
    assert [rows[t.train_id]["prov_field_reused"] for t in (there, trials[0])] == [True, False]
    assert held.train_id not in rows


def test_fields_over_their_time_are_rows_and_go_on_together_later(folder: Folder) -> None:
    """Each has a row that says so, and its state is kept."""
    config = folder.load(train={"steps": 150, "batch_size": 32}, search={"train": {"sigma": {"choice": [0.1, 0.15, 0.2]}}})
    folder.run(*TOGETHER, "--set", "limits.trial_minutes=0.0005", expect=1)
    rows = folder.rows()
    assert [row["status"] for row in rows.values()] == ["timeout"] * 3
    assert all("over limits.trial_minutes = 0.0005; raise it" in row["error"] for row in rows.values())
    store = FieldStore(config.place)
    states = [store.load_training(row["train_id"]) for row in rows.values()]
    assert all(state is not None and 50 <= int(state["step"]) < 150 and int(state["together"]) == 3 for state in states)
    folder.run(*TOGETHER, "--retry-failed")
    folder.run(*ALONE)
    near_rows(folder.rows(), folder.rows(storage="alone"))
    assert not list((folder.path / "results/fields/.training").iterdir())


def test_a_time_limit_leaves_out_what_was_done_for_others() -> None:
    deadline = Deadline(1.0)
    deadline.started -= 90.0
    assert deadline.over
    deadline.put_off(60.0)
    assert not deadline.over


def test_a_bundle_that_does_not_fit_goes_on_field_by_field(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Step 71 of three together needs more memory than there is: each goes on alone from step 70, not from its start.

    What they kept at step 60 is not lost.
    """
    calls = []

    def stacked(networks: list[FieldNetwork]) -> FieldNetwork:
        made = real(networks)

        def allocate(*_: object) -> None:
            calls.append(len(networks))
            torch.empty(1 << 50 if len(calls) > 70 else 0)

        made.register_forward_pre_hook(allocate)
        return made

    real = bundle.stack_networks
    monkeypatch.setattr(bundle, "stack_networks", stacked)
    evaluate = {"samples": 60, "metrics": ["fid"], "at_steps": [0.5]}
    search = {"train": {"sigma": {"choice": [0.1, 0.15, 0.2]}}}
    folder.write(train={"steps": 120, "batch_size": 32}, evaluate=evaluate, search=search)
    folder.run(*TOGETHER)
    assert calls == [3] * 71 and "a step of 3 fields together does not fit into the memory; they go on alone" in caplog.text
    rows = folder.rows()
    assert {(row["status"], row["prov_bundle"]) for row in rows.values()} == {("complete", 3)}
    assert sorted(row["step"] for row in rows.values()) == [60, 60, 60, 120, 120, 120]
    folder.run(*ALONE)
    near_rows(rows, folder.rows(storage="alone"))


def test_an_error_that_is_no_fields_own_sends_each_on_alone(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(networks: object) -> None:
        raise ZeroDivisionError("by design")

    monkeypatch.setattr(bundle, "stack_networks", broken)
    folder.write(search=SIX)
    folder.run(*TOGETHER)
    assert caplog.text.count("3 fields cannot be trained together (ZeroDivisionError: by design); they go on alone") == 2
    folder.run(*ALONE)
    same_rows(folder.rows(), folder.rows(storage="alone"))
    assert {row["prov_bundle"] for row in folder.rows().values()} == {1}


def test_a_state_of_a_step_in_parts_is_continued_alone(folder: Folder) -> None:
    """It would not fit into a bundle either; the two others are trained together."""
    config = folder.load(train={"steps": 70, "batch_size": 32}, search={"train": {"sigma": {"choice": [0.1, 0.15, 0.2]}}})
    trials, store = make_plan(config), FieldStore(config.place)
    assert trials[0].network is not None
    trainer = Trainer(data_of(config.data, config.info.hash), trials[0].network, trials[0].train, trials[0].seed)
    next(trainer.run())
    trainer.parts = 2
    store.save_training(trials[0].train_id, trainer.state())
    run_all(config, trials)
    by_field = {row["train_id"]: row["prov_bundle"] for row in folder.rows().values()}
    assert [by_field[t.train_id] for t in trials] == [1, 2, 2]
    folder.run(*ALONE)
    near_rows(folder.rows(), folder.rows(storage="alone"))


def test_what_cannot_be_measured_is_not_trained(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write(search=SIX)
    monkeypatch.setattr("study.measure.trial._evaluator", lambda *_: math.sqrt(-1))
    folder.run(*TOGETHER, expect=1)
    assert [row["status"] for row in folder.rows().values()] == ["failed"] * 6
    assert not Path("results/fields/.training").exists() or not folder.fields()


def test_seeds_of_a_proposed_point_are_trained_together(folder: Folder) -> None:
    """Under tpe a point has three fields, one a train seed; nothing is proposed ahead to fill a bundle of four."""
    search = {"train": {"sigma": {"uniform": [0.1, 0.2]}}}
    design = {"name": "tpe", "trials": 3}
    folder.write(search=search, design=design, seeds={"train": 3}, resources={"bundle": 4})
    folder.run("--inline")
    rows = folder.rows()
    assert len(rows) == 9 and {(row["status"], row["prov_bundle"]) for row in rows.values()} == {("complete", 3)}
    files = list((folder.path / "results/tiny/evals").iterdir())
    assert len(files) == 9, "a file a row, as proposals look for them"
    folder.run(*ALONE, "--set", "resources.bundle=1")
    alone = folder.rows(storage="alone")
    first = {cell for cell, row in rows.items() if row["design_role"] == "default"}
    near_rows({cell: rows[cell] for cell in first}, {cell: alone[cell] for cell in first})
