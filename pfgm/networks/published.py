r"""Heads as published: D(x, t) = c_skip x + c_out F(c_in x, c_noise), the coefficients functions of the noise level t alone.

====  =====================  ======================  =================  ==============================
head  c_skip                 c_out                   c_in               c_noise
====  =====================  ======================  =================  ==============================
edm   σ_d²/(t² + σ_d²)       t σ_d/√(t² + σ_d²)      1/√(t² + σ_d²)     log(t)/4
vp    1                      −t                      1/√(t² + 1)        999 u, u the SDE's time of t
ve    1                      t                       1                  log(t/2)
====  =====================  ======================  =================  ==============================

The head that all processes share here (`pfgm.networks.heads`) has EDM's weights at the noise that x shows in place of t. The
weight of the loss is 1/c_out², so that what the network puts out counts alike at every level.

Sources: EDM (arXiv 2206.00364), its table of design choices; PFGM++ (arXiv 2302.04265) takes EDM's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from pfgm.kinds import Keys
from pfgm.registry import HEADS

if TYPE_CHECKING:
    from pfgm.config import NetworkConfig

SIGMA_DATA = 0.5
"""σ_d of the published networks, in data units."""
BETA_MIN, BETA_D, STEPS = 0.1, 19.9, 1000
"""Rates β₀ and β₁ − β₀ of the VP SDE, and the steps in which its networks count time."""


class Coefficients(NamedTuple):
    """Each (B,)."""

    skip: Tensor
    out: Tensor
    inside: Tensor
    noise: Tensor


@dataclass(frozen=True)
class Head(ABC):
    """A published head."""

    Keys: ClassVar[type[Keys]] = Keys
    """Its own keys of ``network``."""

    @classmethod
    def of(cls, config: NetworkConfig) -> Self:
        """Return the head that a configuration asks for."""
        return cls()

    @abstractmethod
    def coefficients(self, t: Tensor) -> Coefficients:
        """c_skip, c_out, c_in and c_noise at noise levels t (B,)."""

    @property
    def processes(self) -> tuple[str, ...] | None:
        """Return the processes that it belongs to; None: all whose noise is one number a point."""
        return None

    def denoised(self, raw: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """D (B, d) of raw numbers (B, d + 1) at x (B, d) and t (B,)."""
        c = self.coefficients(t)
        return c.skip[:, None] * x + c.out[:, None] * raw[:, :-1].to(x)

    def weight(self, t: Tensor) -> Tensor:
        """Weight (B,) of ‖D − y‖²/d in the loss."""
        return self.coefficients(t).out.square().reciprocal()


@dataclass(frozen=True)
class EdmHead(Head):
    """EDM's, which PFGM++ takes.

    Args:
        sigma_data: σ_d, in data units.
    """

    sigma_data: float = SIGMA_DATA

    @classmethod
    def of(cls, config: NetworkConfig) -> Self:
        """With the σ_d of the configuration."""
        return cls(config.sigma_data or SIGMA_DATA)

    def coefficients(self, t: Tensor) -> Coefficients:
        """EDM's table."""
        total = t.square() + self.sigma_data**2
        return Coefficients(self.sigma_data**2 / total, t * self.sigma_data * total.rsqrt(), total.rsqrt(), t.log() / 4)


class VpHead(Head):
    """That of the VP SDE, at its published rates."""

    processes = ("vp",)

    def coefficients(self, t: Tensor) -> Coefficients:
        """Time from t as `pfgm.process.clock.VpClock` counts it."""
        total = t.square().log1p()
        time = ((BETA_MIN**2 + 2 * BETA_D * total).sqrt() - BETA_MIN) / BETA_D
        return Coefficients(torch.ones_like(t), -t, (t.square() + 1).rsqrt(), (STEPS - 1) * time)


class VeHead(Head):
    """That of the VE SDE."""

    processes = ("ve",)

    def coefficients(self, t: Tensor) -> Coefficients:
        """x as it is."""
        one = torch.ones_like(t)
        return Coefficients(one, t, one, (t / 2).log())


def head_of(config: NetworkConfig) -> Head | None:
    """The head of ``network.head``; None: the one that all processes share."""
    return None if config.head is None else HEADS[config.head].of(config)
