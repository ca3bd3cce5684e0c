"""Measured values of one parameter as groups of independent units, and their log ratios to the default.

What counts as one unit follows the design. *one_at_a_time*: a training parameter compares fields (unequal variances, each
moderated by the study's, see `analysis.statistics.variance`); a sampler parameter compares each field with itself at the
default sampler point (paired, fields as blocks). *sobol, grid, random*: the other parameters vary too, so the unit is a
training point (its fields averaged), or a sampler point (averaged over the fields, which are blocks), values are binned
by quantiles, and the reference is the bin that holds the default: a marginal effect. Bounds are simultaneous over the
K values of the parameter (Bonferroni: each at 1 − 0.05/K).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from analysis.rows.load import Axis, design_of, has_role, is_default, undisturbed
from analysis.rows.units import unit_key
from analysis.statistics.summary import BAD, metric_column, metric_values, outcome_counts
from analysis.statistics.variance import Pooled, moderate, of_means, pool

MAX_BINS = 6

_HELD = ("sigma", "tau", "M", "height_max", "gamma", "reference_batch_size", "T", "T_ratio", "t_min", "solver", "rtol")


_KEYS = (
    "cell_id",
    "perturb_kind",
    "point_id",
    "sampler_id",
    "train_id",
    "seed_train",
    "seed_sample",
    "design_role",
    "design_sampler_role",
)


def slim(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The frame with the columns that a comparison needs: to select rows of a hundred columns takes most of its time."""
    names = [*_KEYS, "status", *(f"{group}_{name}" for group in ("train", "sampler") for name in _HELD), *columns]
    return frame[[name for name in dict.fromkeys(names) if name in frame.columns]]


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
    for name in _HELD:
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
        return np.clip(np.searchsorted(edges, v, side="right") - 1, 0, len(edges) - 2)

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


def level_ratios(frame: pd.DataFrame, axis: Axis, metric: str) -> pd.DataFrame:
    """Log ratio of every level to the reference with simultaneous 95 % bounds.

    bounds = d ± t_{1−0.025/K, ν} · SE with d the difference of mean log metrics; K levels beside the reference.

    Returns:
        level, d, se, df, low, high (log scale; NaN where no variance is known), n, n_reference, sd, is_reference,
        assumed (where the variance comes from), n_failed, n_diverged, n_pending, failure_p.
    """
    frame = slim(undisturbed(frame), axis.column, metric_column(frame, metric))
    cells = axis_cells(frame, axis)
    values, skipped = metric_values(cells.rows, metric)
    one = design_of(frame) == "one_at_a_time"
    reference = reference_level(cells, axis)
    pooled = None
    if axis.group == "sampler" and one:
        compared = _paired(cells.rows, values, reference)
        alone = int(compared.attrs["alone"])
        skipped |= {"no value at the default sampler point": alone} if alone else {}
    else:
        pooled = seed_variance(frame, metric) if one else None
        units = unit_values(_reference_rows(cells, axis, one), values)
        groups = {level: group["y"].to_numpy() for level, group in units.groupby("level", sort=False)}
        compared = _unpaired(groups, reference, pooled if one else pool(list(groups.values())), units)
    counted, elsewhere = _attributable(frame, cells.rows, axis)
    skipped |= elsewhere
    result = compared.merge(_outcomes(counted), on="level", how="outer", sort=False)
    result["is_reference"] = result["level"].eq(reference) if reference is not None else False
    tested = result["level"].notna() & ~result["is_reference"]
    quantile = 1 - 0.025 / max(int(tested.sum()), 1)
    half = stats.t.ppf(quantile, result["df"].astype(float)) * result["se"].astype(float)
    result["low"], result["high"] = result["d"] - half, result["d"] + half
    result = result.loc[result["level"].notna()].sort_values("level", key=_sort_key).reset_index(drop=True)
    result.attrs = {
        "held_fixed": cells.held_fixed,
        "skipped": {**cells.skipped, **skipped},
        "comparisons": int(tested.sum()),
        "pooled": pooled,
    }
    return result


def _sort_key(values: pd.Series) -> pd.Series:
    return values if pd.api.types.is_numeric_dtype(values) else values.astype(str)


def _reference_rows(cells: Cells, axis: Axis, one: bool) -> pd.DataFrame:
    return cells.rows.loc[cells.rows["level"].notna()] if one or axis.group == "train" else cells.rows


def _attributable(frame: pd.DataFrame, rows: pd.DataFrame, axis: Axis) -> tuple[pd.DataFrame, dict[str, int]]:
    """Rows whose failure says something about the value: a field with no complete cell at all blames no sampler."""
    bad = rows["status"].isin(BAD)
    if axis.group == "train" or not bad.any():
        return rows, {}
    sound = unit_key(frame.loc[frame["status"].eq("complete")]).unique()
    broken = bad & ~rows["field"].isin(sound)
    return rows.loc[~broken], {"rows of fields without a complete cell": int(broken.sum())} if broken.any() else {}


def _outcomes(rows: pd.DataFrame) -> pd.DataFrame:
    """Counts by level; ``failure_p``: one-sided Fisher p-value that more units have a failure there than elsewhere."""
    known = rows.dropna(subset=["level"])
    bad = known["status"].isin(BAD).groupby([known["level"], known["unit"]], sort=False).any()
    of_level = bad.groupby(level="level", sort=False).agg(["sum", "count"])
    counts = []
    for level, group in known.groupby("level", sort=False):
        here, n = (int(of_level[c].loc[level]) for c in ("sum", "count"))
        there, m = int(bad.sum()) - here, len(bad) - n
        p = float(stats.fisher_exact([[here, n - here], [there, m - there]], alternative="greater").pvalue)
        counts.append({"level": level, **outcome_counts(group), "failure_p": p})
    columns = ["level", "n_failed", "n_diverged", "n_pending", "failure_p"]
    return pd.DataFrame(counts, columns=columns).astype({"level": rows["level"].dtype})


_RATIO_COLUMNS = ["level", "d", "se", "df", "n", "n_reference", "sd", "assumed"]


def _paired(rows: pd.DataFrame, values: pd.Series, reference: Any) -> pd.DataFrame:
    """Within-field log ratios to the default sampler point, same sample seed, averaged over seeds; fields are units."""
    used, base = _to_default(rows, values)
    alone = int((used["y"].notna() & used["base"].isna()).sum())
    table = []
    for level, group in used.dropna(subset=["level"]).groupby("level", sort=False):
        d = group.dropna(subset=["ratio"]).groupby("field")["ratio"].mean().to_numpy()
        n = len(d)
        sd = float(d.std(ddof=1)) if n > 1 else math.nan
        self_reference = level == reference
        error, df = (0.0, 1.0) if self_reference and n else (sd / math.sqrt(n) if n > 1 else math.nan, max(n - 1, 1))
        mean = float(d.mean()) if n else math.nan
        table.append([level, mean, error, df, n, int(base.groupby("field").count().gt(0).sum()), sd, ""])
    result = _typed(table, rows)
    result.attrs = {"alone": alone}
    return result


def _to_default(rows: pd.DataFrame, values: pd.Series) -> tuple[pd.DataFrame, pd.Series]:
    """The rows with ``ratio``, y less that of the field's default sampler point at the same sample seed, and those defaults."""
    used = rows.assign(y=values)
    base = used.loc[is_default(used, "sampler")].groupby(["field", "seed_sample"])["y"].mean().rename("base")
    used = used.join(base, on=["field", "seed_sample"])
    return used.assign(ratio=used["y"] - used["base"]), base


def paired_seed_variances(frame: pd.DataFrame, axis: Axis, metric: str) -> list[Pooled]:
    """Noise of the log ratio of each value of a sampler parameter to the default one: between fields of one training point.

    Between training points the ratio differs too, since the sampler matters more to some than to others; that is an effect,
    not noise, so each variance is within points, the mean over them. one_at_a_time only.

    Returns:
        One variance a value that some training point has two fields for.
    """
    frame = slim(undisturbed(frame), axis.column, metric_column(frame, metric))
    cells = axis_cells(frame, axis)
    used, _ = _to_default(cells.rows, metric_values(cells.rows, metric)[0])
    used = used.loc[used["level"].notna() & used["ratio"].notna() & ~is_default(used, "sampler")]
    found = []
    for _, rows in used.groupby("level", sort=True):
        of_field = rows.groupby(["point_id", "field"])["ratio"].mean()
        found.append(pool([group.to_numpy() for _, group in of_field.groupby(level="point_id")]))
    return [pooled for pooled in found if pooled is not None and pooled.variance > 0]


def _unpaired(groups: dict[Any, np.ndarray], reference: Any, pooled: Pooled | None, like: pd.DataFrame) -> pd.DataFrame:
    base = groups.get(reference, np.array([])) if reference is not None else np.array([])
    table = []
    for level, y in groups.items():
        difference, error, df, assumed = _compare(base, y, pooled)
        if level == reference:
            difference, error, df = 0.0, 0.0, 1.0
        sd = float(y.std(ddof=1)) if len(y) > 1 else math.nan
        table.append([level, difference, error, df, len(y), len(base), sd, assumed])
    return _typed(table, like)


def _typed(table: list[list[Any]], like: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(table, columns=_RATIO_COLUMNS).astype({"level": like["level"].dtype})


def _compare(base: np.ndarray, y: np.ndarray, pooled: Pooled | None) -> tuple[float, float, float, str]:
    """Difference of means, its standard error, degrees of freedom, and where the variance comes from."""
    if not len(base) or not len(y):
        return math.nan, math.nan, 1.0, ""
    difference = float(y.mean() - base.mean())
    sides = [(moderate(side, pooled), len(side)) for side in (base, y)]
    variance, df = of_means(sides)
    if df <= 0:
        return difference, math.nan, 1.0, "one unit a value: no interval"
    how = "n = 1 here: the variance of the other configurations" if len(y) == 1 else ""
    return difference, math.sqrt(variance), df, how


def seed_variance(frame: pd.DataFrame, metric: str) -> Pooled | None:
    """Variance of the log metric between train seeds, the mean over training points.

    At the default sampler point; where there is none, of the means over all sampler points.

    Returns:
        s₀² = Σ (n_i − 1) s_i² / Σ (n_i − 1) with its degrees of freedom, or None where no training point has two fields.
    """
    frame = undisturbed(frame)
    default = is_default(frame, "sampler")
    rows = frame.loc[default] if default.any() else frame
    values, _ = metric_values(rows, metric)
    usable = rows.assign(y=values, field=unit_key(rows)).dropna(subset=["y"])
    of_field = usable.groupby(["point_id", "field"])["y"].mean()
    return pool([group.to_numpy() for _, group in of_field.groupby("point_id")])
