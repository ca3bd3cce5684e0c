r"""The target of a training step: the same mean source as `pfgm.field.empirical`, to 1e-6 and at a fraction of the work.

From the nearest source y₀ of a point, log(w_j/w_0) = −(d+n_aug)/2 · log(1 + q_j) with q_j = (ρ_j² − ρ_0²)/ρ_0², and ȳ − y₀ =
Σ_j w_j (y_j − y₀)/Σ_j w_j. Squared distances are a float64 matrix product, x − y₀ and ρ_0² exact differences. On the CPU the
weights are float32: their errors count only in the share of the weight that y₀ does not have, and as far as the sources
differ. Their sums are float64 again. A bound says for each row whether it is good to `TOLERANCE`. Rows that may not be are
computed again, in float64, and then by exact distances. On a GPU everything is float64, which costs it little: there fewer
calls are what counts.

What depends on the data alone is kept in a `pfgm.field.plane.Plane`. No gradient flows through this module.

Sources: PFGM (arXiv 2209.11178), the normalised target; PFGM++ (arXiv 2302.04265) for n_aug.
"""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from pfgm.field.distances import EPS, EXACT_DIM, GEMM_ULPS, exact_squared_distances
from pfgm.field.empirical import checked, look, look_exactly
from pfgm.field.plane import Chunk, Plane
from pfgm.field.sources import Sources
from pfgm.memory import ByRows

TOLERANCE = 9e-7
"""Relative error of the field that a row's bound may reach; rounding of the result to float32 is not in it."""
SILENT_ROWS = 4
"""Rows that are computed again where the host does not ask how many are doubtful: of every call, so few."""
LOW_ULPS = 1.5
"""Error of float32 weights, in units of its eps; measured: below 0.9 (`tests/pfgm/field/test_target.py`)."""
LARGEST_ERROR = 0.1
"""Log weights that may be further off, by their distances, say nothing of the share that they leave to others."""
LIGHTEST = {torch.float32: -80.0, torch.float64: -600.0}
"""Lighter log weights are raised to this: subnormal numbers would slow exp and the matrix product."""


class Doubts:
    """The most rows of one call whose rounding mattered, counted on the device and left there.

    A call that is given one reads nothing back, which would make the host wait for the device: it takes heights as positive.
    While ``mends`` is true it computes the SILENT_ROWS most doubtful rows again, whether they need it or not. Who gave it
    looks at ``most`` when it waits anyway: at zero, nothing has to be mended; above SILENT_ROWS, some rows were worse than
    TOLERANCE, and calls without a Doubts are due.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.most = torch.zeros((), dtype=torch.int64, device=device)
        self.mends = True

    def note(self, doubtful: Tensor) -> None:
        """Count the true rows of a mask (B,)."""
        torch.maximum(self.most, doubtful.sum(), out=self.most)


class Sight(NamedTuple):
    """Where a batch sees the data: Ê = (x − ȳ, t), shape (B, d + 1), and its length (B,), float64."""

    e_hat: Tensor
    norm: Tensor


class _Part(NamedTuple):
    """What a batch sees of some of the sources: the nearest, y₀, and sums over the others of w_j/w_0 times 1, y and ‖y‖²."""

    nearest: Tensor  # (B, d) from the centre
    gap: Tensor  # (B,) ‖x − y₀‖²
    total: Tensor  # (B,)
    weighted: Tensor  # (B, d)
    squares: Tensor  # (B,)


def training_target(
    x: Tensor, t: Tensor | float, sources: Sources | Sequence[Plane], gamma: float | Tensor, *, doubts: Doubts | None = None
) -> Tensor:
    r"""PFGM's training target as `pfgm.field.empirical.normalized_target` has it, each row to a relative error of 1e-6.

    Args:
        x: points, shape (B, d), in data units.
        t: heights, shape (B,) or a number, positive.
        sources: the reference batch, shape (N, d); a `Plane` where it is used again; or as many as x has equal blocks of rows,
            one for each block, parts of one parent or their parent.
        gamma: normalisation constant γ ≥ 0, in data units; a number, or one a point, shape (B,), which is not looked at.
        doubts: read nothing back from the device, count there.
    Returns:
        v = −√d · Ê / (‖Ê‖ + γ),  Ê = (x − ȳ, t), shape (B, d+1), in the dtype of ``x``.
    Raises:
        ValueError: if shapes disagree, some t ≤ 0 or γ < 0.
    """
    if not isinstance(gamma, Tensor) and not gamma >= 0:
        raise ValueError(f"gamma must be at least 0, got {gamma}: give it in data units, e.g. 5 for images in [-1, 1]")
    e_hat, norm = _field(x, t, sources, 1.0, doubts)
    return (e_hat * (-math.sqrt(x.shape[1]) / (norm + gamma))[:, None]).to(x.dtype)


def training_source(
    x: Tensor, t: Tensor | float, sources: Sources | Sequence[Plane], *, n_aug: float = 1.0, doubts: Doubts | None = None
) -> Tensor:
    r"""The mean source ȳ (B, d) as `pfgm.field.empirical.mean_source` has it, to 1e-6 of ‖(x − ȳ, t)‖.

    Args:
        x: points, shape (B, d), in data units.
        t: heights, shape (B,) or a number, positive.
        sources: shape (N, d), or as `training_target` takes them.
        n_aug: number of extra dimensions, in (0, ∞]; ∞ is the posterior mean under Gaussian noise.
        doubts: read nothing back from the device, count there.
    Raises:
        ValueError: if shapes disagree, some t ≤ 0 or n_aug ≤ 0.
    """
    return (x.detach().double() - _field(x, t, sources, n_aug, doubts)[0][:, :-1]).to(x.dtype)


def _field(x: Tensor, t: Tensor | float, sources: Sources | Sequence[Plane], n_aug: float, doubts: Doubts | None) -> Sight:
    """All rows, in parts where that does not fit into the memory."""
    if isinstance(sources, Sequence):
        return _side_by_side(x, torch.as_tensor(t, device=x.device).expand(len(x)), sources, n_aug, doubts)
    points, heights = checked(x, t, sources, n_aug, silent=doubts is not None)
    plane = sources if isinstance(sources, Plane) else Plane(sources, asks=doubts is None)

    def rows(x: Tensor, t: Tensor) -> Sight:
        try:
            with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
                return _silently(x, t, plane, n_aug, doubts) if doubts is not None else _asking(x, t, [plane], n_aug)
        except Exception:
            plane.free_buffers()  # those of smaller parts may fit
            raise

    return ByRows(rows)(points, heights)


def _side_by_side(x: Tensor, t: Tensor, planes: Sequence[Plane], n_aug: float, doubts: Doubts | None) -> Sight:
    """Blocks of rows, each over its plane: one call for neighbours that share one, or, where the host may ask, for all."""
    size = len(x) // len(planes)
    if doubts is None and len(set(planes)) > 1:
        points, heights = checked(x, t, planes[0], n_aug)
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            return _asking(points, heights, planes, n_aug)
    runs = [list(run) for _, run in groupby(range(len(planes)), lambda k: id(planes[k]))]
    spans = [(planes[run[0]], slice(size * run[0], size * (run[-1] + 1))) for run in runs]
    sights = [_field(x[span], t[span], plane, n_aug, doubts) for plane, span in spans]
    return sights[0] if len(sights) == 1 else Sight(*(torch.cat(column) for column in zip(*sights, strict=True)))


def _asking(x: Tensor, t: Tensor, planes: Sequence[Plane], n_aug: float) -> Sight:
    """Each row by the cheapest way that is accurate for it; which one is read from the device."""
    e_hat, norm, good, _ = _seen(x, t, planes, n_aug, planes[0].low)
    if bool(good.all()):
        return Sight(e_hat, norm)
    bad, size = ~good, len(x) // len(planes)
    for k, plane in enumerate(planes):
        rows = bad[k * size : (k + 1) * size].nonzero().flatten() + k * size
        if len(rows) and plane.low is not torch.float64:
            e_hat[rows], norm[rows], good[rows], _ = _seen(x[rows], t[rows], [plane], n_aug, torch.float64)
            rows = rows[~good[rows]]
        if len(rows):
            e_hat[rows, :-1] = look(x[rows], t[rows], plane, n_aug).offset
            norm[rows] = torch.linalg.vector_norm(e_hat[rows], dim=1)
    return Sight(e_hat, norm)


def _silently(x: Tensor, t: Tensor, plane: Plane, n_aug: float, doubts: Doubts) -> Sight:
    """All rows in float64; doubtful ones are counted, and mended up to SILENT_ROWS of them."""
    e_hat, norm, good, doubt = _seen(x, t, [plane], n_aug, torch.float64, tight=False)
    doubts.note(~good)
    if doubts.mends:
        worst = torch.where(good, 0.0, doubt.nan_to_num(nan=math.inf)).topk(min(SILENT_ROWS, len(x)))
        rows = worst.indices
        exact = torch.cat([look_exactly(x[rows], t[rows], plane, plane.centre, n_aug).offset, t[rows, None]], 1)
        is_row = rows[:, None] == torch.arange(len(x), device=x.device)
        taken, place = is_row.any(0) & ~good, is_row.int().argmax(0)
        e_hat = torch.where(taken[:, None], exact[place], e_hat)
        norm = torch.linalg.vector_norm(e_hat, dim=1)
    return Sight(e_hat, norm)


def _seen(
    x: Tensor, t: Tensor, planes: Sequence[Plane], n_aug: float, low: torch.dtype, tight: bool = True
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ê, its length, whether the bound on its error is good enough, and that bound over what is allowed, (B,) each.

    ``tight``: take the bound from where the sources lie, not only from how far apart they can be: a few calls more.
    """
    plane, size, d = planes[0], len(x) // len(planes), x.shape[1]
    moved = plane.from_centre(x)
    blocks = zip(planes, moved.split(size), t.split(size), strict=True)
    parts = [_part(points, heights, own, n_aug, low, tight) for own, points, heights in blocks]
    seen = parts[0] if len(parts) == 1 else _Part(*(torch.cat(column) for column in zip(*parts, strict=True)))
    whole = 1.0 + seen.total
    shift = (seen.weighted - seen.total[:, None] * seen.nearest) / whole[:, None]  # ȳ − y₀
    e_hat = torch.cat([moved - seen.nearest - shift, t[:, None]], 1)
    norm = torch.linalg.vector_norm(e_hat, dim=1)
    share = seen.total / whole
    # A float64 matrix product: every log weight is off by `error` at most.
    error = _distance_error(plane, seen.gap, d) * _slope(seen.gap, t, d, n_aug)
    if tight:
        wrong = _weights_error(seen, share, whole, shift, error, max(map(len, planes)), low) + plane.rounding
    else:  # every other source lies within 2 radii of y₀
        wrong = error * share * (4.0 * plane.radius) + plane.rounding
    allowed = TOLERANCE * norm
    good = (wrong <= allowed) & (error <= LARGEST_ERROR)  # false for what is no number
    return e_hat, norm, good, wrong / allowed


def _distance_error(plane: Plane, gap: Tensor, d: int) -> Tensor | float:
    """Bound on the error of ‖x − y_j‖² − ‖x − y₀‖² for sources that weigh something: ‖x‖ ≤ radius + ‖x − y₀‖."""
    if d <= EXACT_DIM:
        return 8.0 * EPS * gap
    return (3.0 * GEMM_ULPS * EPS) * (plane.radius.square() + gap)


def _slope(gap: Tensor, t: Tensor, d: int, n_aug: float) -> Tensor:
    """−∂ log w/∂‖x − y‖² at the nearest source."""
    return 0.5 / t.square() if math.isinf(n_aug) else 0.5 * (d + n_aug) / (gap + n_aug * t.square())


def _weights_error(seen: _Part, share: Tensor, whole: Tensor, shift: Tensor, error: Tensor, n: int, low: torch.dtype) -> Tensor:
    """Bound on the error of ȳ, shape (B,), of log weights off by ``error`` and made in ``low``.

    That puts a log weight l off by eps (1 + |l|), and in the weighted mean |l| ≤ log(N/Σ w). ‖Σ_j w_j δ_j (y_j − ȳ)‖ is at most
    the root of Σ w δ² times that of the variance.
    """
    eps = LOW_ULPS * torch.finfo(low).eps
    square = seen.squares / whole
    spread = square - 2 * (seen.nearest * seen.weighted).sum(1) / whole + share * seen.nearest.square().sum(1)
    variance = (spread - shift.square().sum(1)).clamp(min=0.0) + 8 * eps * square
    return share.sqrt() * variance.sqrt() * (2.0 * error + eps * (1.0 + (n / whole).log()))


def _part(x: Tensor, t: Tensor, plane: Plane, n_aug: float, low: torch.dtype, squares: bool) -> _Part:
    """A batch's view of a plane, with ``squares`` or zeros in their place; x is taken from the centre."""
    seen: _Part | None = None
    for chunk in plane.chunks(len(x)):
        part = _of_chunk(x, t, plane, chunk, n_aug, low, squares)
        seen = part if seen is None else _joined(seen, part, t, x.shape[1], n_aug)
    assert seen is not None
    return seen


def _of_chunk(x: Tensor, t: Tensor, plane: Plane, chunk: Chunk, n_aug: float, low: torch.dtype, squares: bool) -> _Part:
    """The same of one chunk."""
    if x.shape[1] <= EXACT_DIM:
        squared = exact_squared_distances(x, chunk.y)
    else:  # less ‖x‖², which all sources share
        squared = plane.buffer(len(x), len(chunk.y), torch.float64)
        torch.addmm(chunk.squared, x, chunk.y.mT, alpha=-2.0, out=squared)
    least, index = squared.min(1)
    nearest = chunk.y[index]
    gap = (x - nearest).square().sum(1)
    q = squared.sub_(least[:, None])
    if low is not squared.dtype:  # in two calls: one that converts takes new memory
        q = plane.buffer(len(x), len(chunk.y), low).copy_(squared)
    if math.isinf(n_aug):
        logits = q.mul_((-0.5 / t.square()).to(low)[:, None])
    else:
        logits = q.mul_((1.0 / (gap + n_aug * t.square())).to(low)[:, None]).log1p_().mul_(-0.5 * (x.shape[1] + n_aug))
    weights = logits.clamp_(min=LIGHTEST[low]).exp_().scatter_(1, index[:, None], 0.0)
    if low is not torch.float64:  # sums in float32 lose digits where the terms have one sign
        weights = squared.copy_(weights)
    total = weights.sum(1)
    return _Part(nearest, gap, total, weights @ chunk.y, weights @ chunk.squared if squares else torch.zeros_like(total))


def _joined(a: _Part, b: _Part, t: Tensor, d: int, n_aug: float) -> _Part:
    """The view of the sources of both: the nearer y₀ stays, the other one is one of the others."""
    first = a.gap <= b.gap
    near, far = _chosen(first, a, b), _chosen(first, b, a)
    if math.isinf(n_aug):
        log_weight = (near.gap - far.gap) * (0.5 / t.square())
    else:
        log_weight = torch.log1p((far.gap - near.gap) / (near.gap + n_aug * t.square())) * (-0.5 * (d + n_aug))
    w = log_weight.exp()
    total = near.total + w * (1.0 + far.total)
    weighted = near.weighted + w[:, None] * (far.nearest + far.weighted)
    return _Part(near.nearest, near.gap, total, weighted, near.squares + w * (far.nearest.square().sum(1) + far.squares))


def _chosen(first: Tensor, a: _Part, b: _Part) -> _Part:
    """Rows of a where ``first`` is true, else of b."""
    return _Part(*(torch.where(first if x.ndim == 1 else first[:, None], x, y) for x, y in zip(a, b, strict=True)))
