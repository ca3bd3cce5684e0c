"""The prior on t = T: exact radius laws, quantiles in both tails, normalisation, truncation, law-free latents."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from pfgm.prior.latent import latents
from pfgm.prior.law import PoissonPrior

T = 2.5


def sampled(prior: PoissonPrior, n: int, seed: int = 0) -> torch.Tensor:
    """n points drawn from a seed."""
    return prior.sample((n,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("d", [1, 2, 64, 3072])
@pytest.mark.parametrize("n_aug", [1.0, 128.0, math.inf])
def test_radius_law(d: int, n_aug: float) -> None:
    """KS of the radii against Beta(d/2, n_aug/2), or chi; detects a 10 % error of T (5 % at d = 64; seen to fail)."""
    radius = sampled(PoissonPrior(d, T, n_aug=n_aug), 2000 if d == 3072 else 20_000).norm(dim=1).numpy()

    def p_value(height: float) -> float:
        if math.isinf(n_aug):
            return float(stats.kstest(radius / height, stats.chi(d).cdf).pvalue)
        r2 = n_aug * height**2
        return float(stats.kstest(r2 / (radius**2 + r2), stats.beta(n_aug / 2, d / 2).cdf).pvalue)

    assert p_value(T) > 1e-3
    assert p_value(T * (1.2 if d == 3072 else 1.1)) < 1e-4


@pytest.mark.parametrize("d", [1, 3, 500])
def test_every_coordinate_is_cauchy(d: int) -> None:
    """KS of a coordinate against Cauchy(0, T); detects a 10 % error of the scale (seen to fail on it)."""
    coordinate = sampled(PoissonPrior(d, T), 30_000)[:, -1].numpy()
    assert stats.kstest(coordinate, stats.cauchy(0, T).cdf).pvalue > 1e-3
    assert stats.kstest(coordinate, stats.cauchy(0, 1.1 * T).cdf).pvalue < 1e-4


Q = np.array([1e-9, 1e-3, 0.3, 0.5, 0.9, 1 - 1e-6, 1 - 1e-9])


def test_quantiles_in_closed_form() -> None:
    """d = 1: R = T tan(πq/2); d = 2: R = T √(1/(1−q)² − 1), to 1e-9 relative out to q = 1 − 1e-9."""
    p = 1 - Q
    expected = T * np.where(Q < 0.5, np.tan(np.pi * Q / 2), 1 / np.tan(np.pi * p / 2))
    np.testing.assert_allclose(PoissonPrior(1, T).radius_icdf(torch.tensor(Q)), expected, rtol=1e-9)
    expected = T * np.sqrt(Q * (2 - Q)) / p
    np.testing.assert_allclose(PoissonPrior(2, T).radius_icdf(torch.tensor(Q)), expected, rtol=1e-9)


@pytest.mark.parametrize("d", [1, 2, 64, 3072])
@pytest.mark.parametrize("n_aug", [1.0, 2.0, 2048.0, 3e6, math.inf])
def test_quantiles_invert_the_law_in_both_tails(d: int, n_aug: float) -> None:
    """cdf ∘ icdf and sf ∘ icdf are the identity to 1e-8 relative, finite at q = 1 − 1e-9 and up to n_aug = 3e6."""
    prior = PoissonPrior(d, T, n_aug=n_aug)
    radius = prior.radius_icdf(torch.tensor(Q))
    assert bool(torch.isfinite(radius).all())
    np.testing.assert_allclose(prior.radius_cdf(radius), Q, rtol=1e-8)
    np.testing.assert_allclose(prior.radius_sf(radius), 1 - Q, rtol=1e-8)


@pytest.mark.parametrize("d", [2, 64, 3072])
def test_many_extra_dimensions_approach_the_gaussian(d: int) -> None:
    """At n_aug = 3e6 quantiles are the Gaussian's to order d/n_aug, and so is log p."""
    almost, gaussian = PoissonPrior(d, T, n_aug=3e6), PoissonPrior(d, T, n_aug=math.inf)
    q = torch.tensor([1e-3, 0.5, 0.999, 1 - 1e-9])
    torch.testing.assert_close(almost.radius_icdf(q), gaussian.radius_icdf(q), rtol=2e-3, atol=0.0)
    x = sampled(gaussian, 5)
    torch.testing.assert_close(almost.log_prob(x), gaussian.log_prob(x), rtol=0.0, atol=2e-5 + 2e-6 * d * math.sqrt(d))


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("n_aug", [1.0, 5.0, math.inf])
@pytest.mark.parametrize("max_radius", [None, 3.0])
def test_density_integrates_to_one(d: int, n_aug: float, max_radius: float | None) -> None:
    """∫ p = 1 by radial quadrature to 1e-7, truncated or not."""
    prior = PoissonPrior(d, T, max_radius=max_radius, n_aug=n_aug)
    sphere = 2 * math.pi ** (d / 2) / math.gamma(d / 2)

    def radial(r: float) -> float:
        x = torch.zeros(1, d, dtype=torch.float64)
        x[0, 0] = r
        return sphere * r ** (d - 1) * math.exp(prior.log_prob(x).item())

    total = integrate.quad(radial, 0, 3.0, epsabs=1e-10)[0]
    if max_radius is None:
        total += integrate.quad(radial, 3.0, math.inf, epsabs=1e-10)[0]
    assert total == pytest.approx(1.0, abs=1e-7)


def test_density_is_the_poisson_kernel() -> None:
    """log p = log 2T − log S_{d+1} − (d+1)/2 · log(‖x‖² + T²), to 1e-9 at d = 3072."""
    for d in (1, 64, 3072):
        x = sampled(PoissonPrior(d, T), 4)
        log_area = math.log(2) + 0.5 * (d + 1) * math.log(math.pi) - math.lgamma(0.5 * (d + 1))
        expected = math.log(2 * T) - log_area - 0.5 * (d + 1) * torch.log(x.square().sum(1) + T**2)
        torch.testing.assert_close(PoissonPrior(d, T).log_prob(x), expected, rtol=0.0, atol=1e-9 * d)


@pytest.mark.parametrize("d", [1, 64])
def test_truncation_is_a_renormalised_law_without_a_point_mass(d: int) -> None:
    """KS against F(r)/F(R_max); clipping instead, a point mass at the edge, is seen to fail."""
    max_radius = T * math.sqrt(d)
    prior, whole = PoissonPrior(d, T, max_radius=max_radius), PoissonPrior(d, T)
    assert prior.truncated_mass == pytest.approx(whole.radius_sf(max_radius).item())
    radius = sampled(prior, 20_000).norm(dim=1)
    assert radius.max() <= max_radius * (1 + 1e-12)
    assert len(radius.unique()) == len(radius)

    def p_value(values: torch.Tensor) -> float:
        return float(stats.kstest(values.numpy(), lambda r: whole.radius_cdf(r).numpy() / (1 - prior.truncated_mass)).pvalue)

    assert p_value(radius) > 1e-3
    assert p_value(sampled(whole, 20_000).norm(dim=1).clamp(max=max_radius)) < 1e-6
    outside = torch.full((1, d), 2.0 * max_radius, dtype=torch.float64)
    assert prior.log_prob(outside).item() == -math.inf
    assert whole.truncated_mass == 0.0


def test_authors_clipping_fraction_depends_on_d_alone() -> None:
    """At their rule's T/R_max = √(2/(πd)) the mass beyond R_max is 49 %, 57.2 % and 57.5 % at d = 2, 64, 3072."""
    for d, expected in ((2, 0.49), (64, 0.572), (3072, 0.575)):
        prior = PoissonPrior(d, math.sqrt(2 / math.pi), max_radius=math.sqrt(d))
        assert prior.truncated_mass == pytest.approx(expected, abs=6e-3)


def test_latents_do_not_depend_on_how_many_are_drawn() -> None:
    """The first k of n latents are bit for bit the k latents; another seed gives others; directions are unit vectors."""
    few, many = latents(10, 5, seed=0), latents(1000, 5, seed=0)
    assert torch.equal(few[0], many[0][:10])
    assert torch.equal(few[1], many[1][:10])
    assert not torch.equal(few[1], latents(10, 5, seed=1)[1])
    torch.testing.assert_close(many[0].norm(dim=1), torch.ones(1000, dtype=torch.float64))
    assert few[0].dtype == few[1].dtype == torch.float64


def test_latents_give_the_prior_and_scale_with_T() -> None:
    """x = icdf(q) ω: radii follow the law (KS, detects 10 % of T; seen to fail), and doubling T doubles every x."""
    drawn = latents(20_000, 4, seed=3)
    prior = PoissonPrior(4, T)
    x = prior.from_latent(*drawn)
    torch.testing.assert_close(PoissonPrior(4, 2 * T).from_latent(*drawn), 2 * x)
    radius = x.norm(dim=1)
    assert stats.kstest(prior.radius_cdf(radius).numpy(), "uniform").pvalue > 1e-3
    assert stats.kstest(prior.radius_cdf(1.1 * radius).numpy(), "uniform").pvalue < 1e-4


def test_refusals() -> None:
    """Impossible laws, points of another dimension and quantiles outside [0, 1] are refused with the cure."""
    for settings, message in (
        ({"dim": 0, "T": 1.0}, "dim must be"),
        ({"dim": 2, "T": 0.0}, "T must be"),
        ({"dim": 2, "T": 1.0, "n_aug": 0.0}, "n_aug must be"),
        ({"dim": 2, "T": 1.0, "max_radius": -1.0}, "use None"),
        ({"dim": 3072, "T": 1.0, "max_radius": 1e-3}, "keeps no mass"),
    ):
        with pytest.raises(ValueError, match=message):
            PoissonPrior(**settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="coordinates"):
        PoissonPrior(3, 1.0).log_prob(torch.zeros(4, 2))
    with pytest.raises(ValueError, match="quantiles"):
        PoissonPrior(3, 1.0).radius_icdf(1.5)
    with pytest.raises(ValueError, match="seed >= 0"):
        latents(3, 2, seed=-1)
