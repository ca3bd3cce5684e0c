"""Oracles: charges and Gaussian mixtures against quadrature, sampled data, limits and each other."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from pfgm.field.analytic import GaussianMixture, PointCharges
from pfgm.field.empirical import log_weights
from pfgm.prior.law import PoissonPrior


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal float64 numbers."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def mixture(d: int, kind: str) -> GaussianMixture:
    """Two components with unequal weights; covariances as matrices, diagonals or one number."""
    factor = normal(2, d, d, seed=2) / math.sqrt(d)
    covariances = {
        "full": factor @ factor.mT + 0.1 * torch.eye(d, dtype=torch.float64),
        "diagonal": 0.1 + normal(2, d, seed=3).square(),
        "scalar": torch.tensor(0.3),
    }[kind]
    return GaussianMixture(2 * normal(2, d, seed=1), covariances, torch.tensor([1.0, 3.0]))


def test_one_charge_at_the_origin_has_the_priors_density() -> None:
    """p_t of one charge is the Poisson kernel of the prior at T = t, and its mean source is the charge."""
    for d in (1, 64, 3072):
        x = normal(4, d) * 2
        charge = PointCharges(torch.zeros(1, d))
        torch.testing.assert_close(charge.log_prob(x, 1.5), PoissonPrior(d, 1.5).log_prob(x), rtol=0.0, atol=1e-9 * d)
        assert not charge.mean_source(x, 1.5).any()


def test_weighted_charges() -> None:
    """A charge of weight 2/3 equals two charges of weight 1/3 at one place."""
    places, x = normal(2, 3), normal(5, 3, seed=1)
    weighted, repeated = PointCharges(places, torch.tensor([2.0, 1.0])), PointCharges(places[[0, 0, 1]])
    torch.testing.assert_close(weighted.mean_source(x, 0.7), repeated.mean_source(x, 0.7))
    torch.testing.assert_close(weighted.log_prob(x, 0.7), repeated.log_prob(x, 0.7))


def test_line_invariant_needs_a_line() -> None:
    """Charges off a line are refused; one charge is on every line."""
    with pytest.raises(ValueError, match="on one line"):
        PointCharges(normal(3, 2)).line_invariant(normal(1, 2), 1.0)
    assert PointCharges(normal(1, 2)).line_invariant(normal(4, 2), 1.0).shape == (4,)


def quadrature(gm: GaussianMixture, x: Tensor, t: float) -> tuple[float, np.ndarray]:
    """p_t(x) and the mean source by scipy's adaptive quadrature over the half-normal g, for full covariances."""
    vectors, values = gm._vectors, gm._values
    assert vectors is not None
    covariances = (vectors * values[:, None]) @ vectors.mT
    d = x.shape[0]

    def terms(g: float) -> np.ndarray:
        out = np.zeros(d + 1)
        for weight, mean, C in zip(gm.weights.numpy(), gm.means.numpy(), covariances.numpy(), strict=True):
            widened = C + (t / g) ** 2 * np.eye(d)
            density = 2 * stats.norm.pdf(g) * weight * stats.multivariate_normal.pdf(x.numpy(), mean, widened)
            out[0] += density
            out[1:] += density * (mean + C @ np.linalg.solve(widened, x.numpy() - mean))
        return out

    total = integrate.quad_vec(terms, 0, 12, epsabs=0, epsrel=1e-11, points=[0.01, 0.1, 1.0, 4.0])[0]
    return float(total[0]), total[1:] / total[0]


@pytest.mark.parametrize(("d", "t", "far"), [(1, 0.05, 1.0), (1, 3.0, 1.0), (2, 0.5, 6.0), (3, 0.01, 1.0), (8, 2.0, 2.0)])
def test_mixture_against_adaptive_quadrature(d: int, t: float, far: float) -> None:
    """Density and mean source agree with scipy.integrate to 1e-8."""
    gm, x = mixture(d, "full"), far * normal(2, d, seed=4)
    for point in x:
        density, y_bar = quadrature(gm, point, t)
        assert gm.log_prob(point[None], t).item() == pytest.approx(math.log(density), abs=1e-8)
        np.testing.assert_allclose(gm.mean_source(point[None], t)[0], y_bar, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("d", [1, 2, 64, 3072])
def test_tiny_covariance_is_point_charges(d: int) -> None:
    """Covariance 1e-16 I (and 0): PointCharges, to 1e-8, near and far, with heights from 1e-2 to 1e3 in one batch."""
    means, weights = normal(3, d), torch.tensor([1.0, 2.0, 1.0])
    t = torch.tensor([1e-2, 0.3, 5.0, 1e3], dtype=torch.float64)
    x = means[[0, 1, 2, 0]] + normal(4, d, seed=1) * t[:, None]
    charges = PointCharges(means, weights)
    for variance in (0.0, 1e-16) if d < 100 else (1e-16,):
        gm = GaussianMixture(means, variance, weights)
        torch.testing.assert_close(gm.mean_source(x, t), charges.mean_source(x, t), rtol=0.0, atol=1e-8)
        torch.testing.assert_close(gm.log_prob(x, t), charges.log_prob(x, t), rtol=0.0, atol=1e-8)


@pytest.mark.parametrize("kind", ["full", "diagonal", "scalar"])
def test_forms_of_the_covariance_agree(kind: str) -> None:
    """A matrix, a diagonal and a number that mean the same give the same law."""
    d, gm, x = 4, mixture(4, kind), normal(5, 4, seed=6)
    vectors = torch.eye(d, dtype=torch.float64).expand(2, d, d) if gm._vectors is None else gm._vectors
    same = GaussianMixture(gm.means, (vectors * gm._values[:, None]) @ vectors.mT, gm.weights)
    torch.testing.assert_close(same.mean_source(x, 0.4), gm.mean_source(x, 0.4))
    torch.testing.assert_close(same.log_prob(x, 0.4), gm.log_prob(x, 0.4))


@pytest.mark.parametrize("d", [1, 2])
def test_mean_source_against_the_field_of_samples(d: int) -> None:
    """The field of 400,000 samples, within 4.5 standard errors; a mixture with 10 % wider components is seen to fail."""
    gm, t = mixture(d, "full"), 0.8
    assert gm._vectors is not None
    wider = GaussianMixture(gm.means, 1.1 * (gm._vectors * gm._values[:, None]) @ gm._vectors.mT, gm.weights)
    x = normal(6, d, seed=5)
    data = gm.sample(400_000, generator=torch.Generator().manual_seed(0))
    w = log_weights(x, t, data).exp()
    sampled = w @ data
    deviation = torch.stack([(w[b].square() @ (data - sampled[b]).square()).sqrt() for b in range(6)])
    assert ((sampled - gm.mean_source(x, t)) / deviation).abs().max() < 4.5
    assert ((sampled - wider.mean_source(x, t)) / deviation).abs().max() > 4.5


@pytest.mark.parametrize("kind", ["full", "diagonal"])
def test_samples_have_the_mixtures_moments(kind: str) -> None:
    """Mean and covariance of 200,000 samples, to 0.03; components' weights count (seen to fail when equal)."""
    gm = mixture(3, kind)
    data = gm.sample(200_000, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(data.mean(0), gm.weights @ gm.means, rtol=0.0, atol=0.03)
    assert (data.mean(0) - gm.means.mean(0)).abs().max() > 0.1
    vectors = torch.eye(3, dtype=torch.float64).expand(2, 3, 3) if gm._vectors is None else gm._vectors
    within = torch.einsum("k,kij->ij", gm.weights, (vectors * gm._values[:, None]) @ vectors.mT)
    centred = gm.means - gm.weights @ gm.means
    between = torch.einsum("k,ki,kj->ij", gm.weights, centred, centred)
    torch.testing.assert_close(data.T.cov(), within + between, rtol=0.0, atol=0.05)


def test_density_of_the_data_is_the_limit_of_small_heights() -> None:
    """log p_t → log p_0 as t → 0, and p_0 is scipy's mixture density."""
    gm, x = mixture(2, "full"), normal(4, 2, seed=7)
    assert gm._vectors is not None
    covariances = ((gm._vectors * gm._values[:, None]) @ gm._vectors.mT).numpy()
    pieces = [
        w * stats.multivariate_normal.pdf(x.numpy(), m, C)
        for w, m, C in zip(gm.weights.numpy(), gm.means.numpy(), covariances, strict=True)
    ]
    torch.testing.assert_close(gm.log_prob(x, 0), torch.from_numpy(np.log(sum(pieces))), rtol=0.0, atol=1e-10)
    torch.testing.assert_close(gm.log_prob(x, 1e-6), gm.log_prob(x, 0), rtol=0.0, atol=1e-4)


def test_density_follows_the_flow() -> None:
    """d log p/d log t along the flow is −div_x(x − ȳ), by automatic differentiation in x and differences in t."""
    gm, t, h = mixture(3, "full"), 0.6, 1e-4
    x = normal(4, 3, seed=8)
    offset = x - gm.mean_source(x, t)
    divergence = torch.stack(
        [torch.autograd.functional.jacobian(lambda z: z - gm.mean_source(z[None], t)[0], p).trace() for p in x]
    )
    ahead = gm.log_prob(x + h * offset, t * math.exp(h))
    behind = gm.log_prob(x - h * offset, t * math.exp(-h))
    torch.testing.assert_close((ahead - behind) / (2 * h), -divergence, rtol=1e-5, atol=1e-6)


def test_dtype_follows_the_points() -> None:
    """float32 points give float32 results."""
    gm, x = mixture(2, "diagonal"), torch.zeros(3, 2)
    assert gm.mean_source(x, 1.0).dtype == gm.log_prob(x, 1.0).dtype == torch.float32
    assert PointCharges(normal(2, 2)).log_prob(x, 1.0).dtype == torch.float32


def test_refusals() -> None:
    """Wrong shapes, weights, heights and covariances are refused."""
    means = normal(2, 3)
    with pytest.raises(ValueError, match="positive semi-definite"):
        GaussianMixture(means, -1.0)
    with pytest.raises(ValueError, match="symmetric"):
        GaussianMixture(means, normal(2, 3, 3))
    with pytest.raises(ValueError, match="covariances must have shape"):
        GaussianMixture(means, torch.ones(5, 3))
    with pytest.raises(ValueError, match="means must have shape"):
        GaussianMixture(means[0], 1.0)
    with pytest.raises(ValueError, match="locations must have shape"):
        PointCharges(means[0])
    with pytest.raises(ValueError, match="2 positive numbers"):
        PointCharges(means, torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match="no density at t = 0"):
        GaussianMixture(means, 0.0).log_prob(means, 0)
    with pytest.raises(ValueError, match="x must have shape"):
        PointCharges(means).log_prob(normal(2, 2), 1.0)
    with pytest.raises(ValueError, match="t must have shape"):
        PointCharges(means).log_prob(means, torch.ones(3))
    with pytest.raises(ValueError, match="every height t must be positive"):
        GaussianMixture(means, 1.0).mean_source(means, -1.0)
