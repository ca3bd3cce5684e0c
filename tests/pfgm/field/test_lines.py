"""Field lines without the extra dimension against Gauss's law, closed forms and invariants; trajectories with it."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pfgm.field.analytic import PointCharges
from pfgm.field.empirical import mean_source, true_field
from pfgm.field.lines import electric_field, electric_lines, line_starts
from pfgm.prior.latent import latents
from pfgm.prior.law import PoissonPrior
from pfgm.sampling.integrate import integrate
from pfgm.sampling.paths import trajectories
from pfgm.sampling.solvers import heights

pytestmark = pytest.mark.usefixtures("one_thread")


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal float64 numbers."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def circle(n: int, radius: float = 1.0) -> Tensor:
    """Evenly placed points of a circle, shape (n, 2)."""
    angle = torch.arange(n, dtype=torch.float64) * (2 * math.pi / n)
    return radius * torch.stack([angle.cos(), angle.sin()], dim=1)


@pytest.mark.parametrize("n", [2, 3, 64, 3072])
def test_one_charge(n: int) -> None:
    """Its field is radial with 1/(S_n r^{n−1}); in log space it exists in 3072 dimensions."""
    y, x = normal(1, n), normal(5, n, seed=1)
    direction, log_magnitude = electric_field(x, y)
    r = (x - y).norm(dim=1)
    torch.testing.assert_close(direction, (x - y) / r[:, None])
    log_area = math.log(2) + n / 2 * math.log(math.pi) - math.lgamma(n / 2)
    torch.testing.assert_close(log_magnitude, -(n - 1) * r.log() - log_area, rtol=1e-12, atol=1e-9)


def test_the_field_at_a_charge_is_infinite() -> None:
    y = normal(3, 2)
    direction, log_magnitude = electric_field(torch.cat([y[1:2], y[1:2] + 1e-12]), y)
    assert log_magnitude[0] == math.inf and direction[0].tolist() == [0.0, 0.0]
    assert 20 < float(log_magnitude[1]) < 30


@pytest.mark.parametrize("n", [2, 3, 10])
def test_lines_of_one_charge_are_straight(n: int) -> None:
    """x(s) = y + (r + s) u; toward the charge r − s, and rest at the charge."""
    y, x = normal(1, n), normal(4, n, seed=1)
    r = (x - y).norm(dim=1, keepdim=True)
    s, away = electric_lines(x, y, length=3.0, n_points=4)
    assert s.tolist() == [0.0, 1.0, 2.0, 3.0]
    torch.testing.assert_close(away, y + (x - y) / r * (r + s[:, None, None]), rtol=0, atol=1e-6)
    _, toward = electric_lines(x, y, length=float(r.max()) + 0.1, n_points=20, toward=True, core=0.01)
    torch.testing.assert_close(toward[-1], y.expand(4, n), rtol=0, atol=1e-4)


def test_flux_by_gauss() -> None:
    """The flux through a closed curve is the weight inside; the trapezoid rule on a circle is exact to rounding."""
    charges, p = torch.tensor([[0.3, 0.0], [-0.2, 0.4], [5.0, 1.0]]), torch.tensor([1.0, 2.0, 5.0])
    x = circle(400, 1.5)
    direction, log_magnitude = electric_field(x, charges, p)
    outward = (direction * x / 1.5).sum(1) * log_magnitude.exp()
    assert float(outward.mean()) * 2 * math.pi * 1.5 == pytest.approx(3 / 8, rel=1e-12)


def test_the_field_far_away_is_the_centroids() -> None:
    """The angle to x − centroid falls with the second power of the distance; to another point with the first."""
    charges, p = normal(6, 3), torch.arange(1.0, 7.0)
    centroid = (p[:, None] * charges).sum(0) / p.sum()
    u = torch.nn.functional.normalize(normal(1, 3, seed=2))
    distance = torch.logspace(2, 4, 9, dtype=torch.float64)
    x = centroid + distance[:, None] * u
    direction, _ = electric_field(x, charges, p)
    for point, order in ((centroid, 2), (charges[0], 1)):
        angle = torch.linalg.cross(direction, torch.nn.functional.normalize(x - point)).norm(dim=1)
        slope = np.polyfit(distance.log(), angle.log(), 1)[0]
        assert slope == pytest.approx(-order, abs=0.02)


@pytest.mark.parametrize("n", [8, 60])
def test_no_field_inside_a_ring(n: int) -> None:
    """N even charges of a circle: |F| = r^{N−1}/(2π |z^N − 1|) in the plane, 10^−18 of one charge's at r = 1/2 for N = 60."""
    x = torch.tensor([[0.5, 0.1], [0.2, -0.7], [1.3, 0.4]], dtype=torch.float64)
    z = torch.complex(x[:, 0], x[:, 1])
    _, log_magnitude = electric_field(x, circle(n))
    exact = z.abs() ** (n - 1) / (2 * math.pi * (z**n - 1).abs())
    torch.testing.assert_close(log_magnitude.exp(), exact, rtol=1e-9, atol=1e-16)


def test_one_more_dimension_has_a_field_inside_the_ring() -> None:
    """On the axis of the ring F_t = −t/(S_3 (1 + t²)^{3/2}) exactly, and off it the field does not vanish either."""
    t = torch.tensor([0.3, 1.0], dtype=torch.float64)
    direction, log_magnitude = true_field(torch.zeros(2, 2, dtype=torch.float64), t, circle(60))
    torch.testing.assert_close(direction, torch.tensor([[0.0, 0.0, -1.0]] * 2, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(log_magnitude.exp(), t / (4 * math.pi * (1 + t.square()) ** 1.5))
    inside = torch.tensor([[0.5, 0.1], [0.2, -0.7]], dtype=torch.float64)
    _, without = electric_field(inside, circle(60))
    _, with_one_more = true_field(inside, 0.3, circle(60))
    assert without.max() < math.log(1e-7) and with_one_more.min() > math.log(1e-2)


def test_lines_in_the_plane_keep_their_stream_function() -> None:
    """Σ_j p_j arg(x − y_j) is constant along a line in the plane: the imaginary part of the complex potential."""
    charges, p = torch.tensor([[0.0, 0.0], [1.5, 0.3], [-0.4, 1.2]], dtype=torch.float64), torch.tensor([0.5, 0.3, 0.2])
    x = line_starts(charges, p, n_lines=20, radius=0.05)
    _, paths = electric_lines(x, charges, p, length=5.0, n_points=400, rtol=1e-9)
    relative = paths[:, :, None] - charges
    angle = torch.atan2(relative[..., 1], relative[..., 0]).numpy()
    stream = np.unwrap(angle, axis=0) @ (p / p.sum()).double().numpy()
    np.testing.assert_allclose(stream, np.broadcast_to(stream[:1], stream.shape), atol=1e-6)


def test_lines_of_collinear_charges_keep_their_invariant() -> None:
    """The lines of charges on a line of R^4 keep Σ p F_3(θ), and are those of d = 3 with one more dimension."""
    places = torch.tensor([[-1.0], [0.2], [1.0]], dtype=torch.float64) * torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    oracle = PointCharges(places, torch.tensor([0.2, 0.5, 0.3]))
    x = normal(5, 4) + torch.tensor([0.0, 0.0, 0.0, 4.0], dtype=torch.float64)
    charges = torch.nn.functional.pad(places, (0, 1))
    _, paths = electric_lines(x, charges, oracle.weights, length=3.0, n_points=30, toward=True, rtol=1e-9)
    assert bool((paths[..., 3] > 0).all())
    kept = torch.stack([oracle.line_invariant(x[:, :3], x[:, 3]) for x in paths])
    torch.testing.assert_close(kept, kept[:1].expand_as(kept), rtol=0, atol=1e-7)


def test_a_line_ends_where_the_field_vanishes() -> None:
    """Between two equal charges the field is zero: the line along their axis stops there and jumps over nothing."""
    charges = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    _, paths = electric_lines(torch.tensor([[-0.9, 0.0]], dtype=torch.float64), charges, length=4.0, n_points=9, core=0.01)
    torch.testing.assert_close(paths[-1], torch.zeros(1, 2, dtype=torch.float64), rtol=0, atol=1e-4)
    direction, log_magnitude = electric_field(torch.zeros(1, 2), charges)
    assert not direction.any() and log_magnitude.item() == -math.inf


def test_starts_share_the_flux() -> None:
    """Three times the weight, three times the lines; every start is at the radius."""
    charges = torch.tensor([[0.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
    x = line_starts(charges, torch.tensor([3.0, 1.0]), n_lines=40, radius=0.1)
    distance = torch.cdist(x, charges)
    assert [int((distance[:, k] < 0.2).sum()) for k in (0, 1)] == [30, 10]
    torch.testing.assert_close(distance.amin(1), torch.full((40,), 0.1, dtype=torch.float64))


def test_trajectories_of_collinear_charges() -> None:
    """They keep `line_invariant` between all heights, and end where one solve without a stop ends."""
    places = torch.tensor([[-1.0, 0.0], [0.1, 0.0], [1.0, 0.0]], dtype=torch.float64)
    oracle, levels = PointCharges(places), heights(8.0, 0.01, 30)
    x = PoissonPrior(2, 8.0).from_latent(*latents(40, 2, 0))
    seen, paths = trajectories(oracle.mean_source, x, levels, rtol=1e-9)
    assert torch.equal(seen, levels) and torch.equal(paths[0], x)
    kept = torch.stack([oracle.line_invariant(x, float(t)) for x, t in zip(paths, seen, strict=True)])
    torch.testing.assert_close(kept, kept[:1].expand_as(kept), rtol=0, atol=1e-6)
    whole = integrate(lambda x, t: mean_source(x, t, places), x, T=8.0, t_min=0.01, solver="dopri8", rtol=1e-10)
    torch.testing.assert_close(paths[-1], whole.x, rtol=1e-5, atol=1e-6)


def test_every_mode_is_reached_in_proportion_to_its_weight() -> None:
    """2,000 trajectories from the prior; a share that is 0.05 off is four standard deviations off."""
    places, p = circle(4), torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    x = PoissonPrior(2, 50.0).from_latent(*latents(2000, 2, 1))
    _, paths = trajectories(PointCharges(places, p).mean_source, x, torch.tensor([50.0, 1.0, 1e-5]), rtol=1e-5)
    distance = torch.cdist(paths[-1], places)
    reached = torch.bincount(distance.argmin(1), minlength=4) / 2000
    torch.testing.assert_close(reached.double(), p, rtol=0, atol=0.05)
    assert float((distance.amin(1) < 0.05).double().mean()) > 0.99  # at t the law's tail beyond r is t/r


@pytest.mark.parametrize("solver", ["euler", "rk4"])
def test_one_source_is_straight_for_fixed_steps(solver: str) -> None:
    """x(t) = y + (x_T − y) t/T, which one step from height to height follows exactly."""
    y, x = normal(1, 3), normal(4, 3, seed=1)
    levels, paths = trajectories(PointCharges(y).mean_source, x, heights(5.0, 0.1, 6), solver=solver)
    torch.testing.assert_close(paths, y + (x - y) * (levels / 5.0)[:, None, None])


def test_mistakes_are_named() -> None:
    x, y = torch.zeros(1, 2), torch.ones(3, 2)
    with pytest.raises(ValueError, match=r"shapes \(B, n\) and \(N, n\)"):
        electric_field(x, torch.ones(3, 4))
    with pytest.raises(ValueError, match="n >= 2"):
        electric_field(torch.zeros(1, 1), torch.ones(3, 1))
    with pytest.raises(ValueError, match="3 positive numbers"):
        electric_field(x, y, torch.tensor([1.0, -1.0, 1.0]))
    with pytest.raises(ValueError, match="length and core"):
        electric_lines(x, y, length=0.0)
    with pytest.raises(ValueError, match="radius > 0"):
        line_starts(torch.ones(3, 3), n_lines=4, radius=0.1)
    oracle = PointCharges(y)
    with pytest.raises(ValueError, match="falling and positive"):
        trajectories(oracle.mean_source, x, torch.tensor([1.0, 2.0]))
    with pytest.raises(RuntimeError, match="ended as diverged"):
        trajectories(lambda x, t: x * math.nan, x, torch.tensor([2.0, 1.0]))
