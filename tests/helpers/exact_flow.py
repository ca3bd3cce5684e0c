"""Flows whose mean source is known exactly, for tests of sampling, latents and likelihoods without a network."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pfgm.config import TrainConfig
from pfgm.data.dataset import DataInfo
from pfgm.flow.base import Flow
from pfgm.process.base import Process
from pfgm.process.make import make_process
from pfgm.process.resolve import resolve_train

MeanSource = Callable[[Tensor, Tensor], Tensor]


def facts(dim: int, mean_norm: float = 1.0) -> DataInfo:
    """Data facts of vectors with root mean square 1 a coordinate."""
    return DataInfo("exact", (dim,), torch.zeros(dim), None, 100, mean_norm, 1.0, "0" * 16, False)


def process_of(dim: int, kind: type[Process] | None = None, **train: Any) -> Process:
    """A process on vectors of ``dim`` coordinates; ``kind`` replaces its class."""
    info = facts(dim)
    resolved = resolve_train(TrainConfig(**train), info)
    return make_process(resolved, info) if kind is None else kind(resolved, info)


class ExactFlow(Flow):
    """A mean source with a process, in float64."""

    def __init__(self, mean_source: MeanSource, process: Process) -> None:
        self.process, self._mean_source = process, mean_source

    def mean_source(self, x: Tensor, t: Tensor) -> Tensor:
        return self._mean_source(x, t)

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64

    def double(self) -> ExactFlow:
        return self


class Gaussians:
    """Data from an equal mixture of N(m_k, sd² I), seen by a Gaussian kernel: mean source and law at every level t.

    Args:
        means: m (K, d).
        sd: of every component.
    """

    def __init__(self, means: Tensor, sd: float) -> None:
        self.means, self.sd = means.double(), sd

    def mean_source(self, x: Tensor, t: Tensor) -> Tensor:
        """E[y | x] under x = y + t · normal."""
        variance = (self.sd**2 + t.double().square())[:, None]
        shrunk = self.means + (self.sd**2 / variance)[..., None] * (x[:, None] - self.means)
        weights = torch.softmax(-0.5 * (x[:, None] - self.means).square().sum(2) / variance, 1)
        return torch.einsum("bk,bkd->bd", weights, shrunk)

    def log_prob(self, x: Tensor, t: float) -> Tensor:
        """log density at level t (B,)."""
        variance, (count, d) = self.sd**2 + t**2, self.means.shape
        logits = -0.5 * (x[:, None] - self.means).square().sum(2) / variance
        return torch.logsumexp(logits, 1) - 0.5 * d * math.log(2 * math.pi * variance) - math.log(count)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n data points (n, d)."""
        which = torch.randint(len(self.means), (n,), generator=generator)
        noise = torch.randn(n, self.means.shape[1], generator=generator, dtype=torch.float64)
        return self.means[which] + self.sd * noise
