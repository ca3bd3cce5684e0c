r"""The empirical Poisson field of a data set, exact to rounding.

Each of the N data points y_j on the plane t = 0 is a unit charge in d + 1 dimensions, and the field at (x, t) points
along −(x − ȳ, t), where ȳ = Σ_j w_j y_j is the mean source, w_j ∝ ρ_j^{−(d+1)} and ρ_j² = ‖x − y_j‖² + t². A relative
error δ of ρ² becomes (d+1)/2 · δ in log w, so everything is float64 and in log space: ρ² and ȳ are two matrix products
with an online softmax between them, streamed over chunks of the data. ρ² from a matrix product loses digits when a point
lies much closer to a source than to the centre of the data; rows whose error bound says that this matters are computed
again from exact differences. With ``n_aug`` extra dimensions (PFGM++) the weights are
∝ (‖x − y‖² + n_aug t²)^{−(d+n_aug)/2}, and a Gaussian, exp(−‖x − y‖²/(2t²)), for ``n_aug = inf``. No gradient flows
through this module; ``pfgm.field.analytic.PointCharges`` is differentiable.

Sources: PFGM (arXiv 2209.11178), the empirical Poisson field and its normalised target; PFGM++ (arXiv 2302.04265).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pfgm.field.distances import (
    EPS,
    Middle,
    chunks,
    exact_log_kernels,
    log_kernels,
    middle,
    rounding_bound,
    slope,
    squared_distances,
    squared_from_log_kernel,
    squared_norms,
)
from pfgm.field.sources import Sources
from pfgm.memory import ByRows

TOLERANCE = 1e-7  # rows whose bound on the relative error exceeds this are recomputed
ONE_SOURCE = 1e-15  # a row whose other sources weigh less than this sees its nearest source only
NEAREST = 32  # sources of a recomputed row that enter x − ȳ by exact differences
EXACT_ROWS = 16  # rows recomputed together: bounds the memory of (rows, NEAREST, d) differences
LOG_ZERO = -600.0  # lighter weights are raised to e^−600: subnormal numbers would slow exp and the matrix product


class View(NamedTuple):
    """The data as a batch of points sees them, in float64."""

    y_bar: Tensor  # (B, d) mean source
    offset: Tensor  # (B, d) x − ȳ, accurate even where x and ȳ nearly cancel
    log_sum: Tensor  # (B,) log Σ_j (1 + ‖x − y_j‖²/r²)^{−(d+n_aug)/2}


class _Pass(NamedTuple):
    """One streamed pass: running maximum, its position, and Σ e^{l − max} times 1, y and ‖y‖², y from the centre."""

    peak: Tensor  # (B,)
    nearest: Tensor  # (B,) index of the heaviest source
    total: Tensor  # (B,)
    weighted: Tensor  # (B, d)
    squares: Tensor  # (B,)


def log_sphere_area(n: int) -> float:
    """Log area of the unit sphere of R^n: log S_n = log 2 + (n/2) log π − log Γ(n/2)."""
    return math.log(2.0) + 0.5 * n * math.log(math.pi) - math.lgamma(0.5 * n)


def log_weights(x: Tensor, t: Tensor | float, data: Sources, *, n_aug: float = 1.0) -> Tensor:
    r"""Log weights of the sources seen from (x, t): log w_j, w_j ∝ (‖x − y_j‖² + n_aug t²)^{−(d+n_aug)/2}, Σ_j w_j = 1.

    Args:
        x: points, shape (B, d), in data units.
        t: heights above the data plane, shape (B,) or a number, positive.
        data: sources, shape (N, d).
        n_aug: number of extra dimensions, in (0, ∞]; 1 is PFGM.
    Returns:
        log w, shape (B, N), in the dtype of ``x``.
    Raises:
        ValueError: if shapes disagree, some t ≤ 0 or n_aug ≤ 0.
    Source: PFGM (arXiv 2209.11178) in log space; PFGM++ (arXiv 2302.04265) for n_aug.
    """
    points, heights = checked(x, t, data, n_aug)
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        centre = middle(data)
        moved = points - centre.point
        squared = [squared_distances(moved, y, squared_norms(y)) for _, y in chunks(data, centre)]
        logits = log_kernels(torch.cat(squared, dim=1), heights, x.shape[1], n_aug)
        squared_min = squared_from_log_kernel(logits.amax(1), heights, x.shape[1], n_aug)
        error = rounding_bound(moved, squared_min) * slope(squared_min, heights, x.shape[1], n_aug)
        for rows in _blocks(error > TOLERANCE):
            logits[rows] = exact_log_kernels(points[rows], heights[rows], data, n_aug)
        return torch.log_softmax(logits, dim=1).to(x.dtype)


def mean_source(x: Tensor, t: Tensor | float, data: Sources, *, n_aug: float = 1.0) -> Tensor:
    r"""Weighted mean of the sources seen from (x, t): ȳ = Σ_j w_j y_j,  w_j ∝ (‖x − y_j‖² + n_aug t²)^{−(d+n_aug)/2}.

    Args:
        x: points, shape (B, d), in data units.
        t: heights above the data plane, shape (B,) or a number, positive.
        data: sources on the plane t = 0, shape (N, d).
        n_aug: number of extra dimensions, in (0, ∞]; 1 is PFGM, ∞ the posterior mean under Gaussian noise.
    Returns:
        ȳ, shape (B, d), in the dtype of ``x``. The field at (x, t) points along −(x − ȳ, t).
    Raises:
        ValueError: if shapes disagree, some t ≤ 0 or n_aug ≤ 0.
    Source: PFGM (arXiv 2209.11178), empirical Poisson field, in log space.
    """
    points, heights = checked(x, t, data, n_aug)
    return look(points, heights, data, n_aug).y_bar.to(x.dtype)


def normalized_target(x: Tensor, t: Tensor | float, data: Sources, gamma: float) -> Tensor:
    r"""PFGM's training target: v = −√d · Ê / (‖Ê‖ + γ),  Ê = (x − ȳ, t).

    Args:
        x: points, shape (B, d), in data units.
        t: heights, shape (B,) or a number, positive.
        data: the reference batch, shape (N, d).
        gamma: normalisation constant γ ≥ 0, in data units.
    Returns:
        v, shape (B, d+1), in the dtype of ``x``.
    Raises:
        ValueError: if shapes disagree, some t ≤ 0 or γ < 0.
    Source: PFGM (arXiv 2209.11178), normalised field over a large reference batch.
    """
    if not gamma >= 0:
        raise ValueError(f"gamma must be at least 0, got {gamma}: give it in data units, e.g. 5 for images in [-1, 1]")
    points, heights = checked(x, t, data, 1.0)
    e_hat = torch.cat([look(points, heights, data, 1.0).offset, heights[:, None]], dim=1)
    norm: Tensor = torch.linalg.vector_norm(e_hat, dim=1, keepdim=True)
    return (e_hat * (-math.sqrt(x.shape[1]) / (norm + gamma))).to(x.dtype)


def true_field(x: Tensor, t: Tensor | float, data: Sources) -> tuple[Tensor, Tensor]:
    r"""The Poisson field itself: F(x, t) = −1/(N S_{d+1}) Σ_j (x − y_j, t) / ρ_j^{d+1}, as direction and log magnitude.

    Args:
        x: points, shape (B, d), in data units.
        t: heights, shape (B,) or a number, positive.
        data: sources, shape (N, d).
    Returns:
        (F/‖F‖, shape (B, d+1); log ‖F‖, shape (B,)). The magnitude stays in log space: ρ^{d+1} overflows at d = 3072.
    Raises:
        ValueError: if shapes disagree or some t ≤ 0.
    Source: PFGM (arXiv 2209.11178), Poisson field of the augmented data; S_n is the unit sphere's area in R^n.
    """
    points, heights = checked(x, t, data, 1.0)
    sight = look(points, heights, data, 1.0, magnitude=True)
    e_hat = torch.cat([sight.offset, heights[:, None]], dim=1)
    norm = torch.linalg.vector_norm(e_hat, dim=1)
    log_kernels = sight.log_sum - (x.shape[1] + 1) * heights.log()
    log_magnitude = norm.log() + log_kernels - math.log(len(data)) - log_sphere_area(x.shape[1] + 1)
    return (-e_hat / norm[:, None]).to(x.dtype), log_magnitude.to(x.dtype)


def checked(x: Tensor, t: Tensor | float, data: Sources, n_aug: float, silent: bool = False) -> tuple[Tensor, Tensor]:
    """Points and heights in float64, shapes (B, d) and (B,), or a ValueError that names the cure.

    ``silent``: without a look at the heights.
    """
    for name, value in (("x", x), ("data", data)):
        if not value.is_floating_point():
            raise ValueError(f"{name} must have a floating dtype, got {value.dtype}: convert it, e.g. {name}.float()")
        if value.ndim != 2 or 0 in value.shape:
            raise ValueError(f"{name} must be non-empty rows, got shape {tuple(value.shape)}: use {name}.flatten(1)")
    if x.shape[1] != data.shape[1]:
        raise ValueError(f"x has d = {x.shape[1]} and data d = {data.shape[1]}: flatten both the same way")
    if not n_aug > 0:
        raise ValueError(f"n_aug must be positive, got {n_aug}: 1 is PFGM, math.inf a Gaussian kernel")
    t = torch.as_tensor(t, dtype=torch.float64, device=x.device)
    if t.shape not in ((), (1,), (len(x),)):
        raise ValueError(f"t must have shape ({len(x)},) or be a number, got shape {tuple(t.shape)}: flatten it")
    if not silent and not bool((t > 0).all()):
        raise ValueError(f"every height t must be positive, the smallest is {t.min().item()}: stop at a t_min > 0")
    return x.detach().double(), t.detach().expand(len(x))


def _stream(x: Tensor, t: Tensor, data: Sources, centre: Middle, n_aug: float) -> _Pass:
    """Online softmax over the chunks; x relative to the centre."""
    peak = torch.full_like(t, -math.inf)
    nearest = torch.zeros(len(x), dtype=torch.long, device=x.device)
    total, weighted, squares = torch.zeros_like(t), torch.zeros_like(x), torch.zeros_like(t)
    for start, y in chunks(data, centre):
        squared_y = squared_norms(y)
        logits = log_kernels(squared_distances(x, y, squared_y), t, x.shape[1], n_aug)
        chunk_peak, position = logits.max(1)
        nearest = torch.where(chunk_peak > peak, position + start, nearest)
        new_peak = torch.maximum(peak, chunk_peak)
        fade = (peak - new_peak).exp()
        weights = logits.sub_(new_peak[:, None]).clamp_(min=LOG_ZERO).exp_()
        total = total * fade + weights.sum(1)
        squares = torch.addmv(squares * fade, weights, squared_y)
        weighted.mul_(fade[:, None]).addmm_(weights, y)
        peak = new_peak
    return _Pass(peak, nearest, total, weighted, squares)


def look(x: Tensor, t: Tensor, data: Sources, n_aug: float, *, magnitude: bool = False) -> View:
    """`_look_from` all rows, in parts where that does not fit into the memory."""
    return ByRows(lambda x, t: _look_from(x, t, data, n_aug, magnitude))(x, t)


def _look_from(x: Tensor, t: Tensor, data: Sources, n_aug: float, magnitude: bool) -> View:
    """Mean source, x − ȳ and log Σ kernel of float64 points, each row by the cheapest way that is accurate for it.

    log Σ kernel is accurate to TOLERANCE only with ``magnitude``, which recomputes more rows.
    """
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        centre = middle(data)
        seen = _stream(x - centre.point, t, data, centre, n_aug)
        y_bar = centre.point + seen.weighted / seen.total[:, None]
        offset, log_sum = x - y_bar, seen.peak + seen.total.log()

        squared_min = squared_from_log_kernel(seen.peak, t, x.shape[1], n_aug)
        squared_error = rounding_bound(x - centre.point, squared_min)
        error = squared_error * slope(squared_min, t, x.shape[1], n_aug)
        alone = (seen.total - 1.0 <= ONE_SOURCE) & (error <= 1.0)
        closest = data[seen.nearest].double()
        y_bar = torch.where(alone[:, None], closest, y_bar)
        offset = torch.where(alone[:, None], x - closest, offset)
        log_sum = torch.where(alone, log_kernels(offset.square().sum(1, keepdim=True), t, x.shape[1], n_aug)[:, 0], log_sum)

        # ‖Σ_j w_j δ_j (y_j − ȳ)‖ ≤ max|δ_j| · √(Σ_j w_j ‖y_j − ȳ‖²), and that variance is itself known to squared_error.
        variance = seen.squares / seen.total - (seen.weighted / seen.total[:, None]).square().sum(1)
        shift = error * (variance.clamp(min=0.0) + 4.0 * squared_error).sqrt()
        cancelled = 40.0 * EPS * (torch.linalg.vector_norm(x, dim=1) + torch.linalg.vector_norm(y_bar, dim=1))
        wrong = 2.0 * shift + cancelled
        allowed = TOLERANCE * torch.hypot(torch.linalg.vector_norm(offset, dim=1), t)
        doubtful = ~alone & ((error > 1.0) | (wrong > allowed))
        doubtful |= ~alone & (error > TOLERANCE) & magnitude
        for rows in _blocks(doubtful):
            y_bar[rows], offset[rows], log_sum[rows] = look_exactly(x[rows], t[rows], data, centre, n_aug)
        return View(y_bar, offset, log_sum)


def _blocks(mask: Tensor) -> list[Tensor]:
    """Indices of the true rows, in blocks of at most EXACT_ROWS; none where no row is true."""
    return [rows for rows in mask.nonzero().flatten().split(EXACT_ROWS) if len(rows)]


def look_exactly(x: Tensor, t: Tensor, data: Sources, centre: Middle, n_aug: float) -> View:
    """Look at a few rows by exact distances, and take x − y_j of the nearest sources by exact differences."""
    logits = exact_log_kernels(x, t, data, n_aug)
    log_sum = torch.logsumexp(logits, dim=1)
    weights = torch.softmax(logits, dim=1)
    near = weights.topk(min(NEAREST, len(data)), dim=1)
    offset = torch.einsum("bk,bkd->bd", near.values, x[:, None] - data[near.indices].double())
    rest = weights.scatter(1, near.indices, 0.0)
    offset += rest.sum(1, keepdim=True) * (x - centre.point)
    for start, y in chunks(data, centre):
        offset -= rest[:, start : start + len(y)] @ y
    return View(x - offset, offset, log_sum)
