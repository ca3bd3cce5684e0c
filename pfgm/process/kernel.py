"""The noise around a data point at a given level: Student-t with n_aug degrees of freedom, or Gaussian.

Source: PFGM++ (arXiv 2302.04265), its perturbation kernel."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def kernel_noise(dim: int, t: Tensor, n_aug: float, generator: torch.Generator) -> Tensor:
    """x − y at noise levels t (B,), float64 (B, dim): direction uniform, R² / (R² + n_aug t²) ~ Beta(d/2, n_aug/2).

    Drawn as t √(n_aug) · normal_d / χ(n_aug), which is exact and has no beta variable to clip; far below n_aug = 0.5, χ
    underflows. n_aug = ∞ is t · normal_d.
    """
    return scaled(t, kernel_draws(dim, t, n_aug, generator), n_aug)


def kernel_draws(dim: int, like: Tensor, n_aug: float, generator: torch.Generator) -> tuple[Tensor, ...]:
    """The random numbers of `kernel_noise` for levels like ``like`` (B,), float64: normal (B, dim), and χ²(n_aug)/2 (B,)."""
    normal = torch.randn(len(like), dim, generator=generator, device=like.device, dtype=torch.float64)
    if math.isinf(n_aug):
        return (normal,)
    return normal, (gamma_on_host if like.device.type == "cpu" else gamma_on_device)(n_aug / 2, like, generator)


def scaled(t: Tensor, drawn: tuple[Tensor, ...], n_aug: float) -> Tensor:
    """The noise at levels t (B,), float64, from `kernel_draws`."""
    normal, *gamma = drawn
    if not gamma:
        return t[:, None] * normal
    return t[:, None] * normal * (math.sqrt(n_aug) / (2 * gamma[0]).sqrt())[:, None]


def gamma_on_host(shape: float, like: Tensor, generator: torch.Generator) -> Tensor:
    """Γ(shape, 1) draws of the size, dtype and device of ``like``: numpy's, seeded from the stream.

    Trained fields are named by what they were trained on, so these numbers stay what they are.
    """
    seed = torch.randint(2**62, (1,), generator=generator, device=like.device)
    drawn = np.random.Generator(np.random.Philox(int(seed))).standard_gamma(shape, len(like))
    return torch.from_numpy(drawn).to(like)


def gamma_on_device(shape: float, like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from the same law where ``like`` is, so that no step waits for the device."""
    return torch._standard_gamma(torch.full_like(like, shape), generator=generator)
