"""Clocks: the time in which a process writes its ODE, and the scaled state that it follows.

Every process here has the same field lines: in the noise level t (PFGM's height, EDM's σ) they obey dx/dt = (x − D(x, t))/t.
They are published in different coordinates, a time u with t = t(u) and a state z = s(u) x:
dz/du = (d log s/du) z + s (d log t/du) (z/s − D(z/s, t)). The lines are the same, but a step of a solver is straight in z over
u, so its error, and the control of an adaptive solver, depend on the clock.

=============  ==================  ====================================================  ===========
clock          time u              level t, scale s                                      used by
=============  ==================  ====================================================  ===========
`Height`       t                   t = u, s = 1: straight wherever D is constant         pfgm, pfgmpp
`LogHeight`    log t               t = e^u, s = 1                                        ve
`VpClock`      that of the VP SDE  t = √(e^B − 1), s = e^(−B/2), B = ½(β₁ − β₀)u² + β₀u  vp
=============  ==================  ====================================================  ===========

Sources: PFGM (arXiv 2209.11178) and EDM (arXiv 2206.00364), whose general ODE this is; the VE and VP SDEs and their
probability-flow ODEs, Song et al. (arXiv 2011.13456).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor


class Clock(ABC):
    """A time u and a state z = s x; s = 1 unless a clock says otherwise."""

    @abstractmethod
    def time(self, t: float) -> float:
        """u at the noise level t."""

    @abstractmethod
    def level(self, u: float) -> float:
        """Noise level t at time u."""

    @abstractmethod
    def slope(self, z: Tensor, d: Tensor, u: float) -> Tensor:
        """dz/du (B, d) at the state z (B, d), where D is d (B, d), in data units."""

    def scale(self, u: float) -> float:
        """s at time u."""
        return 1.0

    def straight(self, z: Tensor, d: Tensor, u: float, v: float) -> Tensor:
        """The state at time v of one Euler step from u."""
        return z + (v - u) * self.slope(z, d, u)


class Height(Clock):
    """u = t, z = x."""

    def time(self, t: float) -> float:
        return t

    def level(self, u: float) -> float:
        return u

    def slope(self, z: Tensor, d: Tensor, u: float) -> Tensor:
        return (z - d) / u

    def straight(self, z: Tensor, d: Tensor, u: float, v: float) -> Tensor:
        """Take the straight step, written so that nothing cancels far from the data."""
        return d + (z - d) * (v / u)


class LogHeight(Clock):
    """u = log t, z = x: the VE SDE's time, up to an affine change that no Runge–Kutta method sees."""

    def time(self, t: float) -> float:
        return math.log(t)

    def level(self, u: float) -> float:
        return math.exp(u)

    def slope(self, z: Tensor, d: Tensor, u: float) -> Tensor:
        return z - d


@dataclass(frozen=True)
class VpClock(Clock):
    """The VP SDE's time and its state of bounded variance.

    Args:
        beta_min, beta_max: β₀ and β₁, the rates of the noise at u = 0 and u = 1, positive, β₀ ≤ β₁.
    """

    beta_min: float
    beta_max: float

    def time(self, t: float) -> float:
        """The positive root of B(u) = log(1 + t²)."""
        total = math.log1p(t**2)  # B
        root = math.sqrt(self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * total)
        return 2 * total / (self.beta_min + root)

    def level(self, u: float) -> float:
        return math.sqrt(math.expm1(self._total(u)))

    def scale(self, u: float) -> float:
        return math.exp(-0.5 * self._total(u))

    def slope(self, z: Tensor, d: Tensor, u: float) -> Tensor:
        """dz/du (B, d), without the cancellation that 1 − s² has near u = 0."""
        rate, s = 0.5 * (self.beta_min + (self.beta_max - self.beta_min) * u), self.scale(u)  # rate = −d log s/du
        noise = rate / -math.expm1(-self._total(u))  # d log t/du
        return (noise - rate) * z - (noise * s) * d

    def _total(self, u: float) -> float:
        return (0.5 * (self.beta_max - self.beta_min) * u + self.beta_min) * u


HEIGHT, LOG_HEIGHT = Height(), LogHeight()
