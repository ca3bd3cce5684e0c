"""Quality against cost: FID against network calls (NFE), and what the solver's tolerance buys.

A configuration (training point × sampler point) is dominated by another whose mean FID and mean NFE are at most as large,
one of them smaller. Fronts of single train seeds show how far the front is luck. Its knee is where more network
calls begin to buy little: the point of the front farthest below the chord between its ends, log NFE and log metric each
scaled to [0, 1] (Satopää et al. 2011, "Finding a kneedle in a haystack"). FID barely sees the solver below rtol = 1e-2, so
the solver error stands beside it.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from analysis.rows.facts import column_of
from analysis.rows.meta import compares, find_axis, has_role, is_default, searched_axes, slim, study_of, tolerance_of
from analysis.rows.metrics import BAD, default_metric, metric_column, metric_values, outcome_counts
from analysis.rows.question import MAIN, statistic
from analysis.rows.units import unit_key
from analysis.statistics.summary import summarize, t_interval

_KEY = ["point_id", "sampler_id"]


def non_dominated(cost: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Return True where no other point has cost and loss both ≤ with one <; equal points are all kept, NaN never.

    Args:
        cost: shape (n,).
        loss: shape (n,).
    """
    front = np.zeros(len(cost), dtype=bool)
    known = np.flatnonzero(np.isfinite(cost) & np.isfinite(loss))
    order = known[np.lexsort((loss[known], cost[known]))]
    if len(order):
        x, y = cost[order], loss[order]
        new = np.append(True, (np.diff(x) != 0) | (np.diff(y) != 0))
        better = y < np.append(math.inf, np.minimum.accumulate(y)[:-1])
        front[order] = better[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]
    return front


@statistic()
def pareto_front(frame: pd.DataFrame, metric: str = MAIN) -> pd.DataFrame:
    """List every measured configuration with its means, and which are non-dominated in (NFE, metric).

    A configuration with a failed or diverged cell is listed, never on the front. Only metrics that are averaged on the log,
    where less is better, have a front: for precision, recall and other shares every flag is False and front_seeds 0.

    Args:
        frame: rows of `analysis.load_study`.
        metric: default ``fid``.
    Returns:
        point_id, sampler_id, roles, searched values, mean, low, high, min, max, nfe, n_train_seeds, n_failed,
        n_diverged, solver, is_default, on_front, front_seeds (train seeds on whose own front it lies, see `seed_fronts`),
        knee (at most one row), min_of_seeds (EDM's dot, biased low), within_tolerance (mean ≤ (1 + tolerance) × the
        default's), cheapest_within (at most one row: the fewest NFE of those, then the least mean); sorted by NFE.
        ``attrs["skipped"]``: what `analysis.summarize` left out, configurations without a mean, and the missing front.
    """
    return flagged(frame, metric, seed_fronts(frame, metric))


_NO_FRONT = "{}: a share, not a loss; without front, knee and tolerance"


def _slim(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    return slim(frame, metric_column(frame, metric), "cost_nfe", *(axis.column for axis in searched_axes(frame)))


def flagged(frame: pd.DataFrame, metric: str, fronts: pd.DataFrame) -> pd.DataFrame:
    """Return the table of `pareto_front`, given the fronts of single seeds."""
    frame = _slim(frame, metric)
    table = summarize(frame, metric, by=_KEY)
    skipped = dict(table.attrs["skipped"])  # lost by the join
    column, (values, _) = column_of(frame, metric), metric_values(frame, metric)
    rows = frame[[*_KEY, "cost_nfe"]].assign(_y=np.exp(values) if column.log else values, solver=frame["sampler_solver"])
    rows.attrs = {}
    extra = rows.groupby(_KEY, sort=False, dropna=False).agg(
        nfe=("cost_nfe", "mean"), min=("_y", "min"), max=("_y", "max"), solver=("solver", "first")
    )
    table = table.join(extra, on=_KEY)
    table["is_default"] = table["design_role"].eq("default") & table["design_sampler_role"].eq("default")
    sound = (table["n_failed"] + table["n_diverged"]).eq(0) & column.is_ratio
    table["on_front"] = non_dominated(table["nfe"].to_numpy(float), table["mean"].where(sound).to_numpy(float))
    table["knee"] = table.index == knee_of(table.loc[table["on_front"]])
    of_seeds = fronts.groupby(_KEY).size().reindex(pd.MultiIndex.from_frame(table[_KEY]), fill_value=0)
    table["front_seeds"] = of_seeds.to_numpy()
    reference = table.loc[table["is_default"], "mean"]
    limit = float(reference.iloc[0]) * (1 + tolerance_of(frame)) if len(reference) else math.nan
    table["within_tolerance"] = table["mean"].le(limit) & sound
    candidates = table.loc[table["within_tolerance"] & table["nfe"].notna()].sort_values(["nfe", "mean"], kind="stable")
    table["cheapest_within"] = table.index == (candidates.index[0] if len(candidates) else -1)
    result = table.sort_values(["nfe", "mean"], kind="stable").reset_index(drop=True)
    unmeasured = int(result["mean"].isna().sum())
    if unmeasured:
        skipped["configuration without a complete row"] = unmeasured
    if not column.is_ratio:
        skipped[_NO_FRONT.format(metric)] = len(result) - unmeasured
    result.attrs = {**frame.attrs, "skipped": skipped, "metric": metric}
    return result


def knee_of(front: pd.DataFrame) -> object:
    """Return the index of the knee of a front with columns ``nfe`` and ``mean``; -1 where there is none.

    With u, v the logarithms of NFE and metric scaled to [0, 1] over the front, the knee maximises 1 − u − v: the distance
    below the chord from (0, 1) to (1, 0), times √2.
    """
    known = front.loc[front["nfe"].gt(0) & front["mean"].gt(0)].sort_values("nfe")
    if len(known) < 3:
        return -1
    u, v = np.log(known["nfe"].to_numpy(float)), np.log(known["mean"].to_numpy(float))
    if np.ptp(u) == 0 or np.ptp(v) == 0:
        return -1
    depth = 1 - (u - u.min()) / np.ptp(u) - (v - v.min()) / np.ptp(v)
    return known.index[int(depth.argmax())] if depth.max() > 1e-9 else -1


@statistic()
def seed_fronts(frame: pd.DataFrame, metric: str = MAIN) -> pd.DataFrame:
    """List the non-dominated configurations of each train seed by itself: how far the front is luck.

    With ``seeds: {disjoint: true}`` a seed belongs to one training point, so the n-th seeds of all points make one front.

    Args:
        frame: rows of `analysis.load_study`.
        metric: default ``fid``.
    Returns:
        seed_rank (which front: the rank of the seed in the study, with disjoint seeds within its training point), seed_train,
        point_id, sampler_id, nfe, mean (over sample seeds; geometric), by rank and NFE; ``attrs["skipped"]``.
        Empty for precision, recall and other shares: the lowest are not the best.
    """
    values, skipped = metric_values(frame, metric)
    rows = frame[["seed_train", *_KEY, "cost_nfe"]].assign(y=values)
    rows.attrs = {}
    disjoint = bool((study_of(frame).get("seeds") or {}).get("disjoint"))
    ranked = rows.groupby("point_id")["seed_train"] if disjoint else rows["seed_train"]
    rows["seed_rank"] = ranked.rank(method="dense") - 1
    rows["bad"] = frame["status"].isin(BAD)
    rows = rows.dropna(subset=["seed_rank", *_KEY])
    rows["cell"] = rows.groupby(["seed_rank", *_KEY], sort=True).ngroup()
    broken = rows.loc[rows["bad"], "cell"]
    known = rows.loc[~rows["cell"].isin(broken)].dropna(subset=["y", "cost_nfe"])
    if not column_of(frame, metric).is_ratio:
        skipped[_NO_FRONT.format(metric)] = len(known)
        known = known.iloc[:0]
    cells = known.groupby("cell").agg(
        seed_rank=("seed_rank", "first"), seed_train=("seed_train", "first"), point_id=("point_id", "first"),
        sampler_id=("sampler_id", "first"), nfe=("cost_nfe", "mean"), mean=("y", "mean"),
    )  # fmt: skip
    cells["seed_rank"], cells["mean"] = cells["seed_rank"].astype(int), np.exp(cells["mean"])
    on_front = pd.Series(False, index=cells.index)
    for _, part in cells.groupby("seed_rank"):
        on_front[part.index] = non_dominated(part["nfe"].to_numpy(float), part["mean"].to_numpy(float))
    result = cells.loc[on_front].sort_values(["seed_rank", "nfe"], kind="stable").reset_index(drop=True)
    result.attrs = {**frame.attrs, "skipped": skipped, "metric": metric}
    return result


def solver_curves(table: pd.DataFrame, one_at_a_time: bool) -> pd.DataFrame:
    """Select the rows of `pareto_front` that differ from the default in the solver and its budget only.

    The budget is steps upwards or rtol downwards, so that a line runs from cheap to exact even where NFE stands still.
    Empty for other designs, where T and the rest vary from point to point and a line would join unlike things.
    """
    if not one_at_a_time:
        return table.iloc[:0]
    arms = has_role(table["design_sampler_role"], "default", "arm:rtol", "arm:steps", "arm:solver").astype(bool)  # none is text
    chosen = table.loc[table["design_role"].eq("default") & arms].dropna(subset=["mean", "nfe"])
    budget = [chosen[c] if c in chosen else pd.Series(math.nan, chosen.index) for c in ("sampler_steps", "sampler_rtol")]
    order = chosen.assign(_budget=budget[0].astype(float).fillna(-budget[1].astype(float)))
    return order.sort_values(["solver", "_budget"], kind="stable").drop(columns="_budget")


@statistic()
def solver_tolerance(frame: pd.DataFrame) -> pd.DataFrame:
    """Average solver error, metric and NFE against rtol, by solver: geometric means over fields, with the diverged share.

    one_at_a_time: the other sampler parameters at their defaults. Other designs: they vary, and rtol is put into at most
    six quantile bins. ``diverged_share`` = (diverged + solver_limit) / terminal cells.

    Args:
        frame: rows of `analysis.load_study`.
    Returns:
        solver, rtol, solver_error, quality, nfe (with _low, _high t-bounds), n_fields, n_rows, n_failed, n_diverged,
        n_pending, diverged_share; ``attrs``: skipped, metric, held_fixed.
    """
    metric = default_metric(frame)
    rows, held = slim(frame, *_TOLERANCE_READ, metric_column(frame, metric)), "the other sampler parameters vary"
    if compares(frame):
        rows = rows.loc[has_role(rows["design_sampler_role"], "default", "arm:rtol", "arm:solver")]
        held = "the other sampler parameters at their defaults; mean over every field"
    fixed = rows["sampler_rtol"].isna()
    skipped = {"fixed-step solver: no rtol": int(fixed.sum())} if fixed.any() else {}
    rows = rows.loc[~fixed]
    for source in ("solver_error", metric, "nfe"):
        skipped |= metric_values(rows, source)[1]
    rows = rows.assign(_rtol=_rtol_levels(rows["sampler_rtol"]), _field=unit_key(rows))
    rows.attrs = {"columns": frame.attrs.get("columns")}
    table = [_tolerance_row(key, group, metric) for key, group in rows.groupby(["sampler_solver", "_rtol"], sort=True)]
    result = pd.DataFrame(table, columns=_TOLERANCE_COLUMNS)
    result.attrs = {**frame.attrs, "skipped": skipped, "metric": metric, "held_fixed": held}
    return result


_TOLERANCE_READ = ("metric_solver_error", "cost_nfe")
_TOLERANCE_COLUMNS = [
    "solver", "rtol", "solver_error", "solver_error_low", "solver_error_high", "quality", "quality_low", "quality_high",
    "nfe", "nfe_low", "nfe_high", "n_fields", "n_rows", "n_failed", "n_diverged", "n_pending", "diverged_share",
]  # fmt: skip


def _rtol_levels(rtol: pd.Series) -> pd.Series:
    values = rtol.map(lambda v: float(f"{v:.10g}"))
    if values.nunique() <= 8:
        return values
    codes = pd.qcut(values, 6, labels=False, duplicates="drop")
    return pd.Series(np.exp(np.log(values).groupby(codes).transform("median")))


def _tolerance_row(key: tuple[object, ...], group: pd.DataFrame, metric: str) -> dict[str, object]:
    row: dict[str, object] = {"solver": key[0], "rtol": key[1]}
    for name, source in (("solver_error", "solver_error"), ("quality", metric), ("nfe", "nfe")):
        y, _ = metric_values(group, source)
        interval = t_interval(y.groupby(group["_field"]).mean().dropna().to_numpy())
        bounds = (interval.mean, interval.low, interval.high)
        row[name], row[f"{name}_low"], row[f"{name}_high"] = (math.exp(min(v, 700.0)) for v in bounds)
    counts = outcome_counts(group)
    terminal = len(group) - counts["n_pending"]
    share = counts["n_diverged"] / terminal if terminal else math.nan
    n_fields = int(group.loc[group["status"].eq("complete"), "_field"].nunique())
    return {**row, "n_fields": n_fields, "n_rows": len(group), **counts, "diverged_share": share}


@statistic()
def outlier_axis(frame: pd.DataFrame) -> str | None:
    """Return the searched sampler parameter that moves the prior's tail: truncation, then T; None if neither is searched."""
    names = [axis.name for axis in searched_axes(frame) if axis.group == "sampler"]
    measured = frame["metric_outlier_fraction"].notna().any() and is_default(frame, "train").any()
    return next((n for n in ("max_radius_ratio", "T_ratio", "T") if measured and n in names and find_axis(frame, n)), None)
