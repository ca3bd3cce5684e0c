"""One trial: get or train the field, measure its sampler points, write a row for each.

Every planned cell of the trial ends as a row, whatever happens: a training or a solve that diverges is a `diverged` row, an
exception a `failed` one with its traceback in ``logs/``. Only the death of the process leaves cells without rows; the driver
notices and either retries or writes them.
"""

from __future__ import annotations

import functools
import logging
import os
import platform
import subprocess
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from pfgm.checkpoint import Field
from pfgm.config import DataConfig, EvaluateConfig
from pfgm.data import Dataset, load_data
from pfgm.metrics.evaluation import Evaluator
from pfgm.training import TRAINING_VERSION, Trainer, TrainingDiverged
from study.config import StudyConfig
from study.fields import FieldStore
from study.pictures import sample_picture
from study.plan import Trial
from study.records import EVALS, HISTORY, write_table

logger = logging.getLogger(__name__)
Report = Callable[[Mapping[str, object]], None]
"""Told where the trial stands: phase (train, measure, done), step, steps, loss, rows, rows_total, reused."""

REPORT_S, CHECKPOINT_S = 0.5, 30.0


def run_trial(config: StudyConfig, trial: Trial, todo: Collection[str], report: Report) -> None:
    """Measure the cells of ``trial`` named in ``todo`` (cell ids) and write their rows; no exception leaves a cell without."""
    try:
        _run_trial(config, trial, _without_row(config, trial, todo), report)
    except Exception as error:
        log = write_log(config, trial.trial_id, traceback.format_exc())
        write_outcome(config, _without_row(config, trial, todo), "failed", one_line(error), log)


def _without_row(config: StudyConfig, trial: Trial, todo: Collection[str]) -> list[dict[str, object]]:
    """Cells still to be measured: those that a killed process of this trial has finished stay as they are."""
    return [c for c in trial.cells(config) if c["cell_id"] in todo and not _row_path(config, c).is_file()]


def _run_trial(config: StudyConfig, trial: Trial, cells: list[dict[str, object]], report: Report) -> None:
    prepare_torch(config.resources.cpus)
    store = FieldStore(Path(config.storage))
    reused = trial.train_id in store
    device = pick_device(config)
    try:
        _data(config.data, config.info.hash)
        field = store.load(trial.train_id, device) if reused else _train(config, trial, store, device, report)
        evaluator = _evaluator(config.data, config.info.hash, config.evaluate, str(device))
    except TrainingDiverged as error:
        write_outcome(config, cells, "diverged", str(error), "")
        return
    _write_history(config, trial, field)
    evaluator.forget_solutions()
    samplers = {p.sampler_id: p.config for p in trial.sampler_points}
    for done, cell in enumerate(cells):
        report({"phase": "measure", "rows": done, "rows_total": len(cells), "reused": reused})
        try:
            measured = evaluator.measure(field, samplers[str(cell["sampler_id"])], int(str(cell["seed_sample"])))
        except Exception as error:
            log = write_log(config, str(cell["cell_id"]), traceback.format_exc())
            write_outcome(config, [cell], "failed", one_line(error), log)
            continue
        facts = {
            "error": None if measured.row["status"] == "complete" else _reason(measured.row),
            "cost_train_s": field.history[-1].elapsed_s if field.history else None,
            "diag_train_loss": field.history[-1].loss if field.history else None,
            "cost_memory_mb": _peak_memory_mb(device),
            "prov_field_reused": reused,
            "prov_device": str(device),
        }
        write_row(config, {**cell, **measured.row, **facts})
        sample_picture(measured.samples, field.process.info, config.folder / "samples" / f"{cell['cell_id']}.png")
    evaluator.forget_solutions()
    report({"phase": "done", "rows": len(cells), "rows_total": len(cells), "reused": reused})


def _reason(row: Mapping[str, object]) -> str:
    if row["status"] == "diverged":
        return "the solve met values that are not finite"
    return f"the solver used up its steps (NFE {row['cost_nfe']:g}); loosen rtol or use another solver"


def _train(config: StudyConfig, trial: Trial, store: FieldStore, device: torch.device, report: Report) -> Field:
    """Train the field, or continue the training that someone began, and publish it."""
    trainer = Trainer(_data(config.data, config.info.hash), config.network, trial.train, trial.seed, device)
    state = store.load_training(trial.train_id)
    if state is not None:
        try:
            trainer.load_state(state)
        except ValueError as error:  # begun on the CPU and continued on CUDA, or the reverse
            logger.warning("%s: %s", trial.trial_id, error)
    saved = time.monotonic()
    for progress in trainer.run():
        report({"phase": "train", "step": progress.step, "steps": progress.steps, "loss": progress.loss})
        if time.monotonic() - saved > CHECKPOINT_S:
            store.save_training(trial.train_id, trainer.state())
            saved = time.monotonic()
    field = Field.from_trainer(trainer)
    store.publish(trial.train_id, field)
    return field


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
def _evaluator(data: DataConfig, data_hash: str, evaluate: EvaluateConfig, device: str) -> Evaluator:
    """Reference statistics, kept between the trials of one worker."""
    return Evaluator(_data(data, data_hash), evaluate, device)


def prepare_torch(threads: int) -> None:
    """One thread (or as many as the trial's CPUs) and deterministic algorithms: equal trials give equal bits."""
    torch.set_num_threads(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
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
    write_table(_row_path(config, row), [{**row, **provenance(config)}], EVALS)


def _row_path(config: StudyConfig, row: Mapping[str, object]) -> Path:
    return config.folder / "evals" / f"{row['cell_id']}.parquet"


def write_log(config: StudyConfig, name: str, text: str) -> str:
    """Keep a traceback as ``logs/<name>.txt``; returns that path, relative to the study."""
    path = config.folder / "logs" / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return f"logs/{name}.txt"


def one_line(error: BaseException) -> str:
    """An exception as a cell of a table."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:500]


def _write_history(config: StudyConfig, trial: Trial, field: Field) -> None:
    path = config.folder / "history" / f"{trial.train_id}.parquet"
    if path.is_file() or not field.history:
        return
    rows = [
        {
            "train_id": trial.train_id, "seed_train": trial.seed, "step": p.step, "loss": p.loss,
            "gradient_norm": p.gradient_norm, "learning_rate": p.learning_rate, "elapsed_s": p.elapsed_s,
        }
        for p in field.history
    ]  # fmt: skip
    write_table(path, rows, HISTORY)


def provenance(config: StudyConfig) -> dict[str, object]:
    """Where and with what a row was made; never part of any identity."""
    return {
        "prov_training_version": TRAINING_VERSION,
        "prov_host": platform.node(),
        "prov_threads": config.resources.cpus,
        "prov_finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **_versions(),
    }


@functools.cache
def _versions() -> dict[str, object]:
    try:
        own = version("pfgm-study")
    except PackageNotFoundError:
        own = "source"
    here = Path(__file__).resolve().parent
    try:
        command = ["git", "-C", str(here), "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
    except OSError:  # no git on this machine
        commit = None
    return {
        "prov_torch": torch.__version__,
        "prov_python": platform.python_version(),
        "prov_version": own,
        "prov_git": commit,
        "prov_cpu": torch.backends.cpu.get_cpu_capability(),
    }
