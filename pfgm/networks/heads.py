"""Heads: how the d + 1 raw numbers of a backbone become a denoiser's or a field's output, both of order one to learn.

At the noise level n̂ of (x, t) the best linear guess of the mean source is c_skip x, c_skip = sd²/(sd² + n̂²), and what is left
to learn has size c_out = sd n̂/√(sd² + n̂²) (EDM's weights, at n̂ in place of σ). The field head is the normalised field of
that denoiser, with the noise norm that the level implies, ‖Ê‖ ≈ √d n̂. A field network without this skip must learn
v ∝ x itself, and far from the data it leaves noise behind.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def noise_level(x: Tensor, t: Tensor, sd: float) -> Tensor:
    """n̂ = √max(‖x‖²/d − sd², t²), shape (B,): the noise per coordinate that (x, t) shows, in data units."""
    return torch.maximum(x.square().mean(1) - sd**2, t.square()).sqrt()


def denoiser_head(raw: Tensor, x: Tensor, t: Tensor, sd: float) -> Tensor:
    """D = c_skip x + c_out o_x, shape (B, d), from raw (B, d + 1)."""
    n2 = noise_level(x, t, sd).square()[:, None]
    return (sd**2 * x + sd * (n2 * (sd**2 + n2)).sqrt() * raw[:, :-1].to(x)) / (sd**2 + n2)


def field_head(raw: Tensor, x: Tensor, t: Tensor, sd: float, gamma: float) -> Tensor:
    """v = −√d (x − D, t (1 + o_t)) / (√d n̂ + γ), shape (B, d + 1), D the denoiser head's."""
    root_d = math.sqrt(x.shape[1])
    scale = -root_d / (root_d * noise_level(x, t, sd) + gamma)[:, None]
    return scale * torch.cat([x - denoiser_head(raw, x, t, sd), t[:, None] * (1 + raw[:, -1:].to(t))], 1)
