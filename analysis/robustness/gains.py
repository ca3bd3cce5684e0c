"""Tested values that are surely better than the default, and what else is different there.

The rating asks how far a parameter may move before quality is lost, so it is silent where quality is gained. A value is
*better* where its upper simultaneous 95 % bound is below 1 / (1 + tolerance): the mirror image of *sensitive*. Less FID alone
is no gain: samples that keep to a part of the data have little FID and little recall. So precision, recall, network calls and
training time of the same rows stand beside it, each with the simultaneous bounds of its own change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from analysis.robustness.interval import ToleranceInterval, tolerance_interval
from analysis.robustness.levels import axis_cells
from analysis.robustness.ratios import compare_levels
from analysis.rows.meta import Axis, Value, find_axis, searched_axes, tolerance_of
from analysis.rows.metrics import is_log, metric_column
from analysis.rows.question import ask, statistic
from analysis.rows.words import format_value

BESIDE = {"precision": "precision", "recall": "recall", "nfe": "NFE", "train_s": "seconds of training"}
"""Quantities that are told beside the rated metric, and their names in a sentence."""
_COLUMNS = ["parameter", "group", "value", "quantity", "default", "mean", "change", "low", "high", "moved"]


@statistic()
def improvements(frame: pd.DataFrame, intervals: Sequence[ToleranceInterval] | None = None) -> pd.DataFrame:
    """List values that are better than the default by more than the tolerance, and what else moved with them.

    Args:
        frame: rows of `analysis.load_study`.
        intervals: the ratings of its parameters, where they are known already; their metric is the default one.
    Returns:
        One row a value and quantity, the rated metric first: parameter, group, value, quantity, default and mean (at the
        default and at the value, over the same units as the rating), change with its bounds low and high (a ratio for metrics
        averaged on the log, else a difference; simultaneous 95 % over the values of the parameter), moved (the bounds hold
        nothing but change).
        A value at which more cells failed or diverged than at the default is never better; tpe has no such values.
        ``attrs``: tolerance, metric, n_compared (values with an interval), skipped (rows, by parameter and reason).
    """
    if intervals is None:
        axes = [axis for axis in searched_axes(frame) if axis.column in frame.columns]
        intervals = [tolerance_interval(frame, axis) for axis in axes]
    rows: list[dict[str, object]] = []
    skipped: dict[str, int] = {}
    metric = intervals[0].metric if intervals else ""
    rated = [t for t in intervals if t.rating != "not rated"]
    for interval in rated:
        skipped |= {f"{interval.parameter}: {reason}": n for reason, n in interval.skipped.items()}
        for row in better_levels(interval).to_dict("records"):
            axis = find_axis(frame, f"{interval.group}.{interval.parameter}")
            rows += _quantities(frame, axis, row["level"], interval.metric)
    result = pd.DataFrame(rows, columns=_COLUMNS)
    n = sum(int((t.levels["high"].notna() & ~t.levels["is_reference"]).sum()) for t in rated)
    tolerance = intervals[0].tolerance if intervals else tolerance_of(frame)
    result.attrs = {**frame.attrs, "tolerance": tolerance, "metric": metric, "n_compared": n, "skipped": skipped}
    return result


def better_levels(interval: ToleranceInterval) -> pd.DataFrame:
    """Return the levels whose upper bound is below 1 / (1 + tolerance), without more failures than the default's."""
    levels = interval.levels
    bad = levels["n_failed"].fillna(0) + levels["n_diverged"].fillna(0)
    own = bad[levels["is_reference"]].max() if levels["is_reference"].any() else 0
    sure = levels["n"].fillna(0).gt(0) & levels["high"].lt(-math.log1p(interval.tolerance))
    return levels.loc[sure & ~levels["is_reference"] & bad.le(own)]


def _quantities(frame: pd.DataFrame, axis: Axis, value: Value, metric: str) -> list[dict[str, object]]:
    found = []
    for quantity in (metric, *BESIDE):
        if quantity == "train_s" and axis.group == "sampler":  # the same fields
            continue
        try:
            known = bool(frame[metric_column(frame, quantity)].notna().any())
        except ValueError:  # it was not measured
            known = False
        if known and (change := _change(frame, axis, value, quantity)) is not None:
            found.append({"parameter": axis.name, "group": axis.group, "value": value, "quantity": quantity, **change})
    return found


def _change(frame: pd.DataFrame, axis: Axis, value: Value, quantity: str) -> dict[str, object] | None:
    """Return the means at the default and at a value, and the change; None where one of the two has no number."""
    question = ask(frame, axis, quantity)
    cells = axis_cells(question)
    levels = compare_levels(question, cells)
    means = cells.units.groupby("level")["y"].mean()
    reference = levels.loc[levels["is_reference"], "level"]
    here = levels.loc[levels["level"].eq(value)]
    if reference.empty or here.empty or not {reference.iloc[0], value} <= set(means.index):
        return None
    back: Callable[[float], float] = np.exp if is_log(frame, quantity) else float
    d, low, high = (here[name].astype(float).item() for name in ("d", "low", "high"))
    ends = {"default": means[reference.iloc[0]], "mean": means[value], "change": d, "low": low, "high": high}
    change: dict[str, object] = {name: float(back(float(number))) for name, number in ends.items()}
    change["moved"] = bool((low > 0) | (high < 0))
    return change


def improvement_sentences(table: pd.DataFrame, label: str) -> list[str]:
    """Write one sentence a parameter about its best value, or one that says that no value is better.

    Args:
        table: from `improvements`.
        label: the rated metric in words.
    """
    tolerance = f"{table.attrs['tolerance']:.0%}"
    if table.empty:
        sure = f"No tested value is surely better than the default by more than {tolerance}."
        return [sure] if table.attrs["n_compared"] else []
    found = []
    for (_, parameter), part in table.groupby(["group", "parameter"], sort=False):
        main = part.loc[part["quantity"].eq(table.attrs["metric"])].sort_values("change", kind="stable")
        best, others = main.iloc[0], [format_value(value) for value in main["value"].iloc[1:]]
        beside = part.loc[part["value"].eq(best["value"]) & part["quantity"].ne(table.attrs["metric"])]
        also = f" Also better: {', '.join(others)}." if others else ""
        bounds = f"simultaneous 95 % bounds {best['low']:.2g} to {best['high']:.2g}"
        found.append(
            f"Better than the default by more than {tolerance}: {parameter} = {format_value(best['value'])}, {label}"
            f" × {best['change']:.2g} ({bounds}).{_beside(beside)}{also}"
        )
    return found


def _beside(rows: pd.DataFrame) -> str:
    """Write what else is different at a value; where the bounds hold no change too, the text says so."""
    words = []
    for row in rows.to_dict("records"):
        here, default = _number(row["mean"]), _number(row["default"])
        doubt = "" if row["moved"] else " (may be chance)"
        words.append(
            f"{BESIDE[row['quantity']]} {here}" + (f" instead of {default}{doubt}" if here != default else ", unchanged")
        )
    return f" Beside it: {'; '.join(words)}." if words else ""


def _number(value: float) -> str:
    return f"{value:.2g}" if value < 1 else f"{value:.3g}" if value < 100 else f"{value:.0f}"
