r"""Samples that land far from all data, against where on the starting plane they came from.

The prior of a Poisson flow is heavy-tailed: R/T, the starting radius over the starting height, exceeds r with probability
I_{1/(1+r²)}(1/2, d/2), about √(d·2/π)/r far out, and its mean is infinite. A latent that starts beyond what training
covered ends as an outlier. So the share of outliers should fall where the prior is truncated at max_radius_ratio = R/T.
``diag_outlier_radius``, the median R/T of the samples that became outliers, says where outliers start. An outlier is
a sample whose nearest data point is farther than the data's own distances, each left out once, allow.

Source: PFGM (arXiv 2209.11178), the prior on z = z_max and the clipping of its radius.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from analysis.rows.meta import compares, has_role, is_default
from analysis.rows.metrics import metric_values, outcome_counts
from analysis.rows.question import statistic
from analysis.rows.units import unit_key
from analysis.statistics.summary import t_interval

_COLUMNS = [
    "max_radius_ratio", "T_ratio", "outlier_fraction", "low", "high", "prior_truncated", "outlier_radius", "coverage",
    "n_fields", "n_rows", "n_failed", "n_diverged", "n_pending", "is_default",
]  # fmt: skip


@statistic()
def outlier_map(frame: pd.DataFrame) -> pd.DataFrame:
    """Estimate the share of outliers at every tested truncation of the prior (and starting height), over fields.

    one_at_a_time: default training point, sampler points that differ from the default in R/T and T only. Other designs:
    all rows, so the other parameters vary from point to point. A field counts once: the mean over its rows.

    Args:
        frame: rows of `analysis.load_study`.
    Returns:
        max_radius_ratio (inf: not truncated), T_ratio, outlier_fraction, low, high, prior_truncated (mass of the prior cut
        off), outlier_radius (median R/T where outliers start, over rows), coverage, n_fields, n_rows, n_failed,
        n_diverged, n_pending, is_default; ``attrs``: skipped, held_fixed, dim.
    """
    rows, skipped, held = frame, {}, "the other parameters vary"
    if compares(frame):
        arms = has_role(frame["design_sampler_role"], "default", "arm:max_radius_ratio", "arm:T_ratio", "arm:T")
        keep = is_default(frame, "train") & arms
        if not keep.all():
            skipped["another training point or another arm of the sampler"] = int((~keep).sum())
        rows, held = frame.loc[keep], "default training point; solver and tolerance at their defaults"
    y, missed = metric_values(rows, "outlier_fraction")
    ratio = rows["sampler_max_radius_ratio"].astype(float).fillna(math.inf)
    rows = rows.assign(_y=y, _field=unit_key(rows), _ratio=ratio, _T=rows["sampler_T_ratio"].astype(float))
    rows.attrs = {}
    table = [
        _outlier_row(ratio, T_ratio, group)
        for (ratio, T_ratio), group in rows.groupby(["_ratio", "_T"], sort=True, dropna=False)
    ]
    result = pd.DataFrame(table, columns=_COLUMNS)
    dims = frame["data_dim"].dropna().unique()
    dim = int(dims[0]) if len(dims) == 1 else None
    result.attrs = {**frame.attrs, "skipped": {**skipped, **missed}, "held_fixed": held, "dim": dim}
    return result


def _outlier_row(ratio: Any, T_ratio: Any, group: pd.DataFrame) -> dict[str, object]:
    interval = t_interval(group.dropna(subset=["_y"]).groupby("_field")["_y"].mean().to_numpy())
    return {
        "max_radius_ratio": ratio, "T_ratio": T_ratio, "outlier_fraction": interval.mean,
        "low": interval.low, "high": interval.high, "prior_truncated": float(group["diag_prior_truncated"].mean()),
        "outlier_radius": float(group["diag_outlier_radius"].median()), "coverage": float(group["diag_coverage"].mean()),
        "n_fields": interval.n, "n_rows": len(group), **outcome_counts(group),
        "is_default": bool(is_default(group, "sampler").any()),
    }  # fmt: skip
