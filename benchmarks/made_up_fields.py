"""Synthetic studies of known truth for the design `settle`: made-up fields, the rule itself, and what it got wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from study.rows.settle.edges import Bracket
from study.rows.settle.judge import Judged, Sample, SettleAxis, Table, Value, judge
from study.rows.settle.rounds import Round, first_round, next_round

LIMIT = math.log(1.10)
FACTOR = 1.5
SEEDS = 2


@dataclass(frozen=True)
class Truth:
    """The truth of one axis: log ratio and chance of failure by distance u from the default, on the scale of the axis."""

    effect: Callable[[float], float]
    fails: Callable[[float], float] = lambda u: 0.0

    def good(self, u: float) -> bool:
        """Return whether a value is truly within tolerance."""
        return self.fails(u) == 0 and self.effect(u) <= LIMIT + 1e-12


class Study:
    """One synthetic study: its axes, its truth, and the fields that were trained so far."""

    def __init__(
        self, axes: Sequence[SettleAxis], truths: Sequence[Truth], sd: float, spread: float, rng: np.random.Generator
    ) -> None:
        self.axes, self.sd, self.spread, self.rng = list(axes), sd, spread, rng
        self.truth = dict(zip((a.name for a in axes), truths, strict=True))
        self.default_sd = self._noise()
        self.default = np.zeros(0)
        self.samples: dict[str, dict[Value, Sample]] = {a.name: {} for a in axes}
        self.sds: dict[tuple[str, Value], float] = {}
        self.rounds = 0

    def _noise(self) -> float:
        return float(self.sd * np.exp(self.rng.uniform(-0.5, 0.5) * math.log(self.spread)))

    def _values(self, before: np.ndarray, mean: float, sd: float, n: int = 0) -> np.ndarray:
        more = max(n - len(before), 0)
        return np.concatenate([before, mean + sd * self.rng.standard_normal(more)]) if more else before

    @property
    def fields(self) -> int:
        """Fields that were trained."""
        trained = (s.asked for a in self.axes if not a.paired for s in self.samples[a.name].values())
        return len(self.default) + sum(trained)

    def measure(self, axis: SettleAxis, value: Value, n: int) -> None:
        """Train (or, where paired, sample) until a value has n fields."""
        sample = self.samples[axis.name].setdefault(value, Sample(np.zeros(0)))
        sd = self.sds.setdefault((axis.name, value), self._noise() * (0.4 if axis.paired else 1.0))
        u, truth = axis.place(value) - axis.place(axis.default), self.truth[axis.name]
        more = max(min(n, self.fields if axis.paired else n) - sample.asked, 0)
        bad = int((self.rng.random(more) < truth.fails(u)).sum())
        sample.y = np.concatenate([sample.y, truth.effect(u) + sd * self.rng.standard_normal(more - bad)])
        sample.n_bad += bad
        sample.asked += more

    def take(self, work: Round, budget: int) -> None:
        """Do the work of a round, as far as the budget goes: the default first, then task by task."""
        self.default = self._values(
            self.default, 0.0, self.default_sd, min(work.default, budget - self.fields + len(self.default))
        )
        for task in work.tasks:
            room = math.inf if task.axis.paired else budget - self.fields
            self.measure(task.axis, task.value, int(min(task.want, task.have + room)))
        self.rounds += 1

    @property
    def table(self) -> Table:
        """Everything that was measured."""
        trained = [s.y for a in self.axes if not a.paired for s in self.samples[a.name].values()]
        return Table(Sample(self.default, 0, len(self.default)), self.samples, self.fields, [self.default, *trained])

    def run(self, budget: int) -> list[Judged]:
        """Run to the end; returns the verdicts."""
        work = first_round(self.axes, SEEDS)
        while True:
            self.take(work, budget)
            if self.fields >= budget:
                break
            work = next_round(self.axes, self.table, LIMIT, SEEDS)
            if not work.tasks:
                break
        table = self.table
        return [judge(axis, table, LIMIT) for axis in self.axes]


def log_axis(name: str, below: float, above: float, levels: int = 4, **options: object) -> SettleAxis:
    """A logarithmic axis with its default at 1."""
    low, high = math.log(below), math.log(above)
    values = [float(f"{math.exp(v):.4g}") for v in np.linspace(low, high, levels)]
    return SettleAxis(name, tuple(v for v in values if v != 1.0), 1.0, True, math.log(FACTOR), **options)  # type: ignore[arg-type]


def crossing(truth: Truth, low: float, high: float) -> float | None:
    """The true crossing between two distances from the default (the first nearer to it); None where there is none."""
    grid = np.linspace(low, high, 2001)
    outside = [not truth.good(float(u)) for u in grid]
    return float(grid[int(np.argmax(outside))]) if any(outside) else None


def errors(study: Study, judged: Sequence[Judged], found: dict[str, list[float]]) -> None:
    """Count what is wrong in the verdicts of one study."""
    wrong = []
    for one in judged:
        axis, truth = one.axis, study.truth[one.axis.name]
        us = [axis.place(level.value) - axis.place(axis.default) for level in one.levels]
        good = [truth.good(u) for u in us]
        mistakes = {
            "robust": one.rating == "robust" and not all(good),
            "sensitive": one.rating == "sensitive" and all(good),
            "edge": any(_missed(truth, us, side, bracket) for side, bracket in one.sides),
        }
        for name, mistake in mistakes.items():
            found[name].append(mistake)
        found["settled"].append(one.settled)
        wrong.append(any(mistakes.values()))
    found["any"].append(any(wrong))
    found["wrong"].append(sum(wrong))
    found["fields"].append(study.fields)


def _missed(truth: Truth, us: Sequence[float], side: Sequence[int], bracket: Bracket) -> bool:
    """Return whether a bracket does not hold the true crossing of its side (to the step of the search for it)."""
    if bracket.inside is None or bracket.outside is None:
        return False
    true, slack = crossing(truth, 0.0, us[side[-1]]), abs(us[side[-1]]) / 1000
    return true is None or not abs(us[bracket.inside]) - slack <= abs(true) <= abs(us[bracket.outside]) + slack
