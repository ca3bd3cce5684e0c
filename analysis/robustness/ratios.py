"""The log ratio of every level of a parameter to the default, with simultaneous bounds.

Bounds hold together over the K values of the parameter (Bonferroni: each at 1 − 0.05/K). What counts as one unit is decided in
`analysis.robustness.levels`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.robustness.levels import Cells, axis_cells, ratios_to_default, reference_level, unit_values
from analysis.robustness.noise import seed_variance
from analysis.rows.meta import Axis, design_of, slim, undisturbed
from analysis.rows.metrics import BAD, metric_column, metric_values, outcome_counts
from analysis.rows.units import unit_key
from analysis.statistics.variance import Pooled, moderate, of_means, pool


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
    used, base = ratios_to_default(rows, values)
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
