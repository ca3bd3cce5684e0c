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

Another process is a class here, its line in `PROCESSES`, and its keys in `pfgm.config`.

Sources: PFGM (arXiv 2209.11178), PFGM++ (arXiv 2302.04265), EDM (arXiv 2206.00364), the VE and VP SDEs (arXiv 2011.13456).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from pfgm.config import TrainConfig
from pfgm.data.dataset import DataInfo
from pfgm.networks.build import FieldNetwork
from pfgm.networks.heads import median_noise_ratio, plain_length
from pfgm.prior.law import PoissonPrior
from pfgm.process.clock import HEIGHT, LOG_HEIGHT, Clock, VpClock
from pfgm.process.training_points import height_max, perturb, rule_R_max, rule_T

RAW_REACH = 3.0
"""A plain raw head's D is read at most ‖x‖ + RAW_REACH · mean ‖y‖ away from x."""
PFGMPP_T = 80.0
"""EDM's largest noise level, in data units: the top of a PFGM++ run whose T is `rule`."""
VP_EPSILON = 1e-5
"""Smallest time that the VP process is trained at, as published: t = 1e-3 at the default rates."""
T_EXTREME, HEIGHT_MARGIN = 1e6, 10.0


@dataclass(frozen=True)
class Process(ABC):
    """One resolved training configuration (every number filled in) on one data set; made by `make_process`."""

    train: TrainConfig
    info: DataInfo
    encodes: ClassVar[bool] = True
    """Whether its ODE can be followed upwards, from data to latents."""
    native_grid: ClassVar[str] = "log"
    """Where its published fixed-step sampler puts its steps (`pfgm.sampling.integrate.heights`)."""

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
    def R_max(self) -> float:
        """Radius that training reaches at the top, √d · height_max."""
        return rule_R_max(self.height_max, self.info.dim)

    def prior(self, T: float, max_radius: float | None = None) -> PoissonPrior:
        """The law of x at t = T, truncated at ``max_radius`` (data units) if given."""
        return PoissonPrior(self.info.dim, T, max_radius=max_radius, n_aug=self.n_aug)

    def mean_source(self, network: FieldNetwork, x: Tensor, t: Tensor) -> Tensor:
        """D(x, t), shape (B, d), read from the network's output at x (B, d), t (B,)."""
        return network.denoise(x, t)


class Pfgm(Process):
    """The Poisson flow: heights of Algorithm 2, one extra dimension."""

    @property
    def n_aug(self) -> float:
        return 1.0

    @property
    def height_max(self) -> float:
        """σ(1+τ)^M."""
        sigma, tau, M = self._numbers()
        return height_max(sigma, tau, M)

    @property
    def rule_T(self) -> float:
        return rule_T(self.height_max)

    def training_points(self, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Algorithm 2 (`pfgm.process.training_points`)."""
        sigma, tau, M = self._numbers()
        return perturb(y, sigma=sigma, tau=tau, M=M, generator=generator, restrict_M=bool(self.train.restrict_M))

    def mean_source(self, network: FieldNetwork, x: Tensor, t: Tensor) -> Tensor:
        """The head's D, or a plain head's field read as one (above)."""
        if network.skip:
            return network.denoise(x, t)
        raw = network(x.to(network.dtype), t.to(network.dtype))
        if self.train.objective == "raw":
            o_x, size = raw[:, :-1].to(x), -raw[:, -1:].to(x)
            # D lies among the data: where a network's size is too small for that, or has the wrong sign, the least that fits
            reach = x.norm(dim=1, keepdim=True) + RAW_REACH * self.info.mean_norm
            least = (t[:, None] * o_x.norm(dim=1, keepdim=True) / reach).clamp(min=torch.finfo(x.dtype).tiny)
            return x + t[:, None] * o_x / torch.maximum(size, least)
        assert self.train.gamma is not None
        length = plain_length(raw, t, self.train.gamma, network.root_below or self.train.gamma)
        return x + (length[:, None] * raw[:, :-1] / math.sqrt(x.shape[1])).to(x)

    def _numbers(self) -> tuple[float, float, float]:
        train = self.train
        assert train.sigma is not None and train.tau is not None and isinstance(train.M, float), "resolve_train first"
        return train.sigma, train.tau, train.M


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


class GaussianDiffusion(Process):
    """What `ve` and `vp` share: a Gaussian kernel and levels drawn from u ~ U[0, 1)."""

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


class Ve(GaussianDiffusion):
    """The variance-exploding SDE: log t uniform between σ_min and σ_max."""

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
        assert self.train.sigma_min is not None and self.train.sigma_max is not None
        return self.train.sigma_min, self.train.sigma_max


class Vp(GaussianDiffusion):
    """The variance-preserving SDE: time uniform in [ε, 1], t = √(e^B − 1), B = ½(β₁ − β₀)u² + β₀u."""

    native_grid = "time"

    @property
    def height_max(self) -> float:
        """The level at time 1."""
        return self.clock.level(1.0)

    @property
    def clock(self) -> VpClock:
        """The SDE's time and its state s x."""
        assert self.train.beta_min is not None and self.train.beta_max is not None
        return VpClock(self.train.beta_min, self.train.beta_max)

    def prior(self, T: float, max_radius: float | None = None) -> PoissonPrior:
        """x = z/s with z ~ N(0, I), s the scale at level T: standard deviation √(1 + T²)."""
        return PoissonPrior(self.info.dim, math.hypot(1.0, T), max_radius=max_radius, n_aug=math.inf)

    def levels(self, u: Tensor) -> Tensor:
        """The levels at the times ε + (1 − ε) u."""
        clock, time = self.clock, VP_EPSILON + (1 - VP_EPSILON) * u
        total = (0.5 * (clock.beta_max - clock.beta_min) * time + clock.beta_min) * time
        return total.expm1().sqrt()


PROCESSES: dict[str, type[Process]] = {"pfgm": Pfgm, "pfgmpp": Pfgmpp, "ve": Ve, "vp": Vp}
"""Processes by the name they have in search.yaml."""


def make_process(train: TrainConfig, info: DataInfo) -> Process:
    """The process of a resolved training configuration (`pfgm.process.resolve.resolve_train`)."""
    return PROCESSES[train.process](train, info)


def kernel_noise(dim: int, t: Tensor, n_aug: float, generator: torch.Generator) -> Tensor:
    """x − y at noise levels t (B,), float64 (B, dim): direction uniform, R² / (R² + n_aug t²) ~ Beta(d/2, n_aug/2).

    Drawn as t √(n_aug) · normal_d / χ(n_aug), which is exact and has no beta variable to clip; far below n_aug = 0.5, χ
    underflows. n_aug = ∞ is t · normal_d.
    """
    normal = torch.randn(len(t), dim, generator=generator, device=t.device, dtype=torch.float64)
    if math.isinf(n_aug):
        return t[:, None] * normal
    gamma = (gamma_on_host if t.device.type == "cpu" else gamma_on_device)(n_aug / 2, t, generator)
    return t[:, None] * normal * (math.sqrt(n_aug) / (2 * gamma).sqrt())[:, None]


def gamma_on_host(shape: float, like: Tensor, generator: torch.Generator) -> Tensor:
    """Γ(shape, 1) draws of the size, dtype and device of ``like``: numpy's, seeded from the stream.

    Trained fields are named by what they were trained on, so these numbers stay what they are.
    """
    seed = torch.randint(2**62, (1,), generator=generator, device=like.device)
    drawn = np.random.Generator(np.random.Philox(int(seed))).standard_gamma(shape, len(like))
    return torch.from_numpy(drawn).to(like)


def gamma_on_device(shape: float, like: Tensor, generator: torch.Generator) -> Tensor:
    """The same law, drawn where ``like`` is: no step waits for the device."""
    return torch._standard_gamma(torch.full_like(like, shape), generator=generator)
