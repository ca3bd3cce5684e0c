r"""Field lines to look at: of point charges without the extra dimension, and of any mean source with it.

*Without.* In n dimensions charges p_j at y_j repel with F(x) = 1/S_n Σ_j p_j (x − y_j)/‖x − y_j‖^n, S_n the unit sphere's
area, so that the flux out of all of them is 1; −F is their gravitation. With weights w_j ∝ p_j ‖x − y_j‖^{−n} in log space and
the mean source ȳ = Σ_j w_j y_j, F points along x − ȳ in any n. Its lines are dx/ds = ±(x − ȳ)/‖x − ȳ‖, s the arc length; near a
charge, and near a point where the field vanishes, that direction jumps, so the speed is ‖x − ȳ‖/core once ‖x − ȳ‖ < core and
the line comes to rest there. Far away F is one charge at the centroid, with a relative error of second order in 1/‖x‖; inside a
uniform shell it vanishes: a point there is not moved at all, and nothing says in which direction the data lie.

*With.* In d + 1 dimensions every line runs from t = ∞ to a source. Anchored in the height it is dx/dt = (x − D)/t for any mean
source D(x, t), a network's or an exact one, and is followed from height to height by `pfgm.sampling.integrate`.

Sources: Su, From universal gravitation to diffusion models (Scientific Spaces 9305); PFGM (arXiv 2209.11178).
"""

import math

import torch
from torch import Tensor

from pfgm.field.empirical import log_sphere_area

CORE = 1e-3
"""Default of ``core``, as a fraction of the charges' root-mean-square distance from their centroid."""
TINY = 1e-300  # a distance that a point at a charge is given: its other charges weigh nothing, and no logarithm is infinite


def electric_field(x: Tensor, charges: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    r"""The field without an extra dimension: F(x) = 1/S_n Σ_j p_j (x − y_j)/‖x − y_j‖^n, as direction and log magnitude.

    Args:
        x: points, shape (B, n), n ≥ 2.
        charges: their places y, shape (N, n).
        weights: p, shape (N,), positive, normalised here; equal when None.
    Returns:
        (F/‖F‖, shape (B, n), zero where F is and at a charge; log ‖F‖, shape (B,), +∞ at a charge), in the dtype of ``x``.
        `pfgm.field.empirical.true_field` is the field with one more dimension, and points the other way.
    Raises:
        ValueError: if shapes disagree, n < 2 or a weight is not positive.
    Source: Su, Scientific Spaces 9305, the field of a source in n dimensions; in log space.
    """
    places, log_p = _checked(x, charges, weights)
    offset, log_sum = _seen(x.double(), places, log_p)
    norm = torch.linalg.vector_norm(offset, dim=1)
    direction = torch.where(norm[:, None] > 0, offset / norm[:, None], 0.0)
    at_charge = log_sum > -0.5 * x.shape[1] * math.log(TINY)  # nearer than √TINY
    magnitude = torch.where(at_charge, math.inf, log_sum + norm.log() - log_sphere_area(x.shape[1]))
    return direction.to(x.dtype), magnitude.to(x.dtype)


def electric_lines(
    x: Tensor,
    charges: Tensor,
    weights: Tensor | None = None,
    *,
    length: float,
    n_points: int = 200,
    toward: bool = False,
    core: float | None = None,
    rtol: float = 1e-6,
) -> tuple[Tensor, Tensor]:
    r"""Field lines without an extra dimension, by arc length: dx/ds = ±(x − ȳ)/max(‖x − ȳ‖, core).

    Args:
        x: where the lines start, shape (B, n), n ≥ 2.
        charges: their places y, shape (N, n).
        weights: p, shape (N,), positive, normalised here; equal when None.
        length: arc length, in data units.
        n_points: points on a line, both ends included, evenly spaced; no step of the solver is longer than theirs.
        toward: follow gravitation, toward the charges, instead of the repulsion away from them.
        core: distance ‖x − ȳ‖, in data units, within which a line slows down and ends; None: CORE times the charges' spread.
        rtol: tolerance of the adaptive Dormand–Prince solver, absolute too in units of the charges' spread.
    Returns:
        (s, shape (n_points,); paths, shape (n_points, B, n)), in the dtype of ``x``.
    Raises:
        ValueError: if shapes disagree, n < 2, or length, core or n_points − 1 is not positive.
    Source: Su, Scientific Spaces 9305.
    """
    places, log_p = _checked(x, charges, weights)
    centroid = (log_p.exp()[:, None] * places).sum(0)
    spread = float((places - centroid).square().sum(1).mean().sqrt()) or 1.0  # of one charge alone: a data unit
    core = CORE * spread if core is None else core
    if not 0 < length < math.inf or not core > 0 or n_points < 2:
        raise ValueError(f"length and core must be positive and n_points at least 2, got {length}, {core} and {n_points}")
    sign = -1.0 if toward else 1.0

    def velocity(_: Tensor, position: Tensor) -> Tensor:
        offset, _ = _seen(position, places, log_p)
        distance: Tensor = torch.linalg.vector_norm(offset, dim=1, keepdim=True)
        return sign * offset / distance.clamp(min=core)

    s = torch.linspace(0.0, length, n_points, dtype=torch.float64, device=x.device)
    with torch.no_grad():
        from torchdiffeq import odeint  # loads scipy.integrate, a tenth of a worker's start

        # A longer step might jump over a point without field, where the direction turns round.
        limits = {"max_num_steps": 1_000_000, "max_step": length / (n_points - 1), "step_t": s[-1:]}
        paths = odeint(velocity, x.double(), s, method="dopri5", rtol=rtol, atol=rtol * spread, options=limits)
    return s.to(x.dtype), paths.to(x.dtype)


def line_starts(charges: Tensor, weights: Tensor | None = None, *, n_lines: int, radius: float) -> Tensor:
    """Points around charges in the plane where lines of equal flux start: on small circles, as many as a charge's weight says.

    Args:
        charges: their places, shape (N, 2).
        weights: p, shape (N,), positive, normalised here; equal when None.
        n_lines: lines of all charges together; a charge gets its share, rounded, and at least one.
        radius: of the circles, in data units, small against the distances between charges.
    Returns:
        shape (B, 2), the circles one after another, evenly spaced angles, float64.
    Raises:
        ValueError: if the charges do not lie in the plane, or n_lines or radius is not positive.
    """
    places, log_p = _checked(charges, charges, weights)
    if places.shape[1] != 2 or n_lines < 1 or not radius > 0:
        raise ValueError(
            f"line_starts needs charges (N, 2), n_lines >= 1 and radius > 0, got {tuple(places.shape)}, {n_lines} and {radius}"
        )
    circles = []
    for place, share in zip(places, log_p.exp().tolist(), strict=True):
        n = max(1, round(share * n_lines))
        angle = (torch.arange(n, dtype=torch.float64, device=places.device) + 0.5) * (2.0 * math.pi / n)
        circles.append(place + radius * torch.stack([angle.cos(), angle.sin()], dim=1))
    return torch.cat(circles)


def _seen(x: Tensor, charges: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor]:
    """x − ȳ, shape (B, n), and log Σ_j p_j ‖x − y_j‖^{−n}, shape (B,), float64."""
    distance = torch.cdist(x, charges, compute_mode="donot_use_mm_for_euclid_dist")  # by differences: no cancellation
    logits = log_p - x.shape[1] * distance.clamp(min=TINY).log()
    return x - torch.softmax(logits, dim=1) @ charges, torch.logsumexp(logits, dim=1)


def _checked(x: Tensor, charges: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Charges in float64 and the logarithm of their normalised weights, or a ValueError that names the cure."""
    if x.ndim != 2 or charges.ndim != 2 or x.shape[1] != charges.shape[1] or not len(charges):
        raise ValueError(f"x and charges must have shapes (B, n) and (N, n), got {tuple(x.shape)} and {tuple(charges.shape)}")
    if x.shape[1] < 2:
        raise ValueError(f"the field without an extra dimension needs n >= 2, got n = {x.shape[1]}: on a line it has no shape")
    if weights is None:
        weights = torch.ones(len(charges), dtype=torch.float64, device=charges.device)
    if weights.shape != (len(charges),) or not bool((weights > 0).all()):
        raise ValueError(f"weights must be {len(charges)} positive numbers, got {weights.tolist()}")
    return charges.double(), torch.log_softmax(weights.double().log(), dim=0)
