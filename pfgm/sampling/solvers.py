"""Solvers of a process's ODE: torchdiffeq's adaptive ones in log t or the process's own time, and fixed-step ones.

A fixed step is straight in the clock's state over its time (`pfgm.process.clock`): in t itself for PFGM, where one Euler step
is exact wherever D is constant; steps in log t are another, worse method. Solvers that use the calls of earlier steps are in
`pfgm.sampling.multistep`.

A disturbed solve has noise added before every step (`pfgm.sampling.disturbances.StepNoise`), which only a solver of fixed
steps has.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from pfgm.memory import ByRows
from pfgm.process.clock import HEIGHT, LOG_HEIGHT, Clock, VpClock
from pfgm.registry import GRIDS, SOLVERS

MeanSource = Callable[[Tensor, Tensor], Tensor]
"""(x (B, d), t (B,)) → mean source D(x, t), shape (B, d)."""
Disturb = Callable[[Tensor, float, int], Tensor]
"""(x (B, d) in data units, its noise level t, number k of the step) → x disturbed, shape (B, d)."""


class Diverged(Exception):
    """D, or a step, was not finite at some point of the batch."""


class StepLimit(Exception):
    """An adaptive solver used up its steps, or its step size underflowed."""


class Ode:
    """A process's ODE over one batch, with its calls of D counted; raises `Diverged` where D is not finite.

    Args:
        mean_source: D.
        clock: time and state of the ODE.
        disturb: applied to x before every step of a fixed-step solver.
        far: the noise level, of all or of each sample (B,), above which D is taken to be linear in 1/t; None: not known.
    """

    def __init__(
        self, mean_source: MeanSource, clock: Clock, disturb: Disturb | None = None, far: float | Tensor | None = None
    ) -> None:
        self.mean_source, self.clock, self.disturb, self.far = ByRows(mean_source), clock, disturb, far
        self.nfe = 0
        self.last: Tensor | None = None
        """The latest x that D was called at, NaN where not finite."""
        self.stops_early = False
        """Whether `source` looks after each call if all is finite, for which a GPU must end its work."""

    def source(self, x: Tensor, t: float | Tensor) -> Tensor:
        """D at x (B, d) in data units and a noise level t, of all or of each sample (B,): one call."""
        self.nfe += 1
        if not (isinstance(t, Tensor) and t.ndim):
            t = torch.full((len(x),), float(t), dtype=x.dtype, device=x.device)
        d = self.mean_source(x, t.to(x))
        finite = torch.isfinite(d).all(1) & torch.isfinite(x).all(1)
        self.last = torch.where(finite[:, None], x, torch.nan)
        if self.stops_early and not bool(finite.all()):
            raise Diverged
        return d

    def source_of_state(self, z: Tensor, u: float) -> Tensor:
        """D at a state of the clock."""
        s = self.clock.scale(u)
        return self.source(z if s == 1.0 else z / s, self.clock.level(u))

    def slope(self, z: Tensor, u: float) -> Tensor:
        """dz/du (B, d)."""
        return self.clock.slope(z, self.source_of_state(z, u), u)

    def before_step(self, z: Tensor, u: float, k: int) -> Tensor:
        """The state from which step k starts."""
        if self.disturb is None:
            return z
        s = self.clock.scale(u)
        return s * self.disturb(z / s, self.clock.level(u), k)

    def before_call(self, x: Tensor, t: Tensor, k: int) -> Tensor:
        """The point x (B, d) in data units from which step k starts."""
        return x if self.disturb is None else self.disturb(x, float(t), k)


Levels = list[float] | Tensor
"""Falling noise levels: those of the whole batch, or of each sample (K + 1, B) in float64."""
Step = Callable[[Ode, Tensor, float, float], Tensor]
Along = Callable[[Ode, Tensor, Levels], Tensor]


@dataclass(frozen=True)
class Solver:
    """The card of a solver; without ``along`` it is one of torchdiffeq's adaptive ones, by its name there."""

    along: Along | None = None
    """(ode, x (B, d), falling levels) → x at the last level."""
    calls: int = 0
    """Network calls of a step."""
    own_levels: bool = False
    """Whether each sample may have its own levels (``grid: own``)."""
    steps: int = 16
    """Steps, where none are given."""
    grid: str = "log"
    """The grid, where none is given."""

    @property
    def adaptive(self) -> bool:
        """Return whether it chooses its steps by a tolerance."""
        return self.along is None


def heights(T: float, t_min: float, steps: int, grid: str = "log", clock: Clock = HEIGHT) -> Tensor:
    """The ``steps`` + 1 noise levels from T to t_min, float64.

    Args:
        grid: ``log`` geometric, ``rho`` linear in t^(1/7), ``time`` linear in the clock's time, or one that was registered.
    """
    if grid not in GRIDS:
        raise GRIDS.mistake(grid)
    t = GRIDS[grid](T, t_min, steps, clock)
    t[0], t[-1] = T, t_min
    return t


@contextmanager
def named_limits() -> Iterator[None]:
    """Turn torchdiffeq's words for a solve that did not come through into `Diverged` or `StepLimit`."""
    try:
        yield
    except AssertionError as error:  # its word for both limits
        if "max_num_steps" in str(error) or "underflow in dt" in str(error):
            raise StepLimit(str(error)) from error
        if "non-finite values" in str(error):  # D was finite, the step overflowed
            raise Diverged(str(error)) from error
        raise


def adaptive(ode: Ode, x: Tensor, start: float, end: float, solver: str, rtol: float, atol: float, max_steps: int) -> Tensor:
    """x (B, d) from the noise level ``start`` to ``end`` with torchdiffeq: in log t, or in the time of the VP process.

    Raises:
        Diverged, StepLimit: the solve did not come through.
    """
    from torchdiffeq import odeint  # loads scipy.integrate, a tenth of a worker's start

    if not isinstance(ode.clock, VpClock):  # straight in t or not, an adaptive solver does best in log t
        ode.clock = LOG_HEIGHT
    clock, ode.stops_early = ode.clock, True
    times = torch.tensor([clock.time(start), clock.time(end)], dtype=torch.float64, device=x.device)
    options = {"max_num_steps": max_steps, "step_t": times[1:]}  # without step_t torchdiffeq steps past the end
    # where the state is at rest at first, as data on the way up and the VP process at the top, the first probe would fly away
    bottom, top = clock.time(min(start, end)), clock.time(max(start, end))
    with named_limits():
        path = odeint(
            lambda u, z: ode.slope(z, min(max(float(u), bottom), top)), _to_state(clock, x, start), times, rtol=rtol, atol=atol,
            method=solver, options=options,
        )  # fmt: skip
    final: Tensor = path[-1]
    return _from_state(clock, final, end)


def fixed(ode: Ode, x: Tensor, levels: Levels, solver: str) -> Tensor:
    """x (B, d) along a grid of noise levels; not finite where D was not."""
    along = SOLVERS[solver].along
    assert along is not None, f"{solver} has no fixed steps"
    return along(ode, x, levels)


def one_step(step: Step) -> Along:
    """Return a solve that takes one step (ode, state, time, next time) → state from level to level."""

    def along(ode: Ode, x: Tensor, levels: Levels) -> Tensor:
        assert not isinstance(levels, Tensor), "a step of the clock is that of the whole batch"
        clock = ode.clock
        z, times = _to_state(clock, x, levels[0]), [clock.time(t) for t in levels]
        for k, (u, v) in enumerate(itertools.pairwise(times)):
            z = step(ode, ode.before_step(z, u, k), u, v)
        return _from_state(clock, z, levels[-1])

    return along


def _to_state(clock: Clock, x: Tensor, t: float) -> Tensor:
    s = clock.scale(clock.time(t))
    return x if s == 1.0 else s * x


def _from_state(clock: Clock, z: Tensor, t: float) -> Tensor:
    s = clock.scale(clock.time(t))
    return z if s == 1.0 else z / s


def _euler(ode: Ode, z: Tensor, u: float, v: float) -> Tensor:
    return ode.clock.straight(z, ode.source_of_state(z, u), u, v)


def _midpoint(ode: Ode, z: Tensor, u: float, v: float) -> Tensor:
    middle = (u + v) / 2
    half = z + (middle - u) * ode.slope(z, u)
    return z + (v - u) * ode.slope(half, middle)


def _heun(ode: Ode, z: Tensor, u: float, v: float) -> Tensor:
    slope = ode.slope(z, u)
    ahead = z + (v - u) * slope
    return z + (v - u) / 2 * (slope + ode.slope(ahead, v))


def _rk4(ode: Ode, z: Tensor, u: float, v: float) -> Tensor:
    h, middle = v - u, (u + v) / 2
    k_1 = ode.slope(z, u)
    k_2 = ode.slope(z + h / 2 * k_1, middle)
    k_3 = ode.slope(z + h / 2 * k_2, middle)
    k_4 = ode.slope(z + h * k_3, v)
    return z + h / 6 * (k_1 + 2 * k_2 + 2 * k_3 + k_4)


DOPRI5 = BOSH3 = ADAPTIVE_HEUN = DOPRI8 = Solver()
EULER = Solver(one_step(_euler), calls=1)
MIDPOINT = Solver(one_step(_midpoint), calls=2)
HEUN2 = Solver(one_step(_heun), calls=2)
RK4 = Solver(one_step(_rk4), calls=4)
