"""A Gaussian process of some parameters, and what it says of each of them alone.

    y_i = f(x_i) + noise,   cov(f(x), f(x')) = C + c (Π_j (1 + a_j m_j) − 1),   m_j = m(|x_j − x'_j| / l_j)

with m the Matérn correlation of smoothness 5/2. Multiplied out, the product has a part of each parameter alone and one of every
set of them, and a parameter that does little alone (small a_j) does little together with others. Parameters lie in [0, 1].

The partial dependence of parameter j is the mean of f over all others, uniform in their range; for this kernel it is a formula.
Amplitudes, lengths and noise are not known, so the result is a mean over draws of them around the mode of their posterior
(Laplace), weighted by the posterior: with the mode alone the bands are too narrow. Bands of 95 % held 95 to 97 % of the curve
(`benchmarks/statistics/partial.py`).
Source: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), chapters 2 and 5; the product kernel is that of
smoothing-spline ANOVA (Wahba 1990; Durrande, Ginsbourger, Roustant and Carraro 2013).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.optimize import minimize

FAR = 1e3
"""Distance between two values that have nothing in common: categories, or a parameter that is inactive at one of them."""
_PRIOR = (0.0, -2.0, -1.5, math.log(0.5))
"""Means of log c, log noise variance (of standardised y), log a_j and log l_j."""
_SPREAD = (1.5, 2.0, 1.5, 0.6)
"""Their standard deviations."""
_CONSTANT = 100.0
_DRAWS, _STEP = 24, 1e-3
_INNER = (np.arange(33) + 0.5) / 33
"""Where the mean over a parameter is taken."""


class Partial(NamedTuple):
    """The partial dependence of one parameter, less its value at the reference."""

    mean: np.ndarray  # (K,)
    covariance: np.ndarray  # (K, K)


def distances(a: np.ndarray, b: np.ndarray, categorical: bool) -> np.ndarray:
    """Return the distances of values of one parameter, shape (len(a), len(b)); NaN is a parameter that is inactive."""
    gone = np.isnan(a)[:, None], np.isnan(b)[None, :]
    apart = np.abs(np.nan_to_num(a)[:, None] - np.nan_to_num(b)[None, :])
    apart = np.where(apart > 0, FAR, 0.0) if categorical else apart
    return np.where(gone[0] & gone[1], 0.0, np.where(gone[0] | gone[1], FAR, apart))


def partial_dependence(
    x: np.ndarray, y: np.ndarray, categorical: Sequence[bool], values: Sequence[np.ndarray], reference: Sequence[float]
) -> list[Partial]:
    """Return the partial dependence of every parameter.

    Args:
        x: points (n, p), each parameter in [0, 1]; categories as numbers, NaN where a parameter is inactive.
        y: one number a point (n,).
        categorical: by parameter, whether its values have no order.
        values: by parameter, where the curve is wanted.
        reference: by parameter, the value that curves are compared with.
    """
    scale = float(y.std()) or 1.0
    apart = np.stack([distances(column, column, c) for column, c in zip(x.T, categorical, strict=True)])
    drawn, weights = _posterior(_Data(apart, (y - y.mean()) / scale))
    inner = [np.unique(column[~np.isnan(column)]) if c else _INNER for column, c in zip(x.T, categorical, strict=True)]
    found = []
    for j in range(x.shape[1]):
        places = np.append(values[j], reference[j])
        parts = [_partial(_Draw(theta, apart, (y - y.mean()) / scale), x, categorical, inner, j, places) for theta in drawn]
        means, covariances = (np.stack([part[i] for part in parts]) for i in (0, 1))
        mean = weights @ means
        spread = ((means - mean) * weights[:, None]).T @ (means - mean)
        found.append(Partial(mean * scale, (np.tensordot(weights, covariances, 1) + spread) * scale**2))
    return found


class _Data(NamedTuple):
    apart: np.ndarray  # (p, n, n)
    y: np.ndarray  # (n,) standardised


class _Draw:
    """The process with given amplitudes, lengths and noise."""

    def __init__(self, theta: np.ndarray, apart: np.ndarray, y: np.ndarray) -> None:
        p = len(apart)
        self.c, self.a, self.lengths = math.exp(theta[0]), np.exp(theta[2 : 2 + p]), np.exp(theta[2 + p :])
        m = _matern(apart / self.lengths[:, None, None])
        k = _CONSTANT + self.c * ((1 + self.a[:, None, None] * m).prod(0) - 1) + math.exp(theta[1]) * np.eye(len(y))
        self.factor = cho_factor(k, lower=True)
        self.weights = cho_solve(self.factor, y)


def _partial(
    draw: _Draw, x: np.ndarray, categorical: Sequence[bool], inner: Sequence[np.ndarray], j: int, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and covariance of the partial dependence at ``places`` less that at the last of them."""
    rest, both = np.full(len(x), draw.c * draw.a[j]), draw.c * float(draw.a[j])
    for k, others in enumerate(inner):
        if k != j:
            rest *= 1 + draw.a[k] * _matern(distances(others, x[:, k], categorical[k]) / draw.lengths[k]).mean(0)
            both *= 1 + draw.a[k] * float(_matern(distances(others, others, categorical[k]) / draw.lengths[k]).mean())
    known = rest * _matern(distances(places, x[:, j], categorical[j]) / draw.lengths[j])  # what does not depend on j cancels
    prior = both * _matern(distances(places, places, categorical[j]) / draw.lengths[j])
    less = np.hstack([np.eye(len(places) - 1), -np.ones((len(places) - 1, 1))])
    known, prior = less @ known, less @ prior @ less.T
    return known @ draw.weights, prior - known @ cho_solve(draw.factor, known.T)


def _matern(r: np.ndarray) -> np.ndarray:
    u = math.sqrt(5) * r
    return np.asarray((1 + u + u * u / 3) * np.exp(-u))


def _posterior(data: _Data) -> tuple[np.ndarray, np.ndarray]:
    """Draw amplitudes, lengths and noise around their mode, (S, 2 p + 2), with their weights (S,)."""
    p = len(data.apart)
    mean, sd = (np.repeat(numbers, [1, 1, p, p]) for numbers in (_PRIOR, _SPREAD))
    starts = mean, mean + np.repeat([0.0, 2.0, 0.0, 0.0], [1, 1, p, p])
    ends = [minimize(_objective, start, (data, mean, sd), "L-BFGS-B", jac=True, options={"maxiter": 200}) for start in starts]
    mode = min(ends, key=lambda end: float(end.fun)).x
    slopes = [
        _objective(mode + step, data, mean, sd)[1] - _objective(mode - step, data, mean, sd)[1]
        for step in _STEP * np.eye(len(mode))
    ]
    curvature = np.stack(slopes) / (2 * _STEP)
    values, vectors = np.linalg.eigh((curvature + curvature.T) / 2)
    values = np.maximum(values, 1 / sd.max() ** 2)
    z = np.random.default_rng(0).standard_normal((_DRAWS // 2, len(mode)))
    z = np.vstack([z, -z])
    drawn = mode + (z / np.sqrt(values)) @ vectors.T
    log = np.array([-_objective(theta, data, mean, sd)[0] for theta in drawn]) + 0.5 * (z**2).sum(1)
    weights = np.exp(log - log.max())
    return drawn, weights / weights.sum()


def _objective(theta: np.ndarray, data: _Data, mean: np.ndarray, sd: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the negative log posterior and its gradient."""
    p = len(data.apart)
    c, noise = np.exp(theta[:2])
    a, lengths = np.exp(theta[2 : 2 + p])[:, None, None], np.exp(theta[2 + p :])[:, None, None]
    u = math.sqrt(5) * data.apart / lengths
    decay = np.exp(-u)
    m = (1 + u + u * u / 3) * decay
    product = c * (1 + a * m).prod(0)
    k = _CONSTANT + product - c + noise * np.eye(len(data.y))
    try:
        factor = cho_factor(k, lower=True)
    except LinAlgError:
        return 1e10, np.zeros_like(theta)
    inverse = cho_solve(factor, np.eye(len(data.y)))
    weights = inverse @ data.y
    outer = np.outer(weights, weights) - inverse
    slopes = u * u * (1 + u) / 3 * decay  # ∂m / ∂log l
    of_one = product / (1 + a * m) * a  # ∂k / ∂m
    gradient = [(outer * (product - c)).sum(), noise * np.trace(outer)]
    gradient += [(outer * (one * part)).sum() for parts in (m, slopes) for one, part in zip(of_one, parts, strict=True)]
    z = (theta - mean) / sd
    value = 0.5 * data.y @ weights + np.log(np.diag(factor[0])).sum() + 0.5 * (z**2).sum()
    return float(value), -0.5 * np.array(gradient) + z / sd
