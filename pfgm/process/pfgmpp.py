"""PFGM++: several extra dimensions. Sources: PFGM++ (arXiv 2302.04265), EDM (arXiv 2206.00364)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pfgm.process.base import Process
from pfgm.process.kernel import kernel_noise

PFGMPP_T = 80.0
"""EDM's largest noise level, in data units: the top of a PFGM++ run whose T is `rule`."""


class Pfgmpp(Process):
    """PFGM++: n_aug extra dimensions, log-normal levels; n_aug = ∞ is EDM's diffusion, under the head that all share here."""

    native_grid = "rho"

    @property
    def n_aug(self) -> float:
        """D of PFGM++."""
        assert self.train.n_aug is not None
        return self.train.n_aug

    @property
    def height_max(self) -> float:
        """Two standard deviations above P_mean."""
        P_mean, P_std = self._moments()
        return math.exp(P_mean + 2 * P_std)

    @property
    def rule_T(self) -> float:
        return PFGMPP_T

    def training_points(self, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """t log-normal, the noise Student-t."""
        P_mean, P_std = self._moments()
        normal = torch.randn(len(y), generator=generator, device=y.device, dtype=torch.float64)
        t = (P_mean + P_std * normal).exp()
        return y + (kernel_noise(y.shape[1], t, self.n_aug, generator)).to(y), t.to(y)

    def _moments(self) -> tuple[float, float]:
        assert self.train.P_mean is not None and self.train.P_std is not None
        return self.train.P_mean, self.train.P_std
