"""One trial: get or train the field, measure its sampler points, write a row for each.

Every planned cell of the trial ends as a row, whatever happens: a training or a solve that diverges is a `diverged` row, an
exception a `failed` one with its traceback in ``logs/``, a trial over its time limit leaves `timeout` rows. What may go better
at another try leaves no row: the death of the process (the driver notices, and retries or writes them), a storage that cannot
be written (`StorageError`), and a field that another study is training at the moment (the trial comes back later).
"""

from __future__ import annotations

import functools
import logging
import os
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from pfgm import memory
from pfgm.config import DataConfig, EvaluateConfig, SamplerConfig
from pfgm.data.dataset import Dataset, load_data
from pfgm.flow.exact import ExactField, exact_field
from pfgm.flow.trained import Field
from pfgm.metrics.evaluator import Evaluator, Measured
from pfgm.sampling.disturbances import StepNoise, disturb_weights
from pfgm.training.history import TrainingDiverged
from pfgm.training.trainer import Trainer
from study.config.study import StudyConfig
from study.fields.store import FieldStore
from study.measure.limits import Deadline, TimedFlow, TimeLimitReached
from study.measure.provenance import provenance
from study.measure.sample_picture import sample_picture
from study.measure.statistics_cache import References
from study.measure.tracking import Tracker
from study.plan.make import Trial
from study.plan.own_columns import evals_schema
from study.rows.records import HISTORY, DamagedFile, is_done, read_table, write_table
from study.rows.storage import Place, StorageError

logger = logging.getLogger(__name__)
Report = Callable[[Mapping[str, object]], None]
"""Told where the trial stands: phase (train, measure, done, elsewhere, storage), step, steps, loss, rows, rows_total, bad (rows
so far that are not complete), reused."""

REPORT_S = 0.5


class Lease(Protocol):
    """The right to train one field while others wait; it only saves work (see `study.cluster.training_lease`)."""

    def acquire(self, train_id: str) -> bool:
        """Whether the field is now ours to train."""

    def release(self, train_id: str) -> None:
        """Let others have it."""


@dataclass
class _Job:
    """One try of a trial: what it works with."""

    config: StudyConfig
    trial: Trial
    report: Report
    lease: Lease | None
    deadline: Deadline
    store: FieldStore
    device: torch.device
    tracker: Tracker
    compile_s: float | None = None
    """Seconds that this try spent compiling the network; None where it did not."""

    def field(self) -> tuple[Field | ExactField | None, bool]:
        """(the trained field, whether it was there already); (None, False) while another study trains it."""
        train_id, given = self.trial.train_id, self.config.given
        if given is not None and given.source.exact is not None:
            data = _data(self.config.data, self.config.info.hash)
            return exact_field(given.source.exact, data, self.trial.train, self.device), False
        if (field := self.store.load(train_id, self.device)) is not None:
            return field, True
        if given is not None:
            place = self.store.root / train_id
            raise FileNotFoundError(f"the given field is not at {place} any more; start the study again with --retry-failed")
        if self.lease is None:
            return self.train(), False
        if not self.lease.acquire(train_id):
            return None, False
        try:
            field = self.store.load(train_id, self.device)  # published since we looked?
            return (field, True) if field is not None else (self.train(), False)
        finally:
            self.lease.release(train_id)

    def train(self) -> Field:
        """Train the field, or continue the training that someone began, and publish it."""
        config, trial = self.config, self.trial
        assert trial.network is not None
        data, compiled = _data(config.data, config.info.hash), config.resources.compile
        trainer = Trainer(data, trial.network, trial.train, trial.seed, self.device, compiled)
        state = self.store.load_training(trial.train_id)
        if state is not None:
            try:
                trainer.load_state(state)
            except ValueError as error:  # begun on the CPU and continued on CUDA, or the reverse
                logger.warning("%s: %s", trial.trial_id, error)
        saved = time.monotonic()
        for progress in trainer.run():
            self.report({"phase": "train", "step": progress.step, "steps": progress.steps, "loss": progress.loss})
            self.tracker.add(progress.step, {"loss": progress.loss, "gradient_norm": progress.gradient_norm}, "train")
            late = self.deadline.over and progress.step < progress.steps
            if late or time.monotonic() - saved > config.limits.checkpoint_seconds:
                self.store.save_training(trial.train_id, trainer.state())
                saved = time.monotonic()
            if late:
                self.deadline.check()
        self.compile_s = None if trainer.compiled is None else trainer.compiled.cost_s
        field = Field.from_trainer(trainer)
        self.store.publish(trial.train_id, field)
        return field


def run_trial(config: StudyConfig, trial: Trial, todo: Collection[str], report: Report, lease: Lease | None = None) -> None:
    """Measure the cells of ``trial`` named in ``todo`` (cell ids) and write their rows.

    Raises:
        StorageError: a row or a field could not be written; no other exception leaves a cell without a row.
    """
    prepare_torch(config.resources.cpus)
    tracker = Tracker(config.folder, trial.trial_id)
    deadline = Deadline(config.limits.trial_minutes)
    job = _Job(config, trial, report, lease, deadline, FieldStore(config.place), pick_device(config), tracker)
    try:
        _run_trial(job, _without_row(config, trial, todo))
    except StorageError as error:
        report({"phase": "storage", "error": str(error)})
        raise
    except TrainingDiverged as error:
        job.store.forget_training(trial.train_id)
        _give_up(job, todo, "diverged", str(error))
    except TimeLimitReached as error:
        _give_up(job, todo, "timeout", str(error))
    except Exception as error:
        _give_up(job, todo, "failed", one_line(error), write_log(config, trial.trial_id, traceback.format_exc()))
    finally:
        tracker.close()


def _give_up(job: _Job, todo: Collection[str], status: str, error: str, log: str = "") -> None:
    """Rows for all that was not measured."""
    cells = _without_row(job.config, job.trial, todo)
    write_outcome(job.config, cells, status, error, log)
    job.report({"phase": "done", "rows": len(todo), "rows_total": len(todo), "bad": len(cells)})


def _without_row(config: StudyConfig, trial: Trial, todo: Collection[str]) -> list[dict[str, object]]:
    """Cells still to be measured: those that a killed process of this trial has finished stay as they are."""
    return [c for c in trial.cells(config) if c["cell_id"] in todo and not _measured(config, c)]


def _measured(config: StudyConfig, cell: Mapping[str, object]) -> bool:
    try:
        return all(is_done(row, config.evaluate.metrics) for row in read_table(_row_path(config, cell)))
    except (FileNotFoundError, DamagedFile):
        return False


def _run_trial(job: _Job, cells: list[dict[str, object]]) -> None:
    config, trial, device, report = job.config, job.trial, job.device, job.report
    # first of all: what cannot be measured need not be trained
    evaluator = _evaluator(config.data, config.info.hash, config.evaluate, str(device), config.place / "references")
    splits_before = memory.n_splits()
    field, reused = job.field()
    splits_trained = memory.n_splits() - splits_before
    if field is None:
        report({"phase": "elsewhere"})
        return
    _write_history(config, trial, field)
    evaluator.forget_solutions()
    samplers = {p.sampler_id: p.config for p in trial.sampler_points}
    timed, bad = TimedFlow(field, job.deadline), 0
    for done, cell in enumerate(cells):
        report({"phase": "measure", "rows": done, "rows_total": len(cells), "reused": reused, "bad": bad})
        job.deadline.check()
        splits = memory.n_splits()
        try:
            measured = _measure(job, evaluator, timed, samplers[str(cell["sampler_id"])], cell)
        except (StorageError, TimeLimitReached):
            raise
        except Exception as error:
            log = write_log(config, str(cell["cell_id"]), traceback.format_exc())
            write_outcome(config, [cell], "failed", one_line(error), log)
            bad += 1
            continue
        bad += measured.row["status"] != "complete"
        facts = {
            "error": None if measured.row["status"] == "complete" else _reason(measured.row),
            "cost_train_s": field.history[-1].elapsed_s if field.history else None,
            "cost_compile_s": job.compile_s,
            "diag_train_loss": field.history[-1].loss if field.history else None,
            "cost_memory_mb": _peak_memory_mb(device),
            "cost_memory_splits": memory.n_splits() - splits + splits_trained,
            "metric_names": ",".join(sorted(config.evaluate.metrics)),
            "prov_field_reused": reused,
            "prov_device": str(device),
        }
        if trial.network is None:
            facts["diag_coverage"] = None  # nothing was trained that could cover anything
        sample_picture(measured.samples, field.process.info, config.folder / "samples" / f"{cell['cell_id']}.png")
        write_row(config, {**cell, **measured.row, **facts})
        job.tracker.add(done, {k: v for k, v in measured.row.items() if k.startswith(("metric_", "cost_nfe"))}, "sampler")
    evaluator.forget_solutions()
    report({"phase": "done", "rows": len(cells), "rows_total": len(cells), "reused": reused, "bad": bad})


def _measure(job: _Job, evaluator: Evaluator, timed: TimedFlow, sampler: SamplerConfig, cell: Mapping[str, object]) -> Measured:
    """One row's measurements, of the field or of the field disturbed as the cell says."""
    seed, kind = int(str(cell["seed_sample"])), cell["perturb_kind"]
    if kind is None:
        return evaluator.measure(timed, sampler, seed)
    level, noise = float(str(cell["perturb_level"])), None
    if kind == "noise":
        noise = StepNoise(level, seed)
    else:
        assert isinstance(timed.flow, Field)
        network = disturb_weights(timed.flow.network, str(kind), level, seed=seed, exempt=job.config.perturb.exempt)
        timed = replace(timed, flow=replace(timed.flow, network=network))
    return evaluator.measure(timed, sampler, seed, disturbed=True, noise=noise)


def _reason(row: Mapping[str, object]) -> str:
    if row["status"] == "diverged":
        return "the solve met values that are not finite"
    return f"the solver used up its steps (NFE {row['cost_nfe']:g}); loosen rtol or use another solver"


@functools.lru_cache(maxsize=4)
def _data(config: DataConfig, data_hash: str) -> Dataset:
    """The data set, kept between the trials of one worker.

    Raises:
        RuntimeError: the data are no longer those that were planned with.
    """
    data = load_data(config)
    if data.info.hash != data_hash:
        raise RuntimeError(f"the data {config.path or config.name} changed while the study ran; start it again")
    return data


@functools.lru_cache(maxsize=4)
def _evaluator(data: DataConfig, data_hash: str, evaluate: EvaluateConfig, device: str, references: Place) -> Evaluator:
    """Reference statistics, kept between the trials of one worker, and in the storage for all others."""
    return Evaluator(_data(data, data_hash), evaluate, device, References(references))


def prepare_torch(threads: int) -> None:
    """One thread (or as many as the trial's CPUs) and deterministic algorithms: equal trials give equal bits."""
    torch.set_num_threads(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_deterministic_debug_mode("warn")  # as use_deterministic_algorithms, without two seconds of imports
    torch.backends.cudnn.allow_tf32 = False
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def pick_device(config: StudyConfig) -> torch.device:
    """CUDA where the trial has (a part of) a GPU, else the CPU."""
    return torch.device("cuda" if config.resources.gpus != 0 and torch.cuda.is_available() else "cpu")


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def write_outcome(config: StudyConfig, cells: Iterable[Mapping[str, object]], status: str, error: str, log: str) -> None:
    """Rows for cells that have no measurement: the status and the reason are the result."""
    for cell in cells:
        write_row(config, {**cell, "status": status, "error": error, "error_log": log or None})


def write_row(config: StudyConfig, row: Mapping[str, object]) -> None:
    """One cell's row, whole, as ``evals/<cell_id>.parquet``."""
    write_table(_row_path(config, row), [{**row, **provenance(config)}], evals_schema())


def _row_path(config: StudyConfig, row: Mapping[str, object]) -> Place:
    return config.folder / "evals" / f"{row['cell_id']}.parquet"


def write_log(config: StudyConfig, name: str, text: str) -> str:
    """Keep a traceback as ``logs/<name>.txt``; returns that path, relative to the study."""
    path = config.folder / "logs" / f"{name}.txt"
    path.write(text.encode())
    return f"logs/{name}.txt"


def one_line(error: BaseException) -> str:
    """An exception as a cell of a table."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:500]


def _write_history(config: StudyConfig, trial: Trial, field: Field | ExactField) -> None:
    path = config.folder / "history" / f"{trial.train_id}.parquet"
    if not field.history or path.is_file():
        return
    rows = [
        {
            "train_id": trial.train_id, "seed_train": trial.seed, "step": p.step, "loss": p.loss,
            "gradient_norm": p.gradient_norm, "learning_rate": p.learning_rate, "elapsed_s": p.elapsed_s,
        }
        for p in field.history
    ]  # fmt: skip
    write_table(path, rows, HISTORY)
