"""Whole studies from the command line: the same rows however they are run, and a row for every planned cell."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from helpers.folder import Folder, same_rows
from helpers.processes import FOUR, LONG, alive, family, files, wait_for, worker_pid

from analysis import load_study
from study.fields.store import FieldStore
from study.inline import run_inline
from study.measure.provenance import _versions
from study.plan.make import make_plan
from study.plan.worklist import Worklist
from study.rows.records import read_table
from study.rows.storage import Place
from study.run import main


def temporary(processes: Iterable[psutil.Process]) -> set[Path]:
    """Temporary folders that these processes name on their command lines: those of a driver, and of Ray."""
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.Error):
            found |= set(re.findall(r"/tmp/(?:pfgm-\w+|ray\b)", " ".join(process.cmdline())))
    return {Path(path) for path in found}


def listening(processes: list[psutil.Process]) -> list[str]:
    """Addresses on which any of these processes listens."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            found += [str(c.laddr) for c in process.net_connections() if c.status == psutil.CONN_LISTEN]
    return found


def open_addresses(processes: Iterable[psutil.Process]) -> set[str]:
    """IP addresses on which any of these processes listens now."""
    found = set()
    for process in processes:
        try:
            found |= {c.laddr.ip for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
        except psutil.Error:
            continue
    return found


@dataclass(frozen=True)
class Watched:
    """A run from start to end, with what was seen of its processes."""

    code: int
    said: str
    addresses: set[str]
    """On which any of them listened."""
    left: list[str]
    """Processes that outlived it."""
    folders: set[Path]
    """Temporary folders that they used."""


def watch(process: subprocess.Popen[str]) -> Watched:
    """Look at a driver's processes until it ends, and kill the first of its workers."""
    addresses, children, folders, killed = set[str](), set[psutil.Process](), set[Path](), False
    while process.poll() is None:
        if not killed and (pid := worker_pid(process.pid)) is not None:
            os.kill(pid, signal.SIGKILL)
            killed = True
        now = family(process.pid)
        addresses |= open_addresses(now)
        children |= set(now)
        folders |= temporary(now)
        time.sleep(0.3)
    out, err = process.communicate()
    assert len(children) > 5 and killed, "Ray ran"
    return Watched(process.returncode, out + err, addresses, alive(list(children)), folders)


@pytest.fixture(scope="module")
def inline(make_folder: Callable[[str], Folder]) -> Folder:
    """The four-field study, measured in one process."""
    folder = make_folder("inline")
    folder.write(train=LONG, search=FOUR, resources={"concurrent": 2})
    folder.run("--inline")
    return folder


@dataclass(frozen=True)
class Continued:
    """Two trials at once, killed with the driver after the first row; then one at a time, where a worker is killed."""

    folder: Folder
    measured: dict[str, tuple[str, int]]
    """The rows of the killed run."""
    trained: set[str]
    """Its fields."""
    second: Watched


@pytest.fixture(scope="module")
def continued(make_folder: Callable[[str], Folder]) -> Continued:
    folder = make_folder("continued")
    folder.write(train=LONG, search=FOUR, resources={"concurrent": 2})
    process = folder.start()
    wait_for(lambda: any((folder.path / "results/tiny/evals").glob("*.parquet")), 90, "row")
    process.send_signal(signal.SIGSTOP)  # it hands out nothing more, however long the next lines take
    children = family(process.pid)[1:]
    (own,) = temporary(children)
    assert listening(children) and own.is_dir(), "Ray runs"
    process.kill()
    process.wait()
    wait_for(lambda: not alive(children) and not own.exists(), 15, "end of everything")
    measured, trained = files(folder.path / "results/tiny/evals"), folder.fields()
    assert 0 < len(folder.rows()) < 8
    frame = load_study(folder.path / "results/tiny")
    assert not (folder.path / "results/tiny/report").exists(), "it died before the first report"
    planned = [row["cell_id"] for row in read_table(folder.path / "results/tiny/manifest.parquet")]
    assert frame["cell_id"].tolist() == planned and len(planned) == 8
    counts = {"complete": len(measured), "pending": 8 - len(measured)}
    assert frame["status"].value_counts().to_dict() == counts, "every trial, with its status"
    return Continued(folder, measured, trained, watch(folder.start("--set", "resources.concurrent=1")))


@pytest.mark.slow
def test_a_killed_driver_leaves_nothing_behind_and_continues(continued: Continued, inline: Folder) -> None:
    folder = continued.folder
    assert continued.second.code == 0, continued.second.said
    same_rows(folder.rows(), inline.rows())
    after = files(folder.path / "results/tiny/evals")
    assert {path: after[path] for path in continued.measured} == continued.measured
    assert continued.trained <= folder.fields() == inline.fields() == {row["train_id"] for row in folder.rows().values()}


@pytest.mark.slow
def test_a_run_that_ends_leaves_nothing_behind(continued: Continued) -> None:
    assert not continued.second.left, "no process is left"
    (own,) = continued.second.folders
    assert not own.exists(), "one temporary folder, which is gone"


@pytest.mark.slow
def test_local_runs_listen_on_loopback_only(continued: Continued) -> None:
    assert continued.second.addresses, "nothing listened: the sampling missed Ray"
    assert continued.second.addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


@pytest.mark.slow
def test_a_killed_worker_is_replaced(continued: Continued) -> None:
    assert continued.second.code == 0, continued.second.said
    assert [row["status"] for row in continued.folder.rows().values()] == ["complete"] * 8


@pytest.mark.slow
def test_rows_do_not_depend_on_how_the_study_is_run(inline: Folder, continued: Continued) -> None:
    """In this process; and two trials at once with a driver that is killed, then one at a time with a worker that is killed."""
    rows = inline.rows()
    assert len(rows) == 8 and all(row["status"] == "complete" for row in rows.values())
    same_rows(continued.folder.rows(), rows)


@pytest.mark.slow
def test_a_finished_study_is_left_alone(continued: Continued) -> None:
    folder = continued.folder
    results = folder.path / "results"
    before = files(results / "tiny" / "evals", results / "fields", results / "tiny" / "history")
    out, _ = folder.run("--inline")
    assert "finished, nothing to do" in out
    assert files(results / "tiny" / "evals", results / "fields", results / "tiny" / "history") == before


def in_terminal(process: subprocess.Popen[str], children: list[psutil.Process]) -> None:
    """Ctrl-C in a terminal reaches every process of the foreground group."""
    group = os.getpgid(process.pid)
    for member in [*children, process]:
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(member.pid) == group:
                member.send_signal(signal.SIGINT)


@pytest.mark.slow
@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_cleanly(folder: Folder, stop: signal.Signals, code: int) -> None:
    """With what is finished, the command that continues, and nothing left behind; until then the display shows its steps."""
    folder.write(train={"steps": 100_000, "batch_size": 32}, search=None)
    process = folder.start("--set", "resources.concurrent=2")
    state = folder.path / "results/tiny/state.json"

    def told() -> bool:
        return state.is_file() and any("training, step" in t["doing"] for t in json.loads(state.read_text())["trials"])

    wait_for(told, 90, "step in the display")
    (shown,) = json.loads(state.read_text())["trials"]
    assert re.search(r"training, step \d+/100000", shown["doing"]), "the display shows what a worker says"
    children = family(process.pid)[1:]
    (own,) = temporary(children)
    if stop == signal.SIGINT:
        in_terminal(process, children)
    else:
        process.send_signal(stop)
    out, err = process.communicate(timeout=150)
    assert process.returncode == code, f"{out}\n{err}"
    assert "stopped with 0 of 1 rows; the same command continues: python -m study.run search.yaml" in out
    assert "resources.concurrent=2" in out.splitlines()[-1]
    assert "Traceback" not in out + err
    assert not alive(children) and not own.exists(), "all is put away before the driver ends"


@pytest.mark.slow
def test_a_second_interrupt_ends_at_once(folder: Folder) -> None:
    """While the first is still putting things away; what was measured stays, and Ray goes."""
    endless = {"train": {"steps": {"choice": [20, 1_000_000]}}}
    folder.write(search=endless, resources={"concurrent": 2})
    process = folder.start()
    wait_for(lambda: any((folder.path / "results/tiny/evals").glob("*.parquet")), 90, "row")
    children = family(process.pid)[1:]
    (own,) = temporary(children)
    rows = len(folder.rows())
    in_terminal(process, children)
    time.sleep(0.3)
    in_terminal(process, children)
    out, err = process.communicate(timeout=150)
    assert "the same command continues" not in out, "at once"
    assert process.returncode == 130 and "Traceback" not in err, f"{out}\n{err}"
    wait_for(lambda: not alive(children) and not own.exists(), 15, "end of everything")
    assert len(folder.rows()) >= rows
    assert all(row["status"] == "complete" for row in folder.rows().values())


FAILING = {"train": {"learning_rate": {"choice": [1e-3, 1e38]}, "sigma": {"choice": [0.1, 0.2]}}}


@pytest.mark.slow
def test_every_planned_cell_is_a_row_whatever_happens(folder: Folder) -> None:
    """A loss that is not finite, a field that cannot be read, a solver out of steps: rows, a count, exit 1."""
    solvers = {"rtol": {"choice": [1e-2, 1e-12]}}
    search = {**FAILING, "sampler": solvers}
    sections: dict[str, Any] = {
        "sampler": {"solver": "adaptive_heun", "rtol": 1e-2},
        "search": search,
        "resources": {"concurrent": 1},
    }
    config = folder.load(**sections)
    plan = {trial.role + str(trial.point["sigma"]): trial for trial in make_plan(config)}
    spoilt = plan["arm:sigma0.2"].train_id
    field = folder.path / "results/fields" / spoilt
    field.mkdir(parents=True)
    (field / "field.json").write_text('{"format": 99}')
    out, err = folder.run("--inline", expect=1)
    rows = list(folder.rows().values())
    assert len(rows) == 6 == len({cell.cell_id for trial in plan.values() for cell in trial.cells})
    by_learning_rate = [r["status"] for r in rows if r["train_learning_rate"] == 1e38]
    assert by_learning_rate == ["diverged", "diverged"]
    broken = [r for r in rows if r["train_id"] == spoilt]
    assert [r["status"] for r in broken] == ["failed", "failed"]
    assert all("newer" in r["error"] for r in broken)
    assert "ValueError" in (folder.path / "results/tiny" / broken[0]["error_log"]).read_text()
    default = {r["sampler_rtol"]: r for r in rows if r["train_sigma"] == 0.1 and r["train_learning_rate"] == 1e-3}
    assert default[1e-2]["status"] == "complete"
    assert default[1e-12]["status"] == "solver_limit" and "loosen rtol" in default[1e-12]["error"]
    assert all(r["error"] for r in rows if r["status"] != "complete")
    assert "5 of 6 rows are not complete" in err and "1 complete" in out
    again, _ = folder.run("--inline", expect=1)
    assert "finished, nothing to do" in again


def test_data_that_change_while_the_study_runs_fail_as_rows(folder: Folder) -> None:
    """The worker's data differ from the planned ones before its first report: the rows say so."""
    points = np.random.default_rng(0).standard_normal((200, 2)).astype(np.float32)
    np.savez(folder.path / "points.npz", x=points)
    config = folder.load(data={"name": "npz", "path": "points.npz"})
    work = Worklist(config, make_plan(config))
    np.savez(folder.path / "points.npz", x=points + 1)
    run_inline(config, work, Silent(), lambda trial: None)  # type: ignore[arg-type]
    rows = folder.rows().values()
    assert [row["status"] for row in rows] == ["failed"] * 4
    assert all("changed while the study ran" in row["error"] for row in rows)
    assert not any(trial.train_id in FieldStore(Place.of(folder.path / "results")) for trial in work.trials)


class Silent:
    """A display that shows nothing."""

    def update(self, trial_id: str, said: object) -> None: ...

    def finish(self, trial_id: str, lost: bool = False) -> None: ...


@pytest.mark.slow
def test_keys_frozen_growing_and_free(folder: Folder) -> None:
    folder.write(search={"sampler": {"steps": {"choice": [4, 6]}}})
    folder.run("--inline")
    before = files(folder.path / "results")
    _, err = folder.run("--inline", "--set", "train.sigma=0.2", expect=2)
    assert err.count("\n") == 1
    assert "--set train.sigma=0.2: train.sigma: was 0.1" in err and "now 0.2" in err and "new name" in err
    assert files(folder.path / "results") == before
    out, _ = folder.run("--inline", "--set", "seeds.train=2", "--set", "analysis.tolerance=0.2")
    assert "4 planned, 2 measured" in out
    rows = folder.rows()
    assert len(rows) == 4 and {r["seed_train"] for r in rows.values()} == {0, 1}
    after = files(folder.path / "results/tiny/evals", folder.path / "results/fields")
    assert {p: v for p, v in after.items() if p in before} == {p: v for p, v in before.items() if p in after}
    out, _ = folder.run("--inline")
    assert "2 rows of an earlier, larger plan are kept" in out
    assert len(folder.rows()) == 4


@pytest.mark.slow
def test_a_dry_run_creates_nothing(folder: Folder) -> None:
    folder.write()
    out, _ = folder.run("--dry-run", "--set", "resources.concurrent=1")
    assert "4 planned, 0 measured" in out and "2 different, 0 already trained" in out
    assert "estimated cost" in out
    assert [p.name for p in folder.path.iterdir()] == ["search.yaml"]


@pytest.mark.slow
def test_a_dry_run_of_a_training_that_diverges_says_so(folder: Folder) -> None:
    folder.write(train={"process": "pfgmpp", "steps": 20, "batch_size": 32, "learning_rate": 1e30}, search=None)
    out, err = folder.run("--dry-run", "--inline", "--set", "resources.concurrent=1")
    assert "1 planned, 0 measured" in out and err == ""
    last = out.splitlines()[-1]
    assert last.startswith("  no estimate: the default's training diverges (the loss was not finite between steps")
    assert last.endswith("; its rows would be `diverged`")


@pytest.mark.slow
def test_an_estimate_is_of_the_default_though_an_arm_diverges(folder: Folder) -> None:
    train = {"process": "pfgmpp", "steps": 20, "batch_size": 32}
    folder.write(train=train, search={"train": {"learning_rate": {"choice": [1e-3, 1e30]}}})
    out, err = folder.run("--dry-run", "--inline", "--set", "resources.concurrent=1")
    assert "2 planned, 0 measured" in out and "estimated cost" in out and err == ""


@pytest.mark.slow
def test_fields_are_shared_between_studies(folder: Folder) -> None:
    folder.write(seeds={"train": 2})
    folder.run("--inline")
    fields = files(folder.path / "results/fields")
    rows = folder.rows()
    assert len(folder.fields()) == 4 == len({row["train_id"] for row in rows.values()})
    assert not any(row["prov_field_reused"] for row in rows.values())
    folder.write(name="second", seeds={"train": 2}, sampler={"solver": "euler", "steps": 5}, search={
        "train": {"sigma": {"choice": [0.1, 0.2]}}, "sampler": {"steps": {"choice": [5, 7]}}})  # fmt: skip
    folder.run("--inline")
    second = folder.rows("second")
    assert len(second) == 8 and all(row["prov_field_reused"] for row in second.values())
    assert files(folder.path / "results/fields") == fields


def test_a_data_file_may_move(folder: Folder) -> None:
    """The path is no part of a study's identity, the points are."""
    points = np.random.default_rng(0).standard_normal((200, 2)).astype(np.float32)
    np.savez(folder.path / "points.npz", x=points)
    folder.write(data={"name": "npz", "path": "points.npz"}, search=None)
    folder.run("--inline")
    (folder.path / "points.npz").rename(folder.path / "moved.npz")
    out, _ = folder.run("--inline", "--set", "data.path=moved.npz")
    assert "finished, nothing to do" in out
    np.savez(folder.path / "moved.npz", x=points + 1)
    _, err = folder.run("--inline", "--set", "data.path=moved.npz", expect=2)
    assert "data: have changed" in err


def test_a_report_that_fails_is_no_success(folder: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    folder.write(search=None)
    folder.run("--inline")
    (folder.path / "results/tiny/report").write_text("a file where a folder is wanted")
    with contextlib.chdir(folder.path):
        assert main(["search.yaml", "--inline"]) == 1
    err = capfd.readouterr().err
    assert "cannot write results/tiny/report" in err and "the rows are safe" in err


def test_rows_are_written_without_git(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder.path))
    _versions.cache_clear()
    folder.write(search=None)
    folder.run("--inline")
    _versions.cache_clear()
    assert [row["prov_git"] for row in folder.rows().values()] == [None]


def test_a_field_of_fewer_points_than_a_batch_is_used_again(folder: Folder) -> None:
    np.savez(folder.path / "points.npz", x=np.random.default_rng(0).standard_normal((20, 2)).astype(np.float32))
    folder.write(data={"name": "npz", "path": "points.npz"}, search=None, evaluate={"samples": 50})
    folder.run("--inline")
    folder.run("--inline", "--set", "seeds.sample=2")
    assert sorted(row["prov_field_reused"] for row in folder.rows().values()) == [False, True]


def test_storage_that_cannot_be_written_is_one_line(folder: Folder) -> None:
    folder.write()
    (folder.path / "taken").write_text("a file where a folder is wanted")
    _, err = folder.run("--inline", "--set", "storage=taken", expect=2)
    assert err.count("\n") == 1 and "storage: cannot" in err
