"""Points and sources at which an empirical field loses digits, and the field by differences in float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor

GAMMA = 5.0


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal float64 numbers."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def direct_logits(x: Tensor, t: Tensor, data: Tensor, n_aug: float = 1.0) -> Tensor:
    """Unnormalised log weights from float64 differences, row by row."""
    squared = torch.stack([(point - data.double()).square().sum(1) for point in x.double()])
    if math.isinf(n_aug):
        return -0.5 * squared / t.double().square()[:, None]
    r_squared = n_aug * t.double().square()[:, None]
    return -0.5 * (x.shape[1] + n_aug) * torch.log1p(squared / r_squared)


def direct_target(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
    """The normalised target from float64 differences, row by row."""
    weights = torch.softmax(direct_logits(x, t, data), dim=1)
    offset = torch.stack([w @ (point - data.double()) for w, point in zip(weights, x.double(), strict=True)])
    e_hat = torch.cat([offset, t.double()[:, None]], dim=1)
    return -math.sqrt(x.shape[1]) * e_hat / (e_hat.norm(dim=1, keepdim=True) + GAMMA)


def twins(d: int, scale: float, gap: float, n: int = 160) -> Tensor:
    """Data of a scale: the second quarter repeats the first at distance gap, an eighth repeats it exactly."""
    data = normal(n, d) * scale
    shift = normal(n // 4, d, seed=1)
    data[n // 4 : n // 2] = data[: n // 4] + gap * shift / shift.norm(dim=1, keepdim=True)
    data[n // 2 : n // 2 + n // 8] = data[: n // 8]
    return data


def hard_points(data: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Points on, 1e-5 from, halfway between twins, near and far, at heights from 1e-5 to far: (B, d) and (B,)."""
    n, d = data.shape
    unit = normal(4, d, seed=2)
    unit /= unit.norm(dim=1, keepdim=True)
    places = [data[:4] + distance * unit for distance in (0.0, 1e-5, 1e-2, scale, 1e4)]
    places.append(0.5 * (data[:4] + data[n // 4 : n // 4 + 4]))
    x = torch.cat(places)
    heights = (1e-5, 1e-2, scale, 1e4)
    return x.repeat(len(heights), 1), torch.tensor(heights, dtype=torch.float64).repeat_interleave(len(x))
