r"""Latents: where a sample comes from, said without a law.

A point at the top is x_T = R ω. Its latent is the direction ω and the quantile q = P(R' ≤ R) of its radius, neither of which
depends on T, truncation or n_aug, so one latent starts comparable lines of every process (`PoissonPrior.from_latent` and
`to_latent` in `pfgm.prior.law`; its `latents` draws them). The quantile is kept in three ways, for encoded points may lie far
out: q itself, its tail 1 − q without cancellation, and its normal score z = Φ⁻¹(q), which still tells points apart where q or
1 − q are below the smallest float (of a Gaussian in 3,072 dimensions, q = 10⁻⁴²⁶ at half the typical radius).

*Interpolation* follows the great circle between two directions and the straight line between two scores. Of two independent
latents the direction is then uniform at every point of the path, and the score is normal of variance (1−s)² + s²: never farther
out than the farther end, nearer the median than the prior in the middle. A path that kept the score's variance would leave the
range of its ends: between two equal outliers it would climb to √2 z, for PFGM in d = 1 from R/T = 1,000 to 245,000.

*Temperature* τ multiplies the starting point, x_T ← τ x_T: the direction stays, R becomes τ R, and the latent is what the prior
makes of that. τ = 1 is the identity, τ → 0 puts every latent on the one line from x_T = 0. It is no temperature of the law of
the samples: how much the samples differ for it depends on the process (a Gaussian in d dimensions has R within about 1/√(2d) of
√d T, so that τ = 0.9 is outside anything trained at large d, while a tail of PFGM spans decades).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy import special
from torch import Tensor

from pfgm.prior.streams import stream

if TYPE_CHECKING:
    pass

AGREE = 1e-4
"""Parts of a latent differ by less: they may have been kept in float32, or in a dtype that is coarser still."""
OPPOSITE = 1e-6
"""Two directions closer than this to opposite (radians) have no great circle between them that could be told from others."""


class Latents(NamedTuple):
    """n latents: direction (n, d), unit vectors; quantile q (n,), its tail 1 − q (n,) and normal score Φ⁻¹(q) (n,); float64."""

    direction: Tensor
    quantile: Tensor
    tail: Tensor
    score: Tensor

    def rows(self, index: Tensor | slice) -> Latents:
        """The latents of some rows."""
        return Latents(*(part[index] for part in self))

    def cpu(self) -> Latents:
        """Return these latents on the host, in float64."""
        return Latents(*(part.to("cpu", torch.float64) for part in self))


def make_latents(direction: Tensor, quantile: Tensor, tail: Tensor | None = None) -> Latents:
    """Latents of unit vectors (n, d) and quantiles (n,) in [0, 1], their tails 1 − q (n,) where they are known better.

    Raises:
        ValueError: shapes that do not agree.
    """
    tail = 1.0 - quantile if tail is None else tail
    score = torch.where(quantile < 0.5, torch.special.ndtri(quantile.double()), -torch.special.ndtri(tail.double()))
    return check_latents(Latents(direction.double(), quantile.double(), tail.double(), score))


def check_latents(latents: Latents, dim: int | None = None, n: int | None = None) -> Latents:
    """Return the latents, or refuse them where shapes are wrong or parts disagree.

    Args:
        dim: the dimension d that they must have.
        n: how many there must be.
    Raises:
        ValueError: they do not.
    """
    if not isinstance(latents, Latents):
        raise ValueError(f"latents must be Latents, as pfgm.prior.latents(n, d, seed) makes them, got {type(latents).__name__}")
    found = f"latents of the wrong shape: direction {tuple(latents.direction.shape)}, quantile {tuple(latents.quantile.shape)}"
    rows = latents.direction.shape[:1]
    if latents.direction.ndim != 2 or any(part.shape != rows for part in latents[1:]):
        raise ValueError(f"{found}; need (n, d) and (n,), as pfgm.prior.latents(n, d, seed) makes them")
    if bool(((latents.quantile + latents.tail - 1).abs() > AGREE).any()) or bool(
        ((torch.linalg.vector_norm(latents.direction, dim=1) - 1).abs() > AGREE).any()
    ):
        raise ValueError(
            "latents whose parts do not agree (directions of length 1, tail 1 − quantile): make them anew with"
            " pfgm.prior.latent.make_latents(direction, quantile)"
        )
    if dim is not None and latents.direction.shape[1] != dim:
        raise ValueError(f"{found}; this process has d = {dim}: take latents of its own data")
    if n is not None and rows[0] != n:
        raise ValueError(f"{found}; n = {n} samples need {n} latents: give n = {rows[0]}")
    return latents


def interpolate(a: Latents, b: Latents, n: int) -> Latents:
    """Paths of ``n`` latents from each of a to the same row of b, both ends as they are.

    Args:
        a, b: m latents each.
        n: number of latents a path, ends included.
    Returns:
        m · n latents, path after path: rows k n … k n + n − 1 lead from a's row k to b's.
    Raises:
        ValueError: n < 2, shapes that differ, or opposite directions, as half of all pairs have in d = 1.
    """
    check_latents(a)
    check_latents(b, a.direction.shape[1], len(a.quantile))
    if n < 2:
        raise ValueError(f"n must be at least 2, for both ends are returned, got {n}")
    s = torch.linspace(0, 1, n, dtype=torch.float64, device=a.quantile.device)
    direction = _great_circle(a.direction, b.direction, s)
    score = (1 - s) * a.score[:, None] + s * b.score[:, None]
    path = Latents(direction.flatten(0, 1), *_of_score(score.flatten()))
    for part, start, end in zip(path, a, b, strict=True):
        part[::n], part[n - 1 :: n] = start, end
    return path


def _great_circle(a: Tensor, b: Tensor, s: Tensor) -> Tensor:
    """Unit vectors at the fractions s (n,) of the arcs from a (m, d) to b (m, d), shape (m, n, d)."""
    angle = 2 * torch.atan2((a - b).norm(dim=1), (a + b).norm(dim=1))  # accurate at 0 and at π
    opposite = int((angle > math.pi - OPPOSITE).sum())
    if opposite:
        raise ValueError(f"{opposite} of {len(a)} pairs have opposite directions, with no shortest way; take other ends")
    angle = angle[:, None] / math.pi
    away, towards = ((part * torch.sinc(part * angle) / torch.sinc(angle))[..., None] for part in (1 - s, s))
    mixed = away * a[:, None] + towards * b[:, None]
    unit: Tensor = mixed / mixed.norm(dim=2, keepdim=True)
    return unit


def _of_score(score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(quantile, tail, score) of normal scores."""
    z = score.cpu().numpy()
    quantile, tail = (torch.from_numpy(special.ndtr(sign * z)).to(score.device) for sign in (1, -1))
    return quantile, tail, score


def latents(n: int, dim: int, seed: int) -> Latents:
    """Law-free latents: directions ω uniform on the unit sphere and quantiles q ~ U[0, 1), before any prior is chosen.

    The two come from separate counter-based streams, derived from (seed, role) alone, and each is drawn row by row: the
    first k latents do not depend on n, nor on T, truncation, n_aug, batch size or device.

    Args:
        n: number of latents.
        dim: dimension d.
        seed: a non-negative integer.
    Returns:
        Latents of directions ω (n, d) and quantiles q (n,), float64 on the CPU.
    Raises:
        ValueError: if n < 0, dim < 1 or seed < 0.
    """
    return next(latent_blocks(n, dim, seed, n))


def latent_blocks(n: int, dim: int, seed: int, size: int) -> Iterator[Latents]:
    """The ``n`` latents of `latents`, ``size`` after ``size``; the others of them take no memory.

    Raises:
        ValueError: if n < 0, dim < 1 or seed < 0.
    """
    if n < 0 or dim < 1 or seed < 0:
        raise ValueError(f"latents need n >= 0, dim >= 1 and seed >= 0, got n = {n}, dim = {dim}, seed = {seed}")
    directions, quantiles = stream(seed, "latents/direction"), stream(seed, "latents/quantile")
    for start in range(0, max(n, 1), max(size, 1)):
        rows = min(size, n - start)
        normal = directions.standard_normal((rows, dim))
        direction = normal / np.sqrt(np.square(normal).sum(axis=1, keepdims=True))
        yield make_latents(torch.from_numpy(direction), torch.from_numpy(quantiles.random(rows)))
