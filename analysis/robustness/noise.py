"""Noise between train seeds: of the log metric, and of its ratio to the default sampler point."""

from __future__ import annotations

import pandas as pd

from analysis.robustness.levels import axis_cells, ratios_to_default
from analysis.rows.meta import Axis, is_default
from analysis.rows.metrics import metric_values
from analysis.rows.question import ask, statistic
from analysis.rows.units import unit_key
from analysis.statistics.variance import Pooled, pool


def paired_seed_variances(frame: pd.DataFrame, axis: Axis, metric: str) -> list[Pooled]:
    """Estimate the noise of the log ratio of each sampler value to the default one, between fields of one training point.

    Between training points the ratio differs too, since the sampler matters more to some than to others; that is an effect,
    not noise, so each variance is within points, the mean over them. one_at_a_time only.

    Returns:
        One variance a value that some training point has two fields for.
    """
    question = ask(frame, axis, metric)
    default = question.setting.default["sampler"]
    used, _ = ratios_to_default(axis_cells(question).rows, default)
    used = used.loc[used["level"].notna() & used["ratio"].notna() & ~default.loc[used.index]]
    found = []
    for _, rows in used.groupby("level", sort=True):
        of_field = rows.groupby(["point_id", "field"])["ratio"].mean()
        found.append(pool([group.to_numpy() for _, group in of_field.groupby(level="point_id")]))
    return [pooled for pooled in found if pooled is not None and pooled.variance > 0]


@statistic()
def seed_variance(frame: pd.DataFrame, metric: str) -> Pooled | None:
    """Estimate the variance of the log metric between train seeds, the mean over training points.

    At the default sampler point; where there is none, of the means over all sampler points.

    Returns:
        s₀² = Σ (n_i − 1) s_i² / Σ (n_i − 1) with its degrees of freedom, or None where no training point has two fields.
    """
    default = is_default(frame, "sampler")
    rows = frame.loc[default] if default.any() else frame
    values, _ = metric_values(rows, metric)
    usable = rows.assign(y=values, field=unit_key(rows)).dropna(subset=["y"])
    of_field = usable.groupby(["point_id", "field"])["y"].mean()
    return pool([group.to_numpy() for _, group in of_field.groupby("point_id")])
