"""The cost of a study, from a short calibration on this machine: no guess, and nothing trained for it.

As many processes measure side by side as the study will have trials at once (`study.cost.calibration`). They take the seconds
of a training step, of a network call on a batch, and of the metrics of a row. The calls of an adaptive solver are counted on
the exact field of the data."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pfgm.training.history import TrainingDiverged
from study.config.study import StudyConfig
from study.cost.calibration import kind_of_step, measure
from study.cost.processes import side_by_side
from study.fields.store import FieldStore
from study.plan.cell import Cell, SamplerPoint
from study.plan.points import points
from study.plan.trial import Trial, make_trial
from study.plan.worklist import Worklist

START_S, REPORT_S = 15.0, 15.0
"""Seconds for starting Ray and its workers, and for the report."""


@dataclass(frozen=True)
class Cost:
    """Seconds on this machine: a training step by its kind, and a row by sampler point."""

    step_s: dict[str, float]
    row_s: dict[str, float]
    solution_s: dict[str, float]
    reference_s: float
    """The statistics of the data, once in every process."""

    def with_gain(self, gain: float) -> Cost:
        """Return the cost where training steps are so many times as fast."""
        return replace(self, step_s={kind: seconds / gain for kind, seconds in self.step_s.items()})

    def trial_s(self, trial: Trial, cells: Iterable[Cell], trained: bool) -> float:
        """One process's seconds for a trial with these cells still to measure; each step on the way is a field of its own."""
        wanted = list(cells)
        solutions = {(c.step, *_solution_key(c.sampler)): _of(self.solution_s, c.sampler_id) for c in wanted}
        training = 0.0 if trained else trial.train.steps * self.step_s[kind_of_step(trial)]
        return training + sum(_of(self.row_s, c.sampler_id) for c in wanted) + sum(solutions.values())


def _of(seconds: Mapping[str, float], sampler: str) -> float:
    """A sampler point's own seconds, or the mean where it was not calibrated (tpe proposes points as it goes)."""
    return seconds.get(sampler, sum(seconds.values()) / len(seconds))


def _solution_key(point: SamplerPoint) -> tuple[object, ...]:
    c = point.config
    return (c.T, c.T_ratio, c.t_min, c.max_radius_ratio, c.denoise)


def estimate_line(config: StudyConfig, work: Worklist, n_slots: int, gain: float = 1.0) -> str:
    """Return what finishing the study will cost, or why that cannot be told.

    Args:
        gain: fields an hour of bundles over those of fields alone.
    """
    try:
        wall, core = estimate(config, work, n_slots, gain)
    except TrainingDiverged as error:
        return f"  no estimate: {error}; its rows would be `diverged`"
    scope = " for this round alone" if work.in_rounds and not work.exhausted else ""
    hours = f"{core / 3600:,.2f}" if core < 360_000 else f"{core / 3600:,.0f}"
    return f"  estimated cost  {in_words(wall)}{scope} on {n_slots} at once ({hours} core-hours), from a calibration just now"


def in_words(seconds: float) -> str:
    """59 → 59 s, 4000 → 67 min, 40000 → 11 hours, 4e6 → 46 days."""
    for unit, size, most in (("s", 1, 90), ("min", 60, 240), ("hours", 3600, 72)):
        if seconds < most * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:,.0f} days"


def estimate(config: StudyConfig, work: Worklist, n_slots: int, gain: float = 1.0) -> tuple[float, float]:
    """(wall seconds, core seconds) to finish the study from here.

    Raises:
        TrainingDiverged: a training that was to be timed.
    """
    trials = [t for t in work.trials if work.missing(t)]
    proposed = []
    if work.points_to_ask:  # each like the default, and each with a field of its own
        example = make_trial(config, "default", config.default("train"), 0, [("default", config.default("sampler"))])
        proposed = [example] * work.points_to_ask * len(config.seeds.train_seeds)
    if not trials and not proposed:
        return 0.0, 0.0
    cost = calibrate(config, trials + proposed, n_slots).with_gain(gain)
    store = FieldStore(config.place)
    seen = store.published({t.train_id for t in trials})
    gone = store.gone({(t.train_id, step) for t in trials for step in t.steps_on_the_way})
    seconds = [cost.trial_s(t, t.cells, trained=False) for t in proposed]
    for trial in trials:
        missing = set(work.missing(trial))
        cells = [c for c in trial.cells if c.cell_id in missing and (trial.train_id, c.step) not in gone]
        seconds.append(cost.trial_s(trial, cells, trial.train_id in seen))
        seen.add(trial.train_id)
    total, busy = sum(seconds), min(n_slots, len(seconds))
    once = cost.reference_s
    return max(total / n_slots, max(seconds)) + once + START_S + REPORT_S, total + busy * once


def calibrate(config: StudyConfig, trials: list[Trial], n_slots: int) -> Cost:
    """Measure on as many processes as will run at once, and average."""
    kinds = {kind_of_step(t): t for t in reversed(trials)}  # one of each cost, the default where it is one
    job = (config, [t.handout() for t in kinds.values()], [point for _, point in points(config, "sampler")])
    with side_by_side(config, n_slots) as pool:
        measured = pool.map(functools.partial(measure, *job), range(n_slots))
    steps, rows, solutions = ([getattr(m, name) for m in measured] for name in ("step_s", "row_s", "solution_s"))
    return Cost(_mean(steps), _mean(rows), _mean(solutions), sum(m.reference_s for m in measured) / len(measured))


def _mean(measured: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every entry over the processes."""
    return {key: sum(m[key] for m in measured) / len(measured) for key in measured[0]}
