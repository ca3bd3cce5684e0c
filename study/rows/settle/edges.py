"""Where a parameter leaves the tolerance: the bracket of tested values, and an estimate of the crossing inside it.

Assumption: from the default outwards the log ratio d does not fall, on each side by itself (d is *unimodal* over the axis). So
the edge of a side lies between the last value of the run that is surely inside and the first value that is surely outside. The
fit is the isotonic regression of d, the default being one of its points; by the max–min formula

    m_k = max_{i ≤ k} min_{j ≥ k} Σ_{i…j} w d / Σ_{i…j} w

Between two fitted values the estimate takes the square root of m as linear, which is exact for a parabola whose least point is
the default. Its interval does not: it only says between which tested values the crossing lies. Source of the formula: Barlow et
al. (1972), Statistical Inference under Order Restrictions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

ASSUMPTION = "from the default outwards the metric does not improve again"
INSIDE, OUTSIDE, OPEN = "inside", "outside", "undetermined"
"""Verdicts on a value: surely within the tolerance, surely beyond it, neither."""


class Bracket(NamedTuple):
    """One side of the default."""

    inside: int | None
    """The last value before the outside one that is surely inside, as a position among all; None: the default itself is not."""
    outside: int | None
    """The first value that is surely outside; None where there is none."""
    open: tuple[int, ...]
    """Values without a verdict that matter: those between the two; where nothing is surely outside, all of this side."""


def outward(values: Sequence[float], reference: int) -> tuple[list[int], list[int]]:
    """Return the positions of the values below the default and above it, the nearest first."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    at = order.index(reference)
    return order[:at][::-1], order[at + 1 :]


def bracket(side: Sequence[int], verdicts: Sequence[str], reference: int) -> Bracket:
    """Return the bracket of one side.

    Args:
        side: positions of its values from the default outwards, the default left out.
        verdicts: of all values.
        reference: position of the default.
    """
    if verdicts[reference] != INSIDE:
        return Bracket(None, next((at for at in side if verdicts[at] == OUTSIDE), None), ())
    inside, passed, between = reference, list[int](), list[int]()
    for at in side:
        if verdicts[at] == OUTSIDE:
            return Bracket(inside, at, tuple(between))
        if verdicts[at] == INSIDE:  # what is nearer to the default is inside too, by the assumption
            inside, passed, between = at, passed + between, []
        else:
            between.append(at)
    return Bracket(inside, None, tuple(passed + between))


def rising(d: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the weighted isotonic regression of values in order.

    Args:
        d: values, shape (…, K).
        weight: positive, shape (K,).
    """
    ahead = np.concatenate([np.zeros((*d.shape[:-1], 1)), np.cumsum(d * weight, axis=-1)], axis=-1)
    total = np.concatenate([[0.0], np.cumsum(weight)])
    width = total[None, 1:] - total[:-1, None]  # (i, j): the weight of i … j
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (ahead[..., None, 1:] - ahead[..., :-1, None]) / width
    upper = np.triu(np.ones((d.shape[-1], d.shape[-1]), dtype=bool))  # i ≤ j
    least = np.minimum.accumulate(np.where(upper, mean, np.inf)[..., ::-1], axis=-1)[..., ::-1]
    fitted: np.ndarray = np.where(upper, least, -np.inf).max(axis=-2)
    return fitted


class Crossings(NamedTuple):
    """Where fits cross the limit, as distances from the default, shape (B,); infinite where a fit never does."""

    before: np.ndarray
    """The last tested value whose fit is within the limit."""
    estimate: np.ndarray
    """The crossing by interpolation."""
    after: np.ndarray
    """The first tested value whose fit is above the limit."""


def crossings(place: np.ndarray, fitted: np.ndarray, limit: float) -> Crossings:
    """Return where each fit crosses the limit.

    Args:
        place: distance from the default, rising, the default's own 0 first, shape (K,).
        fitted: from `rising`, shape (B, K).
        limit: log(1 + tolerance).
    """
    above = fitted > limit
    first = above.argmax(axis=1)
    rows = np.arange(len(fitted))
    before = np.maximum(first - 1, 0)
    low, high = (np.sqrt(np.maximum(fitted[rows, at], 0.0)) for at in (before, first))
    share = np.clip((math.sqrt(limit) - low) / np.maximum(high - low, 1e-12), 0.0, 1.0)
    ever = above.any(axis=1)
    between = place[before] + share * (place[first] - place[before])
    ends = (place[before], place[-1]), (between, np.inf), (place[first], np.inf)
    return Crossings(*(np.where(ever, crossed, never) for crossed, never in ends))
