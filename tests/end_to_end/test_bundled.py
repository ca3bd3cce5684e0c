"""Whole studies whose fields are trained in bundles, with Ray and without: the rows of fields that are trained alone."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.folder import Folder, near_rows, same_rows
from helpers.processes import family, wait_for, worker_pid

from pfgm.flow.packed import Damaged, unpack_tensors
from study.plan.bundles import bundles_line
from study.plan.make import make_plan
from study.rows.folders import is_segment, read_evals

SIGMAS = [round(0.1 + 0.01 * k, 2) for k in range(7)]
EIGHT: dict[str, Any] = {
    "train": {"sigma": {"choice": SIGMAS}, "learning_rate": {"choice": [1e-3, 1e38]}},
    "sampler": {"steps": {"choice": [4, 6]}},
}
"""The default, six other σ, and one field that diverges: 16 rows."""
TWO = {"train": {"sigma": {"choice": [0.1, 0.12]}}, "sampler": {"steps": {"choice": [4, 6]}}}


@pytest.fixture(scope="module")
def eight(make_folder: Callable[[str], Folder]) -> tuple[Folder, str]:
    """Eight fields with Ray, two bundles of four at once; inline in bundles; inline and alone. And what the first said."""
    folder = make_folder("eight")
    folder.write(train={"steps": 60, "batch_size": 32}, search=EIGHT, resources={"bundle": 4, "concurrent": 2})
    out, _ = folder.run(expect=1)
    folder.run("--inline", "--set", "storage=inline", expect=1)
    folder.run("--inline", "--set", "storage=alone", "--set", "resources.bundle=1", expect=1)
    return folder, out


@pytest.mark.slow
def test_eight_fields_in_bundles_are_those_of_one_after_the_other(eight: tuple[Folder, str]) -> None:
    """Same cells, same names, numbers to 1e-5; bit for bit the same with Ray and inline, whose bundles are the same."""
    folder, out = eight
    rows, inline, alone = (folder.rows(storage=storage) for storage in ("results", "inline", "alone"))
    assert len(rows) == len(read_evals(folder.path / "results/tiny")) == 16 and "together        4 fields" in out
    near_rows(rows, alone)
    same_rows(rows, inline)
    complete = [row for row in rows.values() if row["status"] == "complete"]
    assert Counter(row["prov_bundle"] for row in complete) == {4: 14}
    assert {row["prov_bundle"] for row in alone.values() if row["status"] == "complete"} == {1}
    assert folder.fields() == folder.fields("alone") and len(folder.fields()) == 7


@pytest.mark.slow
def test_a_field_that_diverges_has_the_rows_that_it_has_alone(eight: tuple[Folder, str]) -> None:
    folder, _ = eight
    lost = {c: row for c, row in folder.rows().items() if row["train_learning_rate"] == 1e38}
    alone = folder.rows(storage="alone")
    assert len(lost) == 2 and {row["status"] for row in lost.values()} == {"diverged"}
    assert [row["error"] for row in lost.values()] == [alone[cell]["error"] for cell in lost]
    assert not list((folder.path / "results/fields").glob(".training/*"))


@pytest.mark.slow
def test_rows_of_bundles_end_in_one_file(eight: tuple[Folder, str]) -> None:
    folder, _ = eight
    for storage in ("results", "inline"):
        assert [is_segment(path.name) for path in (folder.path / storage / "tiny/evals").iterdir()] == [True]
    assert len(list((folder.path / "alone/tiny/evals").iterdir())) == 16


@pytest.mark.slow
def test_bundles_are_part_of_the_plan(eight: tuple[Folder, str]) -> None:
    folder, _ = eight
    out, _ = folder.run("--dry-run", "--inline", "--set", "storage=nothing", "--set", "resources.concurrent=1")
    assert "  bundles         2 trials of 4 fields\n  together        4 fields" in out
    assert not (folder.path / "nothing").exists()
    trials = list(make_plan(folder.load(search=EIGHT)))
    assert bundles_line(trials, (), 8, 2) == "  bundles         2 trials of 4 fields", "both workers are busy"


class States:
    """The steps of the training states that a folder has had, by field."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: dict[str, list[int]] = {}

    def look(self) -> None:
        """Note what is new."""
        for path in self.folder.glob("*.state"):
            try:
                step = int(unpack_tensors(path.read_bytes())["step"])
            except (FileNotFoundError, Damaged):
                continue
            steps = self.seen.setdefault(path.name.partition(".")[0], [])
            if step not in steps:
                steps.append(step)


@pytest.mark.slow
def test_a_worker_that_is_killed_in_a_bundle_costs_no_field(folder: Folder) -> None:
    """Each field goes on from its own state: no state is of a lower step than one before it, and no row is double."""
    folder.write(
        train={"steps": 600, "batch_size": 32}, search=TWO, resources={"bundle": 2, "concurrent": 1},
        limits={"checkpoint_seconds": 0.1},
    )  # fmt: skip
    process, states = folder.start(), States(folder.path / "results/fields/.training")

    def all_have_states() -> bool:
        states.look()
        return len(states.seen) == 2

    try:
        wait_for(all_have_states, 90, "states of both fields")
        pid = wait_for(lambda: worker_pid(process.pid), 30, "worker")
        os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + 500
        while process.poll() is None and time.monotonic() < end:
            states.look()
            time.sleep(0.1)
        out, err = process.communicate(timeout=60)
    finally:
        for member in family(process.pid):
            member.kill()
    assert process.returncode == 0, f"{out}\n{err}"
    assert all(steps == sorted(steps) and len(steps) > 2 for steps in states.seen.values()), states.seen
    rows = folder.rows()
    assert len(read_evals(folder.path / "results/tiny")) == len(rows) == 4 and len(folder.fields()) == 2
    assert {(row["status"], row["prov_bundle"]) for row in rows.values()} == {("complete", 2)}
    folder.run("--inline", "--set", "storage=alone", "--set", "resources.bundle=1")
    near_rows(rows, folder.rows(storage="alone"))


def test_auto_measures_and_says_what_it_chose(folder: Folder) -> None:
    """Fields of 16 units gain by far: a call of a kernel takes longer than its arithmetic. Too few fields are trained alone."""
    many = {"train": {"sigma": {"choice": [round(0.1 + 0.01 * k, 2) for k in range(8)]}}}
    folder.write(search=many, resources={"bundle": "auto"})
    out, _ = folder.run("--inline")
    assert "times as many an hour as alone, measured just now" in out
    assert {row["prov_bundle"] for row in folder.rows().values()} <= {2, 4, 8}
    out, _ = folder.run("--inline", "--set", "storage=one", "--set", "search.train.sigma.choice=[0.1]")
    assert "together        each field alone" in out
    assert {row["prov_bundle"] for row in folder.rows(storage="one").values()} == {1}
