"""Damaged files, full disks, vanished folders, several drivers: one line, or on from the last good state."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from helpers.folder import Folder, same_rows
from helpers.processes import FOUR, LONG, family, files, wait_for

from analysis import AnalysisError, load_study
from pfgm.flow.packed import pack_tensors
from study.fields.__main__ import main as fields_main
from study.fields.store import FieldStore
from study.host.lease import DriverLease, LeaseLost, StudyHeld, read_holder
from study.rows.storage import Place
from study.run import main
from study.status import main as status_main


def spoil(file: Path, how: str) -> None:
    """Cut a file in half, or flip one bit in its middle."""
    content = file.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 16]) + content[middle + 1 :]
    file.write_bytes(content[:middle] if how == "truncated" else flipped)


HOW = pytest.mark.parametrize("how", ["truncated", "flipped"])


@HOW
def test_damaged_rows_and_plan_are_made_again(folder: Folder, how: str) -> None:
    folder.write()
    folder.run("--inline")
    study, rows = folder.path / "results/tiny", folder.rows()
    before = files(study / "evals")
    spoilt = sorted((study / "evals").iterdir())[1]
    spoil(spoilt, how)
    spoil(study / "manifest.parquet", "truncated")
    with pytest.raises(AnalysisError, match="run the study again, which mends it"):
        load_study(study)
    out, _ = folder.run("--inline")
    assert "3 measured" in out
    same_rows(folder.rows(), rows)
    after = files(study / "evals")
    assert {p: v for p, v in after.items() if p in before and p != str(spoilt)} == {
        p: v for p, v in before.items() if p != str(spoilt)
    }
    assert Path(f"{spoilt}.unreadable").is_file(), "what could not be read is kept"
    assert load_study(study)["status"].tolist() == ["complete"] * 4


@HOW
@pytest.mark.parametrize("file", ["*.safetensors", "field.json"])
def test_a_damaged_field_is_trained_again_to_the_same(folder: Folder, how: str, file: str) -> None:
    folder.write(search=None)
    folder.run("--inline")
    (name,) = folder.fields()
    field = folder.path / "results/fields" / name
    (weights,) = field.glob("*.safetensors")
    whole = weights.read_bytes()
    spoil(next(field.glob(file)), how)
    folder.run("--inline", "--set", "seeds.sample=2")
    assert weights.read_bytes() == whole
    spoilt = folder.rows()
    folder.run("--inline", "--set", "seeds.sample=2", "--set", "storage=fresh")
    same_rows(spoilt, folder.rows(storage="fresh"))


@HOW
def test_of_two_training_states_the_last_good_one_is_taken(tmp_path: Path, how: str) -> None:
    store = FieldStore(Place.of(tmp_path))
    assert store.load_training("a") is None
    for step in (10, 20, 30):
        store.save_training("a", {"step": torch.tensor(step), "weight": torch.full((1000,), float(step))})
    states = sorted((tmp_path / "fields/.training").iterdir())
    assert len(states) == 2
    again = FieldStore(Place.of(tmp_path))
    state = again.load_training("a")
    assert state is not None and int(state["step"]) == 30
    newest = next(p for p in states if pack_tensors(state) == p.read_bytes())
    spoil(newest, how)
    last_good = FieldStore(Place.of(tmp_path)).load_training("a")
    assert last_good is not None and int(last_good["step"]) == 20 and float(last_good["weight"].mean()) == 20.0
    spoil(next(p for p in states if p != newest), how)
    assert FieldStore(Place.of(tmp_path)).load_training("a") is None


def test_a_damaged_study_file_is_one_line(folder: Folder) -> None:
    folder.write()
    folder.run("--inline")
    (folder.path / "results/tiny/study.yaml").write_text("name: [")
    before = files(folder.path / "results")
    _, err = folder.run("--inline", expect=2)
    assert err.count("\n") == 1 and "results/tiny/study.yaml:1" in err and "restore it, or delete it" in err
    assert files(folder.path / "results") == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 kB; the test fails where it may not be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_stops_the_study_and_loses_nothing(folder: Folder, small_disk: Path) -> None:
    folder.write(search=FOUR)
    folder.run("--inline")
    _, err = folder.run("--inline", "--set", f"storage={small_disk}", expect=1)
    assert err.startswith(f"stopped: cannot write {small_disk}/") and "No space left on device" in err and err.count("\n") == 1
    assert not list(small_disk.rglob("*.tmp")), "half-written files take the space"
    kept = folder.rows(storage="disk")
    assert len(kept) < 8
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    folder.run("--inline", "--set", f"storage={small_disk}")
    same_rows(folder.rows(storage="disk"), folder.rows())


def unprivileged(folder: Folder, *options: str) -> subprocess.CompletedProcess[str]:
    """The command line as somebody who may not write everywhere, as root may."""
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner"] if os.geteuid() == 0 else []
    command = [*drop, sys.executable, "-m", "study.run", "search.yaml", "--no-report", "--inline", *options]
    return subprocess.run(command, cwd=folder.path, capture_output=True, text=True, timeout=600, check=False)


def test_storage_that_may_only_be_read(folder: Folder) -> None:
    """A finished study there says so; anything to write is one line."""
    folder.write()
    folder.run("--inline")
    for path in [folder.path / "results", *(folder.path / "results").rglob("*")]:
        if os.geteuid() == 0:
            os.chown(path, 65534, 65534)
        path.chmod(0o555 if path.is_dir() else 0o444)
    done = unprivileged(folder)
    assert done.returncode == 0 and "finished, nothing to do" in done.stdout, done.stderr
    more = unprivileged(folder, "--set", "seeds.sample=2")
    assert more.returncode == 2 and more.stderr.count("\n") == 1, more.stderr
    assert "storage: cannot write" in more.stderr and "Permission denied" in more.stderr
    for path in [folder.path / "results", *(folder.path / "results").rglob("*")]:
        path.chmod(0o755)


def test_a_study_file_that_may_not_be_read(folder: Folder) -> None:
    folder.write().chmod(0o000)
    if os.geteuid() == 0:
        os.chown(folder.file, 65534, 65534)
    done = unprivileged(folder)
    assert (
        done.returncode == 2
        and done.stderr == "search.yaml: cannot be read (Permission denied); name a YAML file you may read\n"
    )
    assert [path.name for path in folder.path.iterdir()] == ["search.yaml"]


WATCHFUL = """\
import sys
from study.host import lease
from study.run import main

lease.RENEW_S = {False: 1.0, True: 1.0}
sys.exit(main(sys.argv[1:]))
"""


def start_watchful(folder: Folder, *options: str) -> subprocess.Popen[str]:
    """A driver that runs inline and renews its lease every second, where others take ten."""
    command = [sys.executable, "-c", WATCHFUL, "search.yaml", "--no-report", "--inline", *options]
    return subprocess.Popen(command, cwd=folder.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1000, 30_000])
def test_a_folder_that_vanishes_is_one_line(folder: Folder, steps: int) -> None:
    """Noticed at the next renewal of the lease, and at the end of a study that ends before."""
    folder.write(train={"steps": steps, "batch_size": 32}, search=None)
    process = start_watchful(folder) if steps > 1000 else folder.start("--inline")
    wait_for(lambda: (folder.path / "results/tiny/state.json").is_file(), 60, "state")
    shutil.rmtree(folder.path / "results")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1, f"{out}\n{err}"
    assert "stopped: results/tiny is gone or was emptied while the study ran" in err and "Traceback" not in err
    assert "the same command continues: python -m study.run search.yaml" in out
    folder.run("--inline", "--set", "train.steps=20")
    assert [row["status"] for row in folder.rows().values() if row["step"] == 20] == ["complete"]


def test_a_writer_that_finds_the_folder_gone_is_the_same_line(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the next renewal of the lease, a log of TensorBoard or another file may want to be written there."""

    def write_a_log(*_: object) -> None:
        shutil.rmtree(folder.path / "results")
        (folder.path / "results/tiny/tensorboard").mkdir()

    folder.write()
    monkeypatch.setattr("study.driver.run_inline", write_a_log)
    assert main([str(folder.file), "--inline"]) == 1
    assert "stopped: results/tiny is gone or was emptied while the study ran" in capsys.readouterr().err
    monkeypatch.setattr("study.driver.run_inline", lambda *_: Path("/nowhere/file").touch())
    with pytest.raises(FileNotFoundError, match="/nowhere/file"):
        main([str(folder.file), "--inline"])


@pytest.mark.slow
def test_of_two_drivers_one_runs(folder: Folder) -> None:
    """Started together; then one that takes over from a third."""
    folder.write(train=LONG, search=FOUR)
    folder.run("--inline", "--set", "storage=alone")
    drivers = [folder.start("--inline"), folder.start("--inline")]
    ended = {d.returncode: text for d in drivers for text in [d.communicate(timeout=600)]}
    assert ended.keys() == {0, 2}, ended
    (winner,) = [d for d in drivers if d.returncode == 0]
    refusal = ended[2][1]
    assert refusal.count("\n") == 1 and f"another driver runs this study, pid {winner.pid} on {os.uname().nodename}" in refusal
    assert f"kill {winner.pid}" in refusal and "--take-over" in refusal
    same_rows(folder.rows(), folder.rows(storage="alone"))
    third = start_watchful(folder, "--set", "seeds.train=9")
    wait_for(lambda: read_holder(Place.of(folder.path / "results/tiny")).get("pid") == third.pid, 60, "lease")
    folder.run("--inline", "--take-over", "--set", "seeds.train=2")
    out, err = third.communicate(timeout=300)
    assert third.returncode == 1 and "stopped: another driver took over" in err, f"{out}\n{err}"
    assert {row["seed_train"] for row in folder.rows().values()} >= {0, 1}
    assert not (folder.path / "results/tiny/driver.json").exists()


def test_a_lost_lease_says_why(tmp_path: Path) -> None:
    """Held by another; held by one that has ended since; a folder that is gone."""
    place = Place.of(tmp_path / "study")
    with DriverLease(place, False, print) as mine:
        (tmp_path / "study/study.yaml").write_text("name: study")
        mine.check()
        with DriverLease(place, True, print), pytest.raises(LeaseLost, match=r"^another driver took over$"):
            mine.check()
        with pytest.raises(LeaseLost, match=r"^another driver took over$"):
            mine.check()
        shutil.rmtree(tmp_path / "study")
        with pytest.raises(LeaseLost, match=r"study is gone or was emptied while the study ran$"):
            mine.check()


@pytest.mark.parametrize(("age_s", "held"), [(5.0, True), (600.0, False)])
def test_a_lease_from_another_machine_ends_by_itself(tmp_path: Path, age_s: float, held: bool) -> None:
    place, said = Place.of(tmp_path), list[str]()
    with DriverLease(place, False, said.append):
        mine = json.loads((tmp_path / "driver.json").read_text())
    assert not (tmp_path / "driver.json").exists()
    (tmp_path / "driver.json").write_text(json.dumps(mine | {"token": "x", "host": "far", "where": "far/away", "pid": 7}))
    os.utime(tmp_path / "driver.json", (time.time() - age_s,) * 2)
    with contextlib.ExitStack() as stack:
        if held:
            stack.enter_context(pytest.raises(StudyHeld, match="pid 7 on far"))
        with DriverLease(place, False, said.append):
            assert read_holder(place)["pid"] == os.getpid()
    (tmp_path / "driver.json").write_text(json.dumps(mine | {"token": "x", "started": mine["started"] - 100}))
    with DriverLease(place, False, said.append):  # the process number lives on in another process
        assert read_holder(place)["token"] != "x"
    assert said == []


def test_a_finished_study_grows(folder: Folder) -> None:
    """4 → 6 trials trains 2; a seed more trains that seed; sampler points, and a metric, train nothing."""
    both: dict[str, Any] = {"train": {"sigma": {"uniform": [0.1, 0.2]}}, "sampler": {"T_ratio": {"uniform": [0.5, 2.0]}}}
    folder.write(search=both, design={"name": "sobol", "trials": 4, "sampler_points": 2})
    folder.run("--inline")
    first, fields = folder.rows(), files(folder.path / "results/fields")
    assert (len(folder.fields()), len(first)) == (4, 8)
    out, _ = folder.run("--inline", "--set", "design.trials=6")
    assert "6 different, 4 already trained" in out and (len(folder.fields()), len(folder.rows())) == (6, 12)
    same_rows({c: r for c, r in folder.rows().items() if c in first}, first)
    grown = ("--set", "design.trials=6", "--set", "seeds.train=2")
    folder.run("--inline", *grown)
    assert (len(folder.fields()), len(folder.rows())) == (12, 24)
    assert sum(row["seed_train"] == 1 for row in folder.rows().values()) == 12
    trained = files(folder.path / "results/fields")
    assert {p: v for p, v in trained.items() if p in fields} == fields
    folder.run("--inline", *grown, "--set", "design.sampler_points=4")
    assert files(folder.path / "results/fields") == trained and len(folder.rows()) > 24
    assert all(row["metric_precision"] is None for row in folder.rows().values())
    everything = (*grown, "--set", "design.sampler_points=4")
    folder.run("--inline", *everything, "--set", "evaluate.metrics=[fid, sliced_wasserstein, precision_recall]")
    assert files(folder.path / "results/fields") == trained
    assert all(row["metric_precision"] is not None for row in folder.rows().values())
    out, _ = folder.run("--inline", *everything)
    assert "finished, nothing to do" in out, "fewer metrics than measured are enough"


def test_a_trial_over_its_time_is_a_row_and_goes_on_later(folder: Folder) -> None:
    folder.write(train={"steps": 500, "batch_size": 32}, search={"sampler": {"steps": {"choice": [4, 6]}}})
    folder.run("--inline", "--set", "limits.trial_minutes=0.005", expect=1)
    assert [row["status"] for row in folder.rows().values()] == ["timeout"] * 2
    assert all("raise it, then --retry-failed continues" in row["error"] for row in folder.rows().values())
    (state,) = (folder.path / "results/fields/.training").iterdir()
    assert state.stat().st_size > 1000
    out, err = folder.run("--inline", "--set", "limits.trial_minutes=0.005", expect=1)
    assert "finished, nothing to do" in out and "--retry-failed measures those again" in err
    folder.run("--inline", "--retry-failed")
    rows = folder.rows()
    folder.run("--inline", "--set", "storage=fresh")
    same_rows(rows, folder.rows(storage="fresh"))


def test_status_and_fields_tell(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    """Before, while it runs, after a crash and after the end."""
    assert status_main(["results/tiny"]) == 2 and "no study there" in capsys.readouterr().err
    assert fields_main(["ls", "nowhere"]) == 2 and "no such folder" in capsys.readouterr().err
    folder.write(train={"steps": 20000, "batch_size": 32}, search=None, limits={"checkpoint_seconds": 0.5})
    process = folder.start("--inline")
    training = folder.path / "results/fields/.training"
    wait_for(lambda: training.is_dir() and any(training.glob("*.state")), 60, "training state")

    def told() -> str:
        assert status_main(["results/tiny"]) == 0
        return out if "loss" in (out := capsys.readouterr().out) else ""

    out = wait_for(told, 60, "loss in the status")
    assert "0 of 1 rows, 1 pending" in out and f"driver          pid {process.pid} on" in out
    process.kill()
    process.communicate()
    assert status_main(["results/tiny"]) == 0
    out = capsys.readouterr().out
    assert f"pid {process.pid}" in out and "is gone" in out and "to continue" in out
    assert fields_main(["ls", "results"]) == 0
    out = capsys.readouterr().out
    assert "training in progress" in out and "MB" in out
    folder.run("--inline", "--set", "train.steps=20", "--set", "name=short", "--set", "storage=results")
    assert status_main(["results/short"]) == 0 and fields_main(["ls"]) == 0
    out = capsys.readouterr().out
    assert "1 of 1 rows, 1 complete" in out and "none; finished" in out and "steps=20" in out and "rings, seed 0" in out


def at_work(driver: int) -> int | None:
    """A worker that has started and runs a trial: one that is killed before that has cost no try."""
    for process in family(driver):
        with contextlib.suppress(psutil.Error):
            if "ImplicitFunc.train" in " ".join(process.cmdline()):
                return process.pid
    return None


@pytest.mark.slow
def test_a_worker_that_always_dies_is_a_row(folder: Folder) -> None:
    """Killed at both of its tries: a failed row with a log; --retry-failed measures it."""
    folder.write(train={"steps": 300, "batch_size": 32}, search=None, retries=1, resources={"concurrent": 1})
    process, killed = folder.start(), set()
    end = time.monotonic() + 400
    while process.poll() is None and time.monotonic() < end:
        pid = at_work(process.pid)
        if pid is not None and pid not in killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        time.sleep(0.1)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1, f"{out}\n{err}"
    (row,) = folder.rows().values()
    assert row["status"] == "failed" and "the worker failed 2 times" in row["error"] and len(killed) == 2
    assert (folder.path / "results/tiny" / row["error_log"]).read_text()
    folder.run("--inline", "--retry-failed")
    assert [row["status"] for row in folder.rows().values()] == ["complete"]
