"""What a study will cost, from a short calibration on this machine: no guess, and nothing trained for it.

As many processes as the study will have trials at once measure, side by side, seconds a training step, seconds a network call
on a batch, and seconds of metrics a row. How many calls an adaptive solver will need is counted on the exact field of the data.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from pfgm.checkpoint import Field
from pfgm.config import ADAPTIVE_SOLVERS, SamplerConfig
from pfgm.data import Dataset, load_data
from pfgm.field import mean_source
from pfgm.metrics.evaluation import REFERENCE_RTOL, Evaluator
from pfgm.process import Process, resolve_sampler
from pfgm.sampling import sample
from pfgm.training import Trainer
from study.config import StudyConfig
from study.fields import FieldStore
from study.given import load_given
from study.plan import SamplerPoint, Trial, make_trial, points
from study.trial import pick_device, prepare_torch
from study.worklist import Worklist

WARM_STEPS, TIMED_STEPS, N_LATENTS = 15, 60, 64
START_S, REPORT_S = 15.0, 15.0
"""Seconds for starting Ray and its workers, and for the report."""


@dataclass(frozen=True)
class Cost:
    """Seconds on this machine: a training step by reference batch size, and a row by sampler point."""

    step_s: dict[int, float]
    row_s: dict[str, float]
    solution_s: dict[str, float]

    def trial_s(self, trial: Trial, rows: Iterable[str], trained: bool) -> float:
        """One process's seconds for a trial whose rows (sampler ids) are still to be measured."""
        wanted = list(rows)
        solutions = {
            _solution_key(p): _of(self.solution_s, p.sampler_id) for p in trial.sampler_points if p.sampler_id in wanted
        }
        training = 0.0 if trained else trial.train.steps * self.step_s[int(trial.train.reference_batch_size or 0)]
        return training + sum(_of(self.row_s, s) for s in wanted) + sum(solutions.values())


def _of(seconds: Mapping[str, float], sampler: str) -> float:
    """A sampler point's own seconds, or the mean where it was not calibrated (tpe proposes points as it goes)."""
    return seconds.get(sampler, sum(seconds.values()) / len(seconds))


def _solution_key(point: SamplerPoint) -> tuple[object, ...]:
    c = point.config
    return (c.T, c.T_ratio, c.t_min, c.max_radius_ratio, c.denoise)


def estimate(config: StudyConfig, work: Worklist, n_slots: int) -> tuple[float, float]:
    """(wall seconds, core seconds) to finish the study from here."""
    trials = [t for t in work.trials if work.missing(t)]
    proposed = []
    if work.points_to_ask:  # each like the default, and each with a field of its own
        example = make_trial(config, "default", config.default("train"), 0, [("default", config.default("sampler"))])
        proposed = [example] * work.points_to_ask * len(config.seeds.train_seeds)
    if not trials and not proposed:
        return 0.0, 0.0
    cost = calibrate(config, trials + proposed, n_slots)
    seen = FieldStore(config.place).published({t.train_id for t in trials})
    seconds = [cost.trial_s(t, [str(c["sampler_id"]) for c in t.cells(config)], trained=False) for t in proposed]
    for trial in trials:
        missing = set(work.missing(trial))
        rows = [str(c["sampler_id"]) for c in trial.cells(config) if c["cell_id"] in missing]
        seconds.append(cost.trial_s(trial, rows, trial.train_id in seen))
        seen.add(trial.train_id)
    total = sum(seconds)
    return max(total / n_slots, max(seconds)) + START_S + REPORT_S, total


def calibrate(config: StudyConfig, trials: list[Trial], n_slots: int) -> Cost:
    """Measure on as many processes as will run at once, and average."""
    os.environ["OMP_NUM_THREADS"] = str(config.resources.cpus)
    context = multiprocessing.get_context("spawn")
    references = {int(t.train.reference_batch_size or 0): t for t in trials}  # one of each cost
    job = (config, [t.handout() for t in references.values()])
    with context.Pool(n_slots) as pool:
        measured = pool.map(functools.partial(_calibrate_one, *job), range(n_slots))
    return Cost(_mean([m[0] for m in measured]), _mean([m[1] for m in measured]), _mean([m[2] for m in measured]))


K = TypeVar("K", int, str)


def _mean(measured: Sequence[Mapping[K, float]]) -> dict[K, float]:
    """The mean of every entry over the processes."""
    return {key: sum(m[key] for m in measured) / len(measured) for key in measured[0]}


Measured = tuple[dict[int, float], dict[str, float], dict[str, float]]


def _calibrate_one(config: StudyConfig, handouts: list[dict], worker: int) -> Measured:
    prepare_torch(config.resources.cpus)
    data, device = load_data(config.data), pick_device(config)
    step_s: dict[int, float] = {}
    trials = [make_trial(config, h["role"], h["point"], h["seed"], [tuple(p) for p in h["sampling"]]) for h in handouts]
    if config.given is not None:
        field = load_given(config.given.source, config.info)
        field = replace(field, network=field.network.to(device))
        step_s = {int(trial.train.reference_batch_size or 0): 0.0 for trial in trials}
    else:
        for trial in trials:
            trainer = Trainer(data, config.network, trial.train, 0, device)
            step_s[int(trial.train.reference_batch_size or 0)] = _step_s(trainer)
        field = Field.from_trainer(trainer)
    evaluator = Evaluator(data, config.evaluate, device)
    raw = data.raw.to(device)
    x = raw[torch.randint(len(raw), (config.evaluate.samples,))] + 0.1 * torch.randn(
        config.evaluate.samples, data.info.dim, device=device
    )
    evaluator.distances(x, torch.ones(len(x)))  # the first one makes the reference statistics
    started = time.perf_counter()
    evaluator.distances(x, torch.ones(len(x)))
    metric_s = time.perf_counter() - started
    row_s, solution_s = {}, {}
    for _, point in points(config, "sampler") if config.design.name != "tpe" else [("default", config.default("sampler"))]:
        sampler = config.sampling(point)
        name = next(p.sampler_id for p in make_trial(config, "", trials[0].point, 0, [("", point)]).sampler_points)
        nfe = _count_calls(data, field.process, sampler)
        row_s[name] = metric_s + nfe * _call_s(field, sampler, config.evaluate.samples, double=False)
        solution_s[name] = 0.0
        if "solver_error" in config.evaluate.metrics:
            n = min(config.evaluate.solver_error_samples, config.evaluate.samples)
            exact = sampler.model_copy(
                update={"solver": "dopri8", "rtol": REFERENCE_RTOL, "atol": "same", "steps": None, "batch_size": n}
            )
            solution_s[name] = _count_calls(data, field.process, exact) * _call_s(field, exact, n, double=True)
    return step_s, row_s, solution_s


def _step_s(trainer: Trainer) -> float:
    """Seconds of one training step, after a warm-up."""
    started, first = time.perf_counter(), 0
    for progress in trainer.run(report_every=min(WARM_STEPS, trainer.train.steps)):
        if first == 0:
            started, first = time.perf_counter(), progress.step
        elif progress.step >= WARM_STEPS + TIMED_STEPS:
            break
    return (time.perf_counter() - started) / max(trainer.step - first, 1)


def _count_calls(data: Dataset, process: Process, sampler: SamplerConfig) -> float:
    """Calls of D for one batch, counted on the exact field of the data (at most 500 sources) for adaptive solvers."""
    if sampler.solver not in ADAPTIVE_SOLVERS:
        per_step = {"euler": 1, "multistep2": 1, "midpoint": 2, "heun2": 2, "rk4": 4}[sampler.solver]
        return float((sampler.steps or 0) * per_step + sampler.denoise)
    sources = data.points[torch.linspace(0, len(data.points) - 1, min(500, len(data.points))).long()]

    def exact(x: Tensor, t: Tensor) -> Tensor:
        return mean_source(x, t, sources, n_aug=process.n_aug)

    few = sampler.model_copy(update={"batch_size": N_LATENTS})
    return sample(exact, process, few, N_LATENTS, dtype=torch.float64).nfe


def _call_s(field: Field, sampler: SamplerConfig, n: int, double: bool) -> float:
    """Seconds of one network call on every batch of ``n`` samples."""
    size = min(sampler.batch_size, n)
    batches = -(-n // size)
    trained = field.double() if double else field
    dtype = torch.float64 if double else torch.float32
    T = resolve_sampler(sampler, field.process).T
    x = torch.randn(size, field.process.info.dim, device=field.device, dtype=dtype) * T
    t = torch.full((size,), T, device=field.device, dtype=dtype)
    trained.mean_source(x, t)
    started, calls = time.perf_counter(), 0
    while time.perf_counter() - started < 0.15:
        trained.mean_source(x, t)
        if x.is_cuda:
            torch.cuda.synchronize()
        calls += 1
    return batches * (time.perf_counter() - started) / calls
