"""Diffusion of variance-exploding and variance-preserving kind. Source: score-based SDEs (arXiv 2011.13456)."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor

from pfgm.kinds import Keys, Positive
from pfgm.mistakes import Mistake
from pfgm.prior.law import PoissonPrior
from pfgm.process.base import Process
from pfgm.process.clock import LOG_HEIGHT, Clock, VpClock
from pfgm.process.kernel import kernel_noise

MAX_BETA = 1000.0
"""Beyond this the largest noise level is no float64."""
VP_EPSILON = 1e-5
"""Smallest time that the VP process is trained at, as published: t = 1e-3 at the default rates."""


class GaussianDiffusion(Process):
    """The common part of `ve` and `vp`: a Gaussian kernel and levels drawn from u ~ U[0, 1)."""

    @property
    def n_aug(self) -> float:
        return math.inf

    @property
    def rule_T(self) -> float:
        """The largest trained level, where the published samplers start."""
        return self.height_max

    @abstractmethod
    def levels(self, u: Tensor) -> Tensor:
        """Noise levels (B,) of u in [0, 1), float64."""

    def training_points(self, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """t from its law, the noise t · normal."""
        t = self.levels(torch.rand(len(y), generator=generator, device=y.device, dtype=torch.float64))
        return y + kernel_noise(y.shape[1], t, math.inf, generator).to(y), t.to(y)


class VeKeys(Keys):
    """Keys of ``train`` for the variance-exploding SDE."""

    sigma_min: Positive = 0.02
    """ve: smallest trained noise level, in data units (below it the field is extrapolated: choose t_min accordingly)."""
    sigma_max: Positive = 100.0
    """ve: largest trained noise level, in data units; the largest distance between two data points is enough."""

    def check(self) -> None:
        """Refuse ends in the wrong order."""
        _check_order("sigma_min", self.sigma_min, "sigma_max", self.sigma_max)


class VpKeys(Keys):
    """Keys of ``train`` for the variance-preserving SDE."""

    beta_min: Positive = 0.1
    """vp: rate of the noise at time 0."""
    beta_max: Positive = 20.0
    """vp: rate of the noise at time 1."""

    def check(self) -> None:
        """Refuse ends in the wrong order, and noise levels that are no numbers."""
        _check_order("beta_min", self.beta_min, "beta_max", self.beta_max)
        if self.beta_max > MAX_BETA:
            raise Mistake(
                "beta_max", f"implies a noise level of e^{self.beta_max / 4:.0f}; use at most {MAX_BETA:g}, such as 20"
            )


def _check_order(low: str, least: float, high: str, most: float) -> None:
    if not least < most:
        raise Mistake(low, f"must be below {high}, got {least:g} and {most:g}")


class Ve(GaussianDiffusion):
    """The variance-exploding SDE: log t uniform between σ_min and σ_max."""

    Keys = VeKeys
    height_keys = ("sigma_max",)

    @property
    def height_max(self) -> float:
        """σ_max."""
        return self._ends()[1]

    @property
    def clock(self) -> Clock:
        return LOG_HEIGHT

    def levels(self, u: Tensor) -> Tensor:
        """σ_min (σ_max/σ_min)^u."""
        low, high = self._ends()
        return low * (u * math.log(high / low)).exp()

    def _ends(self) -> tuple[float, float]:
        keys = VeKeys.of(self.train)
        return keys.sigma_min, keys.sigma_max


class Vp(GaussianDiffusion):
    """The variance-preserving SDE: time uniform in [ε, 1], t = √(e^B − 1), B = ½(β₁ − β₀)u² + β₀u."""

    Keys = VpKeys
    height_keys = ("beta_max", "beta_min")
    native_grid = "time"

    @property
    def height_max(self) -> float:
        """The level at time 1."""
        return self.clock.level(1.0)

    @property
    def clock(self) -> VpClock:
        """The SDE's time and its state s x."""
        keys = VpKeys.of(self.train)
        return VpClock(keys.beta_min, keys.beta_max)

    def prior(self, T: float, max_radius: float | None = None) -> PoissonPrior:
        """x = z/s with z ~ N(0, I), s the scale at level T: standard deviation √(1 + T²)."""
        return PoissonPrior(self.info.dim, math.hypot(1.0, T), max_radius=max_radius, n_aug=math.inf)

    def levels(self, u: Tensor) -> Tensor:
        """The levels at the times ε + (1 − ε) u."""
        clock, time = self.clock, VP_EPSILON + (1 - VP_EPSILON) * u
        total = (0.5 * (clock.beta_max - clock.beta_min) * time + clock.beta_min) * time
        return total.expm1().sqrt()
