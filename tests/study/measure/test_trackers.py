"""Trackers: what is written is read back with the real packages; each row once; and none of them can cost a row."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.folder import Folder, same_rows

from pfgm.training.history import Progress
from study.config.yaml_source import ConfigError
from study.measure.job import Job
from study.measure.trackers import tracker
from study.measure.trackers.names import TRACKERS
from study.measure.trackers.tracker import Facts, Run, Tracker, TrackerKind
from study.rows.records import read_table

ALL = ["tensorboard", "mlflow", "wandb"]
TWO = {"train": {"sigma": {"choice": [0.1, 0.2]}}, "sampler": {"steps": {"choice": [4, 6]}}}
LONG = {"steps": 120, "batch_size": 32}


@pytest.fixture(autouse=True)
def no_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's own server or key is used."""
    for name in ("MLFLOW_TRACKING_URI", "WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)


def mlflow_runs(folder: Folder) -> tuple[Any, list[Any]]:
    """A client, and all runs of the study."""
    from mlflow.tracking import MlflowClient  # a second of imports

    client = MlflowClient(f"sqlite:///{folder.path / 'results/tiny/mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "tiny"]
    return client, list(client.search_runs([experiment.experiment_id]))


def wandb_history(folder: Folder) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every line of history in the offline runs: id of the run, and its values."""
    from wandb.proto.wandb_internal_pb2 import Record  # a second of imports

    for path in sorted((folder.path / "results/tiny/wandb").glob("offline-run-*/run-*.wandb")):
        run_id, record = path.stem.removeprefix("run-"), Record()
        for chunk in records(path.read_bytes()):
            record.ParseFromString(chunk)
            if record.WhichOneof("record_type") == "history":
                keys = ((item.key or ".".join(item.nested_key), item.value_json) for item in record.history.item)
                yield run_id, {key: json.loads(value) for key, value in keys}


def records(data: bytes) -> Iterator[bytes]:
    """The records of a file of the form of LevelDB's log, after a header of seven bytes."""
    at, whole, block = 7, b"", 1 << 15
    while at + 7 <= len(data):
        if block - at % block < 7:
            at += block - at % block
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


@pytest.fixture(scope="module")
def tracked(make_folder: Any) -> Folder:
    """Two fields and four rows, in all trackers; then, continued, four rows of another sample seed."""
    folder: Folder = make_folder("tracked")
    folder.write(train=LONG, search=TWO, trackers=ALL)
    folder.run("--inline")
    folder.run("--inline", "--set", "seeds.sample=2")
    return folder


def test_rows_are_those_of_a_study_without_trackers(tracked: Folder) -> None:
    tracked.run("--inline", "--set", "storage=plain", "--set", "trackers=[]", "--set", "seeds.sample=2")
    same_rows(tracked.rows(), tracked.rows(storage="plain"))
    assert not {p.name for p in (tracked.path / "plain/tiny").iterdir()} & {"tensorboard", "mlflow.db", "wandb"}


def test_tensorboard_has_the_curve_and_every_row(tracked: Folder) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # a second of imports

    rows, seen = tracked.rows(), list[float]()
    runs = list((tracked.path / "results/tiny/tensorboard").iterdir())
    assert {run.name for run in runs} == {row["trial_id"] for row in rows.values()}
    for run in runs:
        events = EventAccumulator(str(run))
        events.Reload()
        assert [e.step for e in events.Scalars("train/loss")] == [50, 100, 120] and "train/gradient_norm" in events.Tags()[
            "scalars"
        ]
        points = events.Scalars("sampler/metric_fid")
        assert [e.step for e in points] == [0, 1, 2, 3]
        seen += [e.value for e in points]
    assert sorted(seen) == pytest.approx(sorted(row["metric_fid"] for row in rows.values()), rel=1e-6)


def test_mlflow_has_a_run_of_each_field_and_below_it_each_row_once(tracked: Folder) -> None:
    client, runs = mlflow_runs(tracked)
    rows = tracked.rows()
    parents = {run.info.run_id: run for run in runs if "mlflow.parentRunId" not in run.data.tags}
    below = {run.info.run_name: run for run in runs if run.info.run_id not in parents}
    assert len(parents) == 2 and below.keys() == rows.keys() and len(runs) == 10
    for cell, run in below.items():
        parent = parents[run.data.tags["mlflow.parentRunId"]]
        assert parent.info.run_name == rows[cell]["trial_id"]
        assert float(parent.data.params["train_sigma"]) == rows[cell]["train_sigma"]
        assert int(run.data.params["sampler_steps"]) == rows[cell]["sampler_steps"]
        (value,) = client.get_metric_history(run.info.run_id, "metric_fid")
        assert value.value == rows[cell]["metric_fid"] and run.info.status == "FINISHED"
    for run_id in parents:
        assert [m.step for m in client.get_metric_history(run_id, "train/loss")] == [50, 100, 120]


def test_wandb_has_each_row_once_in_the_run_of_its_field(tracked: Folder) -> None:
    rows, history = tracked.rows(), list(wandb_history(tracked))
    measured = {values["sampler/cell_id"]: (run, values) for run, values in history if "sampler/cell_id" in values}
    assert measured.keys() == rows.keys() and sum("sampler/cell_id" in values for _, values in history) == len(rows)
    for cell, (run, values) in measured.items():
        assert run == f"tiny-{rows[cell]['trial_id']}"
        assert values["sampler/metric_fid"] == rows[cell]["metric_fid"]
        assert values["sampler/sampler_steps"] == rows[cell]["sampler_steps"]
    curve = [values["train/step"] for run, values in history if "train/loss" in values]
    assert sorted(curve) == [50, 50, 100, 100, 120, 120]


@pytest.mark.slow
def test_under_ray_two_workers_write_at_once(folder: Folder) -> None:
    folder.write(train=LONG, search=TWO, trackers=ALL, resources={"concurrent": 2})
    _, err = folder.run()
    assert "tracker" not in err
    rows = folder.rows()
    _, runs = mlflow_runs(folder)
    assert {run.info.run_name for run in runs} == rows.keys() | {row["trial_id"] for row in rows.values()}
    assert sorted(v["sampler/cell_id"] for _, v in wandb_history(folder) if "sampler/cell_id" in v) == sorted(rows)


class Failing(Tracker):
    """Fails at the first row."""

    def __init__(self, run: Run) -> None:
        self.closed = False

    def add(self, step: int, values: Any) -> None:
        assert step > 0

    def add_row(self, number: int, name: str, sampler: Facts, values: Any) -> None:
        raise OSError("the server is gone\nand more")

    def close(self) -> None:
        raise AssertionError("it was left alone")


def test_a_tracker_that_fails_costs_no_row_and_is_named_once(
    folder: Folder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker, "failed_at", {})
    monkeypatch.setattr(TRACKERS, "_parts", {**TRACKERS._parts})
    monkeypatch.setattr(TRACKERS, "_loaded", {**TRACKERS._loaded})
    TRACKERS.put("failing", TrackerKind(Failing, lambda: None), "test:1")
    folder.write(search=TWO, trackers=["failing", "tensorboard"])
    folder.run("--inline")
    assert [row["status"] for row in folder.rows().values()] == ["complete"] * 4
    assert [r.getMessage() for r in caplog.records if "tracker" in r.getMessage()] == [
        "tracker failing stopped (OSError: the server is gone and more); rows are not touched"
    ]
    assert len(list((folder.path / "results/tiny/tensorboard").iterdir())) == 2, "the other one goes on"


def test_a_server_that_is_away_is_said_once_and_left_alone(
    folder: Folder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    """The first to ask it, the driver, waits; the trials of this process do not ask again before `AGAIN_S`."""
    monkeypatch.setattr(tracker, "failed_at", {})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{closed_port}")
    begun = list[str]()
    monkeypatch.setattr("study.measure.trackers.mlflow.Mlflow.__init__", lambda self, run: begun.append(run.trial_id))
    folder.write(search=TWO, trackers=["mlflow"])
    folder.run("--inline")
    assert [row["status"] for row in folder.rows().values()] == ["complete"] * 4
    (said,) = [r.getMessage() for r in caplog.records if "tracker" in r.getMessage()]
    assert said.startswith("tracker mlflow stopped (") and said.endswith("; rows are not touched") and "\n" not in said
    assert f"http://127.0.0.1:{closed_port}/" in said and "secret" not in said
    assert not begun
    monkeypatch.setattr(tracker, "AGAIN_S", 0.0)
    assert not tracker.rests("mlflow"), "later it is asked again"


@pytest.fixture
def closed_port() -> int:
    """A port of this machine where nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Killed(BaseException):
    """The process dies."""


def test_a_killed_training_that_goes_on_has_its_curve_once_in_mlflow(folder: Folder) -> None:
    """No state was saved, so the training begins again; the curve goes on from where it was, with the same numbers."""
    folder.write(train=LONG, search=None, trackers=["mlflow"], evaluate={"samples": 60, "metrics": ["fid"], "at_steps": [0.3]})
    whole = Job.tell

    def tell(job: Job, progress: Progress) -> None:
        whole(job, progress)
        if progress.step == 100:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Job, "tell", tell)
        with pytest.raises(Killed):
            folder.run("--inline")
    client, (parent,) = mlflow_runs(folder)
    before = {m.step: m.value for m in client.get_metric_history(parent.info.run_id, "train/loss")}
    assert list(before) == [50, 100]
    folder.run("--inline")
    curve = [(m.step, m.value) for m in client.get_metric_history(parent.info.run_id, "train/loss")]
    history = {report["step"]: report for report in read_table(next((folder.path / "results/tiny/history").glob("*.parquet")))}
    assert curve == [(step, history[step]["loss"]) for step in (50, 100, 120)] and before.items() < dict(curve).items()
    rates = [m.value for m in client.get_metric_history(parent.info.run_id, "train/learning_rate")]
    assert rates == [history[step]["learning_rate"] for step in (50, 100, 120)]
    rows = folder.rows()
    below = {run.info.run_name: run for run in mlflow_runs(folder)[1] if run.info.run_id != parent.info.run_id}
    assert {cell: int(run.data.params["step"]) for cell, run in below.items()} == {c: row["step"] for c, row in rows.items()}
    assert sorted(row["step"] for row in rows.values()) == [36, 120]


@pytest.mark.parametrize(
    ("given", "storage", "told"),
    [
        ("mlflow", "results", "trackers: must be a list of tensorboard, mlflow, wandb"),
        (["mlfow"], "results", "trackers.0: unknown 'mlfow'; did you mean mlflow?"),
        ([7], "results", "trackers.0: must be a list of tensorboard, mlflow, wandb"),
        (["wandb", "wandb"], "results", "trackers.1: names wandb twice; remove one"),
        (
            ["tensorboard"],
            "s3://bucket/x",
            "trackers.0: tensorboard appends to files, which an object store cannot do; remove it",
        ),
        (["mlflow"], "s3://bucket/x", "set MLFLOW_TRACKING_URI to a server, or remove it; the storage is s3://bucket/x"),
        (["wandb"], "s3://bucket/x", "wandb without WANDB_API_KEY keeps its files in the study's folder, which must be local"),
    ],
)
def test_a_wrong_name_is_one_line(folder: Folder, given: Any, storage: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        folder.load(trackers=given, storage=storage)
    assert told in str(error.value) and "\n" not in str(error.value)


def test_a_package_that_is_missing_is_one_line_with_its_command(folder: Folder) -> None:
    folder.write(trackers=["wandb"])
    code = "import sys; sys.modules['wandb'] = None; from study.run import main; sys.exit(main(['search.yaml', '--inline']))"
    root = str(Path(__file__).resolve().parents[3])
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r}); {code}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "wandb needs the package wandb, which is not installed; type pip install 'pfgm-study[wandb]'" in done.stderr
    assert not (folder.path / "results").exists()
