"""A process: how training points are drawn, what the loss weighs, the law at the top, the ODE's own time, and how a network's
output is read as a mean source.

All processes share their field lines, dx/dt = (x − D(x, t))/t, where D is the mean source and t the noise level: the height
of PFGM, r/√n_aug of PFGM++, EDM's σ at n_aug = ∞. What differs is the kernel around each data point, where training looks,
and the clock of the ODE (`pfgm.process.clock`).

=========  ==========  =================================================  ========================  =========================
process    objective   target at (x, t)                                   kernel                    training levels
=========  ==========  =================================================  ========================  =========================
pfgm       normalized  v = −√d Ê/(‖Ê‖ + γ), Ê = (x − ȳ, t), over the      Poisson, Algorithm 2      Algorithm 2
                       reference batch; biased only where that is
                       smaller than the data
pfgm       raw         −t^d (x − y', t)/ρ^{d+1}, y' an independent        Poisson, Algorithm 2      Algorithm 2
                       source; unbiased, variance explodes with d
pfgmpp     denoise     y; unbiased                                        Student-t, ν = n_aug      log-normal (EDM's)
pfgmpp     reference   ȳ over the reference batch; biased as normalized   Student-t, ν = n_aug      log-normal
ve         denoise     y; unbiased                                        Gaussian                  log t uniform
vp         denoise     y; unbiased                                        Gaussian                  time of the SDE uniform
=========  ==========  =================================================  ========================  =========================

How an output is read: the head's own D (`pfgm.networks.heads`). For a plain head of process pfgm: `normalized` —
x − D = −(‖Ê‖ + γ) v_x/√d with the length from the quadratic's root at low heights and from the network's own v_t at high ones
(`pfgm.networks.heads.plain_length`); `raw` — x − D = t o_x/o_t.

Another process is a class with its keys in a file of its own, and a line in `pfgm.registry`.

Sources: PFGM (arXiv 2209.11178), PFGM++ (arXiv 2302.04265), EDM (arXiv 2206.00364), the VE and VP SDEs (arXiv 2011.13456).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from pfgm.kinds import Keys
from pfgm.networks.heads import median_noise_ratio
from pfgm.prior.law import PoissonPrior
from pfgm.process.clock import HEIGHT, Clock
from pfgm.rules import rule_R_max

T_EXTREME, HEIGHT_MARGIN = 1e6, 10.0


if TYPE_CHECKING:
    from pfgm.config import TrainConfig
    from pfgm.data.dataset import DataInfo
    from pfgm.networks.base import FieldNetwork


@dataclass(frozen=True)
class Process(ABC):
    """One resolved training configuration (every number filled in) on one data set; made by `make_process`."""

    train: TrainConfig
    info: DataInfo
    Keys: ClassVar[type[Keys]] = Keys
    """Its own keys of ``train``."""
    objectives: ClassVar[tuple[str, ...]] = ("denoise",)
    """What it may be trained with; the first is the default."""
    height_keys: ClassVar[tuple[str, ...]] = ()
    """Its keys that move the largest trained noise level."""
    encodes: ClassVar[bool] = True
    """Whether its ODE can be followed upwards, from data to latents."""
    native_grid: ClassVar[str] = "log"
    """Where its published fixed-step sampler puts its steps (`pfgm.sampling.integrate.heights`)."""

    @classmethod
    def resolved(cls, train: TrainConfig, info: DataInfo) -> dict[str, object]:
        """Return numbers for the keys that are declared as a rule or a ratio.

        Raises:
            Mistake: names the key at fault.
        """
        return {}

    @property
    @abstractmethod
    def n_aug(self) -> float:
        """Extra dimensions of its kernel: 1 for PFGM, ∞ for a Gaussian."""

    @property
    @abstractmethod
    def height_max(self) -> float:
        """Largest trained noise level (of an unbounded law, two standard deviations above its middle), in data units."""

    @property
    @abstractmethod
    def rule_T(self) -> float:
        """Starting level that `T: rule` means, in data units."""

    @abstractmethod
    def training_points(self, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(x (B, d), t (B,)) around the data points y (B, d)."""

    def loss_weight(self, t: Tensor, level: Tensor, sd: float) -> Tensor:
        """Weight (B,) of ‖D − y‖²/d: 1/c_out² at the noise level n̂ that (x, t) shows, EDM's.

        What the network itself puts out then counts alike at every level. The published 1/t² of ve and vp does the same for
        their own heads, whose c_out is t; with the head that all processes share here it would leave high levels unlearned.

        Args:
            t: noise levels (B,).
            level: n̂ (B,), `pfgm.networks.heads.noise_level`.
            sd: root mean square of the data's coordinates.
        """
        n2 = level.square()
        return (sd**2 + n2) / (sd**2 * n2)

    @property
    def clock(self) -> Clock:
        """Time and state in which its ODE is solved."""
        return HEIGHT

    @property
    def noise_ratio(self) -> float:
        """Noise per coordinate over t in the median, for the network's head."""
        return median_noise_ratio(self.n_aug)

    @property
    def classes(self) -> int:
        """Classes that its field is told; 0 where it is not conditional."""
        return len(self.info.classes) if self.train.conditional else 0

    @property
    def R_max(self) -> float:
        """Radius that training reaches at the top, √d · height_max."""
        return rule_R_max(self.height_max, self.info.dim)

    def prior(self, T: float, max_radius: float | None = None) -> PoissonPrior:
        """The law of x at t = T, truncated at ``max_radius`` (data units) if given."""
        return PoissonPrior(self.info.dim, T, max_radius=max_radius, n_aug=self.n_aug)

    def mean_source(self, network: FieldNetwork, x: Tensor, t: Tensor) -> Tensor:
        """D(x, t), shape (B, d), read from the network's output at x (B, d), t (B,)."""
        return network.denoise(x, t)
