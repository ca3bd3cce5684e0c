"""Designs that fill the declared box, reduced to one value a point: what importance, volume and sensitivity are made of.

Rows of one field are not independent, so a training point is one unit, and so is a sampler point. Points that failed are
outcomes, not gaps: they count as outside the tolerance and as worse than every other.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.rows.meta import AnalysisError, Axis, design_of, is_default, searched_axes
from analysis.rows.metrics import BAD, metric_values, need_ratio_metric
from analysis.rows.question import statistic
from analysis.rows.units import unit_key

SPACE_FILLING = ("sobol", "random", "grid")


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
    """Return the names of the designs that made the rows, or of the study's design where rows do not say."""
    known = set(frame["prov_design"].dropna().unique()) if "prov_design" in frame else set()
    return {str(name) for name in known} or {design_of(frame)}


def need_box(frame: pd.DataFrame, metric: str, statistic: str, force: bool) -> None:
    """Refuse a statistic about the whole box where the design or the metric does not allow it.

    Raises:
        AnalysisError: a design that does not fill the box, its key and the cure; or a metric of which more is better.
    """
    wrong = sorted(designs(frame) - set(SPACE_FILLING))
    if wrong and not force:
        raise AnalysisError(
            f"{statistic} needs an iid or Sobol' design; this study used {' and '.join(wrong)} (search.yaml: design.name)."
            " Use design: sobol, or pass force=True."
        )
    need_ratio_metric(frame, metric, statistic)


def searched_points(frame: pd.DataFrame, metric: str, skipped: dict[str, int]) -> Iterator[Points]:
    """Yield `design_points` of each searched group, training first; what they left out is added to ``skipped``."""
    for group in ("train", "sampler"):
        points = design_points(frame, group, metric)
        if points.axes:
            skipped |= points.skipped
            yield points


@statistic()
def design_points(frame: pd.DataFrame, group: str, metric: str) -> Points:
    """Return the points of a design in the ``train`` or ``sampler`` group, without the default point, which was not drawn.

    A training point's value is the mean over its fields at the default sampler point, its reference the default training point.
    A sampler point's value is the mean over fields of the log ratio to the same field at the default sampler point. Its
    reference is therefore 0. A field with no complete cell says nothing of samplers; it is left out and counted.

    Args:
        frame: rows of `analysis.load_study`.
        group: ``train`` or ``sampler``.
        metric: one averaged on the log.
    """
    values, skipped = metric_values(frame, metric)
    known = frame.assign(y=values, field=unit_key(frame))
    known.attrs = {}
    known = known.loc[known["status"].ne("pending")]
    at_default = is_default(known, "sampler")
    if group == "train":
        key, held = "point_id", "default sampler point" if at_default.any() else "mean over sampler points"
        known = known.loc[at_default] if at_default.any() else known
        reference = float(known.loc[is_default(known, "train"), "y"].mean())
    else:
        key, held = "sampler_id", "mean over fields of the ratio to the same field at the default sampler point"
        known, reference = _within_fields(known, at_default, skipped)
    own = is_default(known, group)
    of_field = known.dropna(subset=["y"]).groupby([key, "field"])["y"].mean()
    table = pd.DataFrame({"y": of_field.groupby(level=key).mean()}).reindex(known.loc[~own, key].dropna().unique())
    table["failed"] = known["status"].isin(BAD).groupby(known[key]).any().reindex(table.index)
    table.loc[table["failed"], "y"] = math.nan
    empty = table["y"].isna() & ~table["failed"]
    if empty.any():
        skipped[f"{group} point without a value"] = int(empty.sum())
    axes = tuple(a for a in searched_axes(frame) if a.group == group and a.column in frame.columns)
    for axis in axes:
        table[axis.column] = known.groupby(key)[axis.column].first().reindex(table.index)
    return Points(group, axes, table.loc[~empty], reference, held, skipped)


def _within_fields(known: pd.DataFrame, at_default: pd.Series, skipped: dict[str, int]) -> tuple[pd.DataFrame, float]:
    """Return log ratios to the same field and sample seed at the default sampler point; without that point, plain values."""
    sound = known["field"].isin(known.loc[known["status"].eq("complete"), "field"].unique())
    if not sound.all():
        skipped["rows of fields without a complete cell"] = int((~sound).sum())
    known = known.loc[sound]
    base = known.loc[at_default[sound]].groupby(["field", "seed_sample"])["y"].mean().rename("base")
    if base.notna().sum() == 0:
        return known, math.nan
    paired = known.join(base, on=["field", "seed_sample"])
    alone = paired["y"].notna() & paired["base"].isna()
    if alone.any():
        skipped["no value at the default sampler point"] = int(alone.sum())
    return paired.assign(y=paired["y"] - paired["base"]).drop(columns="base"), 0.0


def ranked(points: Points) -> np.ndarray:
    """Return the ranks of the points' values, shape (n,); failed ones share the last place."""
    y = points.table["y"].to_numpy(float)
    worst = np.nanmax(y) if np.isfinite(y).any() else 0.0
    return pd.Series(np.where(np.isfinite(y), y, worst + 1.0)).rank().to_numpy()


def codes(values: pd.Series, axis: Axis, max_bins: int = 6) -> np.ndarray:
    """Return the category or quantile bin of each value, shape (n,), −1 where the parameter is inactive."""
    if axis.categorical or values.nunique() <= max_bins:
        return np.asarray(pd.factorize(values)[0])
    n_bins = max(2, min(max_bins, int(values.notna().sum()) // 8))
    binned = pd.qcut(values.astype(float), n_bins, labels=False, duplicates="drop")
    return np.asarray(binned.fillna(-1).astype(int))


def permutations(n: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``count`` random orders of n points, shape (count, n)."""
    return np.argsort(rng.random((count, n)), axis=1)


def permutation_p(observed: float, permuted: np.ndarray) -> float:
    """Return (1 + #{permuted ≥ observed}) / (1 + B): never 0, exact for exchangeable points."""
    return float((1 + (permuted >= observed - 1e-12).sum()) / (1 + len(permuted)))


def as_frame(
    rows: Sequence[Mapping[str, object] | tuple[object, ...]], columns: Sequence[str], attrs: Mapping[Hashable, object]
) -> pd.DataFrame:
    """Return a result table with all its columns, even when it is empty."""
    result = pd.DataFrame(list(rows), columns=list(columns))
    result.attrs = dict(attrs)
    return result
