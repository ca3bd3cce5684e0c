"""The empirical field: accuracy against direct float64 differences, exact laws of the field and its lines."""

import math

import pytest
import torch
from helpers.hard_fields import GAMMA, direct_logits, direct_target, hard_points, normal, twins
from torch import Tensor

from pfgm.field.analytic import PointCharges
from pfgm.field.empirical import log_weights, mean_source, normalized_target, true_field
from pfgm.sampling.paths import trajectories
from pfgm.sampling.solvers import heights as heights_between


def seeded(seed: int = 0) -> torch.Generator:
    """A generator."""
    return torch.Generator().manual_seed(seed)


def test_float32_gemm_would_fail() -> None:
    """The accuracy test sees a target formed from float32 matrix products: its error is above 1e-3."""
    data = twins(784, 1.0, gap=1e-2)
    x, t = hard_points(data, 1.0)
    squared = torch.cdist(x.float(), data.float(), compute_mode="use_mm_for_euclid_dist").double().square()
    weights = torch.softmax(-0.5 * 785 * (squared + t.square()[:, None]).log(), dim=1)
    e_hat = torch.cat([x - weights @ data, t[:, None]], dim=1)
    wrong = -math.sqrt(784) * e_hat / (e_hat.norm(dim=1, keepdim=True) + GAMMA)
    truth = direct_target(x, t, data)
    assert ((wrong - truth).norm(dim=1) / truth.norm(dim=1)).max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_precision_inputs_give_their_own_dtype(dtype: torch.dtype) -> None:
    """Inputs of another dtype are exact inside: the output is the float64 one, rounded; autocast changes nothing."""
    data, x, t = normal(50, 9).to(dtype), normal(6, 9, seed=1).to(dtype), torch.full((6,), 0.5, dtype=dtype)
    exact = normalized_target(x.double(), t.double(), data.double(), GAMMA).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(normalized_target(x, t, data, GAMMA), exact)
    assert exact.dtype == log_weights(x, t, data).dtype == true_field(x, t, data)[1].dtype == dtype


@pytest.mark.parametrize("n_aug", [1.0, 128.0, 3e6, math.inf])
@pytest.mark.parametrize("d", [2, 64])
def test_weights_of_every_kernel(n_aug: float, d: int) -> None:
    """log w to 1e-9 and rows that sum to one; at n_aug = ∞ the mean source is the Gaussian posterior mean."""
    data, x = normal(5000, d), normal(7, d, seed=1)
    t = torch.linspace(0.3, 3.0, 7, dtype=torch.float64)
    log_w = log_weights(x, t, data, n_aug=n_aug)
    torch.testing.assert_close(log_w, torch.log_softmax(direct_logits(x, t, data, n_aug), 1), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(torch.logsumexp(log_w, 1), torch.zeros(7, dtype=torch.float64), rtol=0.0, atol=1e-12)
    torch.testing.assert_close(mean_source(x, t, data, n_aug=n_aug), log_w.exp() @ data, rtol=1e-9, atol=1e-9)


def test_weights_of_twins_at_large_scale() -> None:
    """Halfway between twins 0.01 apart at scale 5000 the two weights are ½ each, to 1e-3: rounding of the inputs."""
    data = twins(784, 5000.0, gap=1e-2, n=320)
    x = 0.5 * (data[70:74] + data[150:154])
    weights = log_weights(x, 1e-3, data).exp()
    assert weights[torch.arange(4), torch.arange(70, 74)].sub(0.5).abs().max() < 1e-3


def test_mean_source_is_equal_charges() -> None:
    """Equal weights: the mean source of PointCharges, to 1e-10, and chunks do not matter (N = 5000 > one chunk)."""
    data, x = normal(5000, 3), normal(8, 3, seed=1)
    torch.testing.assert_close(mean_source(x, 0.3, data), PointCharges(data).mean_source(x, 0.3), rtol=0.0, atol=1e-10)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_true_field_is_divergence_free_off_the_plane(d: int) -> None:
    """Σ_i ∂F_i/∂x_i + ∂F_t/∂t = 0 by central differences, to 1e-7 of the field's own derivatives."""
    data, x, t, h = normal(20, d), normal(6, d, seed=1), torch.linspace(0.3, 2.0, 6, dtype=torch.float64), 2e-5

    def field(z: Tensor) -> Tensor:
        direction, log_magnitude = true_field(z[:, :-1], z[:, -1], data)
        return direction * log_magnitude.exp()[:, None]

    z = torch.cat([x, t[:, None]], dim=1)
    terms = []
    for i in range(d + 1):
        step = torch.zeros_like(z)
        step[:, i] = h
        terms.append((field(z + step) - field(z - step))[:, i] / (2 * h))
    size = torch.stack(terms).abs().sum(0)
    assert (torch.stack(terms).sum(0).abs() / size).max() < 1e-7
    assert ((torch.stack(terms)[:-1].sum(0)).abs() / size).max() > 1e-2  # a wrong input: without ∂F_t/∂t


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("t", [0.2, 3.0])
def test_flux_through_a_plane_is_one_half(d: int, t: float) -> None:
    """∫ F_t dx = −1/2 for every t > 0, by the substitution x = t tan φ (d = 1) and a polar grid (d = 2)."""
    data = normal(5, d) * 0.3
    n = 2000 if d == 1 else 400
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    if d == 1:
        phi = (u - 0.5) * math.pi
        x, measure = (t * phi.tan())[:, None], t * math.pi / n / phi.cos().square()
    else:
        angle = 2 * math.pi * torch.arange(64, dtype=torch.float64) / 64
        phi = u * math.pi / 2
        r, dr = t * phi.tan(), t * (math.pi / 2) / n / phi.cos().square()
        x = (r[:, None, None] * torch.stack([angle.cos(), angle.sin()], 1)).reshape(-1, 2)
        measure = (r * dr)[:, None].expand(-1, 64).reshape(-1) * 2 * math.pi / 64
    direction, log_magnitude = true_field(x, t, data)
    flux = (direction[:, -1] * log_magnitude.exp() * measure).sum().item()
    assert flux == pytest.approx(-0.5, abs=2e-5)


def test_true_field_stays_finite_in_high_dimension() -> None:
    """At d = 3072 the magnitude is far outside float64, its logarithm is −log S_{d+1} − d log ρ for one source."""
    x = normal(3, 3072)
    direction, log_magnitude = true_field(x, 10.0, torch.zeros(1, 3072))
    log_area = math.log(2) + 1536.5 * math.log(math.pi) - math.lgamma(1536.5)
    rho = torch.hypot(x.norm(dim=1), torch.tensor(10.0, dtype=torch.float64))
    torch.testing.assert_close(log_magnitude, -log_area - 3072 * rho.log(), rtol=1e-12, atol=0.0)
    torch.testing.assert_close(direction.norm(dim=1), torch.ones(3, dtype=torch.float64))


def lines_of(data: Tensor, x: Tensor, *, T: float, t_min: float, n_points: int, rtol: float = 1e-8) -> tuple[Tensor, Tensor]:
    """Heights, and the field's lines through (x, T) at each of them; a line that ends within t_min of a charge is resolved."""
    levels = heights_between(T, t_min, n_points - 1)
    return trajectories(lambda x, t: mean_source(x, t, data), x, levels, rtol=rtol, atol=rtol * min(1.0, t_min))


def test_field_lines_of_one_charge_are_straight() -> None:
    """x(t) = y + (x_T − y) t/T, to 1e-5."""
    y, x = normal(1, 4), 10 * normal(5, 4, seed=1)
    heights, paths = lines_of(y, x, T=20.0, t_min=1e-3, n_points=17, rtol=1e-6)
    assert heights.shape == (17,)
    assert paths.shape == (17, 5, 4)
    assert heights[0].item() == pytest.approx(20.0)
    assert heights[-1].item() == pytest.approx(1e-3)
    torch.testing.assert_close(paths, y + (x - y) * heights[:, None, None] / 20.0, rtol=0.0, atol=1e-5)


def test_field_lines_keep_the_invariant_of_collinear_charges() -> None:
    """Σ p_i F_d(θ_i) is constant along lines of unevenly spaced charges, to 1e-6, and not along straight paths."""
    data = torch.tensor([[-1.0, 0.5, 0.0], [0.2, 0.5, 0.0], [1.7, 0.5, 0.0]], dtype=torch.float64)
    charges = PointCharges(data)
    heights, paths = lines_of(data, 3 * normal(6, 3), T=8.0, t_min=1e-2, n_points=9)
    kept = torch.stack([charges.line_invariant(x, t) for t, x in zip(heights, paths, strict=True)])
    assert (kept - kept[0]).abs().max() < 1e-6
    straight = data.mean(0) + (paths[0] - data.mean(0)) * heights[:, None, None] / heights[0]
    wrong = torch.stack([charges.line_invariant(x, t) for t, x in zip(heights, straight, strict=True)])
    assert (wrong - wrong[0]).abs().max() > 1e-2


def test_refusals() -> None:
    """Wrong shapes, dtypes, heights and constants are refused with the cure."""
    x, data = torch.zeros(4, 3), torch.zeros(5, 3)
    with pytest.raises(ValueError, match="every height t must be positive"):
        mean_source(x, torch.tensor([1.0, 0.0, 1.0, 1.0]), data)
    with pytest.raises(ValueError, match="shape \\(4,\\)"):
        mean_source(x, torch.ones(3), data)
    with pytest.raises(ValueError, match="x has d = 3 and data d = 2"):
        mean_source(x, 1.0, data[:, :2])
    with pytest.raises(ValueError, match="data must have a floating dtype"):
        mean_source(x, 1.0, data.long())
    with pytest.raises(ValueError, match="flatten"):
        mean_source(torch.zeros(4, 1, 3), 1.0, data)
    with pytest.raises(ValueError, match="n_aug must be positive"):
        log_weights(x, 1.0, data, n_aug=0.0)
    with pytest.raises(ValueError, match="gamma must be at least 0"):
        normalized_target(x, 1.0, data, -1.0)
    with pytest.raises(ValueError, match="heights must be at least two, falling and positive"):
        trajectories(lambda x, t: mean_source(x, t, data), x, torch.tensor([1.0, 2.0]))
    with pytest.raises(ValueError, match="heights must be at least two, falling and positive"):
        trajectories(lambda x, t: mean_source(x, t, data), x, torch.tensor([1.0]))


@pytest.mark.parametrize(("scale", "gap"), [(1.0, 1e-3), (5000.0, 1.0)])
def test_log_magnitude_beside_a_lone_source(scale: float, gap: float) -> None:
    """The nearest of 200 far sources in 3072 dimensions: log magnitude of its own term, to 1e-6 nats."""
    g = torch.Generator().manual_seed(0)
    data = scale * torch.randn(200, 3072, generator=g, dtype=torch.float64)
    away = torch.nn.functional.normalize(torch.randn(3, 3072, generator=g, dtype=torch.float64), dim=1) * gap
    t = torch.full((3,), 0.5 * gap, dtype=torch.float64)
    _, log_magnitude = true_field(data[:3] + away, t, data)
    rho = math.sqrt(gap**2 + (0.5 * gap) ** 2)
    log_area = math.log(2) + 3073 / 2 * math.log(math.pi) - math.lgamma(3073 / 2)
    expected = -math.log(200) - log_area - 3072 * math.log(rho)
    assert torch.allclose(log_magnitude, torch.full((3,), expected, dtype=torch.float64), rtol=0, atol=1e-6)
