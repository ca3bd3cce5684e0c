"""The solvers on exact fields: exactness, orders of convergence, calls counted, statuses."""

import math

import pytest
import torch

from pfgm.config import DataConfig, SamplerConfig, TrainConfig
from pfgm.data.dataset import load_data
from pfgm.field.analytic import GaussianMixture, PointCharges
from pfgm.field.empirical import mean_source
from pfgm.metrics.neighbours import nearest_distance
from pfgm.prior.latent import latents
from pfgm.prior.law import PoissonPrior
from pfgm.process.make import make_process
from pfgm.process.resolve import resolve_sampler, resolve_train
from pfgm.registry import SOLVERS
from pfgm.sampling import batches
from pfgm.sampling.integrate import Solution, integrate, sample
from pfgm.sampling.solvers import heights

F64 = torch.float64


def counted(source):
    calls = []

    def wrapped(x, t):
        calls.append(len(x))
        return source(x, t)

    return wrapped, calls


def digits_process(**train) -> tuple:
    data = load_data(DataConfig())
    return data, make_process(resolve_train(TrainConfig(**train), data.info), data.info)


@pytest.mark.parametrize("solver", ["euler", "multistep2", "pc2", "pc3", "ipndm4"])
def test_one_charge_is_exact_in_one_step(solver):
    """x(t) = y + (x_T − y) t/T: a straight line, which one step linear in t follows to rounding."""
    y = torch.tensor([[0.3, -1.2, 2.0]], dtype=F64)
    x = torch.randn(50, 3, dtype=F64, generator=torch.Generator().manual_seed(0)) * 30
    out = integrate(PointCharges(y).mean_source, x, T=40.0, t_min=1e-3, solver=solver, steps=1)
    expected = y + (x - y) * 1e-3 / 40
    assert (out.x - expected).abs().max() <= 1e-12
    assert out.nfe == 1


def two_charges_error(solver: str, steps: int) -> float:
    charges = PointCharges(torch.tensor([[-1.0, 0.0], [1.0, 0.5]], dtype=F64))
    g = torch.Generator().manual_seed(1)
    x = torch.randn(64, 2, dtype=F64, generator=g) * 2
    span = {"T": 3.0, "t_min": 0.3}
    exact = integrate(charges.mean_source, x, solver="dopri8", rtol=1e-12, **span)
    got = integrate(charges.mean_source, x, solver=solver, steps=steps, **span)
    assert exact.status == got.status == "complete"
    return float((got.x - exact.x).square().mean().sqrt())


@pytest.mark.parametrize(
    ("solver", "order", "slack"),
    [
        ("euler", 1, 0.15),
        ("midpoint", 2, 0.2),
        ("heun2", 2, 0.2),
        ("multistep2", 2, 0.2),
        ("rk4", 4, 0.4),
        ("pc2", 2, 0.25),
        ("pc3", 3, 0.35),
    ],
)
def test_order_of_convergence(solver, order, slack):
    """Halving the step on a two-charge field; the slope over 32 → 128 steps, of pc2, which errs less at first, 128 → 512."""
    errors = [two_charges_error(solver, n) for n in ((128, 512) if solver == "pc2" else (32, 128))]
    slope = math.log2(errors[0] / errors[1]) / 2
    assert abs(slope - order) <= slack, errors


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("denoise", [False, True])
def test_nfe_is_the_number_of_calls(solver, denoise):
    charges = PointCharges(torch.randn(5, 4, dtype=F64, generator=torch.Generator().manual_seed(2)))
    source, calls = counted(charges.mean_source)
    x = torch.randn(8, 4, dtype=F64, generator=torch.Generator().manual_seed(3)) * 5
    out = integrate(source, x, T=10.0, t_min=1e-2, solver=solver, rtol=1e-3, steps=6, denoise=denoise)
    assert out.status == "complete"
    assert out.nfe == len(calls) > 0
    per_step = {"midpoint": 2, "heun2": 2, "rk4": 4}
    if not SOLVERS[solver].adaptive:
        assert out.nfe == 6 * per_step.get(solver, 1) + denoise


def test_nfe_of_a_sample_is_the_mean_over_images():
    data, process = digits_process()
    calls: list[int] = []  # a batch, from its first call at the top

    def source(x, t):
        assert len(x) == 40, "equal batches: the last is filled and cut"
        if float(t[0]) == pytest.approx(resolve_sampler(SamplerConfig(), process).T):
            calls.append(0)
        calls[-1] += 1
        return mean_source(x, t, data.points[:50])

    out = sample(source, process, SamplerConfig(rtol=1e-2, batch_size=40, denoise=False), 100)
    assert len(out.x) == 100
    assert out.nfe == (40 * calls[0] + 40 * calls[1] + 20 * calls[2]) / 100
    assert out.nfe_max == max(calls)


def test_latents_are_drawn_once_for_all_sampler_points(monkeypatch):
    """Rows of one seed start from the same latents, of which large ones are not kept."""
    _, process = digits_process()
    batches._kept.cache_clear()
    for steps in (1, 2, 3):
        sample(lambda x, t: x / 2, process, SamplerConfig(solver="euler", steps=steps), 30, seed=7)
    assert batches._kept.cache_info().misses == 1
    monkeypatch.setattr(batches, "KEPT_NUMBERS", 100)
    sample(lambda x, t: x / 2, process, SamplerConfig(solver="euler", steps=1), 31, seed=7)
    assert batches._kept.cache_info().misses == 1


def test_digits_empirical_field_lands_on_digits():
    """64 prior draws at T = 40 end on data points: at least 98 % within 0.05 RMS of one, on at least 55 different ones."""
    data = load_data(DataConfig())
    start = latents(64, 64, seed=0)
    x = PoissonPrior(64, 40.0).from_latent(*start)
    out = integrate(lambda x, t: mean_source(x, t, data.points[:].double()), x, T=40.0, t_min=1e-3, solver="dopri5", rtol=1e-4)
    assert out.status == "complete"
    distance = torch.cdist(out.x, data.points[:].double())
    on = distance.min(1).values / 8 <= 0.05
    different = len(set(distance.argmin(1)[on].tolist()))
    assert float(on.double().mean()) >= 0.98
    assert different >= 55


def test_gaussian_mixture_reaches_both_modes_in_proportion():
    """Weights 0.8 : 0.2; 2,000 samples detect a share off by 0.04 (4.5 sigma)."""
    mixture = GaussianMixture(
        torch.tensor([[-2.0, 0.0], [2.0, 0.0]], dtype=F64),
        torch.full((2, 2), 0.01, dtype=F64),
        torch.tensor([0.8, 0.2], dtype=F64),
    )
    start = latents(2000, 2, seed=4)
    x = PoissonPrior(2, 100.0).from_latent(*start)
    out = integrate(mixture.mean_source, x, T=100.0, t_min=1e-2, solver="dopri5", rtol=1e-4)
    share = float((out.x[:, 0] < 0).double().mean())
    assert abs(share - 0.8) < 0.04


@pytest.mark.parametrize("solver", SOLVERS)
def test_non_finite_is_diverged_and_marks_the_rows(solver):
    def broken(x, t):
        d = torch.zeros_like(x)
        d[0] = torch.nan if float(t[0]) < 1.0 else 0.0
        return d

    x = torch.ones(4, 2, dtype=F64)
    out = integrate(broken, x, T=10.0, t_min=1e-2, solver=solver, rtol=1e-3, steps=8)
    assert out.status == "diverged"
    assert torch.isnan(out.x[0]).all()
    assert torch.isfinite(out.x[1:]).all()


@pytest.mark.parametrize("solver", [name for name, kind in SOLVERS.items() if kind.adaptive])
def test_step_limit_is_a_status_with_its_nfe(solver):
    def rough(x, t):
        return torch.sin(1e6 * x) * 10

    out = integrate(rough, torch.ones(4, 2, dtype=F64), T=10.0, t_min=1e-2, solver=solver, rtol=1e-8, max_steps=20)
    assert out.status == "solver_limit"
    assert out.nfe > 20


def test_adaptive_ends_exactly_at_t_min():
    seen = []

    def source(x, t):
        seen.append(float(t[0]))
        return torch.zeros_like(x)

    integrate(source, torch.ones(2, 3, dtype=F64), T=40.0, t_min=1e-3, solver="dopri5", rtol=1e-4)
    assert min(seen) >= 1e-3 * (1 - 1e-9)
    assert max(seen) <= 40 * (1 + 1e-9)


def test_atol_follows_rtol():
    charges = PointCharges(torch.randn(20, 2, dtype=F64, generator=torch.Generator().manual_seed(5)))
    x = torch.randn(32, 2, dtype=F64, generator=torch.Generator().manual_seed(6)) * 3
    nfe = [integrate(charges.mean_source, x, T=5.0, t_min=1e-3, rtol=r).nfe for r in (1e-2, 1e-4, 1e-6)]
    assert nfe[0] < nfe[1] < nfe[2]


@pytest.mark.parametrize("grid", ["log", "rho"])
def test_heights_run_from_T_to_t_min(grid):
    t = heights(40.0, 1e-3, 16, grid)
    assert len(t) == 17
    assert (t[0], t[-1]) == (40.0, 1e-3)
    assert (t[1:] < t[:-1]).all()


def test_latents_do_not_depend_on_the_configuration():
    _data, process = digits_process()
    ends = []
    for ratio, size in ((1.0, 20), (1.0, 7), (2.0, 20)):
        seen = []

        def source(x, t, seen=seen):
            seen.append(x.clone())
            return torch.zeros_like(x)

        sample(source, process, SamplerConfig(T_ratio=ratio, solver="euler", steps=1, denoise=False, batch_size=size), 20)
        ends.append(torch.cat(seen)[:20])
    assert torch.equal(ends[0], ends[1]), "batch size must not move a latent"
    assert torch.allclose(ends[0] * 2, ends[2], rtol=1e-6), "T only scales it"


def test_dtype_and_bad_arguments():
    charges = PointCharges(torch.zeros(1, 2))
    out = integrate(charges.mean_source, torch.ones(3, 2), T=1.0, t_min=0.1, solver="heun2", steps=2)
    assert isinstance(out, Solution)
    assert out.x.dtype == torch.float32
    x = torch.ones(3, 2)
    with pytest.raises(ValueError, match="use one of dopri5"):
        integrate(charges.mean_source, x, T=1.0, t_min=0.1, solver="rk45")
    with pytest.raises(ValueError, match="T > t_min > 0"):
        integrate(charges.mean_source, x, T=0.1, t_min=0.1)
    with pytest.raises(ValueError, match="must be positive"):
        integrate(charges.mean_source, x, T=1.0, t_min=0.1, rtol=0.0)
    with pytest.raises(ValueError, match="use one of log, rho, rho5, time"):
        heights(1.0, 0.1, 3, "linear")


def test_truncated_prior_starts_inside():
    data, process = digits_process()
    out = sample(
        lambda x, t: mean_source(x, t, data.points[:50]),
        process,
        SamplerConfig(max_radius_ratio=20.0, solver="euler", steps=4),
        200,
    )
    assert float(out.radius_ratio.max()) <= 20.0
    assert nearest_distance(out.x, data.points[:50]).max() < 1.0


@pytest.mark.parametrize("d", [1, 2, 3, 64])
def test_dopri5_keeps_the_invariant_of_collinear_charges(d):
    """Σ p_i F_d(θ_i) of unequal charges on a line, from T = 10 to 0.05 by dopri5 at 1e-10: to 1e-8; at 1e-3 it is not kept."""
    axis = torch.nn.functional.normalize(torch.randn(d, dtype=F64, generator=torch.Generator().manual_seed(5)), dim=0)
    places = torch.tensor([-1.0, 0.3, 1.2], dtype=F64)[:, None] * axis
    charges = PointCharges(places, torch.tensor([0.5, 0.2, 0.3], dtype=F64))
    x = 4 * torch.randn(40, d, dtype=F64, generator=torch.Generator().manual_seed(6))
    start = charges.line_invariant(x, 10.0)
    moved = {}
    for rtol in (1e-10, 1e-3):
        out = integrate(charges.mean_source, x, T=10.0, t_min=0.05, solver="dopri5", rtol=rtol)
        assert out.status == "complete"
        moved[rtol] = float((charges.line_invariant(out.x, 0.05) - start).abs().max())
    assert moved[1e-10] <= 1e-8
    assert moved[1e-3] > 1e-7
