"""What a sampler point asks of D: samples of one class or of all, how strongly, and in which arithmetic.

Guidance with weight w reads D_u + w (D_c − D_u), D_c the mean source of the class and D_u that of all classes. w = 1 is the
field of the class, w = 0 that of all, each one call of the network; any other w takes both, and counts as two.

With ``label: all`` sample i has the class that is farthest behind its share of the data among the samples up to it. So every
class has its share of any first n samples, to within one or two, and the class of a sample depends on its number alone: not on
n, the batch size or the seed.

Precision: only the network's products are in fewer bits. The state of the ODE, the head that reads D from the network's output,
and the solver stay in float32, so that rounding does not add up from step to step. What it costs is the solver error, whose
reference is solved in float64.

Source: Ho and Salimans, classifier-free guidance (arXiv 2207.12598).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from pfgm.config import SamplerConfig
from pfgm.memory import ByRows
from pfgm.mistakes import Mistake
from pfgm.process.base import Process
from pfgm.process.resolve import class_of
from pfgm.sampling.solvers import MeanSource

OfClass = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(x (B, d), t (B,), classes (B,) or None for the field of all) → D(x, t), shape (B, d)."""


@dataclass(frozen=True)
class Asked:
    """D for the samples of one sampler point of a conditional field, whose classes go by their numbers.

    Args:
        source: D of rows of given classes.
        counts: points of each class.
        label: the class of every sample; None: of all classes.
        guidance: w.
    """

    source: OfClass
    counts: tuple[int, ...]
    label: int | None = None
    guidance: float = 1.0

    @property
    def calls(self) -> int:
        """Calls of the network for one D."""
        return 1 if self.guidance in (0.0, 1.0) else 2

    def labels(self, first: int, n: int) -> Tensor:
        """Return the classes of the samples first … first + n − 1."""
        if self.label is not None:
            return torch.full((n,), self.label)
        return torch.from_numpy(spread(self.counts, first + n)[first:])

    def of_rows(self, first: int, n: int) -> MeanSource:
        """Return D for a batch of the samples first … first + n − 1, in their order."""
        if self.guidance == 0.0:
            return lambda x, t: self.source(x, t, None)
        labels = self.labels(first, n)
        by_rows = ByRows(self._guided)
        return lambda x, t: by_rows(x, t, labels.to(x.device))

    def through(self, look: Callable[[], None]) -> Asked:
        """Return the same, with something done before every call."""

        def source(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
            look()
            return self.source(x, t, labels)

        return replace(self, source=source)

    def _guided(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        own = self.source(x, t, labels)
        if self.guidance == 1.0:
            return own
        every = self.source(x, t, None)
        return every + self.guidance * (own - every)


def of_rows(mean_source: MeanSource | Asked, first: int, n: int) -> MeanSource:
    """Return D for a batch of the samples first … first + n − 1."""
    return mean_source.of_rows(first, n) if isinstance(mean_source, Asked) else mean_source


def calls_of(mean_source: MeanSource | Asked) -> int:
    """Return the calls of the network for one D."""
    return mean_source.calls if isinstance(mean_source, Asked) else 1


def asked(sampler: SamplerConfig, process: Process, source: OfClass) -> Asked:
    """Return D as a sampler point asks for it.

    Raises:
        Mistake: the field is not conditional, or has no such class.
    """
    return Asked(
        source, process.info.class_counts, class_of(sampler, process), 1.0 if sampler.guidance is None else sampler.guidance
    )


@lru_cache(maxsize=8)
def spread(counts: tuple[int, ...], n: int) -> np.ndarray:
    """Classes (n,) of which every first k have the shares of ``counts``, to within one or two."""
    shares = np.array(counts, dtype=np.float64) / sum(counts)
    behind, labels = np.zeros(len(counts)), np.empty(n, np.int64)
    for k in range(n):
        behind += shares
        labels[k] = int(np.argmax(np.round(behind, 9)))  # equal shares in the order of the classes, whatever rounding says
        behind[labels[k]] -= 1
    return labels


def at_precision(mean_source: MeanSource, precision: str | None, device: torch.device, dtype: torch.dtype) -> MeanSource:
    """Return D(x, t) computed at a precision.

    Args:
        mean_source: a network's.
        precision: ``tf32``, ``bf16``, or None for float32, which returns D itself.
        device: where it is computed.
        dtype: of the state.
    Raises:
        ValueError: a state in float64, or tf32 elsewhere than on a GPU.
    """
    if precision is None:
        return mean_source
    if dtype is not torch.float32:
        raise Mistake("precision", "is of a network in float32, and this field is computed in float64; remove it")
    if precision == "tf32" and device.type != "cuda":
        raise Mistake("precision", f"tf32 is an arithmetic of NVIDIA's GPUs, and this is {device.type}; use bf16, or remove it")
    if precision == "bf16":

        def rounded(x: Tensor, t: Tensor) -> Tensor:
            with torch.autocast(device.type, torch.bfloat16):
                return mean_source(x, t)

        return rounded

    def in_tf32(x: Tensor, t: Tensor) -> Tensor:
        with _tf32():
            return mean_source(x, t)

    return in_tf32


@contextmanager
def _tf32() -> Iterator[None]:
    """Allow TF32 in matrix products and convolutions while the block lasts."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
