"""Designs that fill the declared box, reduced to one value a point: what importance, volume and sensitivity are made of.

Rows of one field are not independent, so a training point is one unit: its value is the mean over its fields of the log metric
at the default sampler point (a sampler point: the mean over all fields). Points that failed are outcomes, not gaps: they count
as outside the tolerance and as worse than every other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.load import AnalysisError, Axis, design_of, field_key, is_default, searched_axes
from analysis.statistics import metric_values

SPACE_FILLING = ("sobol", "random", "grid")
BAD = ("failed", "timeout", "diverged", "solver_limit")


class Points(NamedTuple):
    """Independent points of one group of parameters."""

    group: str
    axes: tuple[Axis, ...]
    table: pd.DataFrame
    """One row a point: its id as index, ``y`` (log metric, NaN where it failed), ``failed``, and a column per axis."""
    reference: float
    """Log metric of the default point; NaN where it has none."""
    held_fixed: str
    skipped: dict[str, int]


def designs(frame: pd.DataFrame) -> set[str]:
    """Names of the designs that made the rows: what they say of themselves, else what the study's YAML says."""
    known = set(frame["prov_design"].dropna().unique()) if "prov_design" in frame else set()
    return {str(name) for name in known} or {design_of(frame)}


def need_space_filling(frame: pd.DataFrame, statistic: str, force: bool) -> None:
    """Refuse a statistic that another design makes invalid.

    Raises:
        AnalysisError: naming the design, its key and the cure.
    """
    wrong = sorted(designs(frame) - set(SPACE_FILLING))
    if wrong and not force:
        raise AnalysisError(
            f"{statistic} needs an iid or Sobol' design; this study used {' and '.join(wrong)} (search.yaml: design.name)."
            " Use design: sobol, or pass force=True."
        )


def design_points(frame: pd.DataFrame, group: str, metric: str) -> Points:
    """The points of a design in the ``train`` or ``sampler`` group, the default point left out: it was not drawn.

    Args:
        frame: rows of `analysis.load_study`.
        group: ``train`` or ``sampler``.
        metric: averaged on the log where it is one of those.
    """
    key, other = ("point_id", "sampler") if group == "train" else ("sampler_id", "train")
    at_default = is_default(frame, "sampler")
    rows, held = frame, "mean over all fields"
    if group == "train":
        rows, held = (
            (frame.loc[at_default], "default sampler point") if at_default.any() else (frame, "mean over sampler points")
        )
    values, skipped = metric_values(rows, metric)
    known = rows.assign(y=values, field=field_key(rows))
    known.attrs = {}
    pending = known["status"].eq("pending")
    known = known.loc[~pending]
    own = is_default(known, group)
    of_field = known.dropna(subset=["y"]).groupby([key, "field"])["y"].mean()
    table = pd.DataFrame({"y": of_field.groupby(level=key).mean()}).reindex(known.loc[~own, key].dropna().unique())
    table["failed"] = known["status"].isin(BAD).groupby(known[key]).any().reindex(table.index)
    table.loc[table["failed"], "y"] = math.nan
    axes = tuple(a for a in searched_axes(frame) if a.group == group and a.column in frame.columns)
    for axis in axes:
        table[axis.column] = known.groupby(key)[axis.column].first().reindex(table.index)
    reference = known.loc[own & is_default(known, other)] if group == "sampler" else known.loc[own]
    return Points(group, axes, table, float(reference["y"].mean()) if len(reference) else math.nan, held, skipped)


def ranked(points: Points) -> np.ndarray:
    """Ranks of the points' values, shape (n,); failed ones share the last place."""
    y = points.table["y"].to_numpy(float)
    worst = np.nanmax(y) if np.isfinite(y).any() else 0.0
    return pd.Series(np.where(np.isfinite(y), y, worst + 1.0)).rank().to_numpy()


def codes(values: pd.Series, axis: Axis, max_bins: int = 6) -> np.ndarray:
    """Category or quantile bin of each value, shape (n,), −1 where the parameter is inactive."""
    if axis.categorical or values.nunique() <= max_bins:
        return np.asarray(pd.factorize(values)[0])
    n_bins = max(2, min(max_bins, int(values.notna().sum()) // 8))
    binned = pd.qcut(values.astype(float), n_bins, labels=False, duplicates="drop")
    return np.asarray(binned.fillna(-1).astype(int))


def permutations(n: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` random orders of n points, shape (count, n)."""
    return np.argsort(rng.random((count, n)), axis=1)


def permutation_p(observed: float, permuted: np.ndarray) -> float:
    """(1 + #{permuted ≥ observed}) / (1 + B): never 0, exact for exchangeable points."""
    return float((1 + (permuted >= observed - 1e-12).sum()) / (1 + len(permuted)))


def as_frame(rows: Sequence[dict[str, Any]], columns: Sequence[str], attrs: dict[Any, Any]) -> pd.DataFrame:
    """A result table with all its columns, even when it is empty."""
    result = pd.DataFrame(list(rows), columns=list(columns))
    result.attrs = attrs
    return result
