"""Made-up fields: what the rule does where the truth is known, and what a budget can settle at some noise.

The rule is the one that a study runs. Only the fields are made up: normal log metrics about a truth that is given for each
axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from study.rows.settle.judge import Judged, Sample, SettleAxis, Table, Value, judge
from study.rows.settle.rounds import Round, first_round, next_round


@dataclass(frozen=True)
class MadeUpTruth:
    """The truth of one axis: log ratio and chance of failure by distance u from the default, on the scale of the axis."""

    effect: Callable[[float], float]
    fails: Callable[[float], float] = lambda u: 0.0


class MadeUpStudy:
    """Axes, their truth, and the fields that were made up so far.

    Args:
        sd: standard deviation of the log metric between fields of a value.
        rng: draws all that is random.
        spread: the ratio of the noisiest to the quietest value's standard deviation.
        pairs: standard deviation of the log ratio of two samplings of a field, relative to ``sd``.
        alike: correlation of fields with equal seeds.
        limit: log(1 + tolerance).
        seeds: fields that a value begins with.
    """

    def __init__(
        self,
        axes: Sequence[SettleAxis],
        truths: Sequence[MadeUpTruth],
        sd: float,
        rng: np.random.Generator,
        *,
        spread: float = 1.0,
        pairs: float = 0.4,
        alike: float = 0.0,
        limit: float = math.log(1.1),
        seeds: int = 2,
    ) -> None:
        self.axes, self.sd, self.spread, self.pairs, self.rng = list(axes), sd, spread, pairs, rng
        self.limit, self.seeds, self.alike = limit, seeds, alike
        self.luck = np.zeros(0)
        self.truth = dict(zip((a.name for a in axes), truths, strict=True))
        self.default_sd = self._noise()
        self.default = np.zeros(0)
        self.samples: dict[str, dict[Value, Sample]] = {a.name: {} for a in axes}
        self.sds: dict[tuple[str, Value], float] = {}
        self.rounds = 0

    def _noise(self) -> float:
        return float(self.sd * np.exp(self.rng.uniform(-0.5, 0.5) * math.log(self.spread)))

    def _noise_of(self, seeds: np.ndarray) -> np.ndarray:
        """Return the noise of new fields with these seeds, of variance 1; equal seeds share a part of it."""
        own = self.rng.standard_normal(len(seeds))
        if not self.alike or not len(seeds):
            return own
        if (new := int(seeds.max()) + 1 - len(self.luck)) > 0:
            self.luck = np.append(self.luck, self.rng.standard_normal(new))
        return np.asarray(math.sqrt(self.alike) * self.luck[seeds] + math.sqrt(1 - self.alike) * own)

    @property
    def fields(self) -> int:
        """Fields that were trained."""
        trained = (s.asked for a in self.axes if not a.paired for s in self.samples[a.name].values())
        return len(self.default) + sum(trained)

    def measure(self, axis: SettleAxis, value: Value, n: int) -> None:
        """Train (or, where paired, sample) until a value has n fields."""
        sample = self.samples[axis.name].setdefault(value, Sample(np.zeros(0), np.zeros(0, dtype=int)))
        sd = self.sds.setdefault((axis.name, value), self._noise() * (self.pairs if axis.paired else 1.0))
        u = 1.0 if axis.default is None else axis.place(value) - axis.place(axis.default)
        truth = self.truth[axis.name]
        seeds = np.arange(sample.asked, max(min(n, self.fields) if axis.paired else n, sample.asked))
        good = seeds[self.rng.random(len(seeds)) >= truth.fails(u)]
        noise = self.rng.standard_normal(len(good)) if axis.paired else self._noise_of(good)
        sample.y = np.concatenate([sample.y, truth.effect(u) + sd * noise])
        sample.seeds = np.concatenate([sample.seeds, good])
        sample.n_bad += len(seeds) - len(good)
        sample.asked += len(seeds)

    def take(self, work: Round, budget: int) -> None:
        """Do the work of a round, as far as the budget goes: the default first, then task by task."""
        new = np.arange(len(self.default), max(min(work.default, budget - self.fields + len(self.default)), len(self.default)))
        self.default = np.concatenate([self.default, self.default_sd * self._noise_of(new)])
        for task in work.tasks:
            room = math.inf if task.axis.paired else budget - self.fields
            self.measure(task.axis, task.value, int(min(task.want, task.have + room)))
        self.rounds += 1

    @property
    def table(self) -> Table:
        """Everything that was measured."""
        trained = [s.y for a in self.axes if not a.paired for s in self.samples[a.name].values()]
        own = Sample(self.default, np.arange(len(self.default)), 0, len(self.default))
        return Table(own, self.samples, self.fields, [self.default, *trained])

    def run(self, budget: int) -> list[Judged]:
        """Run to the end; returns the verdicts."""
        work = first_round(self.axes, self.seeds)
        while True:
            self.take(work, budget)
            if self.fields >= budget:
                break
            work = next_round(self.axes, self.table, self.limit, self.seeds)
            if not work.tasks:
                break
        table = self.table
        return [judge(axis, table, self.limit) for axis in self.axes]


def forecast(
    axes: Sequence[SettleAxis], sd: float, pairs: float, limit: float, seeds: int, budget: int, studies: int = 40
) -> tuple[list[float], float]:
    """Return the share of made-up studies without any effect in which each axis is settled, and the median of their fields.

    Args:
        axes: parameters of the planned study.
        sd: standard deviation of the log metric between fields.
        pairs: that of the log ratio of two samplings of a field.
        limit: log(1 + tolerance).
        seeds: fields that a value begins with.
        budget: fields at most.
        studies: how many are made up.
    """
    flat = [MadeUpTruth(lambda u: 0.0) for _ in axes]
    settled, fields = np.zeros(len(axes)), []
    for seed in range(studies):
        study = MadeUpStudy(axes, flat, sd, np.random.default_rng(seed), pairs=pairs / sd, limit=limit, seeds=seeds)
        settled += [one.settled for one in study.run(budget)]
        fields.append(study.fields)
    return (settled / studies).tolist(), float(np.median(fields))
