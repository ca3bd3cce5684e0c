"""A process: how training points are drawn, the law at the top, and how a network's output is read as a mean source.

Both processes share one ODE, dx/dt = (x − D(x, t))/t, where D is the mean source; only the kernel around each data point
differs. For PFGM++ the height t is the noise level r/√n_aug, so n_aug = 1 is PFGM's t and n_aug = ∞ is EDM's σ.

=========  ==========  =====================================================  =============================
process    objective   target at (x, t)                                       bias
=========  ==========  =====================================================  =============================
pfgm       normalized  v = −√d Ê/(‖Ê‖ + γ), Ê = (x − ȳ, t), over the          only if the reference batch is
                       reference batch                                        smaller than the data
pfgm       raw         −t^d (x − y', t)/ρ^{d+1}, y' an independent source     none; variance explodes with d
pfgmpp     denoise     y                                                      none
pfgmpp     reference   ȳ over the reference batch                             as normalized
=========  ==========  =====================================================  =============================

How an output is read: the head's own D (`pfgm.networks.heads`). For a plain head of process pfgm: `normalized` — ‖Ê‖ from the
quadratic's positive root and x − D = −(‖Ê‖ + γ) v_x/√d; `raw` — x − D = t o_x/o_t.

Sources: PFGM (arXiv 2209.11178), PFGM++ (arXiv 2302.04265), EDM (arXiv 2206.00364).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pfgm.config import SamplerConfig, TrainConfig
from pfgm.data import DataInfo
from pfgm.networks import FieldNetwork
from pfgm.networks.heads import median_noise_ratio, root_magnitude
from pfgm.perturb import height_max, perturb, rule_height, rule_M, rule_R_max, rule_T
from pfgm.prior import PoissonPrior

RAW_REACH = 3.0
"""A plain raw head's D is read at most ‖x‖ + RAW_REACH · mean ‖y‖ away from x."""
PFGMPP_T = 80.0
"""EDM's largest noise level, in data units: the top of a PFGM++ run whose T is `rule`."""
T_EXTREME, HEIGHT_MARGIN = 1e6, 10.0


@dataclass(frozen=True)
class Process:
    """One resolved training configuration (M a number, reference batch a number) on one data set."""

    train: TrainConfig
    info: DataInfo

    @property
    def n_aug(self) -> float:
        """Extra dimensions D of PFGM++; 1 for PFGM."""
        return 1.0 if self.train.n_aug is None else self.train.n_aug

    @property
    def noise_ratio(self) -> float:
        """Noise per coordinate over t in the median, for the network's head."""
        return median_noise_ratio(self.n_aug)

    @property
    def height_max(self) -> float:
        """Largest trained height: σ(1+τ)^M, or two standard deviations above P_mean for PFGM++."""
        if self.train.process == "pfgm":
            sigma, tau, M = _pfgm_numbers(self.train)
            return height_max(sigma, tau, M)
        assert self.train.P_mean is not None and self.train.P_std is not None
        return math.exp(self.train.P_mean + 2 * self.train.P_std)

    @property
    def rule_T(self) -> float:
        """Starting height that `T: rule` means."""
        return rule_T(self.height_max) if self.train.process == "pfgm" else PFGMPP_T

    @property
    def R_max(self) -> float:
        """Radius that training reaches at the top, √d · height_max."""
        return rule_R_max(self.height_max, self.info.dim)

    def prior(self, T: float, max_radius: float | None = None) -> PoissonPrior:
        """The law of x at t = T, truncated at ``max_radius`` (data units) if given."""
        return PoissonPrior(self.info.dim, T, max_radius=max_radius, n_aug=self.n_aug)

    def training_points(self, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(x (B, d), t (B,)) around the data points y (B, d)."""
        if self.train.process == "pfgm":
            sigma, tau, M = _pfgm_numbers(self.train)
            return perturb(y, sigma=sigma, tau=tau, M=M, generator=generator, restrict_M=bool(self.train.restrict_M))
        assert self.train.P_mean is not None and self.train.P_std is not None
        normal = torch.randn(len(y), generator=generator, device=y.device, dtype=torch.float64)
        t = (self.train.P_mean + self.train.P_std * normal).exp()
        return y + (kernel_noise(y.shape[1], t, self.n_aug, generator)).to(y), t.to(y)

    def mean_source(self, network: FieldNetwork, x: Tensor, t: Tensor) -> Tensor:
        """D(x, t), shape (B, d), read from the network's output at x (B, d), t (B,)."""
        if network.skip or self.train.process == "pfgmpp":
            return network.denoise(x, t)
        raw = network(x.to(network.dtype), t.to(network.dtype))
        if self.train.objective == "raw":
            o_x, size = raw[:, :-1].to(x), -raw[:, -1:].to(x)
            # D lies among the data: where a network's size is too small for that, or has the wrong sign, the least that fits
            reach = x.norm(dim=1, keepdim=True) + RAW_REACH * self.info.mean_norm
            least = (t[:, None] * o_x.norm(dim=1, keepdim=True) / reach).clamp(min=torch.finfo(x.dtype).tiny)
            return x + t[:, None] * o_x / torch.maximum(size, least)
        assert self.train.gamma is not None
        magnitude = root_magnitude(raw[:, :-1], t, self.train.gamma) + self.train.gamma
        return x + (magnitude[:, None] * raw[:, :-1] / math.sqrt(x.shape[1])).to(x)


def _pfgm_numbers(train: TrainConfig) -> tuple[float, float, float]:
    assert train.sigma is not None and train.tau is not None and isinstance(train.M, float), "resolve_train first"
    return train.sigma, train.tau, train.M


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


def resolve_train(train: TrainConfig, info: DataInfo) -> TrainConfig:
    """Replace `rule`, height_ratio and `all` by numbers.

    Raises:
        ValueError: a reference batch larger than the data, a height that is not above sigma (height_ratio too small, or sigma
            too large for `rule`), or the raw objective above three dimensions.
    """
    changes: dict[str, object] = {}
    if train.process == "pfgm":
        assert train.sigma is not None and train.tau is not None
        if train.height_ratio is not None:
            rule = rule_height(info.mean_norm, info.dim, train.sigma)
            height = train.height_ratio * rule
            if height <= train.sigma:
                raise ValueError(
                    f"height_ratio: {train.height_ratio:.3g} puts the height {height:.3g} below sigma = {train.sigma:.3g};"
                    f" at this sigma use at least {train.sigma / rule:.2g}, or lower sigma"
                )
            changes["M"] = math.log(height / train.sigma) / math.log1p(train.tau)
        elif train.M == "rule":
            if rule_height(info.mean_norm, info.dim, train.sigma) <= train.sigma:
                raise ValueError(
                    f"sigma: {train.sigma:g} is too large for M: rule, whose height would lie below it; lower it or give M"
                )
            changes["M"] = float(rule_M(info.mean_norm, info.dim, train.sigma, train.tau))
    reference = train.reference_batch_size
    if reference == "all":
        changes["reference_batch_size"] = info.n
    elif isinstance(reference, int) and reference > info.n:
        raise ValueError(
            f"reference_batch_size: {reference} is larger than the data ({info.n} points); use `all` or a smaller number"
        )
    if train.objective == "raw" and info.dim > 3 and not train.force:
        raise ValueError(
            f"objective: raw has exploding variance in {info.dim} dimensions (at most 3); use normalized, or force: true"
        )
    return train.model_copy(update=changes)


@dataclass(frozen=True)
class ResolvedSampler:
    """A sampler point with every number filled in for one field."""

    T: float
    T_ratio: float
    rtol: float | None
    atol: float | None
    max_radius: float | None


def resolve_sampler(sampler: SamplerConfig, process: Process) -> ResolvedSampler:
    """Numbers of a sampler point for one process: T and its ratio to the rule's, atol, the truncation radius.

    Raises:
        ValueError: T ≤ t_min once resolved.
    """
    rule = process.rule_T
    T = rule * sampler.T_ratio if sampler.T_ratio is not None else rule if sampler.T == "rule" else float(sampler.T)
    if T <= sampler.t_min:
        raise ValueError(f"T: resolves to {T:.3g}, not above t_min = {sampler.t_min:g}; raise T or lower t_min")
    atol = sampler.rtol if sampler.atol == "same" else sampler.atol
    radius = None if sampler.max_radius_ratio is None else sampler.max_radius_ratio * T
    return ResolvedSampler(T, T / rule, sampler.rtol, atol, radius)
