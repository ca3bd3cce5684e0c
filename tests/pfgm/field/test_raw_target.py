"""The raw target's variance against its formula, closed forms, limits and a quadrature over Gaussian data."""

import itertools
import math
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from scipy import integrate
from torch import Tensor

from pfgm.field.raw_target import raw_target_variance, relative_variance
from pfgm.training.objectives import raw

pytestmark = pytest.mark.usefixtures("one_thread")


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal float64 numbers."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_it_is_the_variance_of_the_target_that_is_trained_on() -> None:
    """Against v = t^d (x − y', t)/ρ^{d+1} as it is written, and against the loss of a network that says nothing."""
    x, t, sources = normal(6, 3), torch.linspace(0.3, 3.0, 6, dtype=torch.float64), normal(50, 3, seed=1)
    difference = torch.cat([x[:, None] - sources, t[:, None, None].expand(6, 50, 1)], dim=2)
    v = t[:, None, None] ** 3 * difference / difference.norm(dim=2, keepdim=True) ** 4
    mean, square = v.mean(1).square().sum(1), v.square().sum(2).mean(1)
    torch.testing.assert_close(relative_variance(x, t, sources), square / mean - 1)

    n, g = 20_000, torch.Generator().manual_seed(0)
    silent = cast(Any, type("Silent", (), {"skip": False, "__call__": lambda self, x, t: torch.zeros(len(x), 4)})())
    process = cast(Any, SimpleNamespace(training_points=lambda y, g: (x[:1].expand(n, 3), t[:1].expand(n))))
    loss = raw(silent, process, torch.zeros(n, 3, dtype=torch.float64), sources, g)
    assert float(loss) * 3 == pytest.approx(float(square[0]), rel=0.05)  # its standard error is under 0.01


def test_two_equidistant_sources() -> None:
    """Half their distance squared over ‖(x − ȳ, t)‖², and nothing for one source."""
    sources = torch.tensor([[0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    x = torch.tensor([[0.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(relative_variance(x, 0.5, sources), 1 / (x[:, 0].square() + 0.25))
    assert float(relative_variance(x, 0.5, sources[:1]).max()) < 1e-12


def test_limits() -> None:
    """t → 0 at a source: one of N decides, N − 1; t → ∞: tr C/t², C the covariance of the sources; both in 3072 dimensions."""
    for d in (2, 64, 3072):
        sources = normal(20, d)
        torch.testing.assert_close(relative_variance(sources[:4] + 1e-9, 1e-6, sources), torch.full((4,), 19.0).double())
        t = 1e3 * d
        far = relative_variance(sources[:1], t, sources) * t**2
        torch.testing.assert_close(far, sources.var(0, correction=0).sum()[None], rtol=1e-3, atol=0)


def quadrature(d: int, x: Tensor, t: float) -> float:
    """The same over y' ~ N(0, I): ρ^{−2a} = ∫ u^{a−1} e^{−uρ²} du/Γ(a), and E e^{−u‖x−y'‖²} is a Gaussian integral."""
    r_squared = float(x.square().sum())

    def moment(a: float, shrink: float = 0.0) -> float:
        """E[ρ^{−2a}]; with shrink = 1 the factor of x in E[(x − y') ρ^{−2a}]."""

        def term(log_u: float) -> float:
            u = math.exp(log_u)
            log_value = a * log_u - u * t**2 - u * r_squared / (1 + 2 * u) - (d / 2 + shrink) * math.log1p(2 * u)
            return math.exp(log_value - math.lgamma(a))

        return float(integrate.quad(term, -60, 12, limit=400, epsrel=1e-10)[0])

    square = moment(d)
    mean = moment((d + 1) / 2) ** 2 * t**2 + moment((d + 1) / 2, 1.0) ** 2 * r_squared
    return square / mean - 1


@pytest.mark.parametrize("d", [1, 2, 4])
def test_many_sources_are_the_law(d: int) -> None:
    """400,000 normal sources against the quadrature; over seeds the Monte Carlo is off by about 1 % (d = 4), 5 % would show."""
    x = normal(3, d, seed=3)
    sampled = relative_variance(x, 1.0, normal(400_000, d, seed=4))
    for point, value in zip(x, sampled.tolist(), strict=True):
        assert value == pytest.approx(quadrature(d, point, 1.0), rel=0.05)


def test_it_explodes_with_the_dimension() -> None:
    """The median over points grows from d to 2d, and equal generators give equal numbers."""

    def median(d: int) -> float:
        return float(raw_target_variance(d, n_points=400, generator=torch.Generator().manual_seed(0)).median())

    medians = [median(d) for d in (1, 2, 4, 8, 16)]
    assert all(b > 1.5 * a for a, b in itertools.pairwise(medians))
    assert median(16) == medians[-1]


def test_mistakes_are_named() -> None:
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"shapes \(B, d\) and \(N, d\)"):
        relative_variance(x, 1.0, torch.zeros(2, 2))
    with pytest.raises(ValueError, match="t must be a positive number"):
        relative_variance(x, torch.tensor([1.0, 0.0]), x)
    with pytest.raises(ValueError, match="n_points and n_sources"):
        raw_target_variance(2, n_points=0)
    with pytest.raises(ValueError, match="T must be a positive"):
        raw_target_variance(2, t=-1.0)
