"""Say how much of the declared box is within tolerance, and the worst that was met in it.

Both speak of the box that the design filled, so they need a design that fills it: iid or Sobol' points. A grid counts as one.
The units are whole training points, and for the joint box training points × sampler points, which are crossed: every field is
sampled at every sampler point, so neither the rows nor the fields alone are independent.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import stats

from analysis.rows.meta import is_default, tolerance_of
from analysis.rows.metrics import BAD, metric_values
from analysis.rows.question import MAIN, statistic
from analysis.statistics.box import as_frame, need_box, searched_points
from analysis.statistics.summary import summarize

_VOLUME = ["box", "share", "low", "high", "n_points", "n_failed", "held_fixed"]
_WORST = ["box", "ratio", "low", "high", "n_configurations", "n_failed", "point_id", "sampler_id"]


@statistic()
def tolerance_volume(
    frame: pd.DataFrame, metric: str = MAIN, *, tolerance: float | None = None, confidence: float = 0.95,
    force: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """Estimate the share of the declared box whose metric is at most (1 + tolerance) times the default's.

    One group: x of n independent points are inside, with the Clopper–Pearson interval. The joint box of training × sampler
    points: the share of pairs, with variance s²_train/n_train + s²_sampler/n_sampler. These are the variances of the shares of
    whole training points and of whole sampler points. Bounds are Student's t with the smaller n − 1, cut to [0, 1]. Where every
    pair agrees, they are Clopper–Pearson's with the smaller n.

    Failed points are outside. The default's own interval is passed on: the lower bound counts against the default's lower end,
    the upper bound against its upper end. Noise of the points is not taken off.

    Args:
        frame: rows of `analysis.load_study`.
        metric: default ``fid``.
        tolerance: default: the study's.
        confidence: coverage of the intervals.
        force: compute for any design.
    Returns:
        box (train, sampler, joint), share, low, high, n_points, n_failed, held_fixed; ``attrs``: skipped.
    Raises:
        AnalysisError: a design that does not fill the box.
    """
    need_box(frame, metric, "tolerance_volume", force)
    limit = math.log1p(tolerance_of(frame) if tolerance is None else tolerance)
    rows: list[dict[str, object]] = []
    skipped: dict[str, int] = {}
    searched = set()
    doubt = _reference_half_width(frame, metric, confidence)
    if math.isnan(doubt):
        skipped["noise of the default unknown (one field): not in the intervals"] = 1
        doubt = 0.0
    for points in searched_points(frame, metric, skipped):
        group = points.group
        searched.add(group)
        if points.table.empty or math.isnan(points.reference):
            reason = "no point was measured" if points.table.empty else "the default has no value"
            skipped[f"{group} box: {reason}"] = len(points.table)
            continue
        margin = doubt if group == "train" else 0.0  # sampler points are compared within fields
        counts = [int((points.table["y"] <= points.reference + limit + m).sum()) for m in (-margin, 0.0, margin)]
        bounds = [_clopper_pearson(x, len(points.table), confidence) for x in counts]
        rows.append({"box": group, "share": bounds[1][0], "low": bounds[0][1], "high": bounds[2][2],
                     "n_points": len(points.table), "n_failed": int(points.table["failed"].sum()),
                     "held_fixed": points.held_fixed})  # fmt: skip
    if searched == {"train", "sampler"} and len(rows) == 2:
        rows.append(_joint(frame, metric, limit, doubt, confidence))
    return as_frame(rows, _VOLUME, {**dict(frame.attrs), "skipped": skipped, "metric": metric})


def _reference_half_width(frame: pd.DataFrame, metric: str, confidence: float) -> float:
    """Return the half-width of the interval of the default's log mean; NaN where it has none."""
    default = is_default(frame, "sampler")
    table = summarize(frame.loc[default], metric) if default.any() else pd.DataFrame(columns=["design_role"])
    row = table.loc[table["design_role"].eq("default")]
    if row.empty or not row["df"].iloc[0] > 0:
        return math.nan
    return float(stats.t.ppf((1 + confidence) / 2, row["df"].iloc[0]) * row["se"].iloc[0])


def _clopper_pearson(x: int, n: int, confidence: float) -> tuple[float, float, float]:
    interval = stats.binomtest(x, n).proportion_ci(confidence, method="exact")
    return x / n, float(interval.low), float(interval.high)


def _joint(frame: pd.DataFrame, metric: str, limit: float, doubt: float, confidence: float) -> dict[str, object]:
    values, _ = metric_values(frame, metric)
    default = is_default(frame, "train") | is_default(frame, "sampler")
    reference = float(values[is_default(frame, "train") & is_default(frame, "sampler")].mean())
    rows = frame.assign(y=values).loc[~default & frame["status"].ne("pending")]
    bad = rows["status"].isin(BAD)
    y = rows["y"].where(~bad, math.inf).groupby([rows["point_id"], rows["sampler_id"]]).mean().dropna()
    found = [_share(y <= reference + limit + m, confidence) for m in (-doubt, 0.0, doubt)]
    n = [len(y.index.unique(level)) for level in (0, 1)]
    return {"box": "joint", "share": found[1][0], "low": found[0][1], "high": found[2][2], "n_points": len(y),
            "n_failed": int(np.isinf(y).sum()), "held_fixed": f"{n[0]} training points × {n[1]} sampler points"}  # fmt: skip


def _share(inside: pd.Series, confidence: float) -> tuple[float, float, float]:
    """Return the share of crossed pairs inside, with bounds."""
    sides = [inside.astype(float).groupby(level=level).mean() for level in (0, 1)]
    n = min(len(side) for side in sides)
    share = float(inside.mean())
    variance = sum(float(side.var(ddof=1)) / len(side) for side in sides) if n > 1 else math.nan
    if variance > 0:
        half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * math.sqrt(variance)
        return share, max(share - half, 0.0), min(share + half, 1.0)
    return (share, *_clopper_pearson(round(share * n), n, confidence)[1:]) if n else (share, math.nan, math.nan)


@statistic()
def worst_case(frame: pd.DataFrame, metric: str = MAIN, *, confidence: float = 0.95, force: bool = False) -> pd.DataFrame:
    """Return the largest ratio to the default met in each box, with an interval that knows it was picked.

    Over K configurations the largest mean is biased upwards, so its bounds are simultaneous:
    d_max ± t_{1 − α/2K} √(se² + se_default²), Satterthwaite's degrees of freedom taken as the smaller of the two. The true
    maximum over the box is at least as large as that over the sampled points.

    Args:
        frame: rows of `analysis.load_study`.
        metric: default ``fid``.
        confidence: coverage of the intervals.
        force: compute for any design.
    Returns:
        box (train: at the default sampler point; joint: all), ratio, low, high, n_configurations, n_failed (configurations
        in which a cell failed or diverged, which is worse than any ratio), point_id, sampler_id; ``attrs``: skipped.
    Raises:
        AnalysisError: a design that does not fill the box.
    """
    need_box(frame, metric, "worst_case", force)
    table = summarize(frame, metric)
    reference = table.loc[table["design_role"].eq("default") & table["design_sampler_role"].eq("default")]
    rows: list[dict[str, object]] = []
    skipped = dict(table.attrs["skipped"])
    if reference.empty or not math.isfinite(reference["mean"].iloc[0]):
        skipped["the default has no value"] = len(table)
        return as_frame(rows, _WORST, {**dict(frame.attrs), "skipped": skipped, "metric": metric})
    at_default = table["design_sampler_role"].eq("default")
    unmeasured = table["mean"].isna() & (table["n_failed"] + table["n_diverged"]).eq(0)
    if unmeasured.any():
        skipped["configuration without a value"] = int(unmeasured.sum())
    others = (table.index != reference.index[0]) & ~unmeasured
    boxes = {"train": table.loc[at_default & others], "joint": table.loc[others]}
    for box, part in boxes.items():
        if part["mean"].notna().any() and (box == "train" or len(part) > len(boxes["train"])):
            rows.append({"box": box, **_worst(part, reference.iloc[0], confidence)})
    return as_frame(rows, _WORST, {**dict(frame.attrs), "skipped": skipped, "metric": metric})


def _worst(part: pd.DataFrame, reference: pd.Series, confidence: float) -> dict[str, object]:
    row = part.iloc[int(np.nanargmax(part["mean"].to_numpy(float)))]
    d = math.log(row["mean"] / reference["mean"])
    error = math.hypot(row["se"], reference["se"])
    df = min(row["df"], reference["df"])
    half = float(stats.t.ppf(1 - (1 - confidence) / (2 * len(part)), df)) * error if df > 0 else math.nan
    bounds = np.exp(np.clip([d - half, d + half], -700, 700)) if math.isfinite(half) else [math.nan, math.nan]
    return {
        "ratio": math.exp(d), "low": float(bounds[0]), "high": float(bounds[1]), "n_configurations": len(part),
        "n_failed": int((part["n_failed"] + part["n_diverged"]).gt(0).sum()),
        "point_id": row["point_id"], "sampler_id": row["sampler_id"],
    }  # fmt: skip
