"""Exact fields: flows whose mean source is known, so that T, t_min, solver, tolerance and truncation act alone.

``empirical`` is the field of the data points themselves: the sampler that memorises perfectly. ``gaussian_mixture`` is the
field of a law: the toy `gaussians` has one by construction, other data are given one Gaussian of their mean and covariance.
Neither has a network, so what is measured on their samples is the sampler's doing (and, for one Gaussian, that data are not
one).

Starting from the prior at a finite T is wrong by KL(p_T‖prior), p_T the law of the data seen at T; the ODE takes both laws
down together, so the samples' law differs from the data's by the same number of nats. With ℓ = log p_T − log prior,
KL = E[ℓ + e^{−ℓ} − 1] over p_T: the added part has mean zero, and what is left has a small variance where ℓ is small. Where it
is not, e^{−ℓ} owes its mean to points that are hardly ever drawn, and the plain mean of ℓ is taken.

Source: PFGM (arXiv 2209.11178) and PFGM++ (arXiv 2302.04265) for kernel and prior; the estimator is the usual control variate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor

from pfgm.config import TrainConfig
from pfgm.data.dataset import DataInfo, Dataset
from pfgm.data.points import Points
from pfgm.data.readers.toys import gaussians_law
from pfgm.field.analytic import GaussianMixture, PointCharges
from pfgm.field.empirical import mean_source
from pfgm.flow.base import Flow, PriorError
from pfgm.mistakes import Mistake
from pfgm.process.base import Process
from pfgm.process.kernel import kernel_noise
from pfgm.process.make import make_process
from pfgm.process.pfgmpp import MIN_N_AUG
from pfgm.process.resolve import resolve_train
from pfgm.training.history import Progress

SIGMA = 0.2
"""σ of an exact Poisson field over the data's sd: it sets the T of `rule`, and nothing else."""
Kind = Literal["gaussian_mixture", "empirical"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PRIOR_POINTS, ROWS = 4096, 64
"""Points that KL(p_T‖prior) is averaged over, and how many are looked at together."""


def exact_train(n_aug: float, info: DataInfo) -> TrainConfig:
    """The process of an exact field, every number filled in: pfgm at n_aug = 1, else pfgmpp.

    Raises:
        ValueError: n_aug is below `pfgm.process.pfgmpp.MIN_N_AUG`.
    """
    if not n_aug >= MIN_N_AUG:
        raise Mistake("n_aug", f"must be at least {MIN_N_AUG}, got {n_aug}; 1 is PFGM, .inf diffusion")
    if n_aug != 1:
        return resolve_train(TrainConfig.model_validate({"process": "pfgmpp", "n_aug": n_aug}), info)
    return resolve_train(TrainConfig.model_validate({"process": "pfgm", "sigma": SIGMA * info.sd}), info)


@dataclass(frozen=True)
class ExactField(Flow):
    """The field of known charges or of a known law on one data set; see `exact_field`."""

    kind: str
    data: Dataset
    process: Process
    place: torch.device
    history: tuple[Progress, ...] = ()
    """Nothing was trained."""

    @property
    def device(self) -> torch.device:
        return self.place

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64

    @cached_property
    def law(self) -> PointCharges | GaussianMixture:
        """Return what the field is of, in the units of training."""
        n_aug = self.process.n_aug
        if self.kind == "empirical":
            return PointCharges(self.data.points[:].to(self.place), n_aug=n_aug)
        return mixture_of(self.data, self.place, n_aug)

    def double(self) -> ExactField:
        """Return this field, which is computed in float64 anyway."""
        return self

    def mean_source(self, x: Tensor, t: Tensor) -> Tensor:
        """ȳ(x, t), shape (B, d)."""
        if self.kind == "empirical":
            return mean_source(x, t, self._points, n_aug=self.process.n_aug)
        with torch.no_grad():
            return self.law.mean_source(x, t)

    def source_with_gradient(self, x: Tensor, t: Tensor) -> Tensor:
        return self.law.mean_source(x, t)

    def prior_error(self, T: float, seed: int = 0) -> PriorError:
        """KL(p_T‖prior) of starting at T, the prior not truncated, over `PRIOR_POINTS` points of p_T.

        Args:
            T: starting level, data units.
            seed: of the points.
        """
        g = torch.Generator().manual_seed(seed)
        if isinstance(self.law, GaussianMixture):
            y = mixture_of(self.data, torch.device("cpu"), self.process.n_aug).sample(PRIOR_POINTS, g)
        else:
            y = self.data.points[torch.randint(len(self.data.points), (PRIOR_POINTS,), generator=g)].double().cpu()
        level = torch.full((PRIOR_POINTS,), T, dtype=torch.float64)
        x = (y + kernel_noise(y.shape[1], level, self.process.n_aug, g)).to(self.place)
        prior = self.process.prior(T)
        ratio = torch.cat([self.law.log_prob(part, T) - prior.log_prob(part) for part in x.split(ROWS)])
        controlled = ratio + torch.expm1(-ratio)
        terms = controlled if 2 * controlled.std() < ratio.std() else ratio
        return PriorError(float(terms.mean()), float(terms.std()) / math.sqrt(PRIOR_POINTS))

    @cached_property
    def _points(self) -> Points:
        return self.data.points.to(self.place)


def exact_field(kind: str, data: Dataset, train: TrainConfig, device: torch.device | str = "cpu") -> ExactField:
    """The exact field of a data set.

    Args:
        kind: ``empirical`` or ``gaussian_mixture``.
        train: of `exact_train`.
    Raises:
        ValueError: another kind.
    """
    if kind not in KINDS:
        raise Mistake("exact", f"unknown '{kind}'; use {' or '.join(KINDS)}")
    return ExactField(kind, data, make_process(train, data.info), torch.device(device))


def mixture_of(data: Dataset, device: torch.device, n_aug: float = 1.0) -> GaussianMixture:
    """The law of the toy `gaussians`, or the Gaussian with the mean and covariance of other data, in the units of training."""
    info = data.info
    if info.name == "gaussians":
        centres, sd = gaussians_law(info.dim)
        means = torch.from_numpy(centres).to(device) - info.mean.double().to(device)
        return GaussianMixture(means, sd**2, n_aug=n_aug)
    points = data.points[:].double().to(device)
    covariance = torch.cov(points.mT, correction=0).reshape(1, info.dim, info.dim)
    return GaussianMixture(points.mean(0, keepdim=True), covariance, n_aug=n_aug)
