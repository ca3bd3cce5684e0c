"""One trial: get or train the field, measure its sampler points, write a row for each. Or several, whose fields are trained
together.

Every planned cell of the trial ends as a row, whatever happens. A training or a solve that diverges is a `diverged` row. An
exception is a `failed` row, with its traceback in ``logs/``. A trial over its time limit leaves `timeout` rows.

What may go better at another try leaves no row. If the process dies, the driver notices and tries again, or writes the rows. A
storage that cannot be written raises `StorageError`. A trial whose field another study is training comes back later.
"""

from __future__ import annotations

import contextlib
import functools
import time
import traceback
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

from pfgm import memory
from pfgm.config import DataConfig, EvaluateConfig
from pfgm.flow.trained import Field
from pfgm.metrics.evaluator import Evaluator, Measured, Measurement
from pfgm.sampling.disturbances import StepNoise, disturb_weights
from pfgm.training.history import TrainingDiverged
from study.config.study import StudyConfig
from study.fields.store import FieldStore
from study.measure.device import peak_memory_mb, pick_device, prepare_torch
from study.measure.job import Job, Lease, Report, data_of
from study.measure.limits import Deadline, TimedFlow, TimeLimitReached
from study.measure.outcomes import (
    measured_since,
    one_line,
    outcomes,
    reason_of,
    write_history,
    write_log,
)
from study.measure.sample_picture import sample_picture
from study.measure.statistics_cache import References
from study.measure.together import train_together
from study.measure.tracking import Tracker
from study.measure.tuned import tuned_levels_of
from study.measure.writing import RowWriter
from study.plan.cell import Cell
from study.plan.identity import solved_by
from study.plan.trial import Trial
from study.rows.storage import Place, StorageError


class Task(NamedTuple):
    """A trial that was handed out: the cells (cell ids) to measure, where to say how it goes, and the right to train."""

    trial: Trial
    todo: Collection[str]
    report: Report
    lease: Lease | None = None


def run_trial(config: StudyConfig, trial: Trial, todo: Collection[str], report: Report, lease: Lease | None = None) -> None:
    """Measure the cells of ``trial`` named in ``todo`` and write their rows; errors as `run_trials`."""
    run_trials(config, [Task(trial, todo, report, lease)])


def run_trials(config: StudyConfig, tasks: Sequence[Task], number: int | None = None) -> None:
    """Train the fields of some trials together, then measure one trial after the other.

    Args:
        config: the study.
        tasks: the trials; their fields can be trained together (`study.plan.bundles`).
        number: as `RowWriter` takes it.
    Raises:
        StorageError: a row or a field could not be written; no other exception leaves a cell without a row.
    """
    prepare_torch(config.resources.cpus)
    rows, store, device = RowWriter(config, number), FieldStore(config.place), pick_device(config)
    jobs = [
        Job(config, task.trial, task.report, task.lease, Deadline(config.limits.trial_minutes), store, device,
            Tracker(config.folder, task.trial.trial_id), rows)
        for task in tasks
    ]  # fmt: skip
    told = jobs[0]
    try:
        if len(jobs) > 1 and _can_measure(jobs[0]):
            train_together(jobs)
        trained = time.monotonic()
        rows.begin()
        for told, task in zip(jobs, tasks, strict=True):
            told.deadline.put_off(time.monotonic() - trained)
            _finish(told, task.todo)
        rows.flush()
    except StorageError as error:
        told.report({"phase": "storage", "error": str(error)})
        raise
    finally:
        with contextlib.suppress(StorageError):
            rows.flush()  # of a run that is stopped
        for job in jobs:
            job.tracker.close()


def _finish(job: Job, todo: Collection[str]) -> None:
    """One trial from where its field is to its last row."""
    try:
        _run_trial(job, _without_row(job, todo))
    except StorageError:
        raise
    except TrainingDiverged as error:
        job.store.forget_training(job.trial.train_id)
        _give_up(job, todo, "diverged", str(error))
    except TimeLimitReached as error:
        _give_up(job, todo, "timeout", str(error))
    except Exception as error:
        _give_up(job, todo, "failed", one_line(error), write_log(job.config, job.trial.trial_id, traceback.format_exc()))


def _give_up(job: Job, todo: Collection[str], status: str, error: str, log: str = "") -> None:
    """Rows for all that was not measured."""
    cells = _without_row(job, todo)
    there = measured_since(job.config, cells)
    cells = [c for c in cells if c.cell_id not in there]
    for row in outcomes(cells, status, error, log):
        job.rows.write(row)
    job.report({"phase": "done", "rows": len(todo), "rows_total": len(todo), "bad": len(cells)})


def _without_row(job: Job, todo: Collection[str]) -> list[Cell]:
    """Cells still to be measured: those that a killed process of this trial has finished stay as they are."""
    return [c for c in job.trial.cells if c.cell_id in todo and not job.rows.has(c)]


def _can_measure(job: Job) -> bool:
    """Return whether there is an evaluator; each trial by itself says why not."""
    try:
        _evaluator_of(job)
    except StorageError:
        raise
    except Exception:
        return False
    return True


def _run_trial(job: Job, cells: list[Cell]) -> None:
    config, trial, device, report = job.config, job.trial, job.device, job.report
    evaluator = _evaluator_of(job)  # first of all: what cannot be measured need not be trained
    splits_before = memory.n_splits()
    field, reused = job.field()
    splits_trained = memory.n_splits() - splits_before
    if field is None:
        report({"phase": "elsewhere"})
        return
    write_history(config, trial, field)
    whole, bad, began = evaluator.of(TimedFlow(field, job.deadline)), 0, time.monotonic()
    for done, cell in enumerate(cells):
        report({"phase": "measure", "rows": done, "rows_total": len(cells), "reused": reused, "bad": bad})
        job.deadline.check()
        splits = memory.n_splits()
        try:
            measured = _measure(job, whole, cell)
        except (StorageError, TimeLimitReached):
            raise
        except Exception as error:
            log = write_log(config, cell.cell_id, traceback.format_exc())
            job.rows.write(next(outcomes([cell], "failed", one_line(error), log)))
            bad += 1
            continue
        bad += measured.row["status"] != "complete"
        facts = {
            "error": reason_of(measured.row),
            "cost_train_s": field.history[-1].elapsed_s if field.history else None,
            "cost_compile_s": job.compile_s,
            "diag_train_loss": field.history[-1].loss if field.history else None,
            "cost_memory_mb": peak_memory_mb(device),
            "cost_memory_splits": memory.n_splits() - splits + splits_trained,
            "metric_names": ",".join(sorted(config.evaluate.metrics)),
            "prov_field_reused": reused,
            "prov_bundle": field.together if isinstance(field, Field) and field.history else None,
            "prov_device": str(device),
        }
        if trial.network is None:
            facts["diag_coverage"] = None  # nothing was trained that could cover anything
        sample_picture(measured.samples, field.process.info, config.folder / "samples" / f"{cell.cell_id}.png")
        job.rows.write({**cell.to_row(), **measured.row, **facts})
        job.tracker.add(done, {k: v for k, v in measured.row.items() if k.startswith(("metric_", "cost_nfe"))}, "sampler")
    spent = {"trained_s": job.train_s, "trained_steps": job.steps, "measured_s": time.monotonic() - began}
    report({"phase": "done", "rows": len(cells), "rows_total": len(cells), "reused": reused, "bad": bad, **spent})


def _measure(job: Job, whole: Measurement, cell: Cell) -> Measured:
    """One row's measurements, of the field or of the field disturbed as the cell says."""
    sampler, seed = cell.sampler.config, cell.seed_sample
    tuned = tuned_levels_of(job.store, job.trial.train_id, whole.flow, sampler, solved_by(job.config, sampler))
    if cell.disturbance is None:
        return whole.at(sampler, seed, tuned=tuned)
    (kind, level), noise = cell.disturbance, None
    if kind == "noise":
        noise = StepNoise(level, seed)
    else:
        timed = whole.flow
        assert isinstance(timed, TimedFlow) and isinstance(timed.flow, Field)
        network = disturb_weights(timed.flow.network, kind, level, seed=seed, exempt=job.config.perturb.exempt)
        whole = whole.evaluator.of(replace(timed, flow=replace(timed.flow, network=network)))
    return whole.at(sampler, seed, disturbed=True, noise=noise, tuned=tuned)


def _evaluator_of(job: Job) -> Evaluator:
    config = job.config
    return _evaluator(config.data, config.info.hash, config.evaluate, str(job.device), config.place / "references")


@functools.lru_cache(maxsize=4)
def _evaluator(data: DataConfig, data_hash: str, evaluate: EvaluateConfig, device: str, references: Place) -> Evaluator:
    """Reference statistics, kept between the trials of one worker, and in the storage for all others."""
    return Evaluator(data_of(data, data_hash), evaluate, device, References(references))
