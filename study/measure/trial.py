"""One trial: get or train the field, measure its sampler points, write a row for each. Or several, whose fields are trained
together.

Every planned cell of the trial ends as a row, whatever happens. A training or a solve that diverges is a `diverged` row. An
exception is a `failed` row, with its traceback in ``logs/``. A trial over its time limit leaves `timeout` rows. A row on the
way whose network is not in the store is a `missed` one.

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
from pfgm.flow.exact import ExactField
from pfgm.flow.trained import Field
from pfgm.metrics.evaluator import Evaluator, Measured, Measurement
from pfgm.sampling.disturbances import StepNoise, disturb_weights
from pfgm.training.history import TrainingDiverged
from study.config.study import StudyConfig
from study.fields.store import FieldStore, on_the_way
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
from study.measure.trackers.names import trackers_of
from study.measure.trackers.tracker import PARAMETERS, Run, Trackers, facts
from study.measure.tuned import tuned_levels_of
from study.measure.writing import RowWriter
from study.plan.cell import Cell, columns_of_trial
from study.plan.identity import solved_by
from study.plan.trial import Trial
from study.rows.on_the_way import GONE
from study.rows.records import MISSED
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
            _trackers(config, task.trial), rows)
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
            job.trackers.close()


def _trackers(config: StudyConfig, trial: Trial) -> Trackers:
    parameters = facts(columns_of_trial(trial), PARAMETERS)
    run = Run(config.name, config.folder, trial.trial_id, parameters)
    return Trackers(trackers_of(config.trackers, config.folder.remote), run)


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
    evaluator = _evaluator_of(job)  # first of all: what cannot be measured need not be trained
    splits_before = memory.n_splits()
    try:
        field, reused = job.field()
    except TrainingDiverged:
        reached = [c for c in cells if c.step is not None and on_the_way(c.trial.train_id, c.step) in job.store]
        with contextlib.suppress(TimeLimitReached):
            _measure_all(job, evaluator, {}, reached, _Came())
        raise
    if field is None:
        job.report({"phase": "elsewhere"})
        return
    write_history(job.config, job.trial, field)
    came = _Came(reused, memory.n_splits() - splits_before)
    began, bad = time.monotonic(), _measure_all(job, evaluator, {None: field}, cells, came)
    spent = {"trained_s": job.train_s, "trained_steps": job.steps, "measured_s": time.monotonic() - began}
    job.report({"phase": "done", "rows": len(cells), "rows_total": len(cells), "reused": reused, "bad": bad, **spent})


class _Came(NamedTuple):
    """How a trial came by its field."""

    reused: bool = False
    splits: int = 0
    """Of its training, where the memory was too small."""


def _measure_all(
    job: Job, evaluator: Evaluator, fields: dict[int | None, Field | ExactField | None], cells: list[Cell], came: _Came
) -> int:
    """Measure cells one after the other and write their rows; returns how many are not complete.

    Args:
        job: the trial.
        evaluator: what measures.
        fields: the field at the end of its training, under None; those on the way are added.
        cells: the cells, those of one step after each other.
        came: how the field came.
    """
    bad, wholes = 0, dict[int | None, Measurement]()
    for done, cell in enumerate(cells):
        job.report({"phase": "measure", "rows": done, "rows_total": len(cells), "reused": came.reused, "bad": bad})
        job.deadline.check()
        splits = memory.n_splits()
        try:
            if cell.step not in fields and cell.step is not None:
                fields[cell.step] = job.store.load(on_the_way(job.trial.train_id, cell.step), job.device)
            if (field := fields[cell.step]) is None:
                job.rows.write(next(outcomes([cell], MISSED, GONE, "")))
                bad += 1
                continue
            if cell.step not in wholes:
                wholes = {cell.step: evaluator.of(TimedFlow(field, job.deadline))}
            measured = _measure(job, wholes[cell.step], cell)
        except (StorageError, TimeLimitReached):
            raise
        except Exception as error:
            log = write_log(job.config, cell.cell_id, traceback.format_exc())
            job.rows.write(next(outcomes([cell], "failed", one_line(error), log)))
            bad += 1
            continue
        bad += measured.row["status"] != "complete"
        own = {"cost_memory_splits": memory.n_splits() - splits + came.splits, "prov_field_reused": came.reused}
        place = job.config.folder / "samples" / f"{cell.cell_id}.png"
        sample_picture(measured.samples, field.process.info, place, measured.labels)
        row = {**cell.to_row(), **measured.row, **_facts(job, field, cell), **own, "error": reason_of(measured.row)}
        job.rows.write(row)
        job.trackers.add_row(job.trial.cells.index(cell), cell.cell_id, row)
    return bad


def _facts(job: Job, field: Field | ExactField, cell: Cell) -> dict[str, object]:
    """What a row says of its field and of where it was measured.

    Of a step on the way the loss is that of the report before it, if there is one; the seconds of training are those to the
    last report that is known of it, in proportion.
    """
    last = field.history[-1] if field.history else None
    losses = [report.loss for report in field.history if cell.step is None or report.step <= cell.step]
    part = 1.0 if cell.step is None or last is None else cell.step / last.step
    facts: dict[str, object] = {
        "cost_train_s": None if last is None else part * last.elapsed_s,
        "cost_compile_s": job.compile_s,
        "diag_train_loss": losses[-1] if losses else None,
        "cost_memory_mb": peak_memory_mb(job.device),
        "metric_names": ",".join(sorted(job.config.evaluate.metrics)),
        "prov_bundle": field.together if isinstance(field, Field) and field.history else None,
        "prov_device": str(job.device),
    }
    return facts if job.trial.network is not None else {**facts, "diag_coverage": None}  # nothing was trained to cover anything


def _measure(job: Job, whole: Measurement, cell: Cell) -> Measured:
    """One row's measurements, of the field or of the field disturbed as the cell says."""
    sampler, seed = cell.sampler.config, cell.seed_sample
    name = job.trial.train_id if cell.step is None else on_the_way(job.trial.train_id, cell.step)
    tuned = tuned_levels_of(job.store, name, whole.flow, sampler, solved_by(job.config, sampler))
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
