"""How many fields train fastest together on this machine: steps of a second or so, in as many processes as will run at once.

Together, small networks cost as few calls as one alone (`pfgm.training.bundle`), and large ones gain nothing. So sizes are
tried from small to large, as long as fields an hour go up and the memory holds them.
"""

from __future__ import annotations

import functools
import time
from typing import Any, NamedTuple

import psutil

from pfgm.data.dataset import load_data
from pfgm.memory import is_out_of_memory
from pfgm.mistakes import Mistake
from pfgm.training.bundle import Bundle, BundleTooLarge
from pfgm.training.footprint import CONTEXT
from pfgm.training.history import TrainingDiverged
from pfgm.training.trainer import Trainer
from study.config.study import StudyConfig
from study.cost.processes import side_by_side
from study.host import machine
from study.host.sharing import USABLE, memory_needed
from study.host.slots import slots
from study.measure.device import pick_device, prepare_torch
from study.plan.bundles import key_of
from study.plan.trial import Trial, rebuilt
from study.plan.worklist import Worklist

SIZES = (2, 4, 8, 16)
"""Sizes that are tried."""
WORTH = 1.1
"""Fields an hour of a bundle over those of fields alone, below which fields are trained alone."""
ENDLESS, STEPS, LEAST_S = 10**9, 10, 1.0
"""Steps of the trainings that are timed; steps between two looks at the clock; seconds of a measurement."""
SLOW_S = 0.5
"""Seconds of a step from which on its calls are no matter: such fields are trained alone."""


class Together(NamedTuple):
    """Fields of a bundle, and fields an hour over those of fields trained alone, where this was measured; else 1."""

    fields: int
    gain: float = 1.0

    def __str__(self) -> str:
        told = "" if self.gain == 1.0 else f", {self.gain:.2f} times as many an hour as alone, measured just now"
        return f"{self.fields} fields{told}" if self.fields > 1 else "each field alone"


class Capacity(NamedTuple):
    """CPUs and GPUs for trials; ``slots``: trials at once, where that is fixed."""

    cpus: int
    gpus: float
    slots: int | None = None

    def at_once(self, config: StudyConfig, fields: int) -> int:
        """Return how many trials of so many fields run at once."""
        return slots(config, self.cpus, self.gpus, fields) if self.slots is None else self.slots


def choose(config: StudyConfig, work: Worklist, capacity: Capacity, tell: bool = False) -> Together:
    """Return the fields of a bundle: as declared, or as many as train fastest here.

    Args:
        config: the study.
        work: what is left of it.
        capacity: where it is to run.
        tell: measure what a declared size gains, too.
    """
    declared = config.resources.bundle
    if declared == 1 or (declared != "auto" and not tell):
        return Together(declared)
    waiting = [t for t in _to_train(work) if key_of(t) is not None]
    if declared != "auto":
        return _gain(config, waiting[0], capacity, declared) if waiting else Together(declared)
    sizes = [k for k in SIZES if len(waiting) >= k * capacity.at_once(config, k) and fits(config, capacity, k)]
    if not sizes or work.growing or (capacity.gpus > 0 and machine.gpu_memory() is None):
        return Together(1)
    return _fastest(config, waiting[0], capacity, sizes)


def _gain(config: StudyConfig, example: Trial, capacity: Capacity, fields: int) -> Together:
    with side_by_side(config, capacity.at_once(config, 1)) as pool:
        alone, together = (_rate(config, example, capacity, pool, k) for k in (1, fields))
    return Together(fields, together / alone if alone and together else 1.0)


def _to_train(work: Worklist) -> list[Trial]:
    there = work.published()
    return [t for t in work.waiting if t.train_id not in there] if work.config.field_source.trains else []


def fits(config: StudyConfig, capacity: Capacity, fields: int) -> bool:
    """Return whether the memory holds the trials that run at once."""
    needed, memory = memory_needed(config, fields), machine.gpu_memory()
    if capacity.gpus > 0 and memory is not None:
        return needed <= USABLE * memory
    return capacity.at_once(config, fields) * (needed - CONTEXT) <= USABLE * psutil.virtual_memory().available


def _fastest(config: StudyConfig, example: Trial, capacity: Capacity, sizes: list[int]) -> Together:
    with side_by_side(config, capacity.at_once(config, 1)) as pool:
        alone = _rate(config, example, capacity, pool, 1)
        best = Together(1)
        for k in sizes if alone * SLOW_S > capacity.at_once(config, 1) else []:
            tried = Together(k, _rate(config, example, capacity, pool, k) / alone)
            if tried.gain <= best.gain:
                break
            best = tried
    return best if best.gain >= WORTH else Together(1)


def _rate(config: StudyConfig, example: Trial, capacity: Capacity, pool: Any, fields: int) -> float:
    """Steps of a field a second, of all trials at once; 0 where such steps cannot be taken."""
    n = capacity.at_once(config, fields)
    steps = pool.map(functools.partial(steps_a_second, config, example.handout(), fields), range(n), chunksize=1)
    return float(sum(steps))


def steps_a_second(config: StudyConfig, handout: dict[str, Any], fields: int, worker: int) -> float:
    """Time steps of some fields like one: steps of a field in a second; 0 where they diverge, or cannot be taken together.

    Args:
        config: the study.
        handout: `study.plan.trial.Trial.handout` of a trial like all.
        fields: trained together.
        worker: which of the processes that measure side by side.
    """
    prepare_torch(config.resources.cpus)
    trial = rebuilt(config, handout)
    one_thread = pick_device(config).type == "cpu" and config.resources.cpus == 1
    clock = time.process_time if one_thread else time.perf_counter  # others who work on the machine are no matter
    try:
        training = _training(config, trial, fields)
        next(training.run(1))  # makes networks, moments and buffers
        started, steps = clock(), 1
        next(training.run(1))
        if clock() - started < SLOW_S:
            run, started, steps = training.run(STEPS), clock(), 0
            while clock() - started < LEAST_S:
                next(run)
                steps += STEPS
        return fields * steps / (clock() - started)
    except Exception as error:  # what ails them is said when they are trained
        if isinstance(error, Mistake | TrainingDiverged | BundleTooLarge) or is_out_of_memory(error):
            return 0.0
        raise


def _training(config: StudyConfig, trial: Trial, fields: int) -> Trainer | Bundle:
    assert trial.network is not None
    data, device, train = load_data(config.data), pick_device(config), trial.train.model_copy(update={"steps": ENDLESS})
    if fields == 1:
        return Trainer(data, trial.network, train, 0, device)
    return Bundle(data, trial.network, [train] * fields, range(fields), device)
