"""Disturbances of a trained field and of its solver: how much worse do samples get?

*Noise* is added to x before every step of a fixed-step solver: x ← x + α t n, n ~ N(0, I), with t the noise level of the step,
r/√n_aug in PFGM++. It has its own stream, which depends on the sample seed, the step and the sample alone, so that equal
latents are disturbed alike in every process. *Weight bits* rounds each weight tensor to the nearest of 2^b − 1 equally spaced
values that are symmetric about zero, the largest weight kept: w ← Δ round(w/Δ), Δ = max|w|/(2^(b−1) − 1). *Weight noise* adds
level · rms(w) · n to each tensor. All trainable tensors count as weights, biases and norms too; the exempt ones are named.

Sources: PFGM++ (arXiv 2302.04265) tests noise injection and post-training quantisation; α σ_t as there.
"""

from __future__ import annotations

import copy
import fnmatch
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from pfgm.mistakes import Mistake
from pfgm.prior.streams import stream

KINDS = ("noise", "weight_bits", "weight_noise")
"""Kinds of disturbance, as in the column ``perturb_kind``."""
MIN_BITS, MAX_BITS = 2, 16
N = TypeVar("N", bound=nn.Module)
BLOCK = 64
"""Samples whose noise at one step comes from one stream: any batch can start anywhere at little cost."""


@dataclass(frozen=True)
class StepNoise:
    """x ← x + α t n before every step.

    Args:
        alpha: α ≥ 0, relative to the noise level of the step.
        seed: the sample seed.
    Raises:
        ValueError: α is negative or not finite.
    """

    alpha: float
    seed: int

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < math.inf:
            raise Mistake("noise", f"α must be a number from 0 on, got {self.alpha}; 0.1 is a tenth of the noise level")

    def of_rows(self, first: int) -> Callable[[Tensor, float, int], Tensor]:
        """The disturbance of a batch whose first sample has the number ``first``."""
        return lambda x, t, k: x + self.alpha * t * self.draw(k, first, *x.shape).to(x)

    def draw(self, step: int, first: int, n: int, dim: int) -> Tensor:
        """n ~ N(0, I) of the samples first … first + n − 1 at one step, (n, dim), float64 on the CPU."""
        blocks = range(first // BLOCK, (first + n - 1) // BLOCK + 1)
        drawn = [stream(self.seed, f"noise/{step}/{block}").standard_normal((BLOCK, dim)) for block in blocks]
        skip = first - blocks.start * BLOCK
        return torch.from_numpy(np.concatenate(drawn)[skip : skip + n])


def check_level(kind: str, level: float) -> None:
    """Refuse a disturbance that makes no sense.

    Raises:
        ValueError: an unknown kind, bits that are not a whole number of 2 to 16, or a negative level.
    """
    if kind not in KINDS:
        raise Mistake(kind, f"unknown disturbance; use {', '.join(KINDS)}")
    if kind == "weight_bits" and not (float(level).is_integer() and MIN_BITS <= level <= MAX_BITS):
        raise Mistake("weight_bits", f"must be whole numbers from {MIN_BITS} to {MAX_BITS}, got {level:g}; use 4, 6 or 8")
    if not 0 <= level < math.inf:
        raise Mistake(kind, f"must be finite numbers from 0 on, got {level:g}; use 0.1 or 0.2")


def check_exempt(network: nn.Module, exempt: Sequence[str]) -> None:
    """Refuse a pattern that names no weight of a network.

    Raises:
        ValueError: with some of the names there are.
    """
    names = [name for name, _ in network.named_parameters()]
    for pattern in exempt:
        if not fnmatch.filter(names, pattern):
            raise Mistake("exempt", f"{pattern!r} names no weight; they are called {', '.join(names[:4])}, …, {names[-1]}")


def disturb_weights(network: N, kind: str, level: float, *, seed: int = 0, exempt: Sequence[str] = ()) -> N:
    """A copy of a network with rounded or noisy weights.

    Args:
        network: stays as it is.
        kind: ``weight_bits`` or ``weight_noise``.
        level: bits b, 2 to 16; or the noise relative to each tensor's root mean square.
        seed: of the noise, which depends on it and on the tensor's name alone.
        exempt: names, or patterns such as ``*.bias``, of the weights that stay as they are.
    Raises:
        ValueError: as `check_level` and `check_exempt`, or a kind that is not of the weights.
    """
    check_level(kind, level)
    check_exempt(network, exempt)
    if kind not in ("weight_bits", "weight_noise"):
        raise Mistake(kind, "does not disturb weights; use weight_bits or weight_noise")
    disturbed = copy.deepcopy(network)
    with torch.no_grad():
        for name, w in disturbed.named_parameters():
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in exempt):
                continue
            if kind == "weight_bits":
                w.copy_(quantize(w, int(level)))
            else:
                n = torch.from_numpy(stream(seed, f"weight_noise/{name}").standard_normal(tuple(w.shape)))
                w.add_(level * w.square().mean().sqrt() * n.to(w))
    return disturbed


def quantize(w: Tensor, bits: int) -> Tensor:
    """Δ round(w/Δ), Δ = max|w|/(2^(bits−1) − 1): at most 2^bits − 1 values; an error of Δ/2 at most."""
    largest = w.abs().max()
    delta = largest / (2 ** (bits - 1) - 1)
    return torch.where(largest > 0, delta * (w / delta).round(), w)
