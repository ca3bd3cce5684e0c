r"""Likelihoods: how density changes along a field line.

The ODE carries the law of x(T) down to the law of x(t_min), and the density of a point changes by what its line's neighbourhood
shrinks: log p(x(t_min)) = log p_prior(x(T)) + ∫_{t_min}^{T} div_x(dx/dt) dt along the line upwards. Every process has the lines
dx/dt = (x − D)/t, so over s = log t the integrand is d − div D, and the answer knows nothing of a process's clock:
log p = log p_prior(x(T)) + d log(T/t_min) − ∫ div D ds. The state (x, ℓ), ℓ = ∫ div D ds/d, is solved in float64 by an adaptive
solver; ℓ is in nats a dimension, so that its tolerance is one of bits/dim.

div D is exact, by one reverse pass a coordinate, or Hutchinson's estimate v·∂D/∂x v with v of independent signs, drawn once a
solve, for the solver needs a smooth integrand; it is unbiased, and log p stays so. (Reverse passes in a batch, by vmap, were at
most twice as fast up to d = 16, and refuse networks in channels-last order.)

For data of grey levels v, the density is that of *dequantised* data, x = (v + u)/a + b with u ~ U[0, 1)
(`pfgm.sampling.dequantization`): −log p/(d ln 2) + log2 a is then an upper bound of the bits a dimension that the grey levels
v cost, whatever the density. A field is trained on the grey levels themselves, so its density at t well below 1/a is one of
peaks, and that bound is useless: look at t_min = 1/(2a), as the metric does (`pfgm.metrics.likelihood`).

The law that has this density is that of samples without the last denoise step, from the whole prior or the truncated one; it
differs from the data's at t_min by the error of the field, and of starting from the prior at a finite T.

Sources: Chen et al., Neural ODEs (arXiv 1806.07366), the change of density; Hutchinson (1990), the trace; FFJORD (arXiv
1810.01367), one noise vector a solve; PFGM (arXiv 2209.11178), for its ODE; Theis et al. (arXiv 1511.01844), dequantisation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from pfgm.memory import ByRows
from pfgm.mistakes import Mistake
from pfgm.prior.law import EDGE, PoissonPrior
from pfgm.prior.streams import stream
from pfgm.process.base import Process
from pfgm.process.resolve import resolve_sampler, sampler_point
from pfgm.registry import SOLVERS
from pfgm.sampling.integrate import MAX_STEPS, check_encodes
from pfgm.sampling.solvers import Diverged, MeanSource, StepLimit, named_limits

DIVERGENCES = ("exact", "hutchinson")
EXACT_DIM = 16
"""Most coordinates whose divergence is exact where nothing is said."""


class Followed(Protocol):
    """The part of a flow that the likelihood asks for (`pfgm.flow.base.Flow`)."""

    @property
    def process(self) -> Process:
        """Kernel, clock and prior."""

    @property
    def device(self) -> torch.device:
        """Return where D is computed."""

    def source_with_gradient(self, x: Tensor, t: Tensor) -> Tensor:
        """D(x, t), shape (B, d), differentiable in x."""

    def to_training_units(self, x: Tensor) -> Tensor:
        """Items in data units as points (n, d)."""


class LogLikelihood(NamedTuple):
    """log_prob (n,), nats in data units at t_min, NaN where the solve failed; log_prior (n,), its part from the top.

    nfe is the calls of D, each with its derivatives, mean over points; status as of a sampling; divergence is what was used.
    """

    log_prob: Tensor
    log_prior: Tensor
    nfe: float
    status: str
    divergence: str


def log_likelihood(
    flow: Followed,
    x: Tensor,
    *,
    T: float | None = None,
    t_min: float = 1e-3,
    solver: str = "dopri5",
    rtol: float = 1e-5,
    atol: float | None = None,
    divergence: str | None = None,
    n_probes: int = 1,
    seed: int = 0,
    max_radius_ratio: float | None = None,
    batch_size: int = 256,
    max_steps: int = MAX_STEPS,
) -> LogLikelihood:
    """log p(x) of the flow's samples at t_min.

    Args:
        x: items in data units, shape (n, *item shape) or (n, d), taken to be at t = t_min.
        T, t_min: noise levels; T None: the process's rule.
        solver, rtol, atol: adaptive; atol None: equal to rtol. They control the local error of log p/d as they do that of x,
            as a norm over the batch: at 1e-4 a single point of a mixture was off by 0.04 bits a dimension, at 1e-5 by 0.0015.
        divergence: exact or hutchinson; None: exact up to `EXACT_DIM` coordinates.
        n_probes, seed: of hutchinson: vectors to average over, and the stream they come from, row by row.
        max_radius_ratio: truncate the prior at this R/T.
        batch_size: points that share the solver's steps.
    Returns:
        LogLikelihood, float64 on the CPU.
    Raises:
        ValueError: a process whose ODE cannot be followed upwards, a D without gradient, points that end beyond a truncated
            prior, or an argument that makes no sense.
    """
    check_encodes(flow.process)
    divergence = divergence or ("exact" if flow.process.info.dim <= EXACT_DIM else "hutchinson")
    _check(solver, divergence, n_probes, batch_size, rtol, atol)
    config = sampler_point({"T": "rule" if T is None else T, "t_min": t_min, "max_radius_ratio": max_radius_ratio})
    numbers = resolve_sampler(config, flow.process)
    points = flow.to_training_units(x.double() if x.is_floating_point() else x).to(flow.device)
    probes = None if divergence == "exact" else rademacher(len(points), n_probes, points.shape[1], seed).to(points)
    prior = flow.process.prior(numbers.T, numbers.max_radius)
    tolerance = (rtol, rtol if atol is None else atol)
    parts: list[LogLikelihood] = []
    for rows in torch.arange(len(points)).split(batch_size):
        solve = Solve(flow.source_with_gradient, None if probes is None else probes[rows])
        parts.append(_of_batch(solve, points[rows], prior, (numbers.T, t_min), solver, tolerance, max_steps))
    scale = flow.process.info.scale
    return _together(parts, 0.0 if scale is None else float(scale.log().sum()), divergence)


def _together(parts: Sequence[LogLikelihood], stretched: float, divergence: str) -> LogLikelihood:
    """Join batches, ``stretched`` nats less for the units of the data; the worst status counts."""
    log_prob, statuses = torch.cat([part.log_prob for part in parts]), {part.status for part in parts}
    return LogLikelihood(
        log_prob=log_prob - stretched,
        log_prior=torch.cat([part.log_prior for part in parts]),
        nfe=sum(part.nfe * len(part.log_prob) for part in parts) / len(log_prob),
        status=next(s for s in ("diverged", "solver_limit", "complete") if s in statuses),
        divergence=divergence,
    )


def bits_per_dim(log_prob: Tensor, dim: int, levels: float) -> Tensor:
    """−log p/(d ln 2) + log2 a, shape of ``log_prob``.

    Args:
        log_prob: nats of dequantised data, in data units.
        dim: d.
        levels: a, grey levels a data unit (`pfgm.sampling.dequantization`).
    """
    return -log_prob / (dim * math.log(2.0)) + math.log2(levels)


def rademacher(n: int, n_probes: int, dim: int, seed: int) -> Tensor:
    """Independent signs, shape (n, n_probes, dim), float64; the first rows do not depend on n."""
    return torch.from_numpy(stream(seed, "likelihood/probes").integers(0, 2, (n, n_probes, dim)) * 2.0 - 1.0)


class Seen(NamedTuple):
    """D (B, d) and its divergence (B,), or an estimate of it."""

    source: Tensor
    divergence: Tensor


def source_and_divergence(mean_source: MeanSource, x: Tensor, t: Tensor, probes: Tensor | None = None) -> Seen:
    """D(x, t) and div_x D.

    Args:
        mean_source: D, through which gradients flow to x.
        x: points (B, d).
        t: noise levels (B,).
        probes: vectors (B, k, d) of signs; None: the exact divergence.
    Raises:
        ValueError: no gradient flows.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        d = mean_source(x, t)
    if not d.requires_grad:
        raise ValueError(
            "the mean source has no gradient, so its divergence is unknown: give the flow a source_with_gradient"
            " (of data points: pfgm.field.analytic.PointCharges)"
        )
    trace = torch.zeros_like(x[:, 0])
    count = x.shape[1] if probes is None else probes.shape[1]
    for k in range(count):
        if probes is None:
            trace += torch.autograd.grad(d[:, k].sum(), x, retain_graph=k + 1 < count)[0][:, k]
        else:
            v = probes[:, k]
            trace += (torch.autograd.grad(d, x, v.to(d), retain_graph=k + 1 < count)[0] * v).sum(1) / count
    return Seen(d.detach(), trace)


class Solve:
    """The ODE of (x, ℓ) in s = log t over one batch, its calls counted; raises `Diverged` where D is not finite."""

    def __init__(self, mean_source: MeanSource, probes: Tensor | None) -> None:
        self.probes, self.nfe = probes, 0
        self._look = ByRows(lambda x, t, *rest: source_and_divergence(mean_source, x, t, *rest))

    def slope(self, x: Tensor, log_t: float) -> tuple[Tensor, Tensor]:
        """(dx/ds (B, d), dℓ/ds (B,)) = (x − D, div D/d)."""
        self.nfe += 1
        t = torch.full((len(x),), math.exp(log_t), dtype=x.dtype, device=x.device)
        seen = self._look(x, t) if self.probes is None else self._look(x, t, self.probes)
        if not bool(torch.isfinite(seen.source).all() & torch.isfinite(seen.divergence).all()):
            raise Diverged
        return x - seen.source, seen.divergence / x.shape[1]

    def upwards(
        self, x: Tensor, T: float, t_min: float, solver: str, tolerance: tuple[float, float], max_steps: int
    ) -> tuple[Tensor, Tensor]:
        """x(T) (B, d) and ℓ (B,); raises `Diverged` or `StepLimit`."""
        from torchdiffeq import odeint  # loads scipy.integrate, a tenth of a worker's start

        s = torch.tensor([t_min, T], dtype=torch.float64, device=x.device).log()
        top, options = float(s[1]), {"max_num_steps": max_steps, "step_t": s[1:]}
        with named_limits():
            path, total = odeint(
                lambda u, state: self.slope(state[0], min(float(u), top)), (x, torch.zeros_like(x[:, 0])), s,
                rtol=tolerance[0], atol=tolerance[1], method=solver, options=options,
            )  # fmt: skip
        return path[-1], total[-1]


def _of_batch(
    solve: Solve,
    x: Tensor,
    prior: PoissonPrior,
    levels: tuple[float, float],
    solver: str,
    tolerance: tuple[float, float],
    max_steps: int,
) -> LogLikelihood:
    """log p of one batch (B, d), in the units of training; centring changes no density."""
    try:
        top, total = solve.upwards(x, *levels, solver, tolerance, max_steps)
    except (Diverged, StepLimit) as error:
        unknown = torch.full((len(x),), torch.nan, dtype=torch.float64)
        return LogLikelihood(unknown, unknown, solve.nfe, "diverged" if isinstance(error, Diverged) else "solver_limit", "")
    prior.refuse_outside(torch.linalg.vector_norm(top, dim=1), EDGE)
    log_prior, dim = prior.log_prob(top), x.shape[1]
    log_prob = log_prior + dim * (math.log(levels[0] / levels[1]) - total)
    return LogLikelihood(log_prob.cpu(), log_prior.cpu(), solve.nfe, "complete", "")


def _check(solver: str, divergence: str, n_probes: int, batch_size: int, rtol: float, atol: float | None) -> None:
    """Refuse arguments of `log_likelihood` that make no sense."""
    if not SOLVERS[solver].adaptive:
        able = " or ".join(name for name, kind in SOLVERS.items() if kind.adaptive)
        raise Mistake("solver", f"likelihoods need an adaptive one, got {solver}; use {able}")
    if divergence not in DIVERGENCES:
        raise Mistake("divergence", f"unknown '{divergence}'; use {' or '.join(DIVERGENCES)}")
    if n_probes < 1 or batch_size < 1:
        raise ValueError(f"n_probes and batch_size must be at least 1, got {n_probes} and {batch_size}")
    if not rtol > 0 or not (atol is None or atol > 0):
        raise ValueError(f"rtol and atol must be positive, got {rtol} and {atol}; use 1e-5")
