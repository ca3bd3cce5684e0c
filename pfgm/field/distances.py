r"""Squared distances and log kernels in float64, and what rounding does to them.

The weight of a source y at (x, t) is its kernel, (‖x − y‖² + n_aug t²)^{−(d+n_aug)/2}; relative to a source at x itself, its
logarithm is −(d+n_aug)/2 · log(1 + ‖x − y‖²/(n_aug t²)). A matrix product gives ‖x − y‖² with an error that is bounded here,
and its slope carries the bound over to the logarithm. Data are taken in chunks of bounded memory.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from pfgm.field.sources import Sources

CHUNK_ELEMENTS = 1 << 20  # float64 elements of one converted chunk of the data: 8 MiB, reused by the allocator and cached
DEVICE_ELEMENTS = 1 << 24  # the same on a GPU, where fewer, larger calls count: 128 MiB
EXACT_DIM = 8  # up to this d, exact distances cost no more than a matrix product
GEMM_ULPS = 8.0  # error of a matrix-product ‖x − y‖², in units of eps · (‖x‖² + ‖y‖²); measured: below 5
EPS = torch.finfo(torch.float64).eps


def chunk_elements(device: torch.device | str) -> int:
    """Float64 numbers that a chunk of the data may have on a device."""
    return CHUNK_ELEMENTS if torch.device(device).type == "cpu" else DEVICE_ELEMENTS


class Middle(NamedTuple):
    """A point near the middle of the data, from which distances are taken."""

    point: Tensor  # (d,)
    elsewhere: bool
    """False only where it is known to be the origin."""


def middle(data: Sources, silent: bool = False) -> Middle:
    """The mean of about 256 rows; the origin where that is no worse. ``silent``: without reading which it is.

    Any point is valid. A central one loses least to rounding, the origin saves a copy of float64 data.
    """
    rows = data[:: max(1, len(data) // 256)].double()
    mean = rows.mean(0)
    better = mean.square().sum() > 0.2 * rows.square().sum(1).mean()
    return Middle(torch.where(better, mean, torch.zeros_like(mean)), silent or bool(better))


def less(points: Tensor, centre: Middle) -> Tensor:
    """Points (n, d) from a centre, in float64, with no copy beside the result."""
    if not centre.elsewhere:
        return points.double()
    return points - centre.point if points.dtype is torch.float64 else points.double().sub_(centre.point)


def chunks(data: Sources, centre: Middle | None = None) -> Iterator[tuple[int, Tensor]]:
    """Pairs (first row, data[rows] − centre in float64), in chunks that bound the memory."""
    size = min(4096, max(256, chunk_elements(data.device) // data.shape[1]))
    for start in range(0, len(data), size):
        rows = data[start : start + size]
        yield start, rows.double() if centre is None else less(rows, centre)


def squared_norms(y: Tensor) -> Tensor:
    """‖y_j‖², shape (N,)."""
    norms: Tensor = torch.linalg.vector_norm(y, dim=1)
    return norms.square_()


def squared_distances(x: Tensor, y: Tensor, squared_y: Tensor) -> Tensor:
    """‖x_i − y_j‖², shape (B, N): exact differences for small d, else ‖x‖² + ‖y‖² − 2 x·y, clamped at its bound 0."""
    if x.shape[1] <= EXACT_DIM:
        return exact_squared_distances(x, y)
    squared = torch.addmm(squared_y, x, y.mT, alpha=-2.0)
    return squared.add_(x.square().sum(1, keepdim=True)).clamp_(min=0.0)


def exact_squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """‖x_i − y_j‖² by differences, without the (B, N, d) tensor."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square_()


def log_kernels(squared: Tensor, t: Tensor, d: int, n_aug: float) -> Tensor:
    """−(d+n_aug)/2 · log(1 + ‖x − y‖²/r²), r² = n_aug t², in place; its limit −‖x − y‖²/(2t²) at n_aug = ∞."""
    if math.isinf(n_aug):
        return squared.div_((-2.0 * t.square())[:, None])
    return squared.div_((n_aug * t.square())[:, None]).log1p_().mul_(-0.5 * (d + n_aug))


def squared_from_log_kernel(logit: Tensor, t: Tensor, d: int, n_aug: float) -> Tensor:
    """‖x − y‖² of the source with this log kernel: the inverse of `log_kernels`."""
    if math.isinf(n_aug):
        return logit * (-2.0 * t.square())
    return torch.expm1(logit / (-0.5 * (d + n_aug))) * (n_aug * t.square())


def slope(squared: Tensor, t: Tensor, d: int, n_aug: float) -> Tensor:
    """−∂ log w/∂‖x − y‖² of a source at this squared distance."""
    if math.isinf(n_aug):
        return 0.5 / t.square()
    return 0.5 * (d + n_aug) / (squared + n_aug * t.square())


def rounding_bound(x: Tensor, squared: Tensor) -> Tensor:
    """Bound on the rounding error of a matrix-product ‖x − y‖²; ‖y‖ ≤ ‖x‖ + ‖x − y‖ stands for the source's norm.

    x is relative to the centre. Times the slope it bounds the error of every log weight: it grows no faster with the
    distance than ρ², by which the slope falls.
    """
    if x.shape[1] <= EXACT_DIM:
        return torch.zeros_like(squared)
    return GEMM_ULPS * EPS * (3.0 * x.square().sum(1) + 2.0 * squared)


def exact_log_kernels(x: Tensor, t: Tensor, data: Sources, n_aug: float) -> Tensor:
    """`log_kernels` of a few rows, shape (b, N), by exact differences."""
    squared = torch.cat([exact_squared_distances(x, y) for _, y in chunks(data)], dim=1)
    return log_kernels(squared, t, x.shape[1], n_aug)
