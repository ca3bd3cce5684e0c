"""Sampling: follow the field lines from the noise level t = T down to t = t_min, for any mean source D and any process.

All processes have the lines dx/dt = (x − D(x, t))/t; each is solved in its own clock (`pfgm.process.clock`,
`pfgm.sampling.solvers`). `encode` follows them upwards, from data to latents. On the way up neighbours part as fast as they
meet on the way down: where D is one data point, offsets from it grow like t, and an error at t_min becomes T/t_min times
itself. Down again it shrinks as much, so data are recovered to the tolerance; latents of samples are recovered only so far as
the field is smooth at t_min.

NFE counts every call of the network on a batch: the initial-step estimate, rejected steps, the final denoise included. A call
that the memory holds only in parts (`pfgm.memory`) is one call, a guided D is two (`pfgm.sampling.asked`). An adaptive solver
takes one step size for the whole batch, so batches are of equal size: the last is filled with extra latents, whose samples are
discarded. With fixed steps the rows of a batch know nothing of each other, so the batch is made smaller where the memory would
not hold its states.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pfgm.config import OWN_GRIDS, SamplerConfig
from pfgm.mistakes import Mistake
from pfgm.prior.latent import Latents, check_latents
from pfgm.process.base import Process
from pfgm.process.clock import HEIGHT, Clock
from pfgm.process.resolve import resolve_sampler
from pfgm.registry import PROCESSES, SOLVERS
from pfgm.sampling.asked import Asked, at_precision, calls_of, of_rows
from pfgm.sampling.batches import batch_rows, latent_batches
from pfgm.sampling.disturbances import StepNoise
from pfgm.sampling.own_levels import FAR, TunedLevels, Width, own_levels, tuned_levels
from pfgm.sampling.solvers import Disturb, Diverged, Levels, MeanSource, Ode, StepLimit, adaptive, fixed, heights

MAX_STEPS = 2000
"""Accepted and rejected steps after which an adaptive solve is given up (status `solver_limit`)."""


class Solution(NamedTuple):
    """x (B, d) at the end; nfe, calls of D on the batch; status complete, diverged or solver_limit."""

    x: Tensor
    nfe: int
    status: str


def integrate(
    mean_source: MeanSource,
    x: Tensor,
    *,
    T: float,
    t_min: float,
    solver: str = "dopri5",
    rtol: float = 1e-4,
    atol: float | None = None,
    steps: int = 16,
    grid: str = "log",
    denoise: bool = False,
    max_steps: int = MAX_STEPS,
    clock: Clock = HEIGHT,
    upwards: bool = False,
    disturb: Disturb | None = None,
    width: Width | None = None,
    tuned: TunedLevels | None = None,
) -> Solution:
    """Integrate one batch from t = T to t_min, or upwards from t_min to T.

    Args:
        mean_source: D(x, t); a network's, `pfgm.field.analytic`'s or `pfgm.field.empirical.mean_source` with its data bound.
        x: starting points at t = T (upwards: at t_min), shape (B, d), in data units; the state keeps its dtype.
        T, t_min: noise levels, T > t_min > 0; solver: a name of `pfgm.registry.SOLVERS`.
        rtol, atol: tolerances of an adaptive solver; atol None: equal to rtol (a fixed atol makes the rtol axis dead).
        steps, grid: of a fixed-step solver; `pfgm.registry.GRIDS`, own (`pfgm.sampling.own_levels`) or tuned.
        denoise: finish with D(x, t_min), one more call; downwards only.
        max_steps: of an adaptive solver.
        clock: the process's time and state.
        disturb: what happens to x before every step of a fixed-step solver.
        width: of the data, which the grids own and tuned need and pc2 and pc3 make use of.
        tuned: the levels of the grid tuned (`pfgm.sampling.tune`).
    Returns:
        Solution; when not complete, x is the last state, NaN where not finite.
    Raises:
        ValueError: an unknown solver or grid, a number out of range, or what does not go together.
    """
    _check(T, t_min, solver, rtol, atol, steps, disturb is not None, upwards and denoise)

    def solve(ode: Ode) -> Tensor:
        if SOLVERS[solver].adaptive:
            ends = (t_min, T) if upwards else (T, t_min)
            end = adaptive(ode, x, *ends, solver, rtol, rtol if atol is None else atol, max_steps)
            return ode.source(end, t_min) if denoise else end
        levels = _levels(ode, x, (T, t_min), solver, steps, grid, width, upwards, tuned)
        end = fixed(ode, x, levels, solver)
        return ode.source(end, levels[-1]) if denoise else end

    return _solution(Ode(mean_source, clock, disturb, None if width is None else FAR * width.sd), solve)


def _levels(
    ode: Ode, x: Tensor, ends: tuple[float, float], solver: str, steps: int, grid: str, width: Width | None, upwards: bool,
    tuned: TunedLevels | None,
) -> Levels:  # fmt: skip
    """Return the levels of a solve with fixed steps; those of each sample's own change ``ode.far`` too."""
    if grid not in OWN_GRIDS:
        shared: list[float] = heights(*ends, steps, grid, ode.clock).tolist()
        return shared[::-1] if upwards else shared
    if not SOLVERS[solver].own_levels:
        able = ", ".join(name for name, kind in SOLVERS.items() if kind.own_levels)
        raise Mistake("grid", f"{grid} has other levels for each sample, which solver {solver} cannot follow; use {able}")
    if width is None:
        raise Mistake("width", f"grid {grid} needs the width of the data; give width, or use grid rho")
    if upwards or ode.disturb is not None:
        raise Mistake("grid", f"{grid} is known for the undisturbed way down only, where a line starts; use grid rho")
    if grid == "own":
        own = own_levels(x, *ends, steps, width)
    elif tuned is None or len(tuned.log_widths) != steps:
        raise Mistake("tuned", f"grid tuned needs the levels of {steps} steps; give tuned (pfgm.sampling.tune)")
    else:
        own = tuned_levels(tuned, x, *ends, width)
    ode.far = own.far
    return own.t


def _solution(ode: Ode, solve: Callable[[Ode], Tensor]) -> Solution:
    """Run a solve, and say how it ended."""
    try:
        x = solve(ode)
    except (Diverged, StepLimit) as error:
        assert ode.last is not None
        return Solution(ode.last, ode.nfe, "diverged" if isinstance(error, Diverged) else "solver_limit")
    return Solution(x, ode.nfe, "complete" if bool(torch.isfinite(x).all()) else "diverged")


def _check(
    T: float, t_min: float, solver: str, rtol: float, atol: float | None, steps: int, disturbed: bool, denoise_above: bool
) -> None:
    """Refuse arguments of `integrate` that make no sense."""
    if solver not in SOLVERS:
        raise Mistake("solver", f"unknown '{solver}'; use one of {', '.join(SOLVERS)}")
    if not T > t_min > 0:
        raise Mistake("T", f"need T > t_min > 0, got T = {T:g} and t_min = {t_min:g}")
    if not rtol > 0 or not (atol is None or atol > 0) or steps < 1:
        raise ValueError(f"rtol, atol and steps must be positive, got {rtol}, {atol} and {steps}")
    if disturbed and SOLVERS[solver].adaptive:
        raise Mistake("solver", f"noise before every step needs a fixed-step solver, got {solver}; use heun2")
    if denoise_above:
        raise Mistake("denoise", "the way up starts at t_min and has no denoise step; give denoise=False")


class Samples(NamedTuple):
    """x (n, d) in the units of training; nfe mean over samples, nfe_max over batches; status; radius R/T (n,) of each start."""

    x: Tensor
    nfe: float
    nfe_max: int
    status: str
    radius_ratio: Tensor


def sample(
    mean_source: MeanSource | Asked,
    process: Process,
    sampler: SamplerConfig,
    n: int,
    seed: int = 0,
    *,
    latents: Latents | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    noise: StepNoise | None = None,
    tuned: TunedLevels | None = None,
) -> Samples:
    """Draw ``n`` samples from the latents of ``seed``, which do not depend on the configuration, or from those given.

    The statuses of the batches combine to the worst: diverged, then solver_limit, then complete.

    Args:
        mean_source: D; or what a conditional field is asked for.
        latents: n of them, in place of the seed's.
        noise: added before every step of a fixed-step solver.
        tuned: the levels of the grid tuned.
    Raises:
        ValueError: n < 1, latents of another dimension or number, T ≤ t_min, or a precision that cannot be had here.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    numbers = resolve_sampler(sampler, process)
    given = None if latents is None else check_latents(latents, process.info.dim, n).cpu()
    size = batch_rows(sampler, n, process.info.dim, device, dtype)
    prior, radii = process.prior(numbers.T, numbers.max_radius), []
    solutions, options = [], solver_options(sampler, process, numbers.atol) | {"tuned": tuned}
    for k, chosen in enumerate(latent_batches(n, size, process.info.dim, seed, given)):
        start = prior.from_latent(*chosen)
        radii.append(start.norm(dim=1))
        disturb = None if noise is None else noise.of_rows(k * size)
        x = start.to(device=device, dtype=dtype)
        source = at_precision(of_rows(mean_source, k * size, size), sampler.precision, torch.device(device), dtype)
        solution = integrate(source, x, T=numbers.T, **options, disturb=disturb)
        solutions.append(solution._replace(nfe=solution.nfe * calls_of(mean_source)))
    x, nfe, nfe_max, status = _together(solutions, size, n)
    return Samples(x, nfe, nfe_max, status, torch.cat(radii)[:n] / numbers.T)


class Encoded(NamedTuple):
    """latents (n), NaN where the solve did not come through; nfe mean over points, nfe_max over batches; status."""

    latents: Latents
    nfe: float
    nfe_max: int
    status: str


def encode(
    mean_source: MeanSource,
    process: Process,
    sampler: SamplerConfig,
    x: Tensor,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Encoded:
    """Follow the points x upwards, from t_min to T: the latents from which they would be sampled without ``denoise``.

    Args:
        sampler: as of `sample`; its denoise is not read.
        x: points at t = t_min, shape (n, d), in the units of training.
    Raises:
        ValueError: a process whose way up is no ODE, another dimension, T ≤ t_min, or points that end beyond a truncated prior.
    """
    check_encodes(process)
    if x.ndim != 2 or x.shape[1] != process.info.dim or not len(x):
        raise ValueError(f"x has shape {tuple(x.shape)}, this process needs (n, {process.info.dim}): flatten the data")
    numbers, n = resolve_sampler(sampler, process), len(x)
    size = batch_rows(sampler, n, process.info.dim, device, dtype)
    padded = x[torch.arange(math.ceil(n / size) * size, device=x.device) % n]
    options = solver_options(sampler, process, numbers.atol) | {"denoise": False, "upwards": True}
    source = at_precision(mean_source, sampler.precision, torch.device(device), dtype)
    solutions = [integrate(source, batch, T=numbers.T, **options) for _, batch in _batches(padded, size, device, dtype)]
    arrived = [s if s.status == "complete" else s._replace(x=torch.full_like(s.x, torch.nan)) for s in solutions]
    top, nfe, nfe_max, status = _together(arrived, size, n)
    return Encoded(process.prior(numbers.T, numbers.max_radius).to_latent(top.cpu()), nfe, nfe_max, status)


def check_encodes(process: Process) -> None:
    """Refuse a process whose ODE cannot be followed upwards.

    Raises:
        ValueError: it cannot.
    """
    if not process.encodes:
        name = next((name for name, kind in PROCESSES.items() if type(process) is kind), type(process).__name__)
        able = ", ".join(name for name, kind in PROCESSES.items() if kind.encodes)
        raise Mistake(
            "process", f"{name} has no ODE from data to latents, so nothing is encoded and no likelihood known; use {able}"
        )


def _batches(x: Tensor, size: int, device: torch.device | str, dtype: torch.dtype) -> Iterator[tuple[int, Tensor]]:
    """Batches of ``size`` rows and their numbers."""
    return ((k, part.to(device=device, dtype=dtype)) for k, part in enumerate(x.split(size)))


def _together(solutions: list[Solution], size: int, n: int) -> tuple[Tensor, float, int, str]:
    """x (n, d), mean and largest nfe, and the worst status of the batches; the last is cut to ``n`` rows in all."""
    used = [min(size, n - k * size) for k in range(len(solutions))]
    statuses = {s.status for s in solutions}
    return (
        torch.cat([s.x for s in solutions])[:n],
        sum(s.nfe * u for s, u in zip(solutions, used, strict=True)) / n,
        max(s.nfe for s in solutions),
        next(s for s in ("diverged", "solver_limit", "complete") if s in statuses),
    )


def solver_options(sampler: SamplerConfig, process: Process, atol: float | None) -> dict[str, Any]:
    """Arguments of `integrate` that a sampler point fixes for a process, T aside."""
    options: dict[str, object] = {
        "t_min": sampler.t_min, "solver": sampler.solver, "denoise": sampler.denoise, "clock": process.clock,
    }  # fmt: skip
    if SOLVERS[sampler.solver].adaptive:
        return options | {"rtol": sampler.rtol, "atol": atol}
    grid = process.native_grid if sampler.grid == "native" else sampler.grid
    return options | {"steps": sampler.steps, "grid": grid, "width": Width(process.info.sd, process.n_aug)}
