"""Training points: exact laws of heights and radii, the null effect of τ at fixed M ln(1+τ), the authors' rule."""

import math
import re

import numpy as np
import pytest
import torch
from scipy import special, stats

from pfgm.config import DataConfig, TrainConfig
from pfgm.data.dataset import load_data
from pfgm.process.resolve import resolve_train
from pfgm.process.training_points import perturb
from pfgm.rules import height_max, rule_height, rule_M, rule_R_max, rule_T

SIGMA, TAU, M = 0.1, 0.03, 100.0
N = 40_000


def draw(d: int = 3, n: int = N, seed: int = 0, **options: object) -> tuple[np.ndarray, np.ndarray]:
    """Radii and heights around the origin, float64."""
    generator = torch.Generator().manual_seed(seed)
    settings = {"sigma": SIGMA, "tau": TAU, "M": M, **options}
    x, t = perturb(torch.zeros(n, d, dtype=torch.float64), generator=generator, **settings)  # type: ignore[arg-type]
    return x.norm(dim=1).numpy(), t.numpy()


@pytest.mark.parametrize("d", [1, 2, 64, 3072])
def test_radius_to_height_ratio_has_the_kernel_law(d: int) -> None:
    """KS of R²/(R²+t²) against Beta(d/2, 1/2); detects a 5 % error of the ratio at d = 64 (seen to fail on it)."""
    radius, height = draw(d, n=3000 if d == 3072 else N)

    def p_value(scale: float) -> float:
        return float(stats.kstest(height**2 / ((scale * radius) ** 2 + height**2), stats.beta(0.5, d / 2).cdf).pvalue)

    assert p_value(1.0) > 1e-3
    assert p_value(1.2 if d in (1, 3072) else 1.05) < 1e-4


def test_log_factor_is_uniform() -> None:
    """With the same random numbers, log of the height over its unstretched value is U[0, M ln(1+τ)].

    Detects 3 % of the range (seen to fail on it).
    """
    _, height = draw()
    _, unstretched = draw(M=1e-12)
    factor = np.log(height / unstretched)
    assert stats.kstest(factor, stats.uniform(0, M * math.log1p(TAU)).cdf).pvalue > 1e-3
    assert stats.kstest(factor, stats.uniform(0, 1.03 * M * math.log1p(TAU)).cdf).pvalue < 1e-4


def test_height_moments() -> None:
    """E t^k in closed form, k = ½, 1, 2, within 4 standard errors; a 5 % scale error (seen to fail) is 6 or more."""
    _, height = draw(n=200_000)
    range_ = M * math.log1p(TAU)
    for k in (0.5, 1.0, 2.0):
        half_normal = SIGMA**k * 2 ** (k / 2) * special.gamma((k + 1) / 2) / math.sqrt(math.pi)
        expected = half_normal * math.expm1(k * range_) / (k * range_)
        standard_error = (height**k).std() / math.sqrt(len(height))
        assert abs((height**k).mean() - expected) < 4 * standard_error
        assert abs(((1.05 * height) ** k).mean() - expected) > 4 * standard_error


def test_direction_is_uniform_on_the_sphere() -> None:
    """Coordinates of the unit direction at d = 3 are U[−1, 1]; detects a 10 % anisotropy (seen to fail on it)."""
    generator = torch.Generator().manual_seed(1)
    x, _ = perturb(torch.zeros(N, 3, dtype=torch.float64), sigma=SIGMA, tau=TAU, M=M, generator=generator)
    for scale, passes in ((1.0, True), (1.1, False)):
        stretched = x * torch.tensor([1.0, 1.0, scale])
        p = stats.kstest((stretched / stretched.norm(dim=1, keepdim=True))[:, 2].numpy(), stats.uniform(-1, 2).cdf).pvalue
        assert bool(p > 1e-3) is passes


def test_only_the_product_of_M_and_log_growth_matters() -> None:
    """Equal seeds with equal M ln(1+τ) give equal batches to 1e-12, and another product does not."""
    y = torch.randn(50, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    product = M * math.log1p(TAU)
    batches = []
    for tau, m in ((TAU, M), (0.1, product / math.log1p(0.1)), (0.1, M)):
        batches.append(perturb(y, sigma=SIGMA, tau=tau, M=m, generator=torch.Generator().manual_seed(5)))
    for a, b in zip(batches[0], batches[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(batches[0][0], batches[2][0])


def test_random_numbers_do_not_depend_on_parameters() -> None:
    """After a batch the generator is in the same state whatever σ, τ, M and the restriction are."""
    states = []
    for sigma, tau, m, restrict in ((0.01, 0.03, 291.0, True), (0.5, 0.1, 2.5, False)):
        generator = torch.Generator().manual_seed(0)
        perturb(torch.zeros(33, 5), sigma=sigma, tau=tau, M=m, generator=generator, restrict_M=restrict)
        states.append(generator.get_state())
    assert torch.equal(*states)


def test_restriction_limits_the_low_points_only() -> None:
    """Where |ε_t| < σ/2 the factor stays below (1+τ)^⌊0.7 M⌋; elsewhere nothing changes."""
    (free_x, free), (x, t) = draw(), draw(restrict_M=True)
    _, unstretched = draw(M=1e-12)
    low = unstretched < 0.5 * SIGMA
    np.testing.assert_array_equal(t[~low], free[~low])
    np.testing.assert_array_equal(x[~low], free_x[~low])
    largest = (t[low] / unstretched[low]).max()
    assert 0.97 * (1 + TAU) ** 70 < largest <= (1 + TAU) ** 70 * (1 + 1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_dtype_and_shape_follow_the_data(dtype: torch.dtype) -> None:
    """Outputs have the data's dtype and every height is positive."""
    x, t = perturb(torch.zeros(9, 4, dtype=dtype), sigma=SIGMA, tau=TAU, M=M)
    assert x.dtype == t.dtype == dtype
    assert x.shape == (9, 4)
    assert bool((t > 0).all())


def test_rule_gives_the_published_setting() -> None:
    """σ = 0.01, τ = 0.03: M = 291, t_hi ≈ 54, T ≈ 43 and R_max ≈ 3,000 for CIFAR-10, as published (T = 40, R = 3,000)."""
    norm = 32.0
    assert rule_M(norm, 3072, 0.01, 0.03) == 291.0
    t_hi = height_max(0.01, 0.03, 291.0)
    assert t_hi == pytest.approx(0.01 * 1.03**291)
    assert rule_T(t_hi) == pytest.approx(43.4, rel=0.01)
    assert rule_R_max(t_hi, 3072) == pytest.approx(3012, rel=0.01)
    assert rule_height(norm, 3072, 0.01) < t_hi < 1.03 * rule_height(norm, 3072, 0.01)


@pytest.mark.parametrize("name", ["sigma", "tau", "M"])
def test_parameters_must_be_positive(name: str) -> None:
    """A zero parameter is refused by name."""
    settings = {"sigma": 0.1, "tau": 0.1, "M": 1.0, name: 0.0}
    with pytest.raises(ValueError, match=f"{name} must be a positive"):
        perturb(torch.zeros(2, 2), **settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"{name} must be a positive"):
        height_max(**settings)


def test_other_refusals() -> None:
    """Integer data, images that are not flat, a σ beyond the data and non-positive rule arguments are refused."""
    with pytest.raises(ValueError, match="flatten"):
        perturb(torch.zeros(2, 1, 8, 8), sigma=0.1, tau=0.1, M=1.0)
    with pytest.raises(ValueError, match="floating"):
        perturb(torch.zeros(2, 2, dtype=torch.long), sigma=0.1, tau=0.1, M=1.0)
    with pytest.raises(ValueError, match="lower sigma"):
        rule_M(1.0, 64, 10.0, 0.03)
    with pytest.raises(ValueError, match="norm must be"):
        rule_height(0.0, 64, 0.1)
    with pytest.raises(ValueError, match="t_hi must be"):
        rule_T(-1.0)
    with pytest.raises(ValueError, match="d must be"):
        rule_R_max(1.0, 0)


def test_the_height_ratio_that_is_advised_is_taken() -> None:
    """For sixty values of sigma; rounded to nearest, a third of them was refused again."""
    info = load_data(DataConfig()).info
    for sigma in np.geomspace(1e-3, 0.5, 60):
        with pytest.raises(ValueError, match="use at least ") as refused:
            resolve_train(TrainConfig(sigma=float(sigma), height_ratio=1e-9), info)
        (advised,) = re.findall(r"use at least (\S+),", str(refused.value))
        assert resolve_train(TrainConfig(sigma=float(sigma), height_ratio=float(advised)), info).M > 0
