r"""Solvers that use the mean sources of earlier steps: one network call a step, whatever the order.

In w = 1/t the lines are d(x w)/dw = D. So a step from t to t' is exact where D is constant, and else needs the mean of D over
w: x' = D̄ + (x − D̄) t'/t. The solvers differ in how they interpolate D between the levels where it is known.

- `multistep2`: linear in log t through the last two levels.
- `pc2`, `pc3`: a predictor through the last two levels, then a corrector through the new level and one or two old ones. The
  corrector needs no further call, for the D of the new level is the one that the next step starts from.
- `ipndm4`: Adams and Bashforth's four constant coefficients on dx/dt, as if all steps in t were equal.

The predictor and corrector interpolate in u = log(1 + c/t). Near the data this is log t. Far away it is c/t, in which D is
linear there: D = m + Cov x (d+n)/(‖x‖² + n t²) + …, and x grows like t. Where the width of the data is not known, u is log t.

Sources: UniPC (arXiv 2302.04867) for the corrector without a call; iPNDM (arXiv 2204.13902).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from pfgm.sampling.solvers import Along, Levels, Ode, Solver

ADAMS = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
"""Coefficients of Adams and Bashforth, the newest slope first, for 1 to 4 known slopes."""


@cache
def rule(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return nodes and weights of Gauss and Legendre's rule on [0, 1], float64 (10,)."""
    nodes, weights = np.polynomial.legendre.leggauss(10)
    with torch.inference_mode(False):  # they are kept, and a later solve may be differentiated
        return torch.from_numpy((nodes + 1) / 2).to(device), torch.from_numpy(weights / 2).to(device)


def mean_weights(start: Tensor, end: Tensor, known: Sequence[Tensor], far: float | Tensor | None) -> list[Tensor]:
    """Weights of D at the known levels in its mean over 1/t from one level to the next; they sum to 1.

    Args:
        start, end: levels of the step, shape (B,) or (), float64.
        known: levels where D is known, each of that shape, all different.
        far: c of the variable log(1 + c/t) in which D is a polynomial, of all or of each sample (B,); None: log t.
    """
    far = far[:, None] if isinstance(far, Tensor) else far
    log_w, span = -start.log()[..., None], (start / end).log()[..., None]
    nodes, measure = rule(start.device)
    w = torch.exp(log_w + span * nodes)
    measure = w * measure
    measure = measure / measure.sum(-1, keepdim=True)

    def variable(w: Tensor) -> Tensor:
        return w.log() if far is None else torch.log1p(far * w)

    u, at = variable(w), [variable(1 / t[..., None]) for t in known]
    weights = []
    for j, mine in enumerate(at):
        basis = torch.ones_like(u)
        for other in at[:j] + at[j + 1 :]:
            basis = basis * (u - other) / (mine - other)
        weights.append((basis * measure).sum(-1))
    return weights


def as_column(a: Tensor, x: Tensor) -> Tensor | float:
    """Return a factor of the rows of x (B, d): a number, or one of each row."""
    return float(a) if a.ndim == 0 else a.to(x.dtype)[:, None]


def straight(x: Tensor, d: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """x (B, d) at the level ``end``, where D is d (B, d) on the way."""
    return d + (x - d) * as_column(end / start, x)


def predictor_corrector(predicting: int, correcting: int) -> Along:
    """Return a solve whose steps interpolate D through so many levels before and after the new D is known."""

    def along(ode: Ode, x: Tensor, levels: Levels) -> Tensor:
        t = torch.as_tensor(levels, dtype=torch.float64)

        def step(k: int, x: Tensor, known: list[tuple[int, Tensor]]) -> Tensor:
            weights = mean_weights(t[k], t[k + 1], [t[i] for i, _ in known], ode.far)
            mean = torch.stack([as_column(a, x) * d for a, (_, d) in zip(weights, known, strict=True)]).sum(0)
            return straight(x, mean, t[k], t[k + 1])

        x = ode.before_call(x, t[0], 0)
        known = [(0, ode.source(x, t[0]))]
        for k in range(len(t) - 2):
            ahead = step(k, x, known[:predicting])
            found = ode.before_call(ahead, t[k + 1], k + 1)
            known = [(k + 1, ode.source(found, t[k + 1])), *known][: max(predicting, correcting)]
            x = step(k, x, known[:correcting]) + (found - ahead)
        return step(len(t) - 2, x, known[:predicting])

    return along


def _multistep2(ode: Ode, x: Tensor, levels: Levels) -> Tensor:
    """D̄ = D + (h/2h₋)(D − D₋), h the step in log t; the first step is Euler's."""
    t = torch.as_tensor(levels, dtype=torch.float64)
    before: tuple[Tensor, Tensor] | None = None
    for k, (start, end) in enumerate(itertools.pairwise(t)):
        x = ode.before_call(x, start, k)
        d, h = ode.source(x, start), (end / start).log()
        mean = d if before is None else d + as_column(h / (2 * before[1]), x) * (d - before[0])
        x = straight(x, mean, start, end)
        before = d, h
    return x


def _ipndm4(ode: Ode, x: Tensor, levels: Levels) -> Tensor:
    """x' = x + (t' − t) Σ a_j s_j over the last four slopes s = (x − D)/t, the first steps with fewer."""
    t = torch.as_tensor(levels, dtype=torch.float64)
    slopes: list[Tensor] = []
    for k, (start, end) in enumerate(itertools.pairwise(t)):
        x = ode.before_call(x, start, k)
        slopes = [(x - ode.source(x, start)) * as_column(1 / start, x), *slopes][: len(ADAMS)]
        slope = torch.stack([a * s for a, s in zip(ADAMS[len(slopes) - 1], slopes, strict=True)]).sum(0)
        x = x + as_column(end - start, x) * slope
    return x


MULTISTEP2 = Solver(_multistep2, calls=1, own_levels=True)
PC2 = Solver(predictor_corrector(2, 2), calls=1, own_levels=True, steps=24, grid="rho5")
PC3 = Solver(predictor_corrector(2, 3), calls=1, own_levels=True, steps=24, grid="rho5")
IPNDM4 = Solver(_ipndm4, calls=1, own_levels=True, steps=24, grid="rho5")
