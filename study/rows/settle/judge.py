"""The verdict on every tested value of one parameter, and whether the parameter is settled.

A value is *inside* where the upper bound of its log ratio to the default is at most log(1 + tolerance). It is *outside* where
the lower bound is above it, or more fields failed than at the default. Else it is *undetermined*. A parameter is settled where
nothing that it could still measure would say more: every side of the default is inside to its end, or has an edge between two
values as near as was asked. What lies beyond the first value that is surely outside needs no verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from study.rows.settle.bounds import repeated_bounds
from study.rows.settle.edges import INSIDE, OPEN, OUTSIDE, Bracket, bracket, outward
from study.rows.settle.variance import Compared, Values, compare_fields

Value = float | int | str | bool | None


@dataclass(frozen=True)
class SettleAxis:
    """One parameter that is to be settled."""

    name: str
    first: tuple[Value, ...]
    """The values of round 0, the default left out."""
    default: float | None = None
    """The default as a number on the axis; None where the values have no order, or the default is not among them."""
    log: bool = False
    """Whether distances are those of logarithms."""
    width: float | None = None
    """The widest bracket of an edge, on the scale of the axis; None: values are as declared, and none is added."""
    integer: bool = False
    paired: bool = False
    """Whether values are compared within fields, as those of the sampler are."""
    rank: int = 0
    """Lower ones matter more."""
    cost: float = 1.0
    """Cost of one of its fields relative to the default's."""

    def place(self, value: Value) -> float:
        """Return where a value stands on the scale of the axis."""
        number = float(value)  # type: ignore[arg-type]  # an ordered axis has numbers
        return math.log(number) if self.log else number

    def at(self, place: float) -> float | int:
        """Return the value at a place, as a number that can be read: four digits, or whole."""
        value = math.exp(place) if self.log else place
        return round(value) if self.integer else float(f"{value:.4g}")

    def close(self, a: Value, b: Value) -> bool:
        """Return whether two values are as near as asked, or no whole number fits between them."""
        if self.integer and abs(float(a) - float(b)) <= 1:  # type: ignore[arg-type]  # an ordered axis has numbers
            return True
        return self.width is not None and abs(self.place(a) - self.place(b)) <= self.width * (1 + 1e-9)


@dataclass
class Sample:
    """What was measured at one value."""

    y: np.ndarray
    """Of the fields that are complete: log metric, or (paired) log ratio to the default of the same field."""
    seeds: np.ndarray
    """Numbers of their seeds."""
    n_bad: int = 0
    """Fields that failed or diverged here."""
    asked: int = 0
    """Fields that were asked for."""


@dataclass
class Table:
    """All measured rows, as far as the rule looks at them."""

    default: Sample
    values: Mapping[str, Mapping[Value, Sample]]
    """By axis and value."""
    stored: int = 0
    """Fields that there are: as many pairs could be measured."""
    lenders: Sequence[np.ndarray] = field(default_factory=list)
    """Log metrics of every training point, the default's too: they lend their variance."""


class Level(NamedTuple):
    """One value of an axis against the default."""

    value: Value
    d: float
    se: float
    df: float
    low: float
    high: float
    n: int
    """Fields that are complete."""
    asked: int
    n_bad: int
    verdict: str


class Judged(NamedTuple):
    """One axis."""

    axis: SettleAxis
    levels: list[Level]
    """The values, the default among them where it has a place; ordered ones in order."""
    sides: list[tuple[list[int], Bracket]]
    """Positions from the default outwards, and the bracket; none for an axis without order."""
    by_seed: bool = False
    """Whether its values are compared with the default seed by seed."""

    @property
    def settled(self) -> bool:
        """Return whether nothing is left to find."""
        if not self.sides:
            return all(level.verdict != OPEN for level in self.levels)
        return all(self.side_settled(found) for _, found in self.sides)

    def side_settled(self, found: Bracket) -> bool:
        """Return whether one side of the default is settled."""
        if found.inside is None:
            return False
        if found.outside is None:
            return not found.open
        return self.narrow(found)

    def narrow(self, found: Bracket) -> bool:
        """Return whether the two ends of a bracket are as near as asked, or no value fits between them."""
        assert found.inside is not None and found.outside is not None
        if self.axis.width is None:
            return not found.open
        return self.axis.close(self.levels[found.inside].value, self.levels[found.outside].value)

    @property
    def rating(self) -> str:
        """Return robust, sensitive or undetermined."""
        words = [level.verdict for level in self.levels]
        if OUTSIDE in words:
            return "sensitive"
        return "robust" if all(word == INSIDE for word in words) else "undetermined"


def judge(axis: SettleAxis, table: Table, limit: float) -> Judged:
    """Judge every value of an axis.

    Args:
        limit: log(1 + tolerance).
    """
    samples = table.values.get(axis.name, {})
    values = list(samples)
    compared = _paired(samples, values) if axis.paired else _trained(table, samples, values)
    d, variance, df = (np.array([c[k] for c in compared.found], dtype=float) for k in range(3))
    se = np.where(df > 0, np.sqrt(np.where(df > 0, variance, 0.0)), np.nan)
    low, high = repeated_bounds(d, se, np.maximum(df, 1.0), len(axis.first), compared.by_seed)
    levels = []
    for i, value in enumerate(values):
        sample = samples[value]
        verdict = _verdict(low[i], high[i], limit, sample.n_bad, table.default.n_bad)
        levels.append(Level(value, d[i], se[i], df[i], low[i], high[i], len(sample.y), sample.asked, sample.n_bad, verdict))
    if axis.default is None:
        return Judged(axis, levels, [], compared.by_seed)
    default = table.default
    own = INSIDE if len(default.y) and not default.n_bad else OPEN
    levels.append(Level(axis.default, 0.0, 0.0, 1.0, 0.0, 0.0, len(default.y), default.asked, default.n_bad, own))
    levels.sort(key=lambda level: axis.place(level.value))
    reference = next(i for i, level in enumerate(levels) if level.value == axis.default)
    verdicts = [level.verdict for level in levels]
    places = [axis.place(level.value) for level in levels]
    sides = [(side, bracket(side, verdicts, reference)) for side in outward(places, reference) if side]
    return Judged(axis, levels, sides, compared.by_seed)


def _verdict(low: float, high: float, limit: float, n_bad: int, n_bad_default: int) -> str:
    if n_bad > n_bad_default or low > limit:
        return OUTSIDE
    return INSIDE if high <= limit and not n_bad else OPEN


def _paired(samples: Mapping[Value, Sample], values: Sequence[Value]) -> Compared:
    """Return mean, variance of the mean, and degrees of freedom of log ratios within fields, for every value."""
    found = []
    for y in (samples[value].y for value in values):
        n = len(y)
        variance = float(y.var(ddof=1)) / n if n > 1 else math.nan
        found.append((float(y.mean()) if n else math.nan, variance, float(max(n - 1, 0))))
    return Compared(found, None, False)


def _trained(table: Table, samples: Mapping[Value, Sample], values: Sequence[Value]) -> Compared:
    base, *groups = (Values(sample.y, sample.seeds) for sample in (table.default, *(samples[value] for value in values)))
    return compare_fields(base, groups, table.lenders)
