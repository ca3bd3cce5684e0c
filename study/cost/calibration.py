"""Seconds of a training step, of a network call and of the metrics, measured in one process in about a minute.

What is too large for a short look is measured on a part and scaled: on the CPU a batch of at most `MAX_FLOPS`, metrics on at
most `FEW` samples and as many points of the data. The time of steps, calls and metrics grows with the number of samples. That
of distances to neighbours grows with the number of data as well. That of all pairs grows with both, up to
`evaluate.pr_samples`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pfgm.config import SamplerConfig
from pfgm.data.dataset import Dataset, load_data
from pfgm.data.points import Points
from pfgm.field.empirical import mean_source
from pfgm.flow.exact import ExactField
from pfgm.flow.trained import Field
from pfgm.metrics.cards import REFERENCE_RTOL
from pfgm.metrics.evaluator import Evaluator
from pfgm.metrics.frechet import frechet_distance, frechet_flops, moments
from pfgm.metrics.likelihood import FIXED_RTOL
from pfgm.metrics.neighbours import N_OWN
from pfgm.metrics.reference import N_ANCHORS, N_GAUSSIANS
from pfgm.networks.cost import network_cost
from pfgm.process.base import Process
from pfgm.process.resolve import resolve_sampler
from pfgm.registry import METRICS, SOLVERS
from pfgm.sampling.integrate import sample
from pfgm.sampling.likelihood import EXACT_DIM
from pfgm.training.history import TrainingDiverged
from pfgm.training.trainer import Trainer
from study.config.study import StudyConfig
from study.fields.given import given_field
from study.measure.device import pick_device, prepare_torch
from study.plan.identity import sampler_id
from study.plan.points import Point
from study.plan.trial import Trial, rebuilt

WARM_STEPS, TIMED_STEPS, N_LATENTS, COUNTED_NUMBERS = 15, 60, 64, 200_000
"""Steps before the timed ones, timed steps; latents, and numbers of them at most, that a solver's calls are counted on."""
TIMED_S = 40.0
"""Seconds after which the calibration of a training step ends, though it has not seen all steps."""
MAX_FLOPS = 5e11
"""Operations of the largest batch that is timed on the CPU: some ten seconds."""
LONG_CALL_S = 5.0
"""Seconds of a network call from which on one is enough."""
FEW, FEW_NUMBERS = 2000, 20_000_000
"""Most samples, and most data, that metrics are timed on; and most numbers of them, for items of many coordinates."""
FLOPS_OF_A_STEP = 3
"""Operations of a training step over those of a call."""


class Measured(NamedTuple):
    """Seconds of one process: a step by `kind_of_step`; a row, and an exact solution, by sampler id; the reference
    statistics of the data, once."""

    step_s: dict[str, float]
    row_s: dict[str, float]
    solution_s: dict[str, float]
    reference_s: float


def measure(config: StudyConfig, handouts: list[dict[str, Any]], sampling: list[Point], worker: int) -> Measured:
    """Time one trial of each kind, and a row of each sampler point.

    Args:
        handouts: `study.plan.trial.Trial.handout` of trials that differ in cost.
        sampling: the sampler points that are known ahead.
        worker: which of the processes that measure side by side.
    Raises:
        TrainingDiverged: in these steps already; names the training point.
    """
    prepare_torch(config.resources.cpus)
    trials = [rebuilt(config, handout) for handout in handouts]
    data, device = load_data(config.data), pick_device(config)
    field, step_s = _field(config, trials, data, device)
    metric_s, reference_s = _metrics(config, data, device)
    row_s, solution_s = {}, {}
    start_s = 0.0
    if isinstance(field, ExactField) and "prior_error" in config.evaluate.metrics:
        start_s = _timed(lambda: field.prior_error(field.process.rule_T), device)
    for point in sampling:
        sampler = config.sampling(point)
        name = sampler_id(sampler)
        nfe = _count_calls(data, field.process, sampler)
        row_s[name] = metric_s + nfe * _call_s(field, sampler, config.evaluate.samples, double=False)
        solution_s[name] = start_s
        if "solver_error" in config.evaluate.metrics:
            n = min(config.evaluate.solver_error_samples, config.evaluate.samples)
            exact = sampler.model_copy(
                update={"solver": "dopri8", "rtol": REFERENCE_RTOL, "atol": "same", "steps": None, "batch_size": n}
            )
            solution_s[name] += _count_calls(data, field.process, exact) * _call_s(field, exact, n, double=True)
        if "likelihood" in config.evaluate.metrics:
            solution_s[name] += _likelihood_s(config, data, field, sampler)
    return Measured(step_s, row_s, solution_s, reference_s)


def kind_of_step(trial: Trial) -> str:
    """Return what the seconds of a training step depend on: the reference batch and the network."""
    size = (trial.network.width, trial.network.depth) if trial.network else ()
    return f"{trial.train.reference_batch_size or 0}/{size}"


def _field(
    config: StudyConfig, trials: list[Trial], data: Dataset, device: torch.device
) -> tuple[Field | ExactField, dict[str, float]]:
    """(a field as good as any for timing, seconds of a training step by its kind)."""
    if not config.field_source.trains:
        return given_field(config.field_source, data, device), {kind_of_step(trial): 0.0 for trial in trials}
    step_s = {}
    for trial in trials:
        assert trial.network is not None
        trainer = Trainer(data, trial.network, trial.train, 0, device)
        flops = FLOPS_OF_A_STEP * network_cost(trainer.network, data.info.shape)[1]
        batch = _fitting(trial.train.batch_size, flops, device)
        if batch < trial.train.batch_size:
            trainer = Trainer(data, trial.network, trial.train.model_copy(update={"batch_size": batch}), 0, device)
        try:
            step_s[kind_of_step(trial)] = _step_s(trainer) * trial.train.batch_size / batch
        except TrainingDiverged as error:
            told = "the default's training" if trial.role.is_default else f"the training at {trial.shown}"
            raise TrainingDiverged(f"{told} diverges ({error})") from None
    return Field.from_trainer(trainer), step_s


def _fitting(batch: int, flops: float, device: torch.device) -> int:
    """The largest part of a batch that is timed; on a GPU the whole."""
    return batch if device.type == "cuda" else max(1, min(batch, int(MAX_FLOPS / max(flops, 1))))


def _step_s(trainer: Trainer) -> float:
    """Seconds of one training step, after a warm-up; of a long one only one is timed, of a very long one the first."""
    for most in (TIMED_S / 2, TIMED_S / 4):
        once = _timed(lambda: next(trainer.run(report_every=1), None), trainer.device)
        if once > most:
            return once
    steps = max(1, min(WARM_STEPS, int(TIMED_S / 4 / once)))
    started, first = time.perf_counter(), trainer.step
    for progress in trainer.run(report_every=steps):
        if progress.step - first >= TIMED_STEPS or time.perf_counter() - started > TIMED_S:
            break
    return (time.perf_counter() - started) / max(trainer.step - first, 1)


def _metrics(config: StudyConfig, data: Dataset, device: torch.device) -> tuple[float, float]:
    """(seconds of the metrics of a row, seconds of the data's own statistics)."""
    few_points = max(50, min(FEW, FEW_NUMBERS // data.info.dim))
    few = replace(data, raw=_first(data.raw, few_points), test=None if data.test is None else _first(data.test, few_points))
    names = set(config.evaluate.metrics) - {"solver_error"}
    n, total = min(config.evaluate.samples, few_points), len(data.raw)
    x = few.raw[torch.randint(len(few.raw), (n,))].to(device)
    x = x + 0.1 * torch.randn(x.shape, device=device)

    def seconds(metrics: set[str]) -> float:
        if not metrics:
            return 0.0
        part = config.evaluate.model_copy(update={"metrics": tuple(sorted(metrics)), "samples": n})
        evaluator = Evaluator(few, part, device, anchors=False)
        evaluator.distances(x, torch.ones(n))  # the first one makes the reference statistics
        return _timed(lambda: evaluator.distances(x, torch.ones(n)), device)

    limit, wanted = config.evaluate.pr_samples, config.evaluate.samples
    pairwise = {name for name in names if METRICS[name].pairs}
    pairs = min(wanted, limit) * min(total, limit) / (min(n, limit) * min(len(few.raw), limit))
    near_s = seconds(names & {"neighbours"}) * total / len(few.raw)
    row_s = (seconds(names - {"fid", "neighbours", *pairwise}) + near_s) * wanted / n + seconds(pairwise) * pairs
    network = Evaluator(few, config.evaluate, device, anchors=False).network
    network(x)  # the first call also prepares
    image_s = _timed(lambda: network(x), device) / n
    distance_s = 0.0
    if "fid" in names:
        distance_s = _distance_s(network(x), network(few.raw), wanted, total, device)
        row_s += distance_s + image_s * wanted
    images = total + (0 if data.test is None else len(data.test)) + N_GAUSSIANS * config.evaluate.samples
    return row_s, image_s * images + near_s * min(N_OWN, total) / n + distance_s * N_ANCHORS


def _distance_s(x: Tensor, y: Tensor, n: int, n_data: int, device: torch.device) -> float:
    """Seconds of a Fréchet distance between ``n`` samples and ``n_data`` points, timed on features x and y of fewer of them."""
    timed = _timed(lambda: frechet_distance(*moments(x), *moments(y)), device)
    k = x.shape[1]
    return timed * frechet_flops(n, n_data, k) / frechet_flops(len(x), len(y), k)


def _first(points: Points, most: int) -> Points:
    """At most ``most`` of some points."""
    rows = torch.arange(points.n_stored) if points.rows is None else points.rows
    return replace(points, rows=rows[:most])


def _timed(act: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    act()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _count_calls(data: Dataset, process: Process, sampler: SamplerConfig) -> float:
    """Calls of D for one batch, counted on the exact field of the data (at most 500 sources) for adaptive solvers."""
    if not SOLVERS[sampler.solver].adaptive:
        return float((sampler.steps or 0) * SOLVERS[sampler.solver].calls + sampler.denoise)
    sources = data.points[torch.linspace(0, len(data.points) - 1, min(500, len(data.points))).long()]

    def exact(x: Tensor, t: Tensor) -> Tensor:
        return mean_source(x, t, sources, n_aug=process.n_aug)

    n = max(8, min(N_LATENTS, COUNTED_NUMBERS // data.info.dim))
    few = sampler.model_copy(update={"batch_size": n})
    return sample(exact, process, few, n, dtype=torch.float64).nfe


def _likelihood_s(config: StudyConfig, data: Dataset, field: Field | ExactField, sampler: SamplerConfig) -> float:
    """Seconds of the likelihood of a sampler point: a reverse pass takes about as long as two calls."""
    n = min(config.evaluate.likelihood_samples, config.info.n)
    rtol = sampler.rtol if SOLVERS[sampler.solver].adaptive else FIXED_RTOL
    up = sampler.model_copy(update={"solver": "dopri5", "rtol": rtol, "atol": "same", "steps": None, "batch_size": n})
    passes = data.info.dim if data.info.dim <= EXACT_DIM else 1
    return _count_calls(data, field.process, up) * _call_s(field, up, n, double=True) * (1 + 2 * passes)


def _call_s(field: Field | ExactField, sampler: SamplerConfig, n: int, double: bool) -> float:
    """Seconds of one network call on every batch of ``n`` samples."""
    trained = field.double() if double else field
    dtype = torch.float64 if double else field.dtype
    flops = network_cost(field.network, field.process.info.shape)[1] if isinstance(field, Field) else 0.0
    size = _fitting(min(sampler.batch_size, n), flops, field.device)
    T = resolve_sampler(sampler, field.process).T
    x = torch.randn(size, field.process.info.dim, device=field.device, dtype=dtype) * T
    t = torch.full((size,), T, device=field.device, dtype=dtype)
    seconds = _timed(lambda: trained.mean_source(x, t), field.device)
    if seconds < LONG_CALL_S:  # a longer one is not repeated: what it prepared is little beside it
        started, calls = time.perf_counter(), 0
        while time.perf_counter() - started < 0.15:
            _timed(lambda: trained.mean_source(x, t), field.device)
            calls += 1
        seconds = (time.perf_counter() - started) / calls
    whole = -(-n // min(sampler.batch_size, n)) * min(sampler.batch_size, n)  # the last batch is filled up
    return whole / size * seconds
