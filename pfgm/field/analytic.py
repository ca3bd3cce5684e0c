r"""Data whose field is known exactly, for any number n of extra dimensions: charges at points, and mixtures of Gaussians.

A Poisson kernel at height t is a Gaussian of random width: with g half-normal, x − y ~ N(0, (t/g)² I). With n extra
dimensions g = χ_n/√n, of density f(g) = 2 (n/2)^{n/2}/Γ(n/2) · g^{n−1} e^{−n g²/2}, and n = ∞ is g = 1. So for a Gaussian
mixture the law at height t is one integral over the width s = t/g,
p_t(x) = ∫_0^∞ f(g) Σ_k π_k N(x; m_k, C_k + s² I) dg, and the mean source is the posterior mean of the data under the
same integral. The trapezoid rule in log s, with a step that follows the integrand's width (about 1/√(2(d+n))), converges
exponentially. All functions are differentiable in x, work in float64 inside and return the dtype of x. They need no
training, so they test samplers, likelihoods and networks against the truth.

Sources: PFGM (arXiv 2209.11178), the Poisson field, and PFGM++ (arXiv 2302.04265), its n-dimensional form; the width integral
is the scale-mixture form of the Student-t law.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import special
from torch import Tensor

LOG_NEGLIGIBLE = 45.0  # nodes whose log integrand lies further below the peak are left out: e^−45 ≈ 3e-20


class PointCharges:
    r"""K point charges on the plane t = 0, with weights p_k that sum to one.

    Args:
        locations: shape (K, d).
        weights: shape (K,), positive, normalised here; equal when None.
        n_aug: number n of extra dimensions, in (0, ∞]; 1 is PFGM.
    Raises:
        ValueError: if shapes disagree, or a weight or n_aug is not positive.
    """

    def __init__(self, locations: Tensor, weights: Tensor | None = None, n_aug: float = 1.0) -> None:
        _check_n_aug(n_aug)
        self.n_aug = float(n_aug)
        if locations.ndim != 2:
            raise ValueError(f"locations must have shape (K, d), got {tuple(locations.shape)}")
        self.locations = locations.double()
        self.weights = _checked_weights(weights, len(locations), locations.device)

    def mean_source(self, x: Tensor, t: Tensor | float) -> Tensor:
        """ȳ = Σ_k w_k y_k, w_k ∝ p_k (‖x − y_k‖² + n t²)^{−(d+n)/2}, (B, d), for x (B, d), positive t (B,) or a number."""
        return (torch.softmax(self._logits(x, t), dim=1) @ self.locations).to(x.dtype)

    def log_prob(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Log density at height t, shape (B,): the kernels of the charges, for n = 1 Σ_k p_k 2t / (S_{d+1} ρ_k^{d+1})."""
        d, n, log_t = self.locations.shape[1], self.n_aug, _heights(t, x).log()
        constant = -0.5 * d * math.log(2.0 * math.pi)
        if not math.isinf(n):  # betaln keeps the digits that log Γ((d+n)/2) − log Γ(n/2) loses at large n
            constant = float(special.gammaln(0.5 * d) - special.betaln(0.5 * d, 0.5 * n)) - 0.5 * d * math.log(math.pi * n)
        return (torch.logsumexp(self._logits(x, t), dim=1) - d * log_t + constant).to(x.dtype)

    def line_invariant(self, x: Tensor, t: Tensor | float) -> Tensor:
        r"""Return what a line of collinear charges keeps: Σ_k p_k F_d(θ_k), F_d(θ) = ∫_0^θ sin^{d−1}, shape (B,), float64.

        θ_k = atan2(√(‖x_⊥‖² + t²), x_∥ − y_k) is the angle at charge k between the line of charges and (x, t).

        Raises:
            ValueError: if the charges do not lie on one line, or n is not 1.
        """
        if self.n_aug != 1:
            raise ValueError(f"line_invariant is known for n_aug = 1, got {self.n_aug:g}; use PointCharges(locations, weights)")
        origin, axis = self._line()
        relative = x.double() - origin
        along = relative @ axis
        across = torch.hypot(torch.linalg.vector_norm(relative - along[:, None] * axis, dim=1), _heights(t, x))
        position = (self.locations - origin) @ axis
        theta = torch.atan2(across[:, None], along[:, None] - position)
        return _sine_power_integral(theta, self.locations.shape[1]) @ self.weights

    def _logits(self, x: Tensor, t: Tensor | float) -> Tensor:
        """log p_k − (d+n)/2 · log(1 + ‖x − y_k‖²/(n t²)), shape (B, K); its limit −‖x − y_k‖²/(2t²) at n = ∞."""
        d, n = self.locations.shape[1], self.n_aug
        _check_points(x, d)
        squared = _squared_distances(x.double(), self.locations)
        ratio = squared / _heights(t, x).square()[:, None]
        return self.weights.log() - (0.5 * ratio if math.isinf(n) else 0.5 * (d + n) * torch.log1p(ratio / n))

    def _line(self) -> tuple[Tensor, Tensor]:
        """A point of the line of charges and its unit direction."""
        origin = self.locations.mean(0)
        _, size, directions = torch.linalg.svd(self.locations - origin, full_matrices=False)
        if len(size) > 1 and bool(size[1] > 1e-10 * size[0]):
            raise ValueError(f"line_invariant needs charges on one line, these leave it by {size[1].item():.3g}")
        return origin, directions[0]


class _SquaredDistances(torch.autograd.Function):
    """‖x − y_k‖², shape (B, K), by differences, which are exact near a charge; (B, K, d) is never in memory.

    The gradient is by products, for that of `torch.cdist` makes differences of all pairs at once on a GPU.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        """Return the squared distances of points x (B, d) from charges y (K, d)."""
        ctx.save_for_backward(x, y)
        return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """2 Σ_k g_k (x − y_k), for x alone."""
        (g,), (x, y) = gradients, ctx.saved_tensors
        centre = y.mean(0)  # smaller numbers, smaller rounding
        return 2.0 * (g.sum(1, keepdim=True) * (x - centre) - g @ (y - centre)), None


_squared_distances: Callable[[Tensor, Tensor], Tensor] = _SquaredDistances.apply


class GaussianMixture:
    r"""Data from Σ_k π_k N(m_k, C_k), whose law, mean source and likelihood at every height are one quadrature.

    Args:
        means: m, shape (K, d).
        covariances: C as (K, d, d) matrices, (K, d) diagonals, (K,) or one scalar variance; positive semi-definite.
        weights: π, shape (K,), positive, normalised here; equal when None.
        n_aug: number n of extra dimensions, in (0, ∞]; 1 is PFGM.
    Raises:
        ValueError: if shapes disagree, a weight or n_aug is not positive or a covariance has a negative eigenvalue.
    """

    def __init__(self, means: Tensor, covariances: Tensor | float, weights: Tensor | None = None, n_aug: float = 1.0) -> None:
        _check_n_aug(n_aug)
        self.n_aug = float(n_aug)
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
        """Log density at height t, shape (B,): p_t(x) = ∫ f(g) Σ_k π_k N(x; m_k, C_k + (t/g)² I) dg.

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
        n = self.n_aug
        if math.isinf(n):  # s = t: one node for every height of the batch, and no weight at those of others
            s = t if t.requires_grad else t.unique()  # a gradient belongs to the height of its own point
            mine = torch.eye(len(t), dtype=torch.bool, device=t.device) if t.requires_grad else t[:, None] == s
            log_width = torch.where(mine, 0.0, -math.inf)
        else:
            log_s, step = self._nodes(squared, t)
            log_g, s = t.log()[:, None] - log_s, log_s.exp()
            constant = math.log(2.0 * step) + 0.5 * n * math.log(0.5 * n) - float(special.gammaln(0.5 * n))
            log_width = constant + n * (log_g - 0.5 * (2.0 * log_g).exp())
        return self._log_components(squared, s.square()) + log_width[:, None], s.square()

    def _nodes(self, squared: Tensor, t: Tensor) -> tuple[Tensor, float]:
        """One grid of log s for the batch, and its step.

        The log integrand of a component with eigenvalues λ_i, seen from r_i, has the slope
        n t²/s² + Σ r_i² s²/(λ_i + s²)² − n − Σ s²/(λ_i + s²) in log s. Below s² = n t²/(n+d) that is positive, and
        exceeds (n+d)(e^{2w} − 1) a distance w further down; above t² + r²/n it is less than −n(1 − e^{−2w}), and once s
        exceeds t, √λ and r as well it falls like −(n+d). What lies LOG_NEGLIGIBLE below the peak is left out.
        """
        d, n = self.means.shape[1], self.n_aug
        r_squared = (
            squared.detach().sum(2).nan_to_num(0.0, 0.0).max().item()
        )  # of the farthest component: a wide one may outweigh a near one
        t_low, t_high = t.min().item(), t.max().item()
        low = math.log(t_low) - 0.5 * math.log1p(d / n) - math.sqrt(LOG_NEGLIGIBLE / (n + d))
        beyond = 0.5 * math.log(t_high**2 + r_squared / n) + LOG_NEGLIGIBLE / n + math.sqrt(LOG_NEGLIGIBLE / n)
        everything = 0.5 * math.log(max(t_high**2, self._values.max().item(), r_squared)) + LOG_NEGLIGIBLE / (n + d) + 1.0
        step = min(0.15, 0.6 / math.sqrt(2.0 * (d + n)))
        log_s = torch.arange(low, min(beyond, everything) + step, step, dtype=torch.float64, device=squared.device)
        return log_s, step


def _check_n_aug(n_aug: float) -> None:
    if not n_aug > 0:
        raise ValueError(f"n_aug must be positive, got {n_aug}: 1 is PFGM, math.inf a Gaussian kernel")


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
