"""PFGM++: several extra dimensions. Sources: PFGM++ (arXiv 2302.04265), EDM (arXiv 2206.00364)."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from pfgm.kinds import Keys, Positive
from pfgm.mistakes import Mistake
from pfgm.process.kernel import kernel_draws, scaled
from pfgm.process.placed import Number, PlacedProcess

PFGMPP_T = 80.0
"""EDM's largest noise level, in data units: the top of a PFGM++ run whose T is `rule`."""


MIN_N_AUG = 0.5
"""Fewest extra dimensions: below, the noise of some training points has no square in float32."""
MAX_LOG_LEVEL = 300.0
"""Beyond this the largest noise level is no float64."""


class PfgmppKeys(Keys):
    """Keys of ``train`` for PFGM++."""

    n_aug: Annotated[float, Field(ge=MIN_N_AUG, strict=True)] = 128.0
    """PFGM++: extra dimensions D, any number from `MIN_N_AUG` or .inf (EDM's diffusion)."""
    P_mean: Annotated[float, Field(strict=True, allow_inf_nan=False)] = -1.2
    """PFGM++: mean of log t over training points."""
    P_std: Positive = 1.2
    """PFGM++: standard deviation of log t over training points."""

    def check(self) -> None:
        """Refuse noise levels that are no numbers."""
        if abs(self.P_mean) + 2 * self.P_std > MAX_LOG_LEVEL:
            raise Mistake(
                "P_mean", f"with P_std implies noise levels beyond e^{MAX_LOG_LEVEL:g}, got {self.P_mean:g}; use -1.2"
            )


class Pfgmpp(PlacedProcess):
    """PFGM++: n_aug extra dimensions, log-normal levels; n_aug = ∞ is EDM's diffusion, under the head that all share here."""

    Keys = PfgmppKeys
    objectives = ("denoise", "reference")
    height_keys = ("P_std", "P_mean")
    native_grid = "rho"

    @property
    def n_aug(self) -> float:
        """D of PFGM++."""
        return PfgmppKeys.of(self.train).n_aug

    @property
    def height_max(self) -> float:
        """Two standard deviations above P_mean."""
        P_mean, P_std = self._moments()
        return math.exp(P_mean + 2 * P_std)

    @property
    def rule_T(self) -> float:
        return PFGMPP_T

    @property
    def numbers(self) -> tuple[float, ...]:
        """P_mean, P_std, n_aug."""
        return *self._moments(), self.n_aug

    def draws(self, y: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Of the levels (B,) and of the kernel."""
        normal = torch.randn(len(y), generator=generator, device=y.device, dtype=torch.float64)
        return normal, *kernel_draws(y.shape[1], normal, self.n_aug, generator)

    @classmethod
    def placed(cls, y: Tensor, drawn: tuple[Tensor, ...], numbers: tuple[Number, ...]) -> tuple[Tensor, Tensor]:
        """t log-normal, the noise Student-t."""
        (normal, *kernel), (P_mean, P_std, n_aug) = drawn, numbers
        t = (P_mean + P_std * normal).exp()
        return y + scaled(t, tuple(kernel), float(n_aug)).to(y), t.to(y)  # one n_aug for all rows

    def _moments(self) -> tuple[float, float]:
        keys = PfgmppKeys.of(self.train)
        return keys.P_mean, keys.P_std
