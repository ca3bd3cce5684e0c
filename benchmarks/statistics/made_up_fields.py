"""Made-up studies for the benchmark of the design `settle`: their axes and truths, and what the rule got wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from study.rows.settle.edges import Bracket
from study.rows.settle.judge import Judged, SettleAxis
from study.rows.settle.made_up import MadeUpStudy, MadeUpTruth

LIMIT = math.log(1.10)
FACTOR = 1.5
SEEDS = 2


@dataclass(frozen=True)
class Truth(MadeUpTruth):
    """A truth that knows which values are within a tolerance of 10 %."""

    def good(self, u: float) -> bool:
        """Return whether a value is truly within tolerance."""
        return self.fails(u) == 0 and self.effect(u) <= LIMIT + 1e-12


class Study(MadeUpStudy):
    """A made-up study whose noise may differ between values."""

    def __init__(
        self, axes: Sequence[SettleAxis], truths: Sequence[Truth], sd: float, spread: float, rng: np.random.Generator,
        alike: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(axes, truths, sd, rng, spread=spread, alike=alike, limit=LIMIT, seeds=SEEDS)
        self.goodness = dict(zip((a.name for a in axes), truths, strict=True))


def log_axis(name: str, below: float, above: float, levels: int = 4, **options: object) -> SettleAxis:
    """A logarithmic axis with its default at 1."""
    low, high = math.log(below), math.log(above)
    values = [float(f"{math.exp(v):.4g}") for v in np.linspace(low, high, levels)]
    return SettleAxis(name, tuple(v for v in values if v != 1.0), 1.0, True, math.log(FACTOR), **options)  # type: ignore[arg-type]


def crossing(truth: Truth, low: float, high: float) -> float | None:
    """The true crossing between two distances from the default (the first nearer to it); None where there is none."""
    grid = np.linspace(low, high, 2001)
    return next((u for u in grid.tolist() if not truth.good(u)), None)


def errors(study: Study, judged: Sequence[Judged], found: dict[str, list[float]]) -> None:
    """Count what is wrong in the verdicts of one study."""
    wrong = []
    for one in judged:
        axis, truth = one.axis, study.goodness[one.axis.name]
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
