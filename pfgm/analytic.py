r"""Data whose Poisson field is known exactly: charges at points, and mixtures of Gaussians.

A Poisson kernel at height t is a Gaussian of random width: with g half-normal, x − y ~ N(0, (t/g)² I). So for a Gaussian
mixture the law at height t is one integral over the width s = t/g,
p_t(x) = ∫_0^∞ 2φ(g) Σ_k π_k N(x; m_k, C_k + s² I) dg, and the mean source is the posterior mean of the data under the
same integral. The trapezoid rule in log s, with a step that follows the integrand's width (about 1/√(2(d+1))), converges
exponentially. All functions are differentiable in x, work in float64 inside and return the dtype of x. They need no
training, so they test samplers, likelihoods and networks against the truth.

Sources: PFGM (arXiv 2209.11178), the Poisson field; the width integral is the scale-mixture form of the Cauchy law.
"""

import math

import numpy as np
import torch
from scipy import special
from torch import Tensor

from pfgm.field import log_sphere_area

LOG_NEGLIGIBLE = 45.0  # nodes whose log integrand lies further below the peak are left out: e^−45 ≈ 3e-20


class PointCharges:
    r"""K point charges on the plane t = 0, with weights p_k that sum to one.

    Args:
        locations: shape (K, d).
        weights: shape (K,), positive, normalised here; equal when None.
    Raises:
        ValueError: if shapes disagree or a weight is not positive.
    """

    def __init__(self, locations: Tensor, weights: Tensor | None = None) -> None:
        if locations.ndim != 2:
            raise ValueError(f"locations must have shape (K, d), got {tuple(locations.shape)}")
        self.locations = locations.double()
        self.weights = _checked_weights(weights, len(locations), locations.device)

    def mean_source(self, x: Tensor, t: Tensor | float) -> Tensor:
        """ȳ = Σ_k w_k y_k, w_k ∝ p_k ρ_k^{−(d+1)}, shape (B, d), for x (B, d) and positive t (B,) or a number."""
        return (torch.softmax(self._logits(x, t), dim=1) @ self.locations).to(x.dtype)

    def log_prob(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Log density at height t: p_t(x) = Σ_k p_k 2t / (S_{d+1} ρ_k^{d+1}), shape (B,)."""
        log_t = _heights(t, x).log()
        constant = math.log(2.0) - log_sphere_area(self.locations.shape[1] + 1)
        return (torch.logsumexp(self._logits(x, t), dim=1) + log_t + constant).to(x.dtype)

    def line_invariant(self, x: Tensor, t: Tensor | float) -> Tensor:
        r"""What a field line of collinear charges keeps: Σ_k p_k F_d(θ_k), F_d(θ) = ∫_0^θ sin^{d−1}, shape (B,), float64.

        θ_k = atan2(√(‖x_⊥‖² + t²), x_∥ − y_k) is the angle at charge k between the line of charges and (x, t).

        Raises:
            ValueError: if the charges do not lie on one line.
        """
        origin, axis = self._line()
        relative = x.double() - origin
        along = relative @ axis
        across = torch.hypot(torch.linalg.vector_norm(relative - along[:, None] * axis, dim=1), _heights(t, x))
        position = (self.locations - origin) @ axis
        theta = torch.atan2(across[:, None], along[:, None] - position)
        return _sine_power_integral(theta, self.locations.shape[1]) @ self.weights

    def _logits(self, x: Tensor, t: Tensor | float) -> Tensor:
        """log p_k − (d+1)/2 · log ρ_k², shape (B, K)."""
        _check_points(x, self.locations.shape[1])
        squared = (x.double()[:, None] - self.locations).square().sum(-1) + _heights(t, x).square()[:, None]
        return self.weights.log() - 0.5 * (self.locations.shape[1] + 1) * squared.log()

    def _line(self) -> tuple[Tensor, Tensor]:
        """A point of the line of charges and its unit direction."""
        origin = self.locations.mean(0)
        _, size, directions = torch.linalg.svd(self.locations - origin, full_matrices=False)
        if len(size) > 1 and bool(size[1] > 1e-10 * size[0]):
            raise ValueError(f"line_invariant needs charges on one line, these leave it by {size[1].item():.3g}")
        return origin, directions[0]


class GaussianMixture:
    r"""Data from Σ_k π_k N(m_k, C_k), whose law, mean source and likelihood at every height are one quadrature.

    Args:
        means: m, shape (K, d).
        covariances: C as (K, d, d) matrices, (K, d) diagonals, (K,) or one scalar variance; positive semi-definite.
        weights: π, shape (K,), positive, normalised here; equal when None.
    Raises:
        ValueError: if shapes disagree, a weight is not positive or a covariance has a negative eigenvalue.
    """

    def __init__(self, means: Tensor, covariances: Tensor | float, weights: Tensor | None = None) -> None:
        if means.ndim != 2:
            raise ValueError(f"means must have shape (K, d), got {tuple(means.shape)}")
        self.means = means.double()
        self.weights = _checked_weights(weights, len(means), means.device)
        self._values, self._vectors = _eigen(covariances, self.means)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n data points, shape (n, d), float64."""
        device = self.means.device
        component = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, self.means.shape[1], dtype=torch.float64, device=device, generator=generator)
        noise = noise * self._values[component].sqrt()
        if self._vectors is not None:
            for k, vectors in enumerate(self._vectors):
                chosen = component == k
                noise[chosen] = noise[chosen] @ vectors.mT
        return self.means[component] + noise

    def log_prob(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Log density at height t, shape (B,): p_t(x) = ∫ 2φ(g) Σ_k π_k N(x; m_k, C_k + (t/g)² I) dg.

        Args:
            x: points, shape (B, d).
            t: heights, shape (B,) or a number: all positive, or the number 0 for the density of the data.
        Raises:
            ValueError: if shapes disagree, t < 0, or t = 0 with a singular covariance.
        """
        squared, _ = self._project(x)
        if isinstance(t, int | float) and t == 0:
            if not bool((self._values > 0).all()):
                raise ValueError("the data have no density at t = 0: a covariance is singular; use t > 0")
            zero = torch.zeros(1, dtype=torch.float64, device=x.device)
            return torch.logsumexp(self._log_components(squared, zero)[..., 0], dim=1).to(x.dtype)
        return torch.logsumexp(self._log_integrand(squared, _heights(t, x))[0].flatten(1), dim=1).to(x.dtype)

    def mean_source(self, x: Tensor, t: Tensor | float) -> Tensor:
        r"""Posterior mean of the data at (x, t), shape (B, d): ȳ = E[m_k + C_k (C_k + s² I)^{−1} (x − m_k)] over (k, s).

        Args:
            x: points, shape (B, d).
            t: heights, shape (B,) or a number, positive.
        Raises:
            ValueError: if shapes disagree or some t ≤ 0.
        """
        squared, projected = self._project(x)
        log_integrand, s_squared = self._log_integrand(squared, _heights(t, x))
        posterior = torch.softmax(log_integrand.flatten(1), dim=1).view_as(log_integrand)  # (B, K, nodes)
        y_bar = posterior.sum(2) @ self.means
        for k, values in enumerate(self._values):
            shrink = values / (values + s_squared[:, None])  # (nodes, d)
            step = (posterior[:, k] @ shrink) * projected[:, k]
            y_bar = y_bar + (step if self._vectors is None else step @ self._vectors[k].mT)
        return y_bar.to(x.dtype)

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x − m_k in the eigenbasis of C_k, squared and plain, each (B, K, d)."""
        _check_points(x, self.means.shape[1])
        relative = x.double()[:, None] - self.means
        if self._vectors is not None:
            relative = torch.einsum("bkd,kde->bke", relative, self._vectors)
        return relative.square(), relative

    def _log_components(self, squared: Tensor, s_squared: Tensor) -> Tensor:
        """log π_k N(x; m_k, C_k + s² I), shape (B, K, nodes)."""
        d = self.means.shape[1]
        terms = []
        for k, values in enumerate(self._values):
            variance = values[:, None] + s_squared  # (d, nodes)
            terms.append(self.weights[k].log() - 0.5 * (squared[:, k] @ variance.reciprocal() + variance.log().sum(0)))
        return torch.stack(terms, dim=1) - 0.5 * d * math.log(2.0 * math.pi)

    def _log_integrand(self, squared: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Log of the trapezoid terms in log s, shape (B, K, nodes), and s², shape (nodes,): dg = (t/s) d log s."""
        log_s, step = self._nodes(squared, t)
        log_g = t.log()[:, None] - log_s
        log_half_normal = 0.5 * math.log(2.0 / math.pi) - 0.5 * (2.0 * log_g).exp() + log_g + math.log(step)
        s_squared = (2.0 * log_s).exp()
        return self._log_components(squared, s_squared) + log_half_normal[:, None], s_squared

    def _nodes(self, squared: Tensor, t: Tensor) -> tuple[Tensor, float]:
        """One grid of log s for the batch, and its step.

        The integrand peaks where t²/s² + r² s²/(λ + s²)² = 1 + d s²/(λ + s²), so g = t/s stays below about √(d+1) and s
        below the larger of t, √λ and r; beyond, it falls like s^{−(d+1)} in log s.
        """
        d = self.means.shape[1]
        radius_squared = squared.detach().sum(2).amin(1).max().item()
        largest = max(t.max().item() ** 2, self._values.max().item(), radius_squared)
        low = math.log(t.min().item()) - math.log(math.sqrt(d + 1.0) + math.sqrt(2.0 * LOG_NEGLIGIBLE))
        high = 0.5 * math.log(largest) + LOG_NEGLIGIBLE / (d + 1) + 1.0
        step = min(0.15, 0.6 / math.sqrt(2.0 * (d + 1)))
        log_s = torch.arange(low, high + step, step, dtype=torch.float64, device=squared.device)
        return log_s, step


def _checked_weights(weights: Tensor | None, count: int, device: torch.device) -> Tensor:
    """Weights that sum to one, float64, or a ValueError."""
    if weights is None:
        return torch.full((count,), 1.0 / count, dtype=torch.float64, device=device)
    if weights.shape != (count,) or not bool((weights > 0).all()):
        raise ValueError(f"weights must be {count} positive numbers, got {weights.tolist()}")
    return weights.double() / weights.double().sum()


def _check_points(x: Tensor, d: int) -> None:
    if x.ndim != 2 or x.shape[1] != d:
        raise ValueError(f"x must have shape (B, {d}), got {tuple(x.shape)}")


def _heights(t: Tensor | float, x: Tensor) -> Tensor:
    """Heights as float64 of shape (B,), positive."""
    heights = torch.as_tensor(t, dtype=torch.float64, device=x.device)
    if heights.shape not in ((), (1,), (len(x),)):
        raise ValueError(f"t must have shape ({len(x)},) or be a number, got shape {tuple(heights.shape)}")
    if not bool((heights > 0).all()):
        raise ValueError(f"every height t must be positive, the smallest is {heights.min().item()}")
    return heights.expand(len(x))


def _eigen(covariances: Tensor | float, means: Tensor) -> tuple[Tensor, Tensor | None]:
    """Eigenvalues (K, d) and eigenvectors (K, d, d), None for diagonal covariances."""
    count, d = means.shape
    given = torch.as_tensor(covariances, dtype=torch.float64, device=means.device)
    vectors = None
    if given.ndim == 3 and given.shape == (count, d, d):
        if not torch.allclose(given, given.mT, rtol=1e-8, atol=0.0):
            raise ValueError("covariances must be symmetric matrices: use (C + C.mT) / 2")
        values, vectors = torch.linalg.eigh(given)
        rounding = 1e-12 * values.amax(1, keepdim=True).clamp(min=0.0)
        values = torch.where(values.abs() <= rounding, 0.0, values)
    elif given.ndim == 2 and given.shape == (count, d):
        values = given
    elif given.ndim == 0 or given.shape == (count,):
        values = given.expand(count)[:, None].expand(count, d)
    else:
        raise ValueError(
            f"covariances must have shape ({count}, {d}, {d}), ({count}, {d}), ({count},) or (), got {tuple(given.shape)}"
        )
    if not bool((values >= 0).all()):
        raise ValueError(f"covariances must be positive semi-definite, the smallest eigenvalue is {values.min().item()}")
    return values, vectors


def _sine_power_integral(theta: Tensor, d: int) -> Tensor:
    """F_d(θ) = ∫_0^θ sin^{d−1} for θ in [0, π], through the incomplete beta function."""
    angle = theta.detach().cpu().numpy()
    half = 0.5 * special.beta(0.5 * d, 0.5)
    lower = half * special.betainc(0.5 * d, 0.5, np.square(np.sin(angle)))
    return torch.from_numpy(np.where(angle <= 0.5 * np.pi, lower, 2.0 * half - lower)).to(theta.device)
