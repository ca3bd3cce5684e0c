"""Measured values of one parameter as groups of independent units.

What counts as one unit follows the design. *one_at_a_time*: a training parameter compares fields (unequal variances, each
moderated by the study's, see `analysis.statistics.variance`); a sampler parameter compares each field with itself at the
default sampler point (paired, fields as blocks). *sobol, grid, random*: the other parameters vary too, so the effect is a
marginal one. The unit is a training point (its fields averaged) or a sampler point (averaged over the fields, which are
blocks). Values are binned by quantiles, and the reference is the bin that holds the default.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.rows.meta import HELD, Axis, Value
from analysis.rows.question import Question

MAX_BINS = 6


@dataclass(frozen=True)
class Cells:
    """The rows that answer a question about one parameter."""

    rows: pd.DataFrame
    """Rows with columns ``level`` (value, or the median of its bin), ``field`` and ``unit``."""
    held_fixed: str
    skipped: dict[str, int]
    reference: Value | None
    """The level that holds the declared default (the nearest bin); None where the default has no value here."""
    units: pd.DataFrame
    """One value ``y`` for each ``level`` and ``unit``, and its ``seed``, from `unit_values`."""


def axis_cells(question: Question) -> Cells:
    """Select the rows along one parameter, the other group at its default, and give each row its level and its unit."""
    if "cells" not in question.answers:
        question.answers["cells"] = _axis_cells(question)
    cells: Cells = question.answers["cells"]
    return cells


def _axis_cells(question: Question) -> Cells:
    setting = question.setting
    axis = setting.axis
    rows, held, skipped = _select(question)
    rows = rows.copy()
    inactive = rows[axis.column].isna() if axis.column in rows else pd.Series(True, index=rows.index)
    at_default = setting.default[axis.group].loc[rows.index]
    if setting.one:
        rows["unit"] = rows["field"]
        inactive &= ~at_default  # the default stays the reference where the parameter does not apply to it
    else:
        rows["unit"] = rows["point_id" if axis.group == "train" else "sampler_id"].astype(str)
    if inactive.any():
        skipped[f"{axis.name} inactive"] = int(inactive.sum())
    rows = rows.loc[~inactive].copy()
    rows["level"], own = _levels(rows, axis, setting.one)
    if setting.one and axis.default is not None and not axis.categorical:
        rows.loc[at_default.loc[rows.index], "level"] = float(f"{axis.default:.10g}")  # `T: rule` differs from field to field
    return Cells(rows, held, skipped, _reference(rows["level"], axis, own), unit_values(rows))


def _select(question: Question) -> tuple[pd.DataFrame, str, dict[str, int]]:
    setting = question.setting
    axis, one = setting.axis, setting.one
    keep = setting.along
    held = [] if one else [f"the other {axis.group} parameters vary (marginal effect)"]
    if axis.group == "train":
        at_default = setting.default["sampler"]
        if at_default.any():
            keep = keep & at_default
            held.append("sampler at its default")
        else:
            held.append("mean over all sampler points (no default one)")
    else:
        held.append("every field compared with itself" if one else "averaged over the fields")
    rows = question.frame.loc[keep]
    if one:
        held.append(_constants(rows, axis))
        held.append(f"reference: the default point, where {axis.name} is inactive" if axis.default is None else "")
    unused = 0 if one else int((~keep).sum())
    skipped = {f"not used for {axis.name} (default point or other sampler points)": unused} if unused else {}
    return rows, "; ".join(text for text in held if text), skipped


def _constants(rows: pd.DataFrame, axis: Axis) -> str:
    """Say what stayed the same along an axis: where M is fixed the height moves, and the other way round.

    A key that some compared point has no value of (sigma of process vp) was not held fixed there, so it is not named.
    """
    same, moved = [], []
    points = rows.groupby("point_id" if axis.group == "train" else "sampler_id")  # a row that failed early has fewer numbers
    for name in HELD:
        column = f"{axis.group}_{name}"
        known = column in rows and column != axis.column and bool(points[column].first().notna().all())
        values: list[Any] = list(rows[column].dropna().unique()) if known else []
        if len(values) == 1:
            text = f"{values[0]:.4g}" if isinstance(values[0], (int, float)) else str(values[0])
            same.append(f"{'height_max' if name == 'height_max' else name} = {text}")
        elif len(values) > 1 and name in ("M", "height_max"):
            moved.append("M changes" if name == "M" else "the largest height changes")
    words = ", ".join(moved)
    return f"held fixed: {', '.join(same)}" + (f" ({words})" if moved else "") if same else words


def _levels(rows: pd.DataFrame, axis: Axis, one: bool) -> tuple[pd.Series, float | None]:
    """Return the level of each row, and the level that holds the default (None: the nearest of the values)."""
    if axis.categorical:
        return rows[axis.column].astype(object), None
    values = rows[axis.column].astype(float).map(lambda v: float(f"{v:.10g}") if math.isfinite(v) else v)
    of_unit = values.groupby(rows["unit"]).first()
    if one or of_unit.nunique() <= MAX_BINS:
        return values, None
    n_bins = max(2, min(MAX_BINS, len(of_unit) // 3))
    edges = np.unique(np.quantile(of_unit, np.linspace(0, 1, n_bins + 1)))

    def bins(v: pd.Series | float) -> np.ndarray:
        return np.asarray(np.clip(np.searchsorted(edges, v, side="right") - 1, 0, len(edges) - 2))

    middles = of_unit.groupby(bins(of_unit)).median()
    default = axis.default if isinstance(axis.default, (int, float)) else None
    own = float(middles.loc[int(bins(float(default)))]) if default is not None else None
    return pd.Series(middles.reindex(bins(values)).to_numpy(float), index=rows.index), own


def _reference(level: pd.Series, axis: Axis, own_bin: float | None) -> Value | None:
    """Return the level that holds the declared default (the nearest bin); None where the default has no value here."""
    levels = level.dropna().unique()
    if own_bin is not None:
        return own_bin
    if axis.default is None or len(levels) == 0:
        return None
    if axis.categorical:
        return axis.default if axis.default in set(levels) else None
    numbers, default = np.asarray(levels, dtype=float), float(axis.default)
    scale = np.log if axis.log and numbers.min() > 0 and default > 0 else np.asarray
    nearest: float = levels[int(np.argmin(np.abs(scale(numbers) - scale(default))))]
    return nearest


def unit_values(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one value ``y`` per (level, unit): the mean over the unit's fields of the mean over each field's rows.

    ``seed`` is the train seed of the unit's first field.
    """
    usable = rows.dropna(subset=["y"])
    of_field = usable.groupby(["level", "unit", "field"], sort=False).agg(y=("y", "mean"), seed=("seed_train", "first"))
    return of_field.groupby(["level", "unit"], sort=False).agg(y=("y", "mean"), seed=("seed", "first")).reset_index()


def ratios_to_default(rows: pd.DataFrame, default: pd.Series) -> tuple[pd.DataFrame, pd.Series]:
    """Return the rows with ``ratio``, and the values at the default sampler point.

    ratio = y less that of the field's default sampler point at the same sample seed.

    Args:
        rows: of `Cells`.
        default: whether a row is at the default sampler point, of these rows and perhaps of others.
    """
    base = rows.loc[default.loc[rows.index]].groupby(["field", "seed_sample"])["y"].mean().rename("base")
    used = rows.join(base, on=["field", "seed_sample"])
    return used.assign(ratio=used["y"] - used["base"]), base
