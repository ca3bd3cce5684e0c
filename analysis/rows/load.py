"""A study folder as one data frame: planned cells left-joined with measured rows.

The manifest lists every planned cell, the files under ``evals/`` the measured ones. A planned cell without a row is
``pending``; a row whose cell is not planned (the plan was reduced, or a ``tpe`` study) is kept and counted; of two rows
of one cell the newer is kept and the other counted (`study.rows.folders`). Counts travel in ``frame.attrs["skipped"]``, the
study's resolved YAML in ``frame.attrs["study"]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from analysis.rows.meta import AnalysisError, Shared
from analysis.rows.on_the_way import quality_curves
from study.rows.facts import carried_facts, own_fields
from study.rows.folders import read_folder
from study.rows.planned import read_plan
from study.rows.records import EVALS, HISTORY, MANIFEST, SCHEMA_VERSION, DamagedFile
from study.rows.storage import Place, StorageError

NEEDED = ("cell_id", "is_final", "perturb_kind", "status", "schema_version")
"""Columns by which `load_study` knows what a row is."""


def load_study(
    path: str | Path | Place, perturbed: bool = False, columns: Sequence[str] | None = None, on_the_way: bool = False
) -> pd.DataFrame:
    """Load planned cells ⟕ measured rows: every planned cell is exactly one row, ``status`` "pending" if not measured.

    Args:
        path: a study folder, ``results/<study>``, or its ``s3://`` URI.
        perturbed: keep the rows of disturbed fields (``perturb_kind`` not null) for `analysis.perturbation_robustness`;
            they answer another question, so without it they are left out and counted.
        columns: those to read, for a frame of your own from a very large study; ``cell_id`` and ``status`` come too. The
            statistics of this package want all of them, which is what None reads.
        on_the_way: keep the rows of fields before the end of their training (``is_final`` false) for
            `analysis.ratings_by_length` and `analysis.learning_curves`; without it they are left out and counted.
    Returns:
        Columns of ``study.rows.records.EVALS``, or those asked for; ``attrs``: ``study`` (dict), ``path`` (str), ``skipped``
        ({reason: count}), ``columns`` (what the row files say of their columns; `analysis.rows.facts` reads it).
    Raises:
        AnalysisError: no study there, or an unreadable file.
    """
    folder = place_of(path)
    study = _read_yaml(folder)
    skipped: dict[str, int] = {}
    read = None if columns is None else [*dict.fromkeys([*NEEDED, *columns])]
    schema = EVALS if read is None else pa.schema([field for field in EVALS if field.name in read])
    tables = _read_all(folder / "evals", read)
    facts = carried_facts(table.schema for table in tables)
    measured = _concat(_fit_all(tables, folder / "evals", schema, skipped), schema)
    planned = _read_manifest(folder, read, skipped)
    if not planned.num_rows and not measured.num_rows:
        raise AnalysisError(f"{folder}: the study has no planned cell and no row; run python -m study.run search.yaml")
    if not on_the_way:
        measured, planned = _final(measured, planned, skipped)
    measured = _one_row_a_cell(measured, skipped, "duplicate row")
    frame: pd.DataFrame = _join(planned, measured, schema, skipped).to_pandas()
    disturbed = frame["perturb_kind"].notna()
    if disturbed.any() and not perturbed:
        _count(skipped, "perturbed field (load_study(…, perturbed=True) keeps it)", int(disturbed.sum()))
        frame = frame.loc[~disturbed].reset_index(drop=True)
    if columns is not None:
        frame = frame[[name for name in frame.columns if name in ("cell_id", "status", *columns)]]
    frame.attrs = {"study": Shared(study), "path": folder.uri, "skipped": skipped, "columns": Shared(facts)}
    return frame


def load_history(path: str | Path | Place) -> pd.DataFrame:
    """Load the training histories of a study, sorted by field and step: train_id, seed_train, step, loss, …

    Args:
        path: a study folder, ``results/<study>``, or its ``s3://`` URI.
    Returns:
        One row per logged step of each field; empty when nothing was logged.
    Raises:
        AnalysisError: no such folder, or an unreadable file.
    """
    folder = place_of(path)
    if not folder.remote and not folder.local.is_dir():
        raise AnalysisError(f"no study at {folder}: run python -m study.run search.yaml")
    skipped: dict[str, int] = {}
    history: pd.DataFrame = _concat(
        _fit_all(_read_all(folder / "history"), folder / "history", HISTORY, skipped), HISTORY
    ).to_pandas()
    frame = history.sort_values(["train_id", "seed_train", "step"], kind="stable").reset_index(drop=True)
    frame.attrs = {"path": folder.uri, "skipped": skipped}
    return frame


def place_of(path: str | Path | Place) -> Place:
    """Return a study folder, local or in an object store.

    Raises:
        AnalysisError: another kind of URI.
    """
    try:
        return Place.of(path)
    except ValueError as error:
        raise AnalysisError(f"{path}: {error}") from None


def _read_yaml(folder: Place) -> dict[str, Any]:
    try:
        study = yaml.safe_load((folder / "study.yaml").read().decode())
    except (FileNotFoundError, StorageError) as error:
        reason = "" if isinstance(error, FileNotFoundError) else f" ({error})"
        raise AnalysisError(f"no study at {folder}{reason}: run python -m study.run search.yaml") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise AnalysisError(f"{folder / 'study.yaml'}: not readable YAML ({str(error).splitlines()[0]})") from error
    if not isinstance(study, dict):
        raise AnalysisError(f"{folder / 'study.yaml'}: holds no mapping; run python -m study.run search.yaml again")
    return study


def _read_manifest(folder: Place, columns: Sequence[str] | None, skipped: dict[str, int]) -> pa.Table:
    schema = MANIFEST if columns is None else pa.schema([field for field in MANIFEST if field.name in columns])
    try:
        tables = read_plan(folder, columns)
    except FileNotFoundError:
        return schema.empty_table()
    except (DamagedFile, StorageError) as error:
        raise AnalysisError(f"{error}; run the study again, which mends it") from error
    planned = _concat(_fit_all(tables, folder / "manifest.parquet", schema, skipped), schema)
    return _one_row_a_cell(planned, skipped, "planned twice")


def _read_all(folder: Place, columns: Sequence[str] | None = None) -> list[pa.Table]:
    try:
        return read_folder(folder, columns=columns)
    except (DamagedFile, StorageError) as error:
        raise AnalysisError(f"{error}; run the study again, which mends it") from error


def _fit_all(tables: list[pa.Table], folder: Place, schema: pa.Schema, skipped: dict[str, int]) -> list[pa.Table]:
    return [_fit(table, folder, schema, skipped) for table in tables]


def _fit(table: pa.Table, path: Place, schema: pa.Schema, skipped: dict[str, int]) -> pa.Table:
    """Return a table with the columns of this version's schema, and those of added parts."""
    names = set(table.column_names)
    if "schema_version" in names:
        newest = pc.max(table["schema_version"]).as_py() or 0
        if newest > SCHEMA_VERSION:
            raise AnalysisError(f"{path}: written with row schema {newest}, this is {SCHEMA_VERSION}; update the toolkit")
    schema = pa.schema([*schema, *(field for field in own_fields(table.schema) if field.name not in schema.names)])
    unknown = names - set(schema.names)
    if unknown:
        _count(skipped, f"column not in the row schema: {', '.join(sorted(unknown))}", 1)
    columns = [
        table[field.name].cast(field.type) if field.name in names else pa.nulls(table.num_rows, field.type) for field in schema
    ]
    return pa.table(columns, schema=schema)


def _concat(tables: list[pa.Table], schema: pa.Schema) -> pa.Table:
    return pa.concat_tables(tables, promote_options="default") if tables else schema.empty_table()


def _final(measured: pa.Table, planned: pa.Table, skipped: dict[str, int]) -> tuple[pa.Table, pa.Table]:
    """Leave out what is of a step on the way; a row that does not say so is of the end."""
    ends = [pc.fill_null(rows["is_final"], True) for rows in (measured, planned)]
    pairs = list(zip((measured, planned), ends, strict=True))
    left_out = {cell for rows, end in pairs for cell in rows.filter(pc.invert(end))["cell_id"].to_pylist()}
    _count(skipped, "intermediate step (is_final false)", len(left_out))
    return measured.filter(ends[0]), planned.filter(ends[1])


def _one_row_a_cell(rows: pa.Table, skipped: dict[str, int], reason: str) -> pa.Table:
    """Return the last row of each cell, in the order in which the cells first come."""
    last = {cell: i for i, cell in enumerate(rows["cell_id"].to_pylist())}
    _count(skipped, reason, rows.num_rows - len(last))
    return rows.take(pa.array(list(last.values()))) if len(last) < rows.num_rows else rows


def _join(planned: pa.Table, measured: pa.Table, schema: pa.Schema, skipped: dict[str, int]) -> pa.Table:
    """Join rows in the order planned, then those that no plan names; in Arrow 100,000 rows take no time."""
    cells = planned["cell_id"].to_pylist()
    place = {cell: i for i, cell in enumerate(measured["cell_id"].to_pylist())}
    missing = [i for i, cell in enumerate(cells) if cell not in place]
    pending = _fill(planned.take(pa.array(missing, pa.int64())), schema)
    place_pending = {cells[i]: measured.num_rows + k for k, i in enumerate(missing)}
    order = [place.pop(cell) if cell in place else place_pending[cell] for cell in cells]
    _count(skipped, "row not in the plan (kept)", len(place))
    both = pa.concat_tables([measured, pending], promote_options="default")
    return both.take(pa.array([*order, *place.values()], pa.int64()))


def _fill(planned: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return planned cells as rows that were not measured yet."""
    n, names = planned.num_rows, set(planned.column_names)
    schema = pa.schema([*schema, *own_fields(planned.schema)])
    columns = [planned[field.name] if field.name in names else pa.nulls(n, field.type) for field in schema]
    columns[schema.get_field_index("status")] = pa.array(["pending"] * n, pa.string())
    return pa.table(columns, schema=schema)


def _count(skipped: dict[str, int], reason: str, n: int) -> None:
    if n:
        skipped[reason] = skipped.get(reason, 0) + n


def learning_curves(data: str | Path | pd.DataFrame, metric: str | None = None) -> pd.DataFrame:
    """Return training histories with the role of each field; with a metric its quality on the way instead of its loss.

    Args:
        data: a study folder, its rows as `analysis.load_study` gives them, or a frame of `analysis.load_history`.
        metric: a metric of a study with ``evaluate.at_steps``, as `analysis.rows.on_the_way.quality_curves` takes it; its rows
            are loaded with ``on_the_way=True``.
    Returns:
        train_id, seed_train, step, loss, gradient_norm, learning_rate, elapsed_s, and design_role (None when the
        field is not in the plan or a history was given). With a metric: train_id, seed_train, step, design_role, value.
    Raises:
        AnalysisError: no such study; with a metric, no row on the way.
    """
    if metric is not None:
        if isinstance(data, pd.DataFrame) and "value" in data.columns:
            return data
        return quality_curves(data if isinstance(data, pd.DataFrame) else load_study(data, on_the_way=True), metric)
    if isinstance(data, pd.DataFrame) and "loss" in data.columns:
        return data if "design_role" in data.columns else data.assign(design_role=None)
    rows = data if isinstance(data, pd.DataFrame) else load_study(data)
    history = load_history(str(rows.attrs["path"]))
    roles = rows.dropna(subset=["train_id"]).drop_duplicates("train_id").set_index("train_id")["design_role"]
    return history.assign(design_role=history["train_id"].map(roles))
