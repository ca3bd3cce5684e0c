r"""Noise levels that are chosen for one field: ``grid: tuned``.

The levels are t_k = s_k/q^a. q is the slope of a sample's straight part (`pfgm.sampling.own_levels`), so a = 0 gives levels
that all samples share, and a = 1 levels of each sample's own. The share a and the widths s_1 > … > s_K are found by Adam,
through the whole solve. What it lowers is how far the samples of `LATENTS` latents end from their converged samples:

    √(mean of e²) + √(‖m − m'‖² + ‖S − S'‖²/(4 v)),  e the differences, m and S the mean and covariance of the samples

The second part is about the root of the Fréchet distance where the covariance is near v times the identity. The error of each
sample alone does not see that all samples are a little too smooth. The quantiles of the latents' radii are spread evenly, so
that the far tail of the prior is among them. They are no latents of any seed, so no sample that is measured is one of them.

The result depends on the field and the sampler point alone. Source of learned levels: LD3 (arXiv 2405.15506); the share a and
the second part are of this project.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pfgm.config import SamplerConfig
from pfgm.prior.latent import latents, make_latents
from pfgm.prior.law import PoissonPrior
from pfgm.process.base import Process
from pfgm.process.resolve import resolve_sampler
from pfgm.sampling.integrate import integrate, solver_options
from pfgm.sampling.own_levels import APART, FAR, OwnLevels, TunedLevels, Width, falling, levels_of, slope, top_and_bottom
from pfgm.sampling.solvers import MeanSource, Ode, fixed

LATENTS = 192
"""Samples that the levels are chosen on."""
LATENT_SEED = 1_000_003
CONVERGED_RTOL = 1e-4
"""Tolerance of dopri5 for the samples that levels are tuned to."""
ITERATIONS = 40
RATE = 0.08
"""Largest step of Adam in the logs of the widths and their ratios; half of it in the share."""
SHARE = 0.5
"""The share that the search starts from."""
NUMBERS = 2**15
"""Coordinates of samples that are differentiated together: bounds the memory of a solve that remembers its calls."""


def tune_sampler(
    mean_source: MeanSource,
    with_gradient: MeanSource,
    process: Process,
    sampler: SamplerConfig,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> TunedLevels:
    """Choose the levels of a sampler point whose grid is tuned.

    Args:
        with_gradient: D through which gradients flow to x and t.
    Raises:
        ValueError: the converged samples, or those of the first levels, cannot be had.
    """
    numbers, options = resolve_sampler(sampler, process), solver_options(sampler, process, None)
    assert sampler.steps is not None
    x = tuning_starts(process.prior(numbers.T, numbers.max_radius), process.info.dim).to(device=device, dtype=dtype)
    converged = integrate(
        mean_source, x, T=numbers.T, t_min=sampler.t_min, rtol=CONVERGED_RTOL, denoise=sampler.denoise, clock=process.clock
    )
    if converged.status != "complete":
        raise ValueError(f"no levels can be tuned: the converged samples ended as {converged.status}; use grid rho")

    def solve(x: Tensor, own: OwnLevels) -> Tensor:
        ode = Ode(with_gradient, process.clock, None, own.far)
        end = fixed(ode, x, own.t, sampler.solver)
        return ode.source(end, own.t[-1]) if sampler.denoise else end

    with torch.inference_mode(False), torch.enable_grad():  # whoever asks for samples may have turned gradients off
        return tune(solve, x.clone(), converged.x.clone(), sampler.steps, numbers.T, sampler.t_min, options["width"])


def tuning_starts(prior: PoissonPrior, dim: int) -> Tensor:
    """Return starts x_T (`LATENTS`, d) whose radii are spread evenly over the prior's quantiles."""
    quantiles = (torch.arange(LATENTS, dtype=torch.float64) + 0.5) / LATENTS
    return prior.from_latent(*make_latents(latents(LATENTS, dim, LATENT_SEED).direction, quantiles))


Solve = Callable[[Tensor, OwnLevels], Tensor]
"""(starts (B, d), their levels) → samples (B, d), through which gradients flow to the levels."""


def tune(solve: Solve, x: Tensor, converged: Tensor, steps: int, T: float, t_min: float, width: Width) -> TunedLevels:
    """Choose the levels of a solver's ``steps`` steps.

    Args:
        solve: the solver of the field.
        x: starts of the tuning (n, d) at t = T.
        converged: where an exact solver takes them (n, d).
        width: of the data.
    Raises:
        ValueError: the samples are not finite at the levels that the search starts from.
    """
    q = slope(x, T, width.n_aug)
    first, ratios, share = _start(q, steps, T, t_min, width, x.shape[1])
    optimizer = torch.optim.Adam([{"params": [first, ratios], "lr": RATE}, {"params": [share], "lr": RATE / 2}])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, ITERATIONS)
    least, found, miss = math.inf, None, _Miss(converged)
    for _ in range(ITERATIONS):
        log_widths = torch.cat([first, first - ratios.exp().cumsum(0)])
        t = levels_of(share, log_widths, q, T, t_min)
        value, gradient = _value_and_gradient(solve, x, OwnLevels(t.detach(), FAR * width.sd / q ** share.detach()), miss)
        if value < least:
            least, found = value, TunedLevels(float(share.detach()), tuple(log_widths.detach().tolist()))
        optimizer.zero_grad()
        t.backward(gradient)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            share.clamp_(0.0, 1.0)
    if found is None:
        raise ValueError(f"no levels can be tuned: the samples of {steps} steps are not finite; use grid rho")
    return found


def _value_and_gradient(solve: Solve, x: Tensor, own: OwnLevels, miss: _Miss) -> tuple[float, Tensor]:
    """Return how far the samples are from the converged ones, and its gradient with respect to the levels (K + 1, n).

    Where a batch has several parts it is solved twice: first as a whole, then part by part with every call remembered.
    """
    free, rows = own.t.clone().requires_grad_(), max(1, NUMBERS // x.shape[1])

    def part(k: int) -> Tensor:
        return solve(x[k : k + rows], OwnLevels(free[:, k : k + rows], own.far[k : k + rows]))

    starts = range(0, len(x), rows)
    with torch.set_grad_enabled(len(starts) == 1):
        reached = torch.cat([part(k) for k in starts])
    value, pull = miss.with_gradient(reached.detach())
    if len(starts) == 1:
        reached.backward(pull)
    else:
        for k in starts:
            part(k).backward(pull[k : k + rows])
    assert free.grad is not None
    return value, torch.nan_to_num(free.grad)


def _start(q: Tensor, steps: int, T: float, t_min: float, width: Width, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the parameters to begin with: log s_1 (1,), log log(s_k/s_{k+1}) (steps − 1,), and the share."""
    highest, above = top_and_bottom(steps, width.sd, dim)
    middle = q.median()
    low = middle * t_min + above
    high = torch.maximum((middle * T / 2).clamp(max=highest), low * APART**steps)
    widths = falling(high[None], low[None], steps - 1)[:, 0] if steps > 1 else low[None]
    ratios = (widths[:-1] / widths[1:]).log().clamp(min=1e-3).log()
    share = torch.full((), SHARE, dtype=torch.float64, device=q.device)
    first = widths[:1].log() - (1.0 - SHARE) * middle.log()  # the levels of the middle sample do not depend on the share
    return first.requires_grad_(), ratios.requires_grad_(), share.requires_grad_()


class _Miss:
    """How far samples are from the converged ones."""

    def __init__(self, converged: Tensor) -> None:
        self.converged = converged.double()
        self.mean, self.covariance = self._moments(self.converged)
        self.variance = self.covariance.diagonal().mean()

    @staticmethod
    def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.mean(0)
        return mean, (x - mean).mT @ (x - mean) / len(x)

    def with_gradient(self, reached: Tensor) -> tuple[float, Tensor]:
        """Return the distance of samples (n, d), and its gradient with respect to them; infinity where not finite."""
        y = reached.double().requires_grad_()
        mean, covariance = self._moments(y)
        apart = (mean - self.mean).square().sum() + (covariance - self.covariance).square().sum() / (4 * self.variance)
        total = ((y - self.converged).square().mean() + 1e-30).sqrt() + (apart + 1e-30).sqrt()
        total.backward()
        assert y.grad is not None
        value = float(total.detach())
        return (value if math.isfinite(value) else math.inf), torch.nan_to_num(y.grad).to(reached)
