"""A study folder as one data frame: planned cells left-joined with measured rows.

The manifest lists every planned cell, the files under ``evals/`` the measured ones. A planned cell without a row is
``pending``; a row whose cell is not planned (the plan was reduced, or a ``tpe`` study) is kept and counted; of two rows
of one cell, which are identical by construction, one is kept and the other counted. Counts travel in
``frame.attrs["skipped"]``, the study's resolved YAML in ``frame.attrs["study"]``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from study.rows.records import EVALS, HISTORY, MANIFEST, SCHEMA_VERSION, DamagedFile, read_arrow, read_folder
from study.rows.storage import Place, StorageError

LABELS = {
    "sigma": "σ (data units)",
    "tau": "τ",
    "M": "M (maximal exponent)",
    "height_ratio": "height σ(1+τ)^M (× the rule's)",
    "gamma": "γ (data units)",
    "reference_batch_size": "reference batch N_ref (points)",
    "steps": "steps",
    "batch_size": "batch size (points)",
    "learning_rate": "learning rate",
    "n_aug": "extra dimensions D",
    "P_mean": "P_mean (mean of log t)",
    "P_std": "P_std (sd of log t)",
    "T": "T (data units)",
    "T_ratio": "T (× the rule's T)",
    "t_min": "t_min (data units)",
    "rtol": "relative tolerance rtol",
    "atol": "absolute tolerance atol (data units)",
    "max_radius_ratio": "prior truncation R/T",
    "width": "network width (units)",
    "depth": "network depth (blocks)",
}


class AnalysisError(ValueError):
    """A study that cannot be read or a question it cannot answer; the message says what to do."""


class Axis(NamedTuple):
    """One searched parameter of a study."""

    name: str
    """The key in search.yaml, e.g. ``sigma`` or ``T_ratio``."""
    group: str
    """``train`` or ``sampler``."""
    column: str
    """The column that holds the resolved value."""
    label: str
    """For plots, with unit."""
    log: bool
    """Whether the search was logarithmic."""
    categorical: bool
    low: float | None
    high: float | None
    default: Any
    """The declared default, resolved; None where it is inactive or unknown."""


class Shared(dict[str, Any]):
    """A dictionary that copies of a frame share: pandas deep-copies ``attrs`` at every operation, which is slow."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Shared:
        return self


def load_study(path: str | Path | Place, perturbed: bool = False) -> pd.DataFrame:
    """Planned cells ⟕ measured rows: every planned cell is exactly one row, ``status`` "pending" if not measured.

    Args:
        path: a study folder, ``results/<study>``, or its ``s3://`` URI.
        perturbed: keep the rows of disturbed fields (``perturb_kind`` not null) for `analysis.perturbation_robustness`;
            they answer another question, so without it they are left out and counted.
    Returns:
        Columns of ``study.rows.records.EVALS``; ``attrs``: ``study`` (dict), ``path`` (str), ``skipped`` ({reason: count}).
    Raises:
        AnalysisError: no study there, or an unreadable file.
    """
    folder = place_of(path)
    study = _read_yaml(folder)
    skipped: dict[str, int] = {}
    measured = _concat(_read_all(folder / "evals", EVALS, skipped), EVALS)
    planned = _read_manifest(folder, skipped)
    if not planned.num_rows and not measured.num_rows:
        raise AnalysisError(f"{folder}: the study has no planned cell and no row; run python -m study.run search.yaml")
    measured = _one_row_a_cell(_final(measured, skipped), skipped, "duplicate row")
    frame = _join(planned, measured, skipped).to_pandas()
    disturbed = frame["perturb_kind"].notna()
    if disturbed.any() and not perturbed:
        _count(skipped, "perturbed field (load_study(…, perturbed=True) keeps it)", int(disturbed.sum()))
        frame = frame.loc[~disturbed].reset_index(drop=True)
    frame.attrs = {"study": Shared(study), "path": folder.uri, "skipped": skipped}
    return frame


def undisturbed(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of fields as they were trained, in a new index; how many were disturbed is kept in ``attrs["disturbed"]``.

    Every statistic that is not about disturbances begins with it: a disturbed row is no outcome of its configuration.
    """
    if "perturb_kind" not in frame or frame["perturb_kind"].isna().all():
        return frame
    rows = frame.loc[frame["perturb_kind"].isna()].reset_index(drop=True)
    rows.attrs = {**frame.attrs, "disturbed": len(frame) - len(rows)}
    return rows


def load_history(path: str | Path | Place) -> pd.DataFrame:
    """Training histories of a study, sorted by field and step: train_id, seed_train, step, loss, gradient_norm, …

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
    frame = _concat(_read_all(folder / "history", HISTORY, skipped), HISTORY).to_pandas()
    frame = frame.sort_values(["train_id", "seed_train", "step"], kind="stable").reset_index(drop=True)
    frame.attrs = {"path": folder.uri, "skipped": skipped}
    return frame


def place_of(path: str | Path | Place) -> Place:
    """A study folder, local or in an object store.

    Raises:
        AnalysisError: another kind of URI.
    """
    try:
        return Place.of(path)
    except ValueError as error:
        raise AnalysisError(f"{path}: {error}") from None


def searched_axes(frame: pd.DataFrame) -> list[Axis]:
    """The searched parameters in the order of the YAML, training first, with the default resolved from the rows."""
    search = study_of(frame).get("search") or {}
    return [
        _axis(frame, group, name, distribution)
        for group in ("train", "sampler")
        for name, distribution in (search.get(group) or {}).items()
    ]


def find_axis(frame: pd.DataFrame, parameter: str | Axis) -> Axis:
    """The searched axis called ``parameter``: a key, ``T`` for ``T_ratio``, or its column.

    Raises:
        AnalysisError: no such searched parameter.
    """
    if isinstance(parameter, Axis):
        return parameter
    axes = searched_axes(frame)
    for axis in axes:
        if parameter in (axis.name, axis.column, f"{axis.group}.{axis.name}"):
            return axis
    for axis in axes:
        if parameter == "T" and axis.name == "T_ratio":
            return axis
    names = ", ".join(f"{axis.group}.{axis.name}" for axis in axes) or "none"
    raise AnalysisError(f"{parameter}: not a searched parameter of this study; searched: {names}")


def study_of(frame: pd.DataFrame) -> dict[str, Any]:
    """The study's resolved YAML, which `load_study` keeps in ``frame.attrs``."""
    study: dict[str, Any] = frame.attrs.get("study") or {}
    return study


def design_of(frame: pd.DataFrame) -> str:
    """Name of the design: one_at_a_time, sobol, grid, random or tpe."""
    return str((study_of(frame).get("design") or {}).get("name") or "one_at_a_time")


def tolerance_of(frame: pd.DataFrame) -> float:
    """The declared tolerance on the metric, a fraction (default 0.10)."""
    declared = (study_of(frame).get("analysis") or {}).get("tolerance")
    return 0.10 if declared is None else float(declared)


def has_role(roles: pd.Series, *wanted: str) -> pd.Series:
    """Whether a point has one of the roles: a point on two arms has both, ``arm:solver+arm:steps``."""
    return roles.map(lambda role: not set(wanted).isdisjoint(str(role).split("+")))


def is_default(frame: pd.DataFrame, group: str) -> pd.Series:
    """Rows at the default training point (``group`` "train") or sampler point ("sampler")."""
    column = "design_role" if group == "train" else "design_sampler_role"
    return frame[column].eq("default").fillna(False).astype(bool)


def as_number(value: object) -> float | None:
    """A YAML scalar as a number, or None: PyYAML reads ``1e-4`` as text."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(str(value))
    except ValueError:
        return None


def _axis(frame: pd.DataFrame, group: str, name: str, distribution: dict[str, Any]) -> Axis:
    column = next((c for c in (f"{group}_{name}", f"network_{name}") if c in frame.columns), f"{group}_{name}")
    kind = next((k for k in distribution if k in _KINDS), "choice")
    numeric = column in frame.columns and pd.api.types.is_numeric_dtype(frame[column])
    numeric = numeric and not pd.api.types.is_bool_dtype(frame[column])
    bounds = [as_number(value) for value in distribution.get(kind, [])]
    numbers = [value for value in bounds if value is not None]
    if numeric and None in bounds:  # a word among the choices (`all`) has its number in the rows only
        numbers += [float(value) for value in frame[column].dropna()]
    low, high = (min(numbers), max(numbers)) if numeric and numbers else (None, None)
    wide = low is not None and high is not None and low > 0 and high / low >= 8
    return Axis(
        name=name,
        group=group,
        column=column,
        label=LABELS.get(name, name.replace("_", " ")),
        log=bool(numeric and (kind.startswith("log") or (kind == "choice" and wide))),
        categorical=not numeric,
        low=low,
        high=high,
        default=_default_value(frame, group, name, column, numeric),
    )


_KINDS = ("log_uniform", "uniform", "choice", "int_uniform", "log_int_uniform")


def _default_value(frame: pd.DataFrame, group: str, name: str, column: str, numeric: bool) -> Any:
    if column not in frame.columns:
        return None
    both = is_default(frame, "train") & is_default(frame, "sampler")
    rows = frame.loc[both if both.any() else is_default(frame, group)]
    known = rows[column].dropna()
    if len(known):
        value = known.mode().iloc[0]
        return float(value) if numeric else value
    if len(rows):
        return None
    declared = (study_of(frame).get(group) or {}).get(name)  # tpe may lack the default point
    return as_number(declared) if numeric else declared


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


def _read_manifest(folder: Place, skipped: dict[str, int]) -> pa.Table:
    path = folder / "manifest.parquet"
    try:
        table = read_arrow(path)
    except FileNotFoundError:
        return MANIFEST.empty_table()
    except (DamagedFile, StorageError) as error:
        raise AnalysisError(f"{error}; run the study again, which mends it") from error
    return _one_row_a_cell(_fit(table, path, MANIFEST, skipped), skipped, "planned twice")


def _read_all(folder: Place, schema: pa.Schema, skipped: dict[str, int]) -> list[pa.Table]:
    try:
        return [_fit(table, folder, schema, skipped) for table in read_folder(folder)]
    except (DamagedFile, StorageError) as error:
        raise AnalysisError(f"{error}; run the study again, which mends it") from error


def _fit(table: pa.Table, path: Place, schema: pa.Schema, skipped: dict[str, int]) -> pa.Table:
    """A table with the columns of this version's schema."""
    names = set(table.column_names)
    if "schema_version" in names:
        newest = pc.max(table["schema_version"]).as_py() or 0
        if newest > SCHEMA_VERSION:
            raise AnalysisError(f"{path}: written with row schema {newest}, this is {SCHEMA_VERSION}; update the toolkit")
    unknown = names - set(schema.names)
    if unknown:
        _count(skipped, f"column not in the row schema: {', '.join(sorted(unknown))}", 1)
    columns = [
        table[field.name].cast(field.type) if field.name in names else pa.nulls(table.num_rows, field.type) for field in schema
    ]
    return pa.table(columns, schema=schema)


def _concat(tables: list[pa.Table], schema: pa.Schema) -> pa.Table:
    return pa.concat_tables(tables) if tables else schema.empty_table()


def _final(rows: pa.Table, skipped: dict[str, int]) -> pa.Table:
    intermediate = pc.fill_null(pc.invert(rows["is_final"]), False)
    n = pc.sum(intermediate).as_py() or 0
    _count(skipped, "intermediate step (is_final false)", n)
    return rows.filter(pc.invert(intermediate)) if n else rows


def _one_row_a_cell(rows: pa.Table, skipped: dict[str, int], reason: str) -> pa.Table:
    first: dict[str, int] = {}
    for i, cell in enumerate(rows["cell_id"].to_pylist()):
        first.setdefault(cell, i)
    _count(skipped, reason, rows.num_rows - len(first))
    return rows.take(pa.array(list(first.values()))) if len(first) < rows.num_rows else rows


def _join(planned: pa.Table, measured: pa.Table, skipped: dict[str, int]) -> pa.Table:
    """Rows in the order planned, then those that no plan names; in Arrow, where 100,000 rows take no time."""
    cells = planned["cell_id"].to_pylist()
    place = {cell: i for i, cell in enumerate(measured["cell_id"].to_pylist())}
    missing = [i for i, cell in enumerate(cells) if cell not in place]
    pending = _fill(planned.take(pa.array(missing, pa.int64())))
    place_pending = {cells[i]: measured.num_rows + k for k, i in enumerate(missing)}
    order = [place.pop(cell) if cell in place else place_pending[cell] for cell in cells]
    _count(skipped, "row not in the plan (kept)", len(place))
    both = pa.concat_tables([measured, pending])
    return both.take(pa.array([*order, *place.values()], pa.int64()))


def _fill(planned: pa.Table) -> pa.Table:
    """Planned cells as rows that were not measured yet."""
    n, names = planned.num_rows, set(planned.column_names)
    columns = [planned[field.name] if field.name in names else pa.nulls(n, field.type) for field in EVALS]
    columns[EVALS.get_field_index("status")] = pa.array(["pending"] * n, pa.string())
    return pa.table(columns, schema=EVALS)


def _count(skipped: dict[str, int], reason: str, n: int) -> None:
    if n:
        skipped[reason] = skipped.get(reason, 0) + n
