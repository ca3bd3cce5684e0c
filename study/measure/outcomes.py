"""What a trial leaves behind: rows, tracebacks, and the history of a training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from pfgm.flow.exact import ExactField
from pfgm.flow.trained import Field
from study.config.study import StudyConfig
from study.measure.provenance import provenance
from study.plan.cell import Cell
from study.plan.own_columns import evals_schema
from study.plan.trial import Trial
from study.rows.folders import is_of_bundle, is_segment, oldest_first, read_files
from study.rows.records import HISTORY, DamagedFile, done_columns, is_done, read_table, write_table
from study.rows.storage import Place


def outcomes(cells: Iterable[Cell], status: str, error: str, log: str) -> Iterator[Mapping[str, object]]:
    """Yield rows for cells that have no measurement: the status and the reason are the result."""
    for cell in cells:
        yield {**cell.to_row(), "status": status, "error": error, "error_log": log or None}


def write_row(config: StudyConfig, row: Mapping[str, object]) -> None:
    """Write one cell's row, whole, as ``evals/<cell_id>.parquet``."""
    write_table(row_path(config, str(row["cell_id"])), [{**row, **provenance(config)}], evals_schema())


def row_path(config: StudyConfig, cell_id: str) -> Place:
    """Return where a cell's row is, if it has a file of its own."""
    return config.folder / "evals" / f"{cell_id}.parquet"


def write_log(config: StudyConfig, name: str, text: str) -> str:
    """Keep a traceback as ``logs/<name>.txt``; returns that path, relative to the study."""
    path = config.folder / "logs" / f"{name}.txt"
    path.write(text.encode())
    return f"logs/{name}.txt"


def one_line(error: BaseException) -> str:
    """Return an exception as a cell of a table."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:500]


def is_measured(config: StudyConfig, cell: Cell) -> bool:
    """Tell whether a cell has its row, with every metric that is asked for."""
    try:
        return all(is_done(row, config.evaluate.metrics) for row in read_table(row_path(config, cell.cell_id)))
    except (FileNotFoundError, DamagedFile):
        return False


def measured_since(config: StudyConfig, cells: Iterable[Cell]) -> set[str]:
    """Return which of some cells have their row, with every metric that is asked for, in a file of many.

    The driver puts no row there whose trial runs. But a worker whose driver died may still run while the next driver does so.
    """
    wanted, folder, found = pa.array([c.cell_id for c in cells], pa.string()), config.folder / "evals", set[str]()
    several = [name for name in oldest_first(folder.files()) if is_segment(name) or is_of_bundle(name)]
    for _, rows in read_files(folder, several, [], ["cell_id", *done_columns(config.evaluate.metrics)]):
        some = rows.filter(pc.is_in(rows["cell_id"], wanted)).to_pylist()
        found |= {str(row["cell_id"]) for row in some if is_done(row, config.evaluate.metrics)}
    return found


def reason_of(row: Mapping[str, object]) -> str | None:
    """Return why a measured row is not complete, None where it is."""
    if row["status"] == "complete":
        return None
    if row["status"] == "diverged":
        return "the solve met values that are not finite"
    return f"the solver used up its steps (NFE {row['cost_nfe']:g}); loosen rtol or use another solver"


def write_history(config: StudyConfig, trial: Trial, field: Field | ExactField) -> None:
    """Write how the training went, once a field; nothing where it was not trained here."""
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
