"""One trial: get or train the field, measure its sampler points, write a row for each.

Every planned cell of the trial ends as a row, whatever happens. A training or a solve that diverges is a `diverged` row. An
exception is a `failed` row, with its traceback in ``logs/``. A trial over its time limit leaves `timeout` rows.

What may go better at another try leaves no row. If the process dies, the driver notices and tries again, or writes the rows. A
storage that cannot be written raises `StorageError`. A trial whose field another study is training comes back later.
"""

from __future__ import annotations

import functools
import time
import traceback
from collections.abc import Collection
from dataclasses import replace

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
    is_measured,
    measured_since,
    one_line,
    reason_of,
    write_history,
    write_log,
    write_outcome,
    write_row,
)
from study.measure.sample_picture import sample_picture
from study.measure.statistics_cache import References
from study.measure.tracking import Tracker
from study.measure.tuned import tuned_levels_of
from study.plan.cell import Cell
from study.plan.trial import Trial
from study.rows.storage import Place, StorageError


def run_trial(config: StudyConfig, trial: Trial, todo: Collection[str], report: Report, lease: Lease | None = None) -> None:
    """Measure the cells of ``trial`` named in ``todo`` (cell ids) and write their rows.

    Raises:
        StorageError: a row or a field could not be written; no other exception leaves a cell without a row.
    """
    prepare_torch(config.resources.cpus)
    tracker = Tracker(config.folder, trial.trial_id)
    deadline = Deadline(config.limits.trial_minutes)
    job = Job(config, trial, report, lease, deadline, FieldStore(config.place), pick_device(config), tracker)
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


def _give_up(job: Job, todo: Collection[str], status: str, error: str, log: str = "") -> None:
    """Rows for all that was not measured."""
    cells = _without_row(job.config, job.trial, todo)
    there = measured_since(job.config, cells)
    cells = [c for c in cells if c.cell_id not in there]
    write_outcome(job.config, cells, status, error, log)
    job.report({"phase": "done", "rows": len(todo), "rows_total": len(todo), "bad": len(cells)})


def _without_row(config: StudyConfig, trial: Trial, todo: Collection[str]) -> list[Cell]:
    """Cells still to be measured: those that a killed process of this trial has finished stay as they are."""
    return [c for c in trial.cells if c.cell_id in todo and not is_measured(config, c)]


def _run_trial(job: Job, cells: list[Cell]) -> None:
    config, trial, device, report = job.config, job.trial, job.device, job.report
    # first of all: what cannot be measured need not be trained
    evaluator = _evaluator(config.data, config.info.hash, config.evaluate, str(device), config.place / "references")
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
            write_outcome(config, [cell], "failed", one_line(error), log)
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
            "prov_device": str(device),
        }
        if trial.network is None:
            facts["diag_coverage"] = None  # nothing was trained that could cover anything
        sample_picture(measured.samples, field.process.info, config.folder / "samples" / f"{cell.cell_id}.png")
        write_row(config, {**cell.to_row(), **measured.row, **facts})
        job.tracker.add(done, {k: v for k, v in measured.row.items() if k.startswith(("metric_", "cost_nfe"))}, "sampler")
    spent = {"trained_s": job.train_s, "trained_steps": job.steps, "measured_s": time.monotonic() - began}
    report({"phase": "done", "rows": len(cells), "rows_total": len(cells), "reused": reused, "bad": bad, **spent})


def _measure(job: Job, whole: Measurement, cell: Cell) -> Measured:
    """One row's measurements, of the field or of the field disturbed as the cell says."""
    sampler, seed = cell.sampler.config, cell.seed_sample
    tuned = tuned_levels_of(job.store, job.trial.train_id, whole.flow, sampler)
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


@functools.lru_cache(maxsize=4)
def _evaluator(data: DataConfig, data_hash: str, evaluate: EvaluateConfig, device: str, references: Place) -> Evaluator:
    """Reference statistics, kept between the trials of one worker, and in the storage for all others."""
    return Evaluator(data_of(data, data_hash), evaluate, device, References(references))
