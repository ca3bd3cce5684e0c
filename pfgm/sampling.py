"""Sampling: follow the field lines dx/dt = (x − D(x, t))/t from t = T down to t = t_min, for any mean source D.

Adaptive solvers (torchdiffeq) integrate in s = log t, where dx/ds = x − D. Fixed-step solvers step in t itself on a
geometric (or EDM's ρ) grid: wherever D is constant the path is straight in t and one Euler step is exact; steps in log t
are another, worse method. `multistep2` extrapolates D linearly in log t from the last two heights and integrates the
linear part exactly: second order at one network call a step.

NFE counts every call of D on a batch: the initial-step estimate, rejected steps and the final denoise included; a call that
the memory holds only in parts (`pfgm.memory`) is one call. An adaptive solver takes one step size for the whole batch, so
batches are of equal size: the last is filled with extra latents, whose samples are discarded.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torchdiffeq import odeint

from pfgm.config import ADAPTIVE_SOLVERS, FIXED_SOLVERS, SOLVERS, SamplerConfig
from pfgm.memory import ByRows
from pfgm.prior import latents
from pfgm.process import Process, resolve_sampler

MeanSource = Callable[[Tensor, Tensor], Tensor]
"""(x (B, d), t (B,)) → mean source D(x, t), shape (B, d)."""

RHO = 7.0
"""Exponent of EDM's grid."""
MAX_STEPS = 2000
"""Accepted and rejected steps after which an adaptive solve is given up (status `solver_limit`)."""


class Solution(NamedTuple):
    """x (B, d) at the end; nfe, calls of D on the batch; status complete, diverged or solver_limit."""

    x: Tensor
    nfe: int
    status: str


class _Diverged(Exception):
    """D, or a step, was not finite at some point of the batch."""


class _CountedDrift:
    """D with its calls counted; raises `_Diverged` when D is not finite."""

    def __init__(self, mean_source: MeanSource) -> None:
        self.mean_source, self.nfe = ByRows(mean_source), 0
        self.last: Tensor | None = None

    def __call__(self, x: Tensor, t: float) -> Tensor:
        self.nfe += 1
        d = self.mean_source(x, torch.full((len(x),), t, dtype=x.dtype, device=x.device))
        finite = torch.isfinite(d).all(1) & torch.isfinite(x).all(1)
        self.last = torch.where(finite[:, None], x, torch.nan)
        if not bool(finite.all()):
            raise _Diverged
        return d


def heights(T: float, t_min: float, steps: int, grid: str = "log") -> Tensor:
    """The ``steps`` + 1 heights from T to t_min, float64: geometric, or linear in t^(1/7) for ``grid="rho"``."""
    u = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    if grid == "log":
        t = torch.exp(math.log(T) + u * (math.log(t_min) - math.log(T)))
    elif grid == "rho":
        t = (T ** (1 / RHO) + u * (t_min ** (1 / RHO) - T ** (1 / RHO))) ** RHO
    else:
        raise ValueError(f"grid: unknown '{grid}'; use log or rho")
    t[0], t[-1] = T, t_min
    return t


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
) -> Solution:
    """Integrate one batch from t = T to t_min.

    Args:
        mean_source: D(x, t); a network's, `pfgm.analytic`'s or `pfgm.field.mean_source` with its data bound.
        x: starting points at t = T, shape (B, d), in data units; the state keeps its dtype.
        T, t_min: heights, T > t_min > 0.
        solver: adaptive (dopri5, bosh3, adaptive_heun, dopri8) or fixed-step (euler, midpoint, heun2, rk4, multistep2).
        rtol, atol: tolerances of an adaptive solver; atol None: equal to rtol (a fixed atol makes the rtol axis dead).
        steps, grid: of a fixed-step solver.
        denoise: finish with D(x, t_min), one more call.
        max_steps: of an adaptive solver.
    Returns:
        Solution; when not complete, x is the last state, NaN where not finite.
    Raises:
        ValueError: unknown solver (or grid, of a fixed-step one), T ≤ t_min, or a tolerance or step count not positive.
    """
    if solver not in SOLVERS:
        raise ValueError(f"solver: unknown '{solver}'; use one of {', '.join(SOLVERS)}")
    if not T > t_min > 0:
        raise ValueError(f"T: need T > t_min > 0, got T = {T:g} and t_min = {t_min:g}")
    if not rtol > 0 or not (atol is None or atol > 0) or steps < 1:
        raise ValueError(f"rtol, atol and steps must be positive, got {rtol}, {atol} and {steps}")
    drift = _CountedDrift(mean_source)
    try:
        if solver in ADAPTIVE_SOLVERS:
            x = _adaptive(drift, x, T, t_min, solver, rtol, rtol if atol is None else atol, max_steps)
        else:
            x = _FIXED[solver](drift, x, heights(T, t_min, steps, grid).tolist())
        if denoise:
            x = drift(x, t_min)
    except (_Diverged, _StepLimit) as error:
        assert drift.last is not None
        return Solution(drift.last, drift.nfe, "diverged" if isinstance(error, _Diverged) else "solver_limit")
    if not bool(torch.isfinite(x).all()):
        return Solution(x, drift.nfe, "diverged")
    return Solution(x, drift.nfe, "complete")


class _StepLimit(Exception):
    """An adaptive solver used up its steps, or its step size underflowed."""


def _adaptive(
    drift: _CountedDrift, x: Tensor, T: float, t_min: float, solver: str, rtol: float, atol: float, max_steps: int
) -> Tensor:
    end = math.log(t_min)
    s = torch.tensor([math.log(T), end], dtype=torch.float64, device=x.device)
    options = {"max_num_steps": max_steps, "step_t": s[1:]}  # without step_t torchdiffeq steps past the end

    def f(s_now: Tensor, x_now: Tensor) -> Tensor:
        return x_now - drift(x_now, math.exp(float(s_now)))

    try:
        path = odeint(f, x, s, rtol=rtol, atol=atol, method=solver, options=options)
    except AssertionError as error:  # torchdiffeq's word for both limits
        if "max_num_steps" in str(error) or "underflow in dt" in str(error):
            raise _StepLimit(str(error)) from error
        if "non-finite values" in str(error):  # D was finite, the step overflowed
            raise _Diverged(str(error)) from error
        raise
    final: Tensor = path[-1]
    return final


def _euler(drift: _CountedDrift, x: Tensor, grid: list[float]) -> Tensor:
    for t, t_next in itertools.pairwise(grid):
        d = drift(x, t)
        x = d + (x - d) * (t_next / t)
    return x


def _midpoint(drift: _CountedDrift, x: Tensor, grid: list[float]) -> Tensor:
    for t, t_next in itertools.pairwise(grid):
        middle = (t + t_next) / 2
        half = x + (middle - t) * (x - drift(x, t)) / t
        x = x + (t_next - t) * (half - drift(half, middle)) / middle
    return x


def _heun(drift: _CountedDrift, x: Tensor, grid: list[float]) -> Tensor:
    for t, t_next in itertools.pairwise(grid):
        slope = (x - drift(x, t)) / t
        ahead = x + (t_next - t) * slope
        x = x + (t_next - t) / 2 * (slope + (ahead - drift(ahead, t_next)) / t_next)
    return x


def _rk4(drift: _CountedDrift, x: Tensor, grid: list[float]) -> Tensor:
    for t, t_next in itertools.pairwise(grid):
        h, middle = t_next - t, (t + t_next) / 2
        k_1 = (x - drift(x, t)) / t
        x_2 = x + h / 2 * k_1
        k_2 = (x_2 - drift(x_2, middle)) / middle
        x_3 = x + h / 2 * k_2
        k_3 = (x_3 - drift(x_3, middle)) / middle
        x_4 = x + h * k_3
        k_4 = (x_4 - drift(x_4, t_next)) / t_next
        x = x + h / 6 * (k_1 + 2 * k_2 + 2 * k_3 + k_4)
    return x


def _multistep2(drift: _CountedDrift, x: Tensor, grid: list[float]) -> Tensor:
    """x' = D̄ + (x − D̄) t'/t, D̄ = D + (h/2h₋)(D − D₋), h the step in log t; the first step is Euler's."""
    d_before, h_before = None, 0.0
    for t, t_next in itertools.pairwise(grid):
        d, h = drift(x, t), math.log(t_next / t)
        d_bar = d if d_before is None else d + h / (2 * h_before) * (d - d_before)
        x = d_bar + (x - d_bar) * (t_next / t)
        d_before, h_before = d, h
    return x


_FIXED = {"euler": _euler, "midpoint": _midpoint, "heun2": _heun, "rk4": _rk4, "multistep2": _multistep2}
assert tuple(_FIXED) == FIXED_SOLVERS


class Samples(NamedTuple):
    """x (n, d) in the units of training; nfe mean over samples, nfe_max over batches; status; radius R/T (n,) of each start."""

    x: Tensor
    nfe: float
    nfe_max: int
    status: str
    radius_ratio: Tensor


def sample(
    mean_source: MeanSource,
    process: Process,
    sampler: SamplerConfig,
    n: int,
    seed: int = 0,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Samples:
    """Draw ``n`` samples from the latents of ``seed``, which do not depend on the configuration.

    The statuses of the batches combine to the worst: diverged, then solver_limit, then complete.
    """
    numbers = resolve_sampler(sampler, process)
    size = min(sampler.batch_size, n)
    n_batches = math.ceil(n / size)
    direction, quantile = latents(n_batches * size, process.info.dim, seed)
    start = process.prior(numbers.T, numbers.max_radius).from_latent(direction, quantile)
    solutions = []
    for k in range(n_batches):
        x = start[k * size : (k + 1) * size].to(device=device, dtype=dtype)
        solutions.append(integrate(mean_source, x, T=numbers.T, **solver_options(sampler, numbers.atol)))
    used = [min(size, n - k * size) for k in range(n_batches)]
    statuses = {s.status for s in solutions}
    return Samples(
        x=torch.cat([s.x for s in solutions])[:n],
        nfe=sum(s.nfe * u for s, u in zip(solutions, used, strict=True)) / n,
        nfe_max=max(s.nfe for s in solutions),
        status=next(s for s in ("diverged", "solver_limit", "complete") if s in statuses),
        radius_ratio=start[:n].norm(dim=1) / numbers.T,
    )


def solver_options(sampler: SamplerConfig, atol: float | None) -> dict:
    """Arguments of `integrate` that a sampler point fixes, T aside."""
    options: dict[str, object] = {"t_min": sampler.t_min, "solver": sampler.solver, "denoise": sampler.denoise}
    if sampler.solver in ADAPTIVE_SOLVERS:
        return options | {"rtol": sampler.rtol, "atol": atol}
    return options | {"steps": sampler.steps, "grid": sampler.grid}
