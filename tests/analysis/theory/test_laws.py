"""Laws in closed form: by quadrature, to leading order, silent outside their range."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from analysis import data_moments
from analysis.theory.laws import coverage, prior_error, prior_tail
from pfgm.prior.law import PoissonPrior

pytestmark = pytest.mark.usefixtures("clean_figures")


@pytest.mark.parametrize("dim", [1, 2, 64])
def test_prior_tail_and_coverage_are_the_priors(dim: int) -> None:
    prior = PoissonPrior(dim, 2.5)
    radii = np.array([0.1, 3.0, 40.0, 1e4])
    np.testing.assert_allclose(prior_tail(radii / 2.5, dim), prior.radius_sf(torch.tensor(radii)).numpy(), rtol=1e-9)
    height = 1.7
    expected = float(prior.radius_cdf(math.sqrt(dim) * height))
    assert coverage(2.5 / height, dim) == pytest.approx(expected, rel=1e-9)


def cauchy_error(sources: np.ndarray, T: float) -> float:
    """KL(p_T‖prior) in one dimension by quadrature."""

    def integrand(u: float) -> float:
        x = T * math.tan(u)
        p = float(np.mean(stats.cauchy.pdf(x, sources, T)))
        return p * math.log(p / stats.cauchy.pdf(x, 0, T)) * T / math.cos(u) ** 2

    return float(integrate.quad(integrand, -math.pi / 2, math.pi / 2, epsabs=1e-14, epsrel=1e-10, limit=400)[0])


@pytest.mark.parametrize("sources", [[-1.0, 1.0], [0.5, 0.5], [-1.0, -1.0, 2.0]])
def test_prior_error_is_the_leading_order(sources: list[float]) -> None:
    """Detects a wrong constant of 2 %: at T = 40 the next order is about (1/40)² of the first."""
    points = np.array(sources)
    assert prior_error(40.0, data_moments(points)) == pytest.approx(cauchy_error(points, 40.0), rel=0.02)


def test_prior_error_in_two_dimensions_is_the_quadrature() -> None:
    """Anisotropic sources ±(a, 0), ±(0, b) by quadrature over the plane; detects a wrong trace term of 2 %."""
    points = np.array([[1.2, 0], [-1.2, 0], [0, 0.5], [0, -0.5]])
    T = 25.0

    def integrand(angle: float, u: float) -> float:
        r = T * math.tan(u)
        x = np.array([r * math.cos(angle), r * math.sin(angle)])
        log = -1.5 * np.log1p(np.square(x - points).sum(1) / T**2)
        h = math.log(float(np.mean(np.exp(log + 1.5 * math.log1p(r**2 / T**2)))))
        prior = T / (2 * math.pi * (r**2 + T**2) ** 1.5)
        return prior * (math.exp(h) * h - math.exp(h) + 1) * r * T / math.cos(u) ** 2  # no cancellation: both integrate to 1

    exact, _ = integrate.dblquad(integrand, 0, math.pi / 2 - 1e-9, 0, 2 * math.pi, epsabs=1e-13, epsrel=1e-5)
    assert prior_error(T, data_moments(points)) == pytest.approx(exact, rel=0.02)


def test_prior_error_is_silent_below_its_range() -> None:
    moments = data_moments(np.array([[-1.0], [1.0]]))
    assert math.isnan(prior_error(2.9, moments)) and not math.isnan(prior_error(3.1, moments))
    assert math.isnan(prior_error(10.0, moments._replace(mean_norm=4.0)))
