"""Multistep solvers and heights of each sample's own: orders, exactness, and what batch companions may not change."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pfgm.config import SamplerConfig
from pfgm.field.analytic import GaussianMixture, PointCharges
from pfgm.prior.law import PoissonPrior
from pfgm.process.clock import HEIGHT, VpClock
from pfgm.registry import SOLVERS
from pfgm.sampling.integrate import integrate
from pfgm.sampling.multistep import mean_weights
from pfgm.sampling.own_levels import Width, own_levels, slope
from pfgm.sampling.solvers import Ode, fixed, heights

F64 = torch.float64
MULTISTEP = pytest.mark.parametrize("solver", ["multistep2", "pc2", "pc3", "ipndm4"])
CHARGES = PointCharges(torch.tensor([[-1.0, 0.0], [1.0, 0.5]], dtype=F64))


def normal(seed: int, n: int, d: int) -> Tensor:
    """Standard normal numbers (n, d) in float64."""
    return torch.randn(n, d, dtype=F64, generator=torch.Generator().manual_seed(seed))


def on_levels_of_its_own(solver: str, steps: int, x: Tensor, far: Tensor | None) -> Tensor:
    """x at t = 0.3, each sample over other levels between 3 and 0.3."""
    bend = torch.linspace(-0.4, 0.4, len(x), dtype=F64)
    share = torch.linspace(0, 1, steps + 1, dtype=F64)[:, None]
    share = share + bend * share * (1 - share)
    ode = Ode(CHARGES.mean_source, HEIGHT, far=far)
    return fixed(ode, x, 3.0 * (0.3 / 3.0) ** share, solver)


@pytest.mark.parametrize("far", [None, 2.0])
@pytest.mark.parametrize(("solver", "order", "slack"), [("pc2", 2, 0.25), ("pc3", 3, 0.35), ("multistep2", 2, 0.25)])
def test_the_order_holds_with_heights_per_sample(solver: str, order: int, slack: float, far: float | None) -> None:
    x = 2 * normal(1, 64, 2)
    exact = integrate(CHARGES.mean_source, x, T=3.0, t_min=0.3, solver="dopri8", rtol=1e-12).x
    known = None if far is None else torch.full((64,), far, dtype=F64)
    errors = [float((on_levels_of_its_own(solver, n, x, known) - exact).square().mean().sqrt()) for n in (128, 512)]
    assert abs(math.log2(errors[0] / errors[1]) / 2 - order) <= slack, errors


@pytest.mark.parametrize("far", [None, 3.0])
def test_means_over_a_step_are_exact_for_polynomials(far: float | None) -> None:
    """Of degree two in u = log(1 + c/t), or in log t, against a sum over a million points."""
    start, end, known = (torch.tensor(t, dtype=F64) for t in (2.0, 0.7, [0.7, 2.0, 5.0]))

    def curve(w: Tensor) -> Tensor:
        u = w.log() if far is None else torch.log1p(far * w)
        return 1.0 - 0.5 * u + 0.3 * u**2

    w = torch.linspace(1 / 2.0, 1 / 0.7, 1_000_001, dtype=F64)
    weights = mean_weights(start, end, list(known), far)
    got = sum(a * curve(1 / t) for a, t in zip(weights, known, strict=True))
    assert float(got) == pytest.approx(float(torch.trapezoid(curve(w), w) / (w[-1] - w[0])), abs=1e-10)
    assert float(sum(weights)) == pytest.approx(1.0, abs=1e-14)


@MULTISTEP
@pytest.mark.parametrize("grid", ["rho", "own"])
def test_companions_in_a_batch_change_nothing(solver: str, grid: str) -> None:
    charges = PointCharges(normal(2, 9, 5))
    x = 20 * normal(3, 40, 5)
    options = {"T": 30.0, "t_min": 1e-3, "solver": solver, "steps": 9, "grid": grid, "denoise": True, "width": Width(1.0, 1.0)}
    whole = integrate(charges.mean_source, x, **options)
    alone = torch.cat([integrate(charges.mean_source, row[None], **options).x for row in x])
    assert (whole.x - alone).abs().max() <= 1e-6 and whole.nfe == 10


@pytest.mark.parametrize("n_aug", [1.0, 128.0, math.inf])
def test_own_heights_find_the_exact_end(n_aug: float) -> None:
    """Straight to the top of s, and down from there: with more steps, the same samples as the exact solution."""
    field = GaussianMixture(torch.tensor([[1.0, 0.0, 0.5, -1.0]], dtype=F64), 0.3, n_aug=n_aug)
    x = PoissonPrior(4, 40.0, n_aug=n_aug).sample((100,), generator=torch.Generator().manual_seed(0)).to(F64)
    exact = integrate(field.mean_source, x, T=40.0, t_min=1e-3, solver="dopri8", rtol=1e-10, denoise=True).x
    own = {"T": 40.0, "t_min": 1e-3, "grid": "own", "denoise": True, "width": Width(0.3**0.5, n_aug)}
    for solver, steps, most in (("pc2", 9, 0.07), ("pc2", 80, 3e-4), ("pc3", 80, 3e-4)):
        got = integrate(field.mean_source, x, solver=solver, steps=steps, **own).x
        assert float((got - exact).square().mean().sqrt()) <= most, (solver, steps)
    assert slope(x, 40.0, math.inf).eq(1).all()


def test_own_heights_fall_from_T_to_their_end() -> None:
    """Also of samples at the pole, of starts below the top of s, and of one step."""
    x = torch.cat([torch.zeros(1, 3, dtype=F64), normal(0, 50, 3) * torch.logspace(-6, 6, 50, dtype=F64)[:, None]])
    for steps in (1, 2, 5, 40):
        found = own_levels(x, 10.0, 1e-3, steps, Width(0.5, 1.0))
        assert found.t.shape == (steps + 1, 51) and found.t[0].eq(10).all() and found.far.gt(0).all()
        assert (found.t[1:] < found.t[:-1]).all() and (found.t[-1] > 0).all()


def test_a_vp_process_has_own_heights_too() -> None:
    field = GaussianMixture(torch.tensor([[0.5, -0.5]], dtype=F64), 0.4, n_aug=math.inf)
    x, span = 100 * normal(4, 50, 2), {"T": 100.0, "t_min": 1e-3, "denoise": True, "clock": VpClock(0.1, 20.0)}
    exact = integrate(field.mean_source, x, solver="dopri8", rtol=1e-9, **span).x
    got = integrate(field.mean_source, x, solver="pc2", steps=60, grid="own", width=Width(0.4**0.5, math.inf), **span).x
    assert float((got - exact).square().mean().sqrt()) <= 2e-3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"solver": "heun2"},
            "grid: own has other levels for each sample, which solver heun2 cannot follow; use multistep2",
        ),
        ({"width": None}, "grid own needs the width of the data"),
        ({"upwards": True}, "use grid rho"),
    ],
)
def test_where_own_heights_cannot_be(change: dict[str, object], words: str) -> None:
    options = {"T": 3.0, "t_min": 0.1, "solver": "pc2", "grid": "own", "width": Width(1.0, 1.0)} | change
    with pytest.raises(ValueError, match=words):
        integrate(CHARGES.mean_source, normal(0, 4, 2), **options)


def test_a_study_file_learns_it_early() -> None:
    assert SamplerConfig(solver="pc2", grid="own").steps == 24
    with pytest.raises(ValueError, match=r"grid: own needs solver multistep2, pc2, pc3, ipndm4; got heun2"):
        SamplerConfig(solver="heun2", grid="own")


@pytest.mark.parametrize("solver", ["euler", "midpoint", "heun2", "rk4", "multistep2", "pc2", "pc3", "ipndm4"])
def test_a_solve_of_fixed_steps_reads_nothing_back(solver: str) -> None:
    """On the device without numbers a value that is read on the host is an error; a GPU would have to end its work for it."""
    x = torch.zeros(8, 2, device="meta")
    ode = Ode(lambda x, t: x / (1 + t[:, None]), HEIGHT, far=1.0)
    assert fixed(ode, x, heights(3.0, 0.1, 5, "rho").tolist(), solver).shape == (8, 2) and ode.nfe >= 5
    if SOLVERS[solver].own_levels:
        own = own_levels(x, 3.0, 0.1, 5, Width(1.0, 1.0))
        assert fixed(Ode(ode.mean_source, HEIGHT, far=own.far), x, own.t, solver).shape == (8, 2)
    with pytest.raises(RuntimeError):
        bool(x.sum())
