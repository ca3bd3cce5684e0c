r"""Put predictions of the theory of the Poisson flow beside what a study measured.

Three statements are compared. Two are in `analysis.theory.laws`: the error of the prior at a finite height T, and the share of
the prior that training reaches. The third is *τ at a fixed height*: training points depend on τ and M through M·ln(1+τ) alone.
So at a fixed σ and a fixed largest height t_hi = σ(1+τ)^M the ratio to the default is 1 for every τ.

Source: PFGM (arXiv 2209.11178) for the training law.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.rows.meta import compares, has_role, is_default
from analysis.rows.metrics import is_log, metric_values
from analysis.rows.question import MAIN, statistic
from analysis.rows.units import unit_key
from analysis.statistics.summary import t_interval
from analysis.statistics.variance import half_width, moderate, of_means, pool
from analysis.theory.laws import VALID_MEAN, VALID_SD, DataMoments, coverage, known_moments, prior_error

THEORIES = ("prior_error", "coverage", "tau_null")
HEIGHT_SLACK = 0.10
"""Largest relative difference between heights that count as equal: the rule rounds M to a whole number."""
_COLUMNS = ["theory", "kind", "quantity", "x", "y", "low", "high", "n_fields"]


@statistic()
def theory_curves(frame: pd.DataFrame, metric: str = MAIN, moments: DataMoments | None = None) -> pd.DataFrame:
    """Compute predicted curves and measured points of the three statements above.

    Args:
        frame: rows of `analysis.load_study`.
        metric: what was measured against T and τ (default ``fid``). ``prior_kl`` is measured for other processes too, whose
            points come without a curve.
        moments: of the data (default: known for digits; without them no curve of the prior's error).
    Returns:
        theory (prior_error, coverage, tau_null), kind (curve, measured), quantity, x (T in data units, T/t_hi, τ), y, low,
        high (t-interval over fields), n_fields; ``attrs``: skipped, notes ({theory: what was held fixed, or why it is
        empty}), valid_from (T above which the expansion holds, or None).
    """
    moments = moments or known_moments(frame)
    pfgm = frame["train_process"].eq("pfgm")
    values, skipped = metric_values(frame, metric)
    every = frame.assign(_y=values, _field=unit_key(frame))
    every.attrs = {"columns": frame.attrs.get("columns")}
    rows, one = every.loc[pfgm], compares(frame)
    none: tuple[list[Row], str] = ([], "no row of process pfgm")
    elsewhere = rows.empty and metric == "prior_kl" and bool(values.notna().any())
    if rows.empty:
        found, moments = dict.fromkeys(THEORIES, none), None
        if elsewhere:
            measured, held = _measured_error(every, one, metric)
            found["prior_error"] = (measured, f"{held}; {_NO_CURVE}")
    else:
        found = {
            "prior_error": _prior_error(rows, one, metric, moments),
            "coverage": _coverage(rows),
            "tau_null": _tau_null(rows, metric),
        }
    if not pfgm.all() and not elsewhere:
        skipped["another process than pfgm"] = int((~pfgm).sum())
    parts, notes = [], {}
    for name, (table, words) in found.items():
        parts += [(name, *row) for row in table]
        notes[name] = words
    result = pd.DataFrame(parts, columns=_COLUMNS).astype(dict.fromkeys(("x", "y", "low", "high"), float))
    valid = max(VALID_SD * math.sqrt(moments.top), moments.mean_norm / VALID_MEAN) if moments else None
    result.attrs = {**frame.attrs, "skipped": skipped, "notes": notes, "valid_from": valid, "metric": metric}
    return result


class Row(NamedTuple):
    """One point of a curve or of a measurement."""

    kind: str
    """``curve`` or ``measured``."""
    quantity: str
    x: float
    y: float
    low: float = math.nan
    high: float = math.nan
    n_fields: int = 0


_NO_CURVE = "without a curve, because the expansion is that of process pfgm, one extra dimension"


def _measured_error(rows: pd.DataFrame, one: bool, metric: str) -> tuple[list[Row], str]:
    """Return the metric by T, and what was held fixed."""
    if one:
        rows = rows.loc[is_default(rows, "train") & has_role(rows["design_sampler_role"], "default", "arm:T_ratio", "arm:T")]
    back = np.exp if is_log(rows, metric) else np.asarray
    table = []
    keys = rows["sampler_T"].map(lambda T: float(f"{T:.6g}")) if len(rows) else rows["sampler_T"]
    for T, group in rows.dropna(subset=["_y"]).groupby(keys):
        interval = t_interval(group.groupby("_field")["_y"].mean().to_numpy())
        mean, low, high = (float(back(v)) for v in interval[:3])
        table.append(Row("measured", metric, float(T), mean, low, high, interval.n))
    return table, "default training point, other sampler parameters at their defaults" if one else "the other parameters vary"


def _prior_error(rows: pd.DataFrame, one: bool, metric: str, moments: DataMoments | None) -> tuple[list[Row], str]:
    table, held = _measured_error(rows, one, metric)
    if moments is None:
        return table, f"{held}; the moments of these data are not known here: give moments=data_moments(x)"
    if table:
        xs = [row.x for row in table]
        grid = np.geomspace(min(xs), max(max(xs), 3 * VALID_SD * math.sqrt(moments.top)), 200)
        curve = prior_error(grid, moments)
        table += [Row("curve", "KL (nats)", float(x), float(y)) for x, y in zip(grid, curve, strict=True) if np.isfinite(y)]
    return table, held


def _coverage(rows: pd.DataFrame) -> tuple[list[Row], str]:
    known = rows.dropna(subset=["diag_coverage", "train_height_max", "sampler_T"])
    dims = known["data_dim"].dropna().unique()
    if known.empty or len(dims) != 1:
        return [], "no coverage was measured" if known.empty else "data of several dimensions"
    ratio = (known["sampler_T"] / known["train_height_max"]).map(lambda v: float(f"{v:.6g}"))
    table = []
    for x, group in known.groupby(ratio):
        table.append(
            Row("measured", "coverage", float(x), float(group["diag_coverage"].mean()), n_fields=group["_field"].nunique())
        )
    grid = np.geomspace(ratio.min() / 1.5, ratio.max() * 1.5, 200)
    table += [Row("curve", "coverage", float(x), float(y)) for x, y in zip(grid, coverage(grid, int(dims[0])), strict=True)]
    return table, f"d = {int(dims[0])}; every height of the study"


def _tau_null(rows: pd.DataFrame, metric: str) -> tuple[list[Row], str]:
    """Compare fields that differ from the default training point in τ and M only, at (nearly) its height."""
    base = rows.loc[is_default(rows, "train")]
    if base.empty or not is_log(rows, metric):
        return [], "no default training point" if base.empty else f"{metric} is not compared as a ratio"
    varying = {f"train_{name}" for name in ("id", "tau", "M", "height_ratio", "height_max", "R_max")}
    default: Any = base.iloc[0]
    same = pd.Series(True, index=rows.index)
    for column in (str(c) for c in rows.columns if str(c).startswith("train_") and c not in varying):
        same &= rows[column].isna() if pd.isna(default[column]) else rows[column].eq(default[column]).fillna(False)
    heights = rows["train_height_max"].astype(float) / float(default["train_height_max"])
    gap = heights.map(math.log, na_action="ignore").abs()
    keep = same & gap.le(math.log1p(HEIGHT_SLACK))
    if is_default(rows, "sampler").any():
        keep &= is_default(rows, "sampler")
    groups = {
        float(str(tau)): group.groupby("_field")["_y"].mean().to_numpy()
        for tau, group in rows.loc[keep].dropna(subset=["_y"]).groupby("train_tau")
    }
    reference = groups.get(float(default["train_tau"]))
    if reference is None or len(groups) < 2:
        return [], f"no two τ at one height (within {HEIGHT_SLACK:.0%}) with all else equal"
    table = [_tau_row(tau, reference, y, tau == float(default["train_tau"])) for tau, y in groups.items()]
    kept = rows.loc[keep, "train_height_max"]
    table += [Row("curve", "ratio", tau, 1.0) for tau in (min(groups), max(groups))]
    return table, f"height {kept.min():.3g} … {kept.max():.3g} data units; all else as the default"


def _tau_row(tau: float, reference: np.ndarray, y: np.ndarray, itself: bool) -> Row:
    if itself:
        return Row("measured", "ratio", tau, 1.0, n_fields=len(y))
    difference = float(y.mean() - reference.mean())
    half = math.nan
    if min(len(y), len(reference)) >= 2:
        pooled = pool([reference, y])
        half = half_width(*of_means([(moderate(side, pooled), len(side)) for side in (reference, y)]))
    low, high = math.exp(difference - half), math.exp(difference + half)
    return Row("measured", "ratio", tau, math.exp(difference), low, high, len(y))
