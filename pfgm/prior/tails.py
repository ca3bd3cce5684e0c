r"""Far tails of the prior's radius, as logarithms: where P(R ≤ r) or P(R > r) are too small for a float.

In ℓ = log r the density e^g of every radius law of `pfgm.prior.law` is log-concave, so that a tail is one integral, which
starts at its largest value and falls at the rate λ = |g'(ℓ)| or faster,
log P = g(ℓ) − log λ + log ∫_0^∞ e^{−v} e^{h(v)} dv,  h(v) = g(ℓ ± v/λ) − g(ℓ) + v ≤ 0: Gauss–Laguerre quadrature of a smooth
function, accurate to rounding far out. log P is itself concave in ℓ, and a power law (Laurent and Massart's bound for the χ² of
n_aug = ∞) gives a radius on the far side of the root, from where Newton's method approaches it without overshooting.

Source: Laurent and Massart, Adaptive estimation of a quadratic functional by model selection (2000), the bound on χ².
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

Array = np.ndarray

NODES, WEIGHTS = np.polynomial.laguerre.laggauss(64)
MAX_NEWTON = 100
CONVERGED = 1e-15
"""A Newton step of log r below this is rounding."""


@dataclass(frozen=True)
class RadiusTails:
    """Tails of R = ‖x‖ for p(x) ∝ (‖x‖² + n_aug T²)^{−(d+n_aug)/2}; n_aug = ∞ is N(0, T² I).

    Args:
        dim: dimension d.
        T: height, positive.
        n_aug: extra dimensions, in (0, ∞].
    """

    dim: int
    T: float
    n_aug: float

    def log_mass(self, r: Array, *, upper: bool) -> Array:
        """log P(R > r) (``upper``) or log P(R ≤ r), for r (n,) in that tail: beyond, or below, the mode of log R."""
        return self._log_mass_and_rate(np.log(r), upper)[0]

    def inverse(self, log_mass: Array, *, upper: bool) -> Array:
        """The radii (n,) beyond (or below) which the law has these logarithms of mass (n,), well below −1."""
        log_r = self._beyond(log_mass, upper)
        for _ in range(MAX_NEWTON):
            value, rate = self._log_mass_and_rate(log_r, upper)
            step = (value - log_mass) / rate
            log_r = log_r + step if upper else log_r - step
            if not np.any(np.abs(step) > CONVERGED * np.maximum(np.abs(log_r), 1.0)):
                break
        radii: Array = np.exp(log_r)
        return radii

    def _log_mass_and_rate(self, log_r: Array, upper: bool) -> tuple[Array, Array]:
        """log P and |d log P/d log r|."""
        sign = 1.0 if upper else -1.0
        rate = -sign * self._slope(log_r)  # λ
        v = NODES[:, None]
        integral = WEIGHTS @ np.exp(self._change(log_r, sign * v / rate) + v)
        return self._log_density(log_r) - np.log(rate) + np.log(integral), rate / integral

    def _log_w(self, log_r: Array) -> Array:
        """log of R²/(n_aug T²), or of R²/(2T²) for n_aug = ∞."""
        return 2.0 * log_r - 2.0 * math.log(self.T) - math.log(2.0 if math.isinf(self.n_aug) else self.n_aug)

    def _log_density(self, log_r: Array) -> Array:
        """g: log density of log R."""
        log_w, a, b = self._log_w(log_r), 0.5 * self.dim, 0.5 * self.n_aug
        if math.isinf(b):
            density: Array = math.log(2.0) + a * log_w - np.exp(log_w) - special.gammaln(a)
        else:
            density = math.log(2.0) + a * log_w - (a + b) * np.logaddexp(0.0, log_w) - special.betaln(a, b)
        return density

    def _slope(self, log_r: Array) -> Array:
        """g'."""
        log_w = self._log_w(log_r)
        if math.isinf(self.n_aug):
            slope: Array = self.dim - 2.0 * np.exp(log_w)
        else:
            slope = self.dim * special.expit(-log_w) - self.n_aug * special.expit(log_w)
        return slope

    def _change(self, log_r: Array, u: Array) -> Array:
        """g(ℓ + u) − g(ℓ)."""
        log_w = self._log_w(log_r)
        if math.isinf(self.n_aug):
            change: Array = self.dim * u - np.exp(log_w) * np.expm1(2.0 * u)
        else:
            b = 0.5 * self.n_aug
            fall = np.logaddexp(-2.0 * u, log_w) - np.logaddexp(0.0, log_w)  # log(1 + w e^2u) − log(1 + w), less 2u
            change = -2.0 * b * u - (0.5 * self.dim + b) * fall
        return change

    def _beyond(self, log_mass: Array, upper: bool) -> Array:
        """log r at which the tail is at most as heavy."""
        a, b, scale = 0.5 * self.dim, 0.5 * self.n_aug, math.log(self.T)
        if math.isinf(b) and upper:
            x = -log_mass
            beyond: Array = scale + 0.5 * np.log(self.dim + 2.0 * np.sqrt(self.dim * x) + 2.0 * x)
        elif math.isinf(b):
            beyond = scale + 0.5 * math.log(2.0) + (log_mass + special.gammaln(a + 1.0)) / self.dim
        elif upper:
            beyond = scale + 0.5 * math.log(self.n_aug) - (log_mass + math.log(b) + special.betaln(a, b)) / self.n_aug
        else:
            beyond = scale + 0.5 * math.log(self.n_aug) + (log_mass + math.log(a) + special.betaln(a, b)) / self.dim
        return beyond
