"""Two parameters at once: measured cells only, nothing interpolated.

In one_at_a_time a training and a sampler parameter cross fully: every field is sampled at all sampler points. Two parameters
of one group meet only in the cross of their arms. Other designs give a scatter of points.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.rows.meta import Axis, compares, find_axis, has_role, is_default, slim
from analysis.rows.metrics import OUTCOMES, is_log, metric_column, metric_values
from analysis.rows.question import MAIN, statistic
from analysis.rows.units import unit_key


@statistic()
def interaction(frame: pd.DataFrame, p1: str | Axis, p2: str | Axis, metric: str = MAIN) -> pd.DataFrame:
    """Compute the mean metric at every measured pair of values of two parameters, exp(mean log) over fields.

    Args:
        frame: rows of `analysis.load_study`.
        p1: first searched parameter.
        p2: second searched parameter.
        metric: default ``fid``.
    Returns:
        value_1, value_2, mean, n_fields, n_failed, n_diverged, n_pending; ``attrs``: skipped, axes, held_fixed.
    """
    first, second = find_axis(frame, p1), find_axis(frame, p2)
    rows, held = _rows(slim(frame, first.column, second.column, metric_column(frame, metric)), first, second)
    missing = rows[first.column].isna() | rows[second.column].isna()
    skipped = {"a parameter is inactive": int(missing.sum())} if missing.any() else {}
    rows = rows.loc[~missing]
    values, missed = metric_values(rows, metric)
    cells = pd.DataFrame(
        {"value_1": _rounded(rows, first), "value_2": _rounded(rows, second), "field": unit_key(rows), "y": values}
        | {name: rows["status"].isin(statuses) for name, statuses in OUTCOMES.items()}
    )
    pair = ["value_1", "value_2"]
    of_field = cells.dropna(subset=["y"]).groupby([*pair, "field"], sort=False)["y"].mean().groupby(level=pair, sort=False)
    result = cells.groupby(pair, sort=True)[list(OUTCOMES)].sum()
    mean = of_field.mean().reindex(result.index)
    result.insert(0, "mean", np.exp(mean.clip(upper=700.0)) if is_log(frame, metric) else mean)
    result.insert(1, "n_fields", of_field.size().reindex(result.index, fill_value=0))
    result = result.reset_index()
    result.attrs = {**frame.attrs, "skipped": {**skipped, **missed}, "axes": (first, second), "held_fixed": held}
    return result


def _rounded(rows: pd.DataFrame, axis: Axis) -> pd.Series:
    column = rows[axis.column]
    return column.astype(str) if axis.categorical else column.astype(float).map(lambda v: float(f"{v:.10g}"))


def _rows(frame: pd.DataFrame, first: Axis, second: Axis) -> tuple[pd.DataFrame, str]:
    """Select rows where only these two parameters move (one_at_a_time), or where the uninvolved group is at its default."""
    keep = pd.Series(True, index=frame.index)
    held = []
    for group, role in (("train", "design_role"), ("sampler", "design_sampler_role")):
        arms = [f"arm:{axis.name}" for axis in (first, second) if axis.group == group]
        default = is_default(frame, group)
        if compares(frame):
            keep &= has_role(frame[role], "default", *arms)
        elif not arms and default.any():
            keep &= default
        if not arms and default.any():
            held.append(f"{group} parameters at their defaults")
    if not compares(frame):
        held.append("the other searched parameters vary")
    return frame.loc[keep], "; ".join(held)
