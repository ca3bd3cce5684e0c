"""The Poisson flow itself. Source: PFGM (arXiv 2209.11178)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import StrictBool
from torch import Tensor

from pfgm.kinds import Keys, Positive
from pfgm.mistakes import Mistake
from pfgm.networks.heads import plain_length
from pfgm.process.placed import Number, PlacedProcess
from pfgm.process.training_points import draws, placed
from pfgm.rules import height_max, rule_height, rule_M, rule_T

if TYPE_CHECKING:
    from pfgm.config import TrainConfig
    from pfgm.data.dataset import DataInfo
    from pfgm.networks.base import FieldNetwork

RAW_REACH = 3.0
"""A plain raw head's D is read at most ‖x‖ + RAW_REACH · mean ‖y‖ away from x."""


class PfgmKeys(Keys):
    """Keys of ``train`` for the Poisson flow."""

    sigma: Positive = 0.1
    """pfgm: standard deviation σ of the noise on training points at the lowest level, in data units, above 0 (default 0.1)."""
    tau: Positive = 0.03
    """pfgm: growth τ of the noise between levels, no unit, above 0: level m has σ(1+τ)^m (default 0.03)."""
    M: Positive | Literal["rule"] = "rule"
    """pfgm: highest level M, no unit, above 0: the largest height is σ(1+τ)^M; rule (default): as the authors choose."""
    height_ratio: Positive | None = None
    """σ(1+τ)^M as a multiple of the rule's height before rounding; sets M (give M or height_ratio, not both)."""
    restrict_M: StrictBool = False
    """pfgm: draw training points of small height (|ε_t| < σ/2) from lower levels only, as the authors do (default false)."""

    def check(self) -> None:
        """Refuse M beside height_ratio, which sets it."""
        if self.height_ratio is not None and self.M not in ("rule", None):
            raise Mistake("height_ratio", "sets M, so M must be absent or `rule`; remove one of the two")


class Pfgm(PlacedProcess):
    """The Poisson flow: heights of Algorithm 2, one extra dimension."""

    Keys = PfgmKeys
    objectives = ("normalized", "raw")
    height_keys = ("M", "height_ratio", "tau", "sigma")

    @classmethod
    def resolved(cls, train: TrainConfig, info: DataInfo) -> dict[str, object]:
        """Return M as a number: by the authors' rule, or so that the largest height is a multiple of the rule's."""
        keys = PfgmKeys.of(train)
        if keys.height_ratio is not None:
            rule = rule_height(info.mean_norm, info.dim, keys.sigma)
            height = keys.height_ratio * rule
            if height <= keys.sigma:
                raise Mistake(
                    "height_ratio",
                    f"{keys.height_ratio:.3g} puts the height {height:.3g} below sigma = {keys.sigma:.3g};"
                    f" at this sigma use at least {1.01 * keys.sigma / rule:.3g}, or lower sigma",
                )
            return {"M": math.log(height / keys.sigma) / math.log1p(keys.tau)}
        if keys.M != "rule":
            return {}
        if rule_height(info.mean_norm, info.dim, keys.sigma) <= keys.sigma:
            raise Mistake(
                "sigma", f"{keys.sigma:g} is too large for M: rule, whose height would lie below it; lower it or give M"
            )
        return {"M": float(rule_M(info.mean_norm, info.dim, keys.sigma, keys.tau))}

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

    @property
    def numbers(self) -> tuple[float, ...]:
        """σ, ln(1+τ), M, and 1 where it is restricted."""
        sigma, tau, M = self._numbers()
        return sigma, math.log1p(tau), M, float(PfgmKeys.of(self.train).restrict_M)

    def draws(self, y: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Those of Algorithm 2 (`pfgm.process.training_points`)."""
        return draws(y, generator)

    @classmethod
    def placed(cls, y: Tensor, drawn: tuple[Tensor, ...], numbers: tuple[Number, ...]) -> tuple[Tensor, Tensor]:
        """Algorithm 2."""
        return placed(y, drawn, numbers)

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
            source: Tensor = x + t[:, None] * o_x / torch.maximum(size, least)
            return source
        assert self.train.gamma is not None
        length = plain_length(raw, t, self.train.gamma, network.root_below or self.train.gamma)
        away: Tensor = (length[:, None] * raw[:, :-1] / math.sqrt(x.shape[1])).to(x)
        return x + away

    def _numbers(self) -> tuple[float, float, float]:
        keys = PfgmKeys.of(self.train)
        assert isinstance(keys.M, float), "resolve_train first"
        return keys.sigma, keys.tau, keys.M
