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
    """Draw from the same law where ``like`` is, so that no step waits for the device."""
    return torch._standard_gamma(torch.full_like(like, shape), generator=generator)
