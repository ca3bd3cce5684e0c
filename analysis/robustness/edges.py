"""Find where a parameter leaves the tolerance: on each side of the default a bracket, and an estimate of the crossing.

The bracket is made of verdicts: the last tested value that is surely inside, and the first that is surely outside. The estimate
needs an assumption, and `study.rows.settle.edges` states it. Its interval is a bootstrap over fields. Two or three fields of
a value cannot be resampled (the interval would be far too narrow), so the mean of every value is drawn from Student's t with
its moderated variance; the default's own luck is common to all values. In every draw the crossing lies between two neighbouring
tested values; the interval is made of those, so it rests on no shape between them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.robustness.interval import ToleranceInterval, tolerance_interval
from analysis.rows.meta import AnalysisError, Axis, compares, design_of, find_axis
from analysis.rows.words import format_value
from study.rows.settle.edges import ASSUMPTION, bracket, crossings, outward, rising

DRAWS = 2000


class Edge(NamedTuple):
    """One side of the default."""

    side: str
    """``lower`` or ``upper``."""
    inside: float | None
    """The last tested value before it that is surely within tolerance; None where the default itself has no verdict."""
    outside: float | None
    """The first tested value that is surely outside; None where there is none."""
    crossing: float | None
    """The estimate of the value at which the tolerance is left; None where the fit never leaves it."""
    low: float | None
    """Its 95 % interval, from tested value to tested value; an end beyond them is infinite (or 0 below, on a log axis)."""
    high: float | None
    words: str
    """The edge in a sentence."""

    @property
    def bracketed(self) -> bool:
        """Return whether both ends are known."""
        return self.inside is not None and self.outside is not None


class Edges(NamedTuple):
    """Where one parameter leaves the tolerance."""

    parameter: str
    group: str
    default: float
    lower: Edge | None
    """None where nothing below the default was tested."""
    upper: Edge | None
    tolerance: float
    metric: str
    assumption: str


def tolerance_edges(
    frame: pd.DataFrame,
    parameter: str | Axis,
    *,
    metric: str | None = None,
    tolerance: float | None = None,
    interval: ToleranceInterval | None = None,
) -> Edges:
    """Return the brackets and the crossings of one parameter.

    Args:
        frame: rows of `analysis.load_study`.
        parameter: a searched parameter with an order, in a design that tests each value by itself.
        metric: default: the main one.
        tolerance: default: the study's.
        interval: the rating of this parameter, where it is known already.
    Raises:
        AnalysisError: an axis without order or without a default on it, or a design whose values are bins.
    """
    axis = find_axis(frame, parameter)
    if axis.categorical:
        cure = "tolerance_interval says which of them are inside"
        raise AnalysisError(f"{axis.name}: its values have no order, so it has no edges; {cure}")
    if not compares(frame) and design_of(frame) != "grid":
        cure = "use one_at_a_time or settle"
        raise AnalysisError(f"{axis.name}: design {design_of(frame)} has bins, not values, so it has no edges; {cure}")
    rated = interval if interval is not None else tolerance_interval(frame, axis, metric=metric, tolerance=tolerance)
    levels = rated.levels
    at = levels.index[levels["is_reference"]]
    if not isinstance(axis.default, (int, float)) or not len(at) or not levels.loc[at, "n"].gt(0).all():
        raise AnalysisError(f"{axis.name}: the default has no complete row on it, so there is nothing to start from")
    values = levels["level"].astype(float).tolist()
    below, above = outward(values, int(at[0]))
    paired = axis.group == "sampler" and compares(frame)
    lower, upper = (_edge(word, side, rated, axis.log, paired) for word, side in (("lower", below), ("upper", above)))
    return Edges(axis.name, axis.group, float(axis.default), lower, upper, rated.tolerance, rated.metric, ASSUMPTION)


def edges_of(frame: pd.DataFrame, axis: Axis, interval: ToleranceInterval) -> Edges | None:
    """Return the edges of a rated parameter; None where it has none, as a category or a parameter of another solver."""
    if interval.rating == "not rated":
        return None
    try:
        return tolerance_edges(frame, axis, interval=interval)
    except AnalysisError:  # the reader is told of it by the rating, which stands beside
        return None


def _edge(word: str, side: list[int], rated: ToleranceInterval, log: bool, paired: bool) -> Edge | None:
    if not side:
        return None
    levels = rated.levels
    values = levels["level"].astype(float).to_numpy()
    reference = int(levels.index[levels["is_reference"]][0])
    found = bracket(side, levels["verdict"].tolist(), reference)
    inside, outside = (None if at is None else float(values[at]) for at in (found.inside, found.outside))
    known = [at for at in side if math.isfinite(values[at]) and levels["se"].notna()[at] and levels["n"].fillna(0)[at] > 0]
    log = log and values.min() > 0
    scale = np.log(values) if log else values
    crossing, low, high = _crossing(levels.loc[known], np.abs(scale[known] - scale[reference]), rated.tolerance, paired)
    sign = 1.0 if word == "upper" else -1.0
    ends = [None if u is None else _value(float(scale[reference]), sign * u, log) for u in (crossing, low, high)]
    if crossing is None or math.isinf(crossing):
        ends[0] = None
    if word == "lower":
        ends[1:] = ends[:0:-1]
    words = _words(word, float(values[reference]), inside, outside, ends)
    return Edge(word, inside, outside, ends[0], ends[1], ends[2], words)


def _value(reference: float, distance: float, log: bool) -> float:
    moved = reference + distance
    return float(f"{math.exp(moved) if log and moved < math.inf else moved:.10g}")


def _crossing(
    levels: pd.DataFrame, place: np.ndarray, tolerance: float, paired: bool
) -> tuple[float | None, float | None, float | None]:
    """Return the crossing and its 95 % interval as distances from the default; None where no value has an interval."""
    if levels.empty or not levels["se"].astype(float).gt(0).any():
        return None, None, None
    d, se, df, n, n0 = (levels[name].astype(float).to_numpy() for name in ("d", "se", "df", "n", "n_reference"))
    common = np.full(len(d), 0.5) if paired else n / (n + n0)
    rng = np.random.default_rng(0)
    luck = rng.standard_t(np.maximum(df.max(), 1.0), (DRAWS, 1)) * np.sqrt(common) * se
    drawn = d + rng.standard_t(np.maximum(df, 1.0), (DRAWS, len(d))) * np.sqrt(1 - common) * se + luck
    weight = np.concatenate([[1.0 / np.min(common * se**2 + 1e-12)], 1.0 / ((1 - common) * se**2 + 1e-12)])
    places, limit = np.concatenate([[0.0], place]), math.log1p(tolerance)
    rows = np.concatenate([d[None], drawn])
    fitted = rising(np.concatenate([np.zeros((len(rows), 1)), rows], axis=1), weight)
    found = crossings(places, fitted, limit)
    low = np.quantile(found.before[1:], 0.025, method="inverted_cdf")
    high = np.quantile(found.after[1:], 0.975, method="inverted_cdf")
    return float(found.estimate[0]), float(low), float(high)


def _words(side: str, default: float, inside: float | None, outside: float | None, ends: list[float | None]) -> str:
    crossing, low, high = ends
    about = f"; it crosses near {format_value(crossing)} ({_end(low)} to {_end(high)})" if crossing is not None else ""
    if inside is None:
        return f"{side} edge: the default itself has no verdict{about}"
    if outside is None:
        reach = "no other value is surely inside" if inside == default else f"surely inside to {format_value(inside)}"
        return f"{side} edge: none; {reach}{about}"
    return f"{side} edge: between {format_value(inside)} and {format_value(outside)}{about}"


def _end(value: float | None) -> str:
    return "beyond the tested values" if value is None or math.isinf(value) or value == 0.0 else format_value(value)
