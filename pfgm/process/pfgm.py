"""The Poisson flow itself. Source: PFGM (arXiv 2209.11178)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pfgm.networks.base import FieldNetwork
from pfgm.networks.heads import plain_length
from pfgm.process.base import Process
from pfgm.process.training_points import perturb
from pfgm.rules import height_max, rule_T

RAW_REACH = 3.0
"""A plain raw head's D is read at most ‖x‖ + RAW_REACH · mean ‖y‖ away from x."""


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
