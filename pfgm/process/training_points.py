r"""Where a Poisson flow is trained: data points pushed off their plane.

A data point y is moved to x = y + ‖ε_x‖ (1+τ)^m u at height t = |ε_t| (1+τ)^m, with (ε_x, ε_t) ~ N(0, σ² I_{d+1}),
m ~ U[0, M] and u uniform on the unit sphere. The ratio ‖ε_x‖/|ε_t| has exactly the radial law of the Poisson kernel,
r^{d−1}(1+r²)^{−(d+1)/2}, and (1+τ)^m = e^U with U ~ U[0, M ln(1+τ)]: only the product M ln(1+τ) matters. Random numbers
are drawn in an order and a number that no parameter changes, so equal seeds with equal M ln(1+τ) give equal batches. The
authors' rule for M, and the heights and radii that follow from it, are the small functions at the end.

Source: PFGM (arXiv 2209.11178), Algorithm 2 and the rule for M, the starting height and the largest radius.
"""

import math

import torch
from torch import Tensor

from pfgm.process.placed import Number
from pfgm.rules import require_positive


def perturb(
    y: Tensor,
    *,
    sigma: float,
    tau: float,
    M: float,
    generator: torch.Generator | None = None,
    restrict_M: bool = False,
) -> tuple[Tensor, Tensor]:
    r"""Training points around the data: x = y + ‖ε_x‖ (1+τ)^m u,  t = |ε_t| (1+τ)^m,  m ~ U[0, M].

    Args:
        y: data points, shape (B, d), any floating dtype.
        sigma: standard deviation σ > 0 of the noise before stretching, in data units.
        tau: growth τ > 0 of the stretch per unit of m.
        M: largest exponent, a positive real.
        generator: source of randomness, on the device of ``y``.
        restrict_M: draw m from [0, ⌊0.7 M⌋] where |ε_t| < σ/2, as the authors do.
    Returns:
        (x, shape (B, d); t, shape (B,)), in the dtype of ``y``.
    Raises:
        ValueError: if σ, τ or M is not positive, or y is not a matrix of floats.
    Source: PFGM (arXiv 2209.11178), Algorithm 2.
    """
    require_positive(sigma=sigma, tau=tau, M=M)
    if y.ndim != 2 or not y.is_floating_point():
        raise ValueError(f"y must be a floating matrix of rows, got {y.dtype} {tuple(y.shape)}: use y.flatten(1).float()")
    return placed(y, draws(y, generator), (sigma, math.log1p(tau), M, float(restrict_M)))


def draws(y: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, ...]:
    """Random numbers for data points like y (B, d): ε_x/σ (B, d), a direction (B, d), ε_t/σ (B,) and m/M (B,)."""
    dtype = y.dtype if y.dtype in (torch.float32, torch.float64) else torch.float32
    epsilon_x = torch.randn(y.shape, dtype=dtype, device=y.device, generator=generator)
    direction = torch.randn(y.shape, dtype=dtype, device=y.device, generator=generator)
    # float64 whatever y is: a float32 normal is exactly 0 once in 2^24 draws, and a height must be positive.
    epsilon_t = torch.randn(len(y), dtype=torch.float64, device=y.device, generator=generator)
    fraction = torch.rand(len(y), dtype=torch.float64, device=y.device, generator=generator)
    return epsilon_x, direction, epsilon_t, fraction


def placed(y: Tensor, drawn: tuple[Tensor, ...], numbers: tuple[Number, ...]) -> tuple[Tensor, Tensor]:
    """Training points (x, t) of `perturb` from `draws` and σ, ln(1+τ), M, and 1 or 0 for ``restrict_M``."""
    epsilon_x, direction, epsilon_t, fraction = drawn
    sigma, growth, M, restricted = numbers
    epsilon_t = epsilon_t.abs()
    if isinstance(restricted, Tensor) or restricted:
        whole = torch.as_tensor(M, dtype=torch.float64, device=y.device)
        M = torch.where(epsilon_t < 0.5 * restricted, torch.floor(0.7 * whole), whole)
    scale = sigma * torch.exp(fraction * (M * growth))
    radius = torch.linalg.vector_norm(epsilon_x, dim=1, dtype=torch.float64) * scale
    direction_norm = torch.linalg.vector_norm(direction, dim=1, dtype=torch.float64)
    x = y + direction * (radius / direction_norm)[:, None].to(direction)
    return x.to(y.dtype), (epsilon_t * scale).to(y.dtype)
