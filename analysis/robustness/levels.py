"""Measured values of one parameter as groups of independent units.

What counts as one unit follows the design. *one_at_a_time*: a training parameter compares fields (unequal variances, each
moderated by the study's, see `analysis.statistics.variance`); a sampler parameter compares each field with itself at the
default sampler point (paired, fields as blocks). *sobol, grid, random*: the other parameters vary too, so the unit is a
training point (its fields averaged), or a sampler point (averaged over the fields, which are blocks), values are binned
by quantiles, and the reference is the bin that holds the default: a marginal effect.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.rows.meta import HELD, Axis, design_of, has_role, is_default
from analysis.rows.units import unit_key

MAX_BINS = 6


class Cells(NamedTuple):
    """The rows that answer a question about one parameter."""

    rows: pd.DataFrame
    """With columns ``level`` (value, or the median of its bin), ``field`` and ``unit``."""
    held_fixed: str
    skipped: dict[str, int]
    own_bin: Any = None
    """The level of the bin that holds the declared default, where values were binned."""


def axis_cells(frame: pd.DataFrame, axis: Axis) -> Cells:
    """Rows along one parameter, the other group at its default, with the level and the unit of each row."""
    chosen, held, skipped = _select(frame, axis)
    rows = chosen.assign(field=unit_key(chosen))
    inactive = rows[axis.column].isna() if axis.column in rows else pd.Series(True, index=rows.index)
    if design_of(frame) == "one_at_a_time":
        rows["unit"] = rows["field"]
        reference = rows["design_role" if axis.group == "train" else "design_sampler_role"].eq("default")
        inactive &= ~reference  # the default stays the reference where the parameter does not apply to it
    else:
        rows["unit"] = rows["point_id" if axis.group == "train" else "sampler_id"].astype(str)
    if inactive.any():
        skipped[f"{axis.name} inactive"] = int(inactive.sum())
    rows = rows.loc[~inactive].copy()
    rows["level"], own = _levels(rows, axis, design_of(frame))
    if design_of(frame) == "one_at_a_time" and axis.default is not None and not axis.categorical:
        rows.loc[reference.loc[rows.index], "level"] = float(f"{axis.default:.10g}")  # `T: rule` differs from field to field
    return Cells(rows, held, skipped, own)


def _select(frame: pd.DataFrame, axis: Axis) -> tuple[pd.DataFrame, str, dict[str, int]]:
    one = design_of(frame) == "one_at_a_time"
    own, role = ("train", "design_role") if axis.group == "train" else ("sampler", "design_sampler_role")
    keep = has_role(frame[role], "default", f"arm:{axis.name}") if one else ~is_default(frame, own)
    held = [] if one else [f"the other {own} parameters vary (marginal effect)"]
    if axis.group == "train":
        at_default = is_default(frame, "sampler")
        if at_default.any():
            keep &= at_default
            held.append("sampler at its default")
        else:
            held.append("mean over all sampler points (no default one)")
    else:
        held.append("every field compared with itself" if one else "averaged over the fields")
    if one:
        held.append(_constants(frame.loc[keep], axis))
        held.append(f"reference: the default point, where {axis.name} is inactive" if axis.default is None else "")
    skipped = (
        {} if one or keep.all() else {f"not used for {axis.name} (default point or other sampler points)": int((~keep).sum())}
    )
    return frame.loc[keep], "; ".join(text for text in held if text), skipped


def _constants(rows: pd.DataFrame, axis: Axis) -> str:
    """What stayed the same along an axis: M fixed means that the height moves, and the other way round.

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


def _levels(rows: pd.DataFrame, axis: Axis, design: str) -> tuple[pd.Series, Any]:
    """The level of each row, and the one that holds the default (None: the nearest of the values)."""
    if axis.categorical:
        return rows[axis.column].astype(object), None
    values = rows[axis.column].astype(float).map(lambda v: float(f"{v:.10g}") if math.isfinite(v) else v)
    of_unit = values.groupby(rows["unit"]).first()
    if design == "one_at_a_time" or of_unit.nunique() <= MAX_BINS:
        return values, None
    n_bins = max(2, min(MAX_BINS, len(of_unit) // 3))
    edges = np.unique(np.quantile(of_unit, np.linspace(0, 1, n_bins + 1)))

    def bins(v: Any) -> np.ndarray:
        return np.asarray(np.clip(np.searchsorted(edges, v, side="right") - 1, 0, len(edges) - 2))

    middles = of_unit.groupby(bins(of_unit)).median()
    default = axis.default if isinstance(axis.default, (int, float)) else None
    own = float(middles.loc[int(bins(float(default)))]) if default is not None else None
    return pd.Series(middles.reindex(bins(values)).to_numpy(float), index=rows.index), own


def reference_level(cells: Cells, axis: Axis) -> Any:
    """The level that holds the declared default (nearest bin; None where the default has no value here)."""
    levels = cells.rows["level"].dropna().unique()
    if cells.own_bin is not None:
        return cells.own_bin
    if axis.default is None or len(levels) == 0:
        return None
    if axis.categorical:
        return axis.default if axis.default in set(levels) else None
    scale = np.log if axis.log and min(levels) > 0 and axis.default > 0 else np.asarray
    gap = np.abs(scale(np.asarray(levels, dtype=float)) - scale(float(axis.default)))
    return levels[int(np.argmin(gap))]


def unit_values(rows: pd.DataFrame, values: pd.Series) -> pd.DataFrame:
    """One value per (level, unit): the mean over the unit's fields of the mean over each field's rows."""
    usable = rows.assign(y=values).dropna(subset=["y"])
    of_field = usable.groupby(["level", "unit", "field"], sort=False)["y"].mean()
    return of_field.groupby(["level", "unit"], sort=False).mean().reset_index()


def ratios_to_default(rows: pd.DataFrame, values: pd.Series) -> tuple[pd.DataFrame, pd.Series]:
    """The rows with ``ratio``, y less that of the field's default sampler point at the same sample seed, and those defaults."""
    used = rows.assign(y=values)
    base = used.loc[is_default(used, "sampler")].groupby(["field", "seed_sample"])["y"].mean().rename("base")
    used = used.join(base, on=["field", "seed_sample"])
    return used.assign(ratio=used["y"] - used["base"]), base
