"""The log ratio of every level of a parameter to the default, with simultaneous bounds.

In design one_at_a_time a training parameter is compared seed by seed where that is surer (`study.rows.settle.variance`).
Bounds hold together over the K values of the parameter (Bonferroni: each at 1 − 0.05/K). Those of a study that settles hold at
every look instead (`study.rows.settle.bounds`). What counts as one unit is decided in `analysis.robustness.levels`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.robustness.levels import Cells, axis_cells, ratios_to_default
from analysis.rows.meta import Value, has_role, settles
from analysis.rows.metrics import BAD, OUTCOMES, skipped_rows
from analysis.rows.question import Question
from analysis.statistics.variance import Compared, Values, compare_fields, mean_differences
from study.rows.settle.bounds import repeated_bounds


def level_ratios(question: Question) -> pd.DataFrame:
    """Return the log ratio of every level to the reference with simultaneous 95 % bounds.

    bounds = d ± t_{1−0.025/K, ν} · SE with d the difference of mean log metrics; K levels beside the reference.

    Returns:
        level, d, se, df, low, high (log scale; NaN where no variance is known), n, n_reference, sd, is_reference,
        assumed (where the variance comes from), n_failed, n_diverged, n_pending, failure_p; ``attrs``: held_fixed, skipped,
        comparisons (K), pooled (the variance that all levels share, or None).
    """
    cells = axis_cells(question)
    result = compare_levels(question, cells).copy()
    missed = skipped_rows(cells.rows, cells.rows["raw"], question.measured)
    result.attrs["skipped"] = {**cells.skipped, **missed, **result.attrs["skipped"]}
    return result


def compare_levels(question: Question, cells: Cells) -> pd.DataFrame:
    """Return the table of `level_ratios` for the question's cells; ``attrs["skipped"]`` has the rows that lack a partner."""
    if "levels" not in question.answers:
        question.answers["levels"] = _compare_levels(question, cells)
    levels: pd.DataFrame = question.answers["levels"]
    return levels


def _compare_levels(question: Question, cells: Cells) -> pd.DataFrame:
    setting, reference = question.setting, cells.reference
    pooled, skipped, held, by_seed = None, dict[str, int](), cells.held_fixed, False
    if setting.axis.group == "sampler" and setting.one:
        compared, alone = _paired(cells.rows, setting.default["sampler"], reference)
        skipped |= {"no value at the default sampler point": alone} if alone else {}
    else:
        compared, of_fields = _unpaired(question, cells)
        pooled, by_seed = of_fields.pooled if setting.one else None, of_fields.by_seed
        held += "; compared seed by seed" if by_seed else ""
    counted, elsewhere = _attributable(question, cells.rows)
    result = compared.merge(_outcomes(counted), on="level", how="outer", sort=False)
    result["is_reference"] = result["level"].eq(reference) if reference is not None else False
    tested = result["level"].notna() & ~result["is_reference"]
    d, se, df = (result[name].astype(float) for name in ("d", "se", "df"))
    if settles(setting.frame):
        bounds = repeated_bounds(d.to_numpy(), se.to_numpy(), df.to_numpy(), _first_values(question, cells), by_seed)
        result["low"], result["high"] = bounds
    else:
        half = stats.t.ppf(1 - 0.025 / max(int(tested.sum()), 1), df) * se
        result["low"], result["high"] = d - half, d + half
    result = result.loc[result["level"].notna()].sort_values("level", key=_sort_key).reset_index(drop=True)
    skipped |= elsewhere
    result.attrs = {"held_fixed": held, "skipped": skipped, "comparisons": int(tested.sum()), "pooled": pooled}
    return result


def _first_values(question: Question, cells: Cells) -> int:
    """Count the values of round 0 beside the default; those that were added to narrow an edge say so in their role."""
    roles = cells.rows["design_role" if question.setting.axis.group == "train" else "design_sampler_role"]
    first = cells.rows["level"].loc[~has_role(roles, "edge").to_numpy(bool)].dropna().unique()
    return sum(level != cells.reference for level in first)


def _sort_key(values: pd.Series) -> pd.Series:
    return values if pd.api.types.is_numeric_dtype(values) else values.astype(str)


def _training_points(question: Question) -> list[np.ndarray]:
    """Return the values of the fields of every training point at the default sampler point (none: means over all)."""
    default = question.setting.default["sampler"]
    rows = question.frame.loc[default] if default.any() else question.frame
    of_field = rows.dropna(subset=["y"]).groupby(["point_id", "field"])["y"].mean()
    return [group.to_numpy() for _, group in of_field.groupby("point_id")]


def _attributable(question: Question, rows: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the rows whose failure says something about the value, and count the others.

    A field with no complete cell at all blames no sampler.
    """
    bad = rows["status"].isin(BAD)
    if question.setting.axis.group == "train" or not bad.any():
        return rows, {}
    sound = question.frame.loc[question.frame["status"].eq("complete"), "field"].unique()
    broken = bad & ~rows["field"].isin(sound)
    return rows.loc[~broken], {"rows of fields without a complete cell": int(broken.sum())} if broken.any() else {}


def _outcomes(rows: pd.DataFrame) -> pd.DataFrame:
    """Count outcomes by level; ``failure_p`` is Fisher's one-sided p-value that more units fail there than elsewhere."""
    known = rows.dropna(subset=["level"])
    bad = known["status"].isin(BAD).groupby([known["level"], known["unit"]], sort=False).any()
    of_level = bad.groupby(level="level", sort=False).agg(["sum", "count"])
    counts = []
    for level, group in known.groupby("level", sort=False):
        here, n = (int(of_level[c].loc[level]) for c in ("sum", "count"))
        there, m = int(bad.sum()) - here, len(bad) - n
        p = float(stats.fisher_exact([[here, n - here], [there, m - there]], alternative="greater").pvalue)
        outcomes = {name: int(group["status"].isin(statuses).sum()) for name, statuses in OUTCOMES.items()}
        counts.append({"level": level, **outcomes, "failure_p": p})
    columns = ["level", "n_failed", "n_diverged", "n_pending", "failure_p"]
    return pd.DataFrame(counts, columns=columns).astype({"level": rows["level"].dtype})


_RATIO_COLUMNS = ["level", "d", "se", "df", "n", "n_reference", "sd", "assumed"]


def _paired(rows: pd.DataFrame, default: pd.Series, reference: Value | None) -> tuple[pd.DataFrame, int]:
    """Average within-field log ratios to the default sampler point over sample seeds, fields as units; count rows alone."""
    used, base = ratios_to_default(rows, default)
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
    return _typed(table, rows), alone


def _unpaired(question: Question, cells: Cells) -> tuple[pd.DataFrame, Compared]:
    """Compare every level with the reference: its fields, or in a marginal comparison its units."""
    values: dict[Any, Values] = {
        level: Values(group["y"].to_numpy(), group["seed"].to_numpy())
        for level, group in cells.units.groupby("level", sort=False)
    }
    base = values.get(cells.reference, Values(np.array([]), np.array([])))
    others = {level: own for level, own in values.items() if level != cells.reference}
    ys = [own.y for own in values.values()]
    if question.setting.one:
        compared = compare_fields(base, list(others.values()), _training_points(question))
    else:
        compared = Compared(*mean_differences(base.y, [own.y for own in others.values()], ys), by_seed=False)
    found = dict(zip(others, compared.found, strict=True))
    table = []
    for level, (y, _) in values.items():
        difference, variance, df = found.get(level, (0.0, 0.0, 1.0))
        error, assumed = math.sqrt(variance) if df > 0 else math.nan, _assumed(base.y, y, df)
        sd = float(y.std(ddof=1)) if len(y) > 1 else math.nan
        table.append([level, difference, error, df if df > 0 else 1.0, len(y), len(base.y), sd, assumed])
    return _typed(table, cells.units), compared


def _assumed(base: np.ndarray, y: np.ndarray, df: float) -> str:
    """Say where the variance of a comparison comes from, where it is not its own."""
    if not len(base) or not len(y):
        return ""
    if df <= 0:
        return "one unit a value: no interval"
    return "n = 1 here: the variance of the other configurations" if len(y) == 1 else ""


def _typed(table: Sequence[Sequence[object]], like: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(table, columns=_RATIO_COLUMNS).astype({"level": like["level"].dtype})
