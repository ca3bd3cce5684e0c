r"""The law of x on the plane t = T, from which a Poisson flow starts.

Seen from far away the data are one charge, and the field lines through the plane t = T are spread as the Poisson kernel
p(x) = 2T / (S_{d+1} (‖x‖² + T²)^{(d+1)/2}): heavy-tailed, each coordinate Cauchy(0, T), the mean radius infinite. With
``n_aug`` extra dimensions (PFGM++) the law is ∝ (‖x‖² + r²)^{−(d+n_aug)/2}, r² = n_aug T², and N(0, T² I) for
``n_aug = inf``. In every case R²/(R² + r²) ~ Beta(d/2, n_aug/2), and quantiles use both this ratio and its complement,
each from the inverse that keeps its leading digits, so neither tail is lost. A truncated prior rescales the quantile: no
point mass at the edge. *Latents* (`pfgm.prior.latent`) are law-free, a direction and a quantile, so that one latent is
comparable across T, truncation and n_aug; quantiles and tails below 1e-100 go by their logarithms (`pfgm.prior.tails`), for
encoded points lie wherever the field sends them.

Sources: PFGM (arXiv 2209.11178), the prior; PFGM++ (arXiv 2302.04265), its n_aug-dimensional form.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy import special
from torch import Tensor
from torch.distributions import Distribution, constraints

from pfgm.mistakes import Mistake
from pfgm.prior.latent import Latents, check_latents, make_latents
from pfgm.prior.tails import RadiusTails

Array = np.ndarray

FAR = 1e-100
"""Quantiles and tails below this are known by their normal score: no drawn latent has one, encoded points may."""
EDGE = 1e-9
"""A point this much beyond a truncated law's radius, relatively, lies on its edge."""
ROUNDINGS = 4.0
"""A point is on the edge of a truncated prior, not beyond it, up to this many roundings of its dtype."""


class PoissonPrior(Distribution):
    r"""p(x) ∝ (‖x‖² + n_aug T²)^{−(d+n_aug)/2} on R^d, inside ‖x‖ ≤ max_radius when that is given.

    Args:
        dim: dimension d of the data.
        T: height of the starting plane, positive, in data units.
        max_radius: largest radius kept, or None for the whole law.
        n_aug: number of extra dimensions, in (0, ∞]; 1 is PFGM, ∞ a Gaussian of standard deviation T.
    Raises:
        ValueError: if an argument is not positive, or the truncated law has no representable mass.
    Source: PFGM (arXiv 2209.11178), the prior on the plane z = z_max; PFGM++ (arXiv 2302.04265).
    """

    arg_constraints = {}  # noqa: RUF012 - torch's own declaration
    support = constraints.real_vector

    def __init__(self, dim: int, T: float, max_radius: float | None = None, n_aug: float = 1.0) -> None:
        if dim < 1:
            raise ValueError(f"dim must be at least 1, got {dim}")
        if not 0 < T < math.inf:
            raise ValueError(f"T must be a positive finite height, got {T}")
        if not n_aug > 0:
            raise ValueError(f"n_aug must be positive, got {n_aug}: 1 is PFGM, math.inf a Gaussian")
        if max_radius is not None and not max_radius > 0:
            raise Mistake("max_radius_ratio", f"R/T must be positive, got {max_radius / T:g}; give a larger one, or use None")
        self.dim, self.T, self.n_aug = dim, float(T), float(n_aug)
        self.max_radius = math.inf if max_radius is None else float(max_radius)
        self._kept, self._truncated = 1.0, 0.0
        if math.isfinite(self.max_radius):
            self._kept = float(self._full_cdf(np.asarray(self.max_radius)))
            self._truncated = float(self._full_sf(np.asarray(self.max_radius)))
        if self._kept < 1e-300:
            median = float(PoissonPrior(dim, T, n_aug=n_aug).radius_icdf(0.5)) / T
            raise Mistake(
                "max_radius_ratio",
                f"R/T = {self.max_radius / T:.3g} keeps no mass at d = {dim}, where half of it lies beyond"
                f" {median:.3g}; use about that, or more",
            )
        super().__init__(batch_shape=torch.Size(), event_shape=torch.Size([dim]), validate_args=False)

    @property
    def truncated_mass(self) -> float:
        """Mass of the untruncated law that truncation removes: P(R > max_radius)."""
        return self._truncated

    def sample(
        self, sample_shape: torch.Size | list[int] | tuple[int, ...] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws x = R ω, ω uniform on the sphere and R by inverse CDF, shape (*sample_shape, d), float64.

        The draws are made on the CPU, so ``generator`` must be one of the CPU.
        """
        shape = torch.Size(sample_shape)
        direction = torch.randn((*shape, self.dim), dtype=torch.float64, generator=generator)
        quantile = torch.rand(shape, dtype=torch.float64, generator=generator)
        return self.from_latent(direction / torch.linalg.vector_norm(direction, dim=-1, keepdim=True), quantile)

    def from_latent(
        self, direction: Tensor, quantile: Tensor, tail: Tensor | None = None, score: Tensor | None = None
    ) -> Tensor:
        """The point of a latent: x = R ω with R = icdf(q).

        Args:
            direction: unit vectors ω, shape (n, d).
            quantile: q in [0, 1], shape (n,).
            tail: 1 − q without its cancellation, shape (n,).
            score: Φ⁻¹(q), shape (n,), read where q or 1 − q are below `FAR`.
        Returns:
            x, shape (n, d), float64.
        """
        q = quantile.detach().cpu().double().numpy()
        upper = 1.0 - q if tail is None else tail.detach().cpu().double().numpy()
        radius = self._icdf(q, upper)
        if score is not None:
            radius = self._far_radius(q, upper, score.detach().cpu().double().numpy(), radius)
        return torch.from_numpy(np.asarray(radius)).to(direction.device)[..., None] * direction.double()

    def to_latent(self, x: Tensor) -> Latents:
        """The latent of each point: its direction, and its radius as a quantile of this law; inverse of `from_latent`.

        Args:
            x: points, shape (n, d); the centre gets the first axis as its direction.
        Returns:
            Latents on x's device, NaN where x is.
        Raises:
            ValueError: another dimension, or points beyond the radius of a truncated prior.
        """
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(f"x has shape {tuple(x.shape)}, this prior needs (n, {self.dim}): flatten the data")
        radius = torch.linalg.vector_norm(x.detach().double(), dim=1)
        self.refuse_outside(radius, ROUNDINGS * torch.finfo(x.dtype).eps)
        first = torch.zeros_like(x, dtype=torch.float64)
        first[:, 0] = 1.0
        direction = torch.where(radius[:, None] == 0, first, x.detach().double() / radius[:, None])
        made = make_latents(direction, self.radius_cdf(radius), self.radius_sf(radius))
        return made._replace(score=self._far_score(radius, made.score))

    def refuse_outside(self, radius: Tensor, slack: float = 0.0) -> None:
        """Raise a ValueError where radii (n,) lie farther beyond a truncated law's than the share ``slack`` of it."""
        beyond = radius > self.max_radius * (1.0 + slack)
        if bool(beyond.any()):
            factor = 1.01 * float(radius[beyond].max()) / self.max_radius
            raise ValueError(
                f"{int(beyond.sum())} of {len(radius)} points lie beyond the truncated prior's radius {self.max_radius:.4g}:"
                f" make max_radius_ratio at least {factor:.3g} times as large, or give none"
            )

    def log_prob(self, value: Tensor) -> Tensor:
        r"""log p(x) = log Γ((d+n)/2) − log Γ(n/2) − (d/2) log(π r²) − (d+n)/2 · log(1 + ‖x‖²/r²), n = n_aug.

        Args:
            value: points x, shape (..., d).
        Returns:
            log p, shape (...), in the dtype of ``value``; −∞ outside a truncated prior.
        Raises:
            ValueError: if the last dimension is not d.
        """
        if value.shape[-1] != self.dim:
            raise ValueError(f"x has {value.shape[-1]} coordinates, this prior {self.dim}: flatten the data to (n, {self.dim})")
        squared = value.double().square().sum(-1)
        d, n = self.dim, self.n_aug
        if math.isinf(n):
            log_p = -0.5 * squared / self.T**2 - 0.5 * d * math.log(2.0 * math.pi * self.T**2)
        else:
            # betaln keeps the digits that log Γ((d+n)/2) − log Γ(n/2) loses at large n.
            constant = special.gammaln(0.5 * d) - special.betaln(0.5 * d, 0.5 * n)
            log_p = -0.5 * (d + n) * torch.log1p(squared / (n * self.T**2))
            log_p = log_p + float(constant) - 0.5 * d * math.log(math.pi * n * self.T**2)
        log_p = log_p - math.log(self._kept)
        inside = squared <= (self.max_radius * (1.0 + EDGE)) ** 2
        return torch.where(inside, log_p, -math.inf).to(value.dtype)

    def radius_cdf(self, r: Tensor | float) -> Tensor:
        """P(R ≤ r) of this (truncated) law, float64."""
        return _map(lambda a: np.minimum(self._full_cdf(a) / self._kept, 1.0), r)

    def radius_sf(self, r: Tensor | float) -> Tensor:
        """P(R > r) of this (truncated) law, float64, accurate in the far tail."""
        return _map(lambda a: np.maximum(self._full_sf(a) - self._truncated, 0.0) / self._kept, r)

    def radius_icdf(self, q: Tensor | float) -> Tensor:
        """The radius below which the fraction q of this (truncated) law lies, float64.

        Raises:
            ValueError: if some q is outside [0, 1].
        """
        return _map(lambda a: self._icdf(a, 1.0 - a), q)

    def _icdf(self, q: Array, tail: Array) -> Array:
        """Radius of the quantile q, whose tail is 1 − q."""
        if not bool(np.all((q >= 0) & (q <= 1))):
            raise ValueError(f"quantiles must lie in [0, 1], got values from {q.min()} to {q.max()}")
        lower = q * self._kept
        upper = self._truncated + tail * self._kept  # 1 − lower, without its cancellation
        low = lower < 0.5
        a, b = 0.5 * self.dim, 0.5 * self.n_aug
        if math.isinf(self.n_aug):
            half = np.where(low, special.gammaincinv(a, np.where(low, lower, 0.5)), special.gammainccinv(a, upper))
            radius = self.T * np.sqrt(2.0 * half)
        else:
            p, c = np.where(low, lower, 0.5), np.where(low, 0.5, upper)
            ratio = np.where(low, special.betaincinv(a, b, p), special.betainccinv(a, b, c))  # R²/(R² + r²)
            rest = np.where(low, special.betainccinv(b, a, p), special.betaincinv(b, a, c))  # r²/(R² + r²)
            with np.errstate(divide="ignore"):  # q = 1 is the infinite radius
                radius = self.T * np.sqrt(self.n_aug) * np.sqrt(ratio / rest)
        within: Array = np.minimum(radius, self.max_radius)
        return within

    def _far_radius(self, q: Array, tail: Array, score: Array, radius: Array) -> Array:
        """``radius``, but from finite normal scores where q, or the mass beyond, is below `FAR`."""
        tails, log_kept, known = RadiusTails(self.dim, self.T, self.n_aug), math.log(self._kept), np.isfinite(score)
        low, high = known & (q < FAR), known & (self._truncated + tail * self._kept < FAR)
        radius = radius.copy()
        radius[low] = tails.inverse(special.log_ndtr(score[low]) + log_kept, upper=False)
        radius[high] = tails.inverse(special.log_ndtr(-score[high]) + log_kept, upper=True)
        within: Array = np.minimum(radius, self.max_radius)
        return within

    def _far_score(self, radius: Tensor, score: Tensor) -> Tensor:
        """``score`` (n,), but from logarithms where the radius (n,) is so far in or out that its mass is below `FAR`."""
        r = radius.cpu().numpy()
        tails, log_kept, found = RadiusTails(self.dim, self.T, self.n_aug), math.log(self._kept), score.cpu().numpy().copy()
        low, high = (self._full_cdf(r) < FAR * self._kept) & (r > 0), self._full_sf(r) < FAR
        found[low] = special.ndtri_exp(tails.log_mass(r[low], upper=False) - log_kept)
        found[high] = -special.ndtri_exp(tails.log_mass(r[high], upper=True) - log_kept)
        return torch.from_numpy(found).to(score.device)

    def _full_cdf(self, r: Array) -> Array:
        """P(R ≤ r) of the untruncated law."""
        a, b = 0.5 * self.dim, 0.5 * self.n_aug
        if math.isinf(b):
            mass: Array = special.gammainc(a, 0.5 * np.square(r / self.T))
        else:
            ratio, rest = self._ratios(r)
            mass = np.where(ratio < rest, special.betainc(a, b, ratio), special.betaincc(b, a, rest))
        return mass

    def _full_sf(self, r: Array) -> Array:
        """P(R > r) of the untruncated law."""
        a, b = 0.5 * self.dim, 0.5 * self.n_aug
        if math.isinf(b):
            mass: Array = special.gammaincc(a, 0.5 * np.square(r / self.T))
        else:
            ratio, rest = self._ratios(r)
            mass = np.where(ratio < rest, special.betaincc(a, b, ratio), special.betainc(b, a, rest))
        return mass

    def _ratios(self, r: Array) -> tuple[Array, Array]:
        """R²/(R² + r²) and its complement, each accurate where it is small."""
        with np.errstate(divide="ignore"):
            squared = np.square(r / (self.T * math.sqrt(self.n_aug)))
            return 1.0 / (1.0 + 1.0 / squared), 1.0 / (1.0 + squared)


def _map(function: Callable[[Array], Array], value: Tensor | float) -> Tensor:
    """Apply a float64 numpy function to a tensor or a number; the result is float64 on the tensor's device."""
    tensor = torch.as_tensor(value, dtype=torch.float64)
    array = np.asarray(function(tensor.detach().cpu().numpy()), dtype=np.float64)
    return torch.from_numpy(array.copy()).to(tensor.device)


def with_temperature(latents: Latents, temperature: float, prior: PoissonPrior) -> Latents:
    """The latents whose starting points are ``temperature`` times as far out: x_T ← temperature · x_T.

    Args:
        prior: the law at the top, `pfgm.process.base.Process.prior`; the same point has another quantile in another law.
    Raises:
        ValueError: a temperature that is not positive, another dimension, or points beyond a truncated prior.
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be a positive number, got {temperature}; 1 changes nothing")
    check_latents(latents, prior.dim)
    if temperature == 1:
        return latents
    moved = prior.to_latent(temperature * prior.from_latent(*latents))
    return moved._replace(direction=latents.direction)
