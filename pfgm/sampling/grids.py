"""Grids: where the noise levels of a fixed-step solver lie between T and t_min.

A grid is a function (T, t_min, steps, clock) → steps + 1 falling levels, float64; `pfgm.sampling.solvers.heights` sets its two
ends. A new one is one function and one line in `pfgm.registry`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pfgm.process.clock import Clock

Grid = Callable[[float, float, int, Clock], Tensor]
RHO, RHO5 = 7.0, 5.0
"""Exponents of EDM's grid, and of the one that is nearest the converged samples at 20 to 30 calls."""


def _shares(steps: int) -> Tensor:
    return torch.linspace(0, 1, steps + 1, dtype=torch.float64)


def log(T: float, t_min: float, steps: int, clock: Clock) -> Tensor:
    """Return geometric levels: equal steps of log t."""
    return torch.exp(math.log(T) + _shares(steps) * (math.log(t_min) - math.log(T)))


def rho(T: float, t_min: float, steps: int, clock: Clock) -> Tensor:
    """Return EDM's levels: equal steps of t^(1/7)."""
    return _power(T, t_min, steps, RHO)


def rho5(T: float, t_min: float, steps: int, clock: Clock) -> Tensor:
    """Return levels at equal steps of t^(1/5): fewer near t_min than EDM's."""
    return _power(T, t_min, steps, RHO5)


def _power(T: float, t_min: float, steps: int, exponent: float) -> Tensor:
    share = _shares(steps)
    t: Tensor = (T ** (1 / exponent) + share * (t_min ** (1 / exponent) - T ** (1 / exponent))) ** exponent
    return t


def time(T: float, t_min: float, steps: int, clock: Clock) -> Tensor:
    """Return levels at equal steps of the clock's own time."""
    start, end = clock.time(T), clock.time(t_min)
    return torch.tensor([clock.level(start + share * (end - start)) for share in _shares(steps).tolist()], dtype=torch.float64)
