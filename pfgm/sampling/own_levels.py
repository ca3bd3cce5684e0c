r"""Noise levels of each sample's own: ``grid: own``, and those chosen for a field: ``grid: tuned``.

The height t does not say how a sample sees the data. The mean source weighs them by (‖x − y‖² + n t²)^{−(d+n)/2}, n = n_aug.
Near x that is a Gaussian of width s = √((‖x − m‖² + n t²)/(d + n)). On the straight part of a line ‖x − m‖ grows like t. So s =
q t there, with the slope q = √((R²/T² + n)/(d + n)) and R = ‖x_T‖, where the sample starts. For PFGM q is heavy-tailed: at the
same height one sample is far from the data, another among them. At n = ∞ every q is 1.

So the levels are shared in s, not in t: t_k = s_k/q. One step goes from T down the straight part to s = ``top``; then s falls
to ``bottom`` on EDM's grid. A sample that starts below ``top`` has all steps between its start and ``bottom``.

With more steps the top rises and the bottom falls. If they stayed, more steps would not lead to the samples of an exact
solution: with the top at 8 standard deviations the Fréchet distance to them stayed at 0.07 on digits for any number of steps.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pfgm.sampling.grids import RHO

FAR = 40.0
"""Above so many standard deviations of the data D is taken to be linear in 1/t."""


APART = 1.02
"""Neighbouring tuned levels differ at least by this factor where they meet T or t_min."""


class Width(NamedTuple):
    """The numbers that levels in s need: sd, the standard deviation of the data per coordinate, in data units, and n_aug."""

    sd: float
    n_aug: float


class OwnLevels(NamedTuple):
    """Levels t (K + 1, B) in float64; far (B,), the level above which D is linear in 1/t."""

    t: Tensor
    far: Tensor


def slope(x: Tensor, T: float, n_aug: float) -> Tensor:
    """q (B,) of starts x (B, d) at t = T, float64."""
    if math.isinf(n_aug):
        return torch.ones(len(x), dtype=torch.float64, device=x.device)
    d = x.shape[1]
    return ((x.double().square().sum(1) / T**2 + n_aug) / (d + n_aug)).sqrt()


def top_and_bottom(steps: int, sd: float, dim: int) -> tuple[float, float]:
    """s where the straight part ends, and how far above the s of t_min the solve ends; found by trial on digits and pictures.

    The top goes by the widest direction of the data. In pictures it is the wider the more pixels there are: 3.4 standard
    deviations of digits (d = 64), 14.7 of Fashion-MNIST (d = 784).
    """
    return sd * (dim / 64) ** 0.25 * max(6.0, 0.14 * steps**2), sd * min(0.2, 0.1 * (6 / (steps + 1)) ** 4)


def own_levels(x: Tensor, T: float, t_min: float, steps: int, width: Width) -> OwnLevels:
    """Return the levels of a batch that starts at x (B, d), t = T."""
    q = slope(x, T, width.n_aug)
    top, above = top_and_bottom(steps, width.sd, x.shape[1])
    start = q * T
    low = (q * t_min + above).minimum(start / 2)
    jumps = (start > top) & (top > low) & (steps > 1)
    after = falling(torch.full_like(q, top), low, max(steps - 1, 1))  # where it rises, no sample jumps
    s = torch.where(jumps, torch.cat([start[None], after])[: steps + 1], falling(start, low, steps))
    t = s / q
    t[0] = T
    return OwnLevels(t, FAR * width.sd / q)


class TunedLevels(NamedTuple):
    """The share a of each sample's own slope, and log s_k in data units, falling."""

    share: float
    log_widths: tuple[float, ...]


def tuned_levels(tuned: TunedLevels, x: Tensor, T: float, t_min: float, width: Width) -> OwnLevels:
    """Return the levels of a batch that starts at x (B, d), t = T."""
    share, log_widths = (torch.tensor(part, dtype=torch.float64, device=x.device) for part in tuned)
    q = slope(x, T, width.n_aug)
    return OwnLevels(levels_of(share, log_widths, q, T, t_min), FAR * width.sd / q**tuned.share)


def levels_of(share: Tensor, log_widths: Tensor, q: Tensor, T: float, t_min: float) -> Tensor:
    """Levels (K + 1, B): T, then s_k/q^share between T and t_min."""
    steps = len(log_widths)
    k = torch.arange(1, steps + 1, dtype=torch.float64, device=q.device)[:, None]
    t = torch.exp(log_widths[:, None] - share * q.log()[None])
    t = torch.maximum(torch.minimum(t, T / APART**k), t_min * APART ** (steps - k))
    return torch.cat([torch.full_like(t[:1], T), t])


def falling(high: Tensor, low: Tensor, steps: int) -> Tensor:
    """EDM's grid from high (B,) to low (B,), shape (steps + 1, B)."""
    share = torch.linspace(0, 1, steps + 1, dtype=torch.float64, device=high.device)[:, None]
    return (high ** (1 / RHO) + share * (low ** (1 / RHO) - high ** (1 / RHO))) ** RHO
