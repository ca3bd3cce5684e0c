"""Processes and their clocks: laws of the training points, one family of field lines, equal terms between processes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers.folder import Folder
from scipy import stats

from pfgm.config import DataConfig, SamplerConfig, TrainConfig
from pfgm.data.dataset import load_data
from pfgm.field.analytic import GaussianMixture, PointCharges
from pfgm.process.base import Process
from pfgm.process.clock import HEIGHT, LOG_HEIGHT, Height, VpClock
from pfgm.process.diffusion import VP_EPSILON
from pfgm.process.kernel import kernel_noise
from pfgm.process.make import make_process
from pfgm.process.resolve import resolve_sampler, resolve_train
from pfgm.process.training_points import perturb
from pfgm.registry import PROCESSES
from pfgm.sampling.integrate import integrate, sample
from pfgm.sampling.solvers import heights
from study.plan.make import make_plan

F64 = torch.float64
VP = VpClock(0.1, 20.0)
CLOCKS = {"height": HEIGHT, "log": LOG_HEIGHT, "vp": VP}
BAD = ("process", "train", "words")


def process_of(name: str, **train: object) -> Process:
    data = load_data(DataConfig(name="rings", n=200))
    return make_process(resolve_train(TrainConfig(process=name, **train), data.info), data.info)  # type: ignore[arg-type]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("clock", CLOCKS.values(), ids=CLOCKS)
@pytest.mark.parametrize("t", [1e-6, 1e-3, 0.5, 1.0, 80.0, 152.0])
def test_time_and_level_are_inverse(clock: Height, t: float) -> None:
    assert clock.level(clock.time(t)) == pytest.approx(t, rel=1e-9)


def test_vp_clock_is_the_published_schedule() -> None:
    """t(1) = √(e^10.05 − 1) = 152.2, t(1e-5) ≈ 1e-3 at the published rates; s² (1 + t²) = 1: the variance is preserved."""
    assert VP.level(1.0) == pytest.approx(math.sqrt(math.exp(10.05) - 1), rel=1e-12)
    assert VP.level(VP_EPSILON) == pytest.approx(1e-3, rel=1e-3)
    for u in (1e-4, 0.1, 0.5, 1.0):
        assert VP.scale(u) ** 2 * (1 + VP.level(u) ** 2) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("clock", CLOCKS.values(), ids=CLOCKS)
@pytest.mark.parametrize("t", [0.01, 0.7, 20.0])
def test_slope_is_that_of_the_exact_path(clock: Height, t: float) -> None:
    """One charge at y: x = y + c t exactly; z = s x against its central difference. A wrong rate fails at order one."""
    y, c = torch.tensor([[0.3, -1.0]], dtype=F64), torch.tensor([[2.0, 0.5]], dtype=F64)
    u = clock.time(t)
    h = 1e-5 * max(abs(u), 1e-2)

    def state(v: float) -> torch.Tensor:
        return clock.scale(v) * (y + c * clock.level(v))

    difference = (state(u + h) - state(u - h)) / (2 * h)
    torch.testing.assert_close(clock.slope(state(u), y, u), difference, rtol=1e-6, atol=1e-8)


def test_all_clocks_follow_the_same_lines() -> None:
    """A mixture's lines from T = 20 to 0.01, solved in each clock at 1e-9: equal to 1e-6."""
    law = GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.5]], dtype=F64), 0.05, n_aug=math.inf)
    x = torch.randn(32, 2, dtype=F64, generator=generator()) * 20
    ends = [
        integrate(law.mean_source, x, T=20.0, t_min=0.01, solver="dopri5", rtol=1e-9, clock=clock).x
        for clock in CLOCKS.values()
    ]
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["log", "vp"])
@pytest.mark.parametrize(
    ("solver", "order", "slack"), [("euler", 1, 0.15), ("heun2", 2, 0.2), ("midpoint", 2, 0.2), ("rk4", 4, 0.4)]
)
def test_order_of_convergence_in_every_clock(name: str, solver: str, order: int, slack: float) -> None:
    """Two charges; slope of the error over 64 → 256 steps, equally spaced in the clock's time."""
    charges = PointCharges(torch.tensor([[-1.0, 0.0], [1.0, 0.5]], dtype=F64), n_aug=math.inf)
    x = torch.randn(64, 2, dtype=F64, generator=generator(1)) * 2
    span = {"T": 3.0, "t_min": 0.5, "clock": CLOCKS[name]}
    exact = integrate(charges.mean_source, x, solver="dopri8", rtol=1e-12, **span).x  # type: ignore[arg-type]
    errors = [
        float((integrate(charges.mean_source, x, solver=solver, steps=n, grid="time", **span).x - exact).square().mean().sqrt())  # type: ignore[arg-type]
        for n in (64, 256)
    ]
    assert abs(math.log2(errors[0] / errors[1]) / 2 - order) <= slack, errors


def test_euler_straight_in_log_t_is_not_exact() -> None:
    """One charge, one step: exact in t (1e-12), off by order one in log t: the clock matters."""
    y, x = torch.tensor([[0.3, -1.2]], dtype=F64), torch.tensor([[5.0, 1.0]], dtype=F64)
    exact = y + (x - y) * 0.1 / 10
    off = {
        name: float(
            (integrate(PointCharges(y).mean_source, x, T=10.0, t_min=0.1, solver="euler", steps=1, clock=clock).x - exact)
            .abs()
            .max()
        )
        for name, clock in CLOCKS.items()
    }
    assert off["height"] <= 1e-12
    assert off["log"] > 1
    assert off["vp"] > 0.1


def test_time_grid_is_equal_steps_of_the_clock() -> None:
    u = [VP.time(t) for t in heights(152.0, 1e-3, 10, "time", VP).tolist()]
    np.testing.assert_allclose(np.diff(u), (u[-1] - u[0]) / 10, rtol=1e-9)
    log = heights(80.0, 0.002, 7, "time", LOG_HEIGHT)
    torch.testing.assert_close(log, heights(80.0, 0.002, 7, "log"))


def test_native_grids() -> None:
    """What each process was published with."""
    assert {name: process_of(name).native_grid for name in PROCESSES} == {
        "pfgm": "log",
        "pfgmpp": "rho",
        "ve": "log",
        "vp": "time",
    }


def test_training_levels_of_ve_and_vp() -> None:
    """KS of log t (ve) and of the SDE's time (vp) against uniform laws, 4,000 draws: the other's law is seen to fail."""
    y = torch.zeros(4000, 2)
    laws = {}
    for name in ("ve", "vp"):
        _, t = process_of(name).training_points(y, generator(3))
        low, high = math.log(0.02), math.log(100.0)
        laws[name] = {
            "ve": stats.kstest((t.double().log() - low) / (high - low), "uniform").pvalue,
            "vp": stats.kstest([VP.time(float(v)) for v in t], "uniform").pvalue,
        }
    assert laws["ve"]["ve"] > 1e-3 > laws["ve"]["vp"]
    assert laws["vp"]["vp"] > 1e-3 > laws["vp"]["ve"]


@pytest.mark.parametrize("name", ["ve", "vp"])
def test_gaussian_noise_of_ve_and_vp(name: str) -> None:
    """(x − y)/t is standard normal: KS over 8,000 coordinates, 1.1 times as wide is seen to fail."""
    y = torch.randn(4000, 2, generator=generator(1))
    x, t = process_of(name).training_points(y, generator(4))
    n = ((x - y).double() / t[:, None]).flatten()[t[:, None].expand(-1, 2).flatten() > 0.1]
    assert stats.kstest(n, "norm").pvalue > 1e-3 > stats.kstest(1.1 * n, "norm").pvalue


def test_priors() -> None:
    """ve: N(0, T²); vp: N(0, 1 + T²), that is z ~ N(0, I); both start where training ends."""
    x = torch.tensor([[3.0, 4.0]], dtype=F64)
    for name, sd in (("ve", 7.0), ("vp", math.sqrt(50.0))):
        expected = stats.norm(0, sd).logpdf([3.0, 4.0]).sum()
        assert process_of(name).prior(7.0).log_prob(x).item() == pytest.approx(expected, rel=1e-12)
    assert process_of("ve").rule_T == 100.0
    assert process_of("vp").rule_T == pytest.approx(152.17, abs=0.01)


@pytest.mark.parametrize("n_aug", [1.0, 2.5, 128.0, 2048.0, 3e6])
@pytest.mark.parametrize("dim", [1, 64, 3072])
def test_radii_are_exact_over_the_whole_range_of_n_aug(n_aug: float, dim: int) -> None:
    """KS of R² against its beta-prime law, 4,000 draws, in float64; a radius 10 % off (22 % at n_aug = 1, a wider law), or
    a clipped one, is seen to fail. Fifteen cases, so the bound on the p-value is 1e-4.
    """
    t = torch.full((4000,), 0.7, dtype=F64)
    r2 = (kernel_noise(dim, t, n_aug, generator(5)).square().sum(1) / (n_aug * 0.49)).numpy()
    law = stats.betaprime(dim / 2, n_aug / 2)
    assert len(np.unique(r2)) == 4000  # a clipped beta variable has ties at its bound
    assert stats.kstest(r2, law.cdf).pvalue > 1e-4
    assert stats.kstest(r2 * 1.1**2 if n_aug > 1 else r2 * 1.5, law.cdf).pvalue < 1e-4


def test_n_aug_infinity_is_a_gaussian_within_monte_carlo_error() -> None:
    """Mean square of 3·10⁶ extra dimensions against ∞, 20,000 draws of d = 64: within 4.5 standard errors."""
    t = torch.ones(20_000, dtype=F64)
    many = kernel_noise(64, t, 3e6, generator(6)).square().mean(1)
    gaussian = kernel_noise(64, t, math.inf, generator(7)).square().mean(1)
    error = math.sqrt(float(many.var() + gaussian.var()) / 20_000)
    assert abs(float(many.mean() - gaussian.mean())) < 4.5 * error
    assert abs(float(kernel_noise(64, t, 64.0, generator(8)).square().mean(1).mean() - gaussian.mean())) > 4.5 * error


def test_n_aug_1_is_our_poisson_kernel() -> None:
    """‖x − y‖/t of PFGM++ at n_aug = 1 against Algorithm 2's: two-sample KS, 20,000 draws; n_aug = 2 is seen to fail."""
    x, t = perturb(torch.zeros(20_000, 8, dtype=F64), sigma=0.1, tau=0.03, M=100.0, generator=generator(9))
    ours, ones = (x.norm(dim=1) / t).log(), torch.ones(20_000, dtype=F64)
    assert stats.ks_2samp(ours, kernel_noise(8, ones, 1.0, generator(10)).norm(dim=1).log()).pvalue > 1e-3
    assert stats.ks_2samp(ours, kernel_noise(8, ones, 2.0, generator(10)).norm(dim=1).log()).pvalue < 1e-6


@pytest.mark.parametrize("name", PROCESSES)
def test_a_mean_source_of_every_process_samples_the_data(name: str) -> None:
    """The exact field of a mixture in the process's own kernel, prior and clock: the two modes in proportion (4.5 sigma)."""
    process = process_of(name)
    law = GaussianMixture(
        torch.tensor([[-0.5, 0.0], [0.5, 0.0]], dtype=F64), 0.001, torch.tensor([0.8, 0.2]), n_aug=process.n_aug
    )
    sampler = SamplerConfig(T=30.0 if name == "pfgm" else "rule", solver="dopri5", rtol=1e-5)
    out = sample(law.mean_source, process, sampler, 2000, dtype=F64)
    assert out.status == "complete"
    assert abs(float((out.x[:, 0] < 0).double().mean()) - 0.8) < 4.5 * math.sqrt(0.16 / 2000)
    assert float(out.x[:, 1].std()) == pytest.approx(math.sqrt(0.001), rel=0.1)


def test_processes_on_equal_terms(folder: Folder) -> None:
    """In one study all processes share network, parameters, steps, batch, EMA, evaluation seeds and tolerance."""
    config = folder.load(
        train={"steps": 20, "batch_size": 32}, sampler={"solver": "dopri5", "rtol": 1e-3},
        search={"train": {"process": {"choice": list(PROCESSES)}}}, seeds={"train": 2, "sample": 2},
    )  # fmt: skip
    trials = make_plan(config)
    assert [t.train.process for t in trials] == [name for name in PROCESSES for _ in range(2)]
    kept = ("steps", "batch_size", "learning_rate", "warmup_steps", "constant_rate", "gradient_clip", "ema_decay", "bf16")
    assert len({tuple(getattr(t.train, key) for key in kept) for t in trials}) == 1
    assert len({t.network.model_dump_json() for t in trials if t.network}) == 1
    assert {t.seed for t in trials} == {0, 1}
    assert {t.sample_seeds for t in trials} == {(0, 1)}
    assert len({tuple(p.sampler_id for p in t.sampler_points) for t in trials}) == 1
    assert (
        len(
            {
                (n.rtol, n.atol)
                for t in trials
                for n in [resolve_sampler(t.sampler_points[0].config, make_process(t.train, config.info))]
            }
        )
        == 1
    )
    from pfgm.training.trainer import Trainer

    data = load_data(config.data)
    parameters = set()
    for t in trials:
        assert t.network is not None
        parameters.add(sum(p.numel() for p in Trainer(data, t.network, t.train, t.seed).parameters))
    assert len(parameters) == 1


@pytest.mark.parametrize("solver", ["dopri5", "heun2", "euler", "multistep2"])
@pytest.mark.parametrize("name", PROCESSES)
def test_nfe_counts_calls_of_the_mean_source_alike(name: str, solver: str) -> None:
    """NFE is the number of calls of D on a batch, final denoise included, whatever the clock."""
    process, calls = process_of(name), 0
    charges = PointCharges(torch.randn(5, 2, dtype=F64, generator=generator(2)), n_aug=process.n_aug)

    def counted(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return charges.mean_source(x, t)

    out = sample(counted, process, SamplerConfig(T=10.0, solver=solver), 50, dtype=F64)
    assert out.status == "complete"
    assert out.nfe == calls
    if solver != "dopri5":
        assert calls == 16 * (2 if solver == "heun2" else 1) + 1


@pytest.mark.parametrize(
    BAD,
    [
        ("ve", {"beta_max": 20.0}, "beta_max: belongs to process vp"),
        ("vp", {"sigma_min": 0.01}, "sigma_min: belongs to process ve"),
        ("ve", {"sigma_min": 2.0, "sigma_max": 1.0}, "sigma_min: must be below sigma_max, got 2 and 1"),
        ("vp", {"objective": "normalized"}, "objective: normalized does not go with process vp; use denoise"),
        ("ve", {"gamma": 5.0}, "gamma: belongs to objective normalized"),
        ("vp", {"beta_max": 2000.0}, "beta_max: implies a noise level of e.500; use at most 1000"),
        ("pfgmpp", {"P_mean": 900.0}, "P_mean: with P_std implies noise levels beyond"),
        ("pfgmpp", {"n_aug": 0.0}, r"greater than or equal to 0\.5"),
        ("pfgmpp", {"n_aug": -3.0}, r"greater than or equal to 0\.5"),
    ],
)
def test_keys_of_another_process_are_refused(process: str, train: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TrainConfig(process=process, **train)
