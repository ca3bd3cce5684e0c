"""Likelihoods against laws that are known, the trace estimate against the trace, dequantisation, the metric."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from helpers.exact_flow import ExactFlow, Gaussians, process_of
from scipy import stats

from pfgm.config import DataConfig, EvaluateConfig, NetworkConfig, SamplerConfig, TrainConfig
from pfgm.data.dataset import load_data
from pfgm.field.analytic import GaussianMixture, PointCharges
from pfgm.field.empirical import mean_source
from pfgm.flow.exact import exact_field, exact_train
from pfgm.flow.trained import Field
from pfgm.metrics.columns import MEASURED
from pfgm.metrics.evaluator import Evaluator
from pfgm.metrics.likelihood import some_points
from pfgm.process.pfgm import Pfgm
from pfgm.registry import METRICS
from pfgm.sampling.dequantization import dequantize, quantization
from pfgm.sampling.likelihood import bits_per_dim, log_likelihood, rademacher, source_and_divergence
from pfgm.training.trainer import Trainer
from study.describe import describe_plan
from study.plan.identity import evaluation
from study.plan.make import make_plan
from study.plan.worklist import Worklist
from study.rows.records import MEASUREMENTS

F64 = torch.float64
pytestmark = pytest.mark.usefixtures("one_thread")


def mixture(d: int) -> GaussianMixture:
    """Three round Gaussians about the origin."""
    means = torch.randn(3, d, generator=torch.Generator().manual_seed(0), dtype=F64)
    return GaussianMixture(means - means.mean(0), 0.25)


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("d", [1, 2, 8])
def test_bits_per_dim_of_a_mixture(d: int) -> None:
    """PFGM from T = 40 on 100 points of a mixture: 0.005 bits/dim from the exact law at t_min in the mean, at every rtol.

    Measured: 4e-4 at rtol 1e-4, 1e-4 at 1e-5.
    """
    law = mixture(d)
    flow, x = ExactFlow(law.mean_source, process_of(d)), law.sample(100, generator())
    exact = bits_per_dim(law.log_prob(x, 1e-2), d, 8.0)
    for rtol in (1e-4, 1e-5):
        found = flow.log_likelihood(x, T=40.0, t_min=1e-2, rtol=rtol)
        assert (found.status, found.divergence) == ("complete", "exact")
        assert abs(float((bits_per_dim(found.log_prob, d, 8.0) - exact).mean())) < 5e-3


def test_the_error_of_the_prior_falls_with_T() -> None:
    """Beyond the solver (rtol 1e-7), what is left is of order T^−2 at a point of centred data: 25 times less for 5 T."""
    law = mixture(2)
    flow, x = ExactFlow(law.mean_source, process_of(2)), law.sample(40, generator())
    worst = [
        float((flow.log_likelihood(x, T=T, t_min=1e-2, rtol=1e-7).log_prob - law.log_prob(x, 1e-2)).abs().max())
        for T in (40.0, 200.0)
    ]
    assert worst[1] < 2e-4
    assert worst[0] / worst[1] > 12


def gaussian_flow(d: int, c: float, **process: Any) -> ExactFlow:
    """Data N(0, c I) and a Gaussian kernel."""
    return ExactFlow(Gaussians(torch.zeros(1, d), math.sqrt(c)).mean_source, process_of(d, **process))


@pytest.mark.parametrize("process", [{"process": "ve"}, {"process": "pfgmpp", "n_aug": math.inf}, {"process": "vp"}])
def test_one_gaussian_in_closed_form(process: dict[str, Any]) -> None:
    """x(T) = x √((c + T²)/(c + t²)), so log p = log prior(x(T)) + d/2 log((c + T²)/(c + t²)), to 1e-5 nats at rtol 1e-7."""
    d, c, T, t_min = 3, 0.7, 5.0, 0.1
    flow = gaussian_flow(d, c, **process)
    x = 2 * torch.randn(50, d, generator=generator(), dtype=F64)
    growth = (c + T**2) / (c + t_min**2)
    variance = T**2 + (1.0 if process["process"] == "vp" else 0.0)
    top = stats.norm(0, math.sqrt(variance)).logpdf(x.numpy() * math.sqrt(growth)).sum(1)
    found = flow.log_likelihood(x, T=T, t_min=t_min, rtol=1e-7)
    np.testing.assert_allclose(found.log_prior, top, atol=1e-5)
    np.testing.assert_allclose(found.log_prob, top + d / 2 * math.log(growth), atol=1e-5)


def test_the_clock_does_not_matter() -> None:
    """ve and the diffusion of pfgmpp have different times and one likelihood, bit for bit."""
    x = torch.randn(20, 2, generator=generator(), dtype=F64)
    one, other = (
        gaussian_flow(2, 0.5, **p).log_likelihood(x, T=30.0)
        for p in ({"process": "ve"}, {"process": "pfgmpp", "n_aug": math.inf})
    )
    assert torch.equal(one.log_prob, other.log_prob)


@pytest.mark.parametrize("process", ["ve", "vp"])
def test_the_density_integrates_to_one(process: str) -> None:
    """d = 1, by the trapezoid rule over 801 points, to 1e-4; detects a density that is off by a factor of 1.0001."""
    flow = ExactFlow(Gaussians(torch.tensor([[-1.0], [0.8]]), 0.4).mean_source, process_of(1, process=process))
    x = torch.linspace(-6, 6, 801, dtype=F64)
    found = flow.log_likelihood(x[:, None], t_min=1e-2, rtol=1e-6, batch_size=801)
    assert float(torch.trapezoid(found.log_prob.exp(), x)) == pytest.approx(1.0, abs=1e-4)


def test_a_truncated_prior_has_its_own_density() -> None:
    """Truncation divides the density by the mass it keeps, for points that end inside."""
    flow, x = gaussian_flow(2, 1.0, process="ve"), torch.zeros(3, 2, dtype=F64)
    whole, cut = (flow.log_likelihood(x, T=20.0, max_radius_ratio=r) for r in (None, 1.5))
    mass = flow.prior(T=20.0, max_radius_ratio=1.5).truncated_mass
    torch.testing.assert_close(cut.log_prob - whole.log_prob, torch.full((3,), -math.log1p(-mass), dtype=F64))
    words = r"1 of 2 points lie beyond the truncated prior's radius 30: make max_radius_ratio at least 2\.02 times as large, or"
    with pytest.raises(ValueError, match=words):
        flow.log_likelihood(torch.tensor([[0.1, 0.0], [0.0, 3.0]], dtype=F64), T=20.0, max_radius_ratio=1.5)


def test_hutchinson_agrees_with_the_trace() -> None:
    """4,000 probes a point: the mean within 4 standard errors of the exact divergence, which are below 3 % of it."""
    law, n_probes = Gaussians(torch.randn(3, 8, generator=generator(), dtype=F64), 0.5), 4000
    x = law.sample(6, generator()) + torch.randn(6, 8, generator=generator(2), dtype=F64)
    exact = source_and_divergence(law.mean_source, x, torch.full((6,), 0.7, dtype=F64)).divergence
    signs = rademacher(6, n_probes, 8, seed=0)
    many, t = x.repeat_interleave(n_probes, 0), torch.full((6 * n_probes,), 0.7, dtype=F64)
    every = source_and_divergence(law.mean_source, many, t, signs.reshape(-1, 1, 8)).divergence.reshape(6, n_probes)
    error = every.std(1) / math.sqrt(n_probes)
    assert bool((error < 0.03 * exact.abs()).all())
    assert bool(((every.mean(1) - exact).abs() < 4 * error).all())
    assert bool(((every.mean(1) - 1.3 * exact).abs() > 4 * error).all()), "a trace 30 % too large is seen"
    together = source_and_divergence(law.mean_source, x, t[:6], signs[:, :50]).divergence
    torch.testing.assert_close(together, every[:, :50].mean(1))


def test_hutchinson_likelihoods_are_unbiased() -> None:
    """Ten points, each with 100 probes of its own: the mean log p within 4 standard errors of the exact one."""
    law = Gaussians(torch.randn(3, 8, generator=generator(), dtype=F64), 0.5)
    flow, x = ExactFlow(law.mean_source, process_of(8, process="ve")), law.sample(10, generator())
    exact = flow.log_likelihood(x, t_min=1e-2, rtol=1e-4).log_prob
    found = flow.log_likelihood(x.repeat(100, 1), t_min=1e-2, rtol=1e-4, divergence="hutchinson", batch_size=1000)
    drawn = found.log_prob.reshape(100, 10).mean(1)
    assert float(drawn.std()) > 0
    assert abs(float(drawn.mean() - exact.mean())) < 4 * float(drawn.std()) / 10


def test_probes_do_not_depend_on_how_many_points_there_are() -> None:
    assert torch.equal(rademacher(3, 2, 5, seed=7), rademacher(40, 2, 5, seed=7)[:3])
    assert not torch.equal(rademacher(3, 2, 5, seed=7), rademacher(3, 2, 5, seed=8))
    assert set(rademacher(9, 1, 9, seed=0).unique().tolist()) == {-1.0, 1.0}


@pytest.fixture(scope="module")
def rings() -> Field:
    """A small network that has learned two rings a little."""
    torch.set_num_threads(1)
    data = load_data(DataConfig(name="rings", n=300))
    trainer = Trainer(data, NetworkConfig(width=32, depth=1), TrainConfig(steps=150, batch_size=64), 0)
    for _ in trainer.run():
        pass
    return Field.from_trainer(trainer)


def test_divergence_of_a_network_against_finite_differences(rings: Field) -> None:
    """Central differences of a trained network in float64 at three levels, to 1e-5 of the largest divergence."""
    flow, h = rings.double(), 1e-5
    for level in (0.02, 0.5, 10.0):
        x = (1 + level) * torch.randn(30, 2, generator=generator(), dtype=F64)
        t = torch.full((30,), level, dtype=F64)
        found = source_and_divergence(flow.source_with_gradient, x, t)
        assert torch.equal(found.source, flow.mean_source(x, t))
        differences = torch.zeros(30, dtype=F64)
        for k in range(2):
            step = h * torch.eye(2, dtype=F64)[k]
            differences += ((flow.mean_source(x + step, t) - flow.mean_source(x - step, t)) / (2 * h))[:, k]
        assert float((found.divergence - differences).abs().max()) < 1e-5 * float(differences.abs().max())


def test_a_network_in_float32_says_the_same(rings: Field) -> None:
    x = load_data(DataConfig(name="rings", n=300)).raw[:40]
    single, double = (flow.log_likelihood(x, rtol=1e-5).log_prob for flow in (rings, rings.double()))
    assert single.dtype == F64
    assert float((single - double).abs().max()) < 5e-3


def test_a_unet_has_a_likelihood() -> None:
    """Reverse passes through a U-Net in channels-last order, both divergences."""
    data = load_data(DataConfig())
    network = NetworkConfig(name="unet", width=8, depth=2)
    field = Field.from_trainer(Trainer(data, network, TrainConfig(steps=1, batch_size=64), 0))
    for divergence in ("exact", "hutchinson"):
        found = field.log_likelihood(data.raw[:2].reshape(2, 1, 8, 8), divergence=divergence, rtol=1e-2, t_min=0.5, T=5.0)
        assert (found.status, found.divergence) == ("complete", divergence)
        assert bool(torch.isfinite(found.log_prob).all())


class OneWay(Pfgm):
    """A process whose sampler is no ODE."""

    encodes: ClassVar[bool] = False


def test_what_has_no_likelihood_is_refused() -> None:
    digits, x = load_data(DataConfig()).points[:50].double(), torch.zeros(2, 64)
    blind = ExactFlow(lambda x, t: mean_source(x, t, digits), process_of(64))
    with pytest.raises(ValueError, match=r"mean source has no gradient.*PointCharges"):
        blind.log_likelihood(x)
    flow = gaussian_flow(2, 1.0, process="ve")
    with pytest.raises(ValueError, match="process: OneWay has no ODE"):
        ExactFlow(flow.mean_source, process_of(2, OneWay)).log_likelihood(torch.zeros(1, 2))
    with pytest.raises(ValueError, match="need an adaptive one, got heun2"):
        flow.log_likelihood(torch.zeros(1, 2), solver="heun2")
    with pytest.raises(ValueError, match="use exact or hutchinson"):
        flow.log_likelihood(torch.zeros(1, 2), divergence="skilling")
    with pytest.raises(ValueError, match="at least 1, got 0"):
        flow.log_likelihood(torch.zeros(1, 2), n_probes=0)
    with pytest.raises(ValueError, match=r"shape \(n, \*\(2,\)\)"):
        flow.log_likelihood(torch.zeros(1, 3))


def test_a_solve_that_fails_is_a_status() -> None:
    """Not finite half-way, or out of steps: NaN for the batch that failed, and the other batch's numbers."""
    flow, x = gaussian_flow(2, 1.0, process="ve"), torch.tensor([[0.1, 0.2], [9.0, 9.0]], dtype=F64)

    def broken(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.where((x.norm(dim=1) > 100)[:, None], torch.nan, 1.0) * flow.mean_source(x, t)

    found = ExactFlow(broken, process_of(2, process="ve")).log_likelihood(x, T=20.0, batch_size=1)
    assert found.status == "diverged"
    assert torch.isfinite(found.log_prob).tolist() == [True, False]
    limited = log_likelihood(flow, x, max_steps=2)
    assert limited.status == "solver_limit"
    assert bool(torch.isnan(limited.log_prob).all())


def test_bits_of_uniform_levels_are_their_logarithm() -> None:
    """Data uniform over K grey levels have density (a/K)^d once dequantised: exactly log2 K bits a dimension."""
    for levels, count in ((127.5, 256), (8.0, 17), (8.0, 2)):
        log_prob = torch.tensor([64 * math.log(levels / count)], dtype=F64)
        assert float(bits_per_dim(log_prob, 64, levels)) == pytest.approx(math.log2(count), abs=1e-12)


def test_dequantised_digits_keep_their_levels_and_fill_them() -> None:
    """⌊8 (x + 1)⌋ is v again; what was added is uniform (KS of 115,008 numbers, detects a width off by 1 %)."""
    data = load_data(DataConfig())
    found = quantization(data)
    assert found == (8.0, "(v + u)/8 − 1")
    raw = data.raw[:].double()
    x = dequantize(raw, found.levels, seed=3)
    assert torch.equal((8 * (x + 1)).floor(), 8 * (raw + 1))
    u = (8 * (x - raw)).flatten().numpy()
    assert stats.kstest(u, "uniform").pvalue > 1e-3
    assert stats.kstest(1.01 * u, "uniform").pvalue < 1e-4
    assert torch.equal(dequantize(raw[:5], 8.0, seed=3), x[:5])
    assert not torch.equal(dequantize(raw[:5], 8.0, seed=4), x[:5])


def test_bytes_have_their_own_levels_and_floats_none(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (20, 4, 4), dtype=np.uint8)
    np.save(tmp_path / "grey.npy", grey)
    data = load_data(DataConfig(name="npz", path=str(tmp_path / "grey.npy")))
    found = quantization(data)
    assert found == (127.5, "(v + u)/127.5 − 1")
    x = dequantize(data.raw[:], found.levels)
    assert torch.equal((127.5 * (x + 1) + 1e-4).floor().long(), torch.from_numpy(grey.reshape(20, 16)).long())
    np.save(tmp_path / "floats.npy", grey.astype(np.float32) / 255)
    for config in (DataConfig(name="npz", path=str(tmp_path / "floats.npy")), DataConfig(name="rings", n=50)):
        with pytest.raises(ValueError, match=r"data are not quantised.*nats per dimension"):
            quantization(load_data(config))


def test_the_metric_of_a_known_law() -> None:
    """The toy `gaussians` and its exact field: nats/dim are the law's own entropy per dimension to 0.01, and no bits."""
    data = load_data(DataConfig(name="gaussians", n=600, holdout=0.5))
    flow = exact_field("gaussian_mixture", data, exact_train(math.inf, data.info))
    measurement = Evaluator(data, EvaluateConfig(samples=50, metrics=("likelihood",), likelihood_samples=100)).of(flow)
    row = measurement.at(SamplerConfig(solver="heun2", steps=4, t_min=0.005), seed=0).row
    x = some_points(data, 100) - data.info.mean.double()
    assert row["metric_nats_per_dim"] == pytest.approx(float(-flow.law.log_prob(x, 0.005).mean() / 2), abs=0.01)
    assert (row["metric_n_likelihood"], row["metric_divergence"], row["metric_dequantization"]) == (100, "exact", "none")
    assert row["metric_likelihood_t"] == 0.005
    assert "metric_bits_per_dim" not in row
    assert set(row) <= set(MEASUREMENTS)


def test_the_metric_of_grey_levels_is_of_held_out_points(caplog: pytest.LogCaptureFixture) -> None:
    """Digits: bits and nats tell the same, held-out points are taken, and sampler points that differ in steps share it.

    The density is that at half a grey level where t_min is lower; there is none where T is.
    """
    data = load_data(DataConfig(holdout=0.1))
    assert data.test is not None
    taken = some_points(data, 30)
    held_out = {tuple(row) for row in data.test[:].double().tolist()}
    assert all(tuple(row) in held_out for row in taken.tolist())
    flow = exact_field("gaussian_mixture", data, exact_train(math.inf, data.info))
    measurement = Evaluator(data, EvaluateConfig(samples=50, metrics=("likelihood",), likelihood_samples=30)).of(flow)
    rows = [measurement.at(SamplerConfig(solver="euler", steps=n, t_min=0.1), seed=0).row for n in (2, 3)]
    assert rows[0]["metric_nats_per_dim"] == rows[1]["metric_nats_per_dim"]
    assert (rows[0]["metric_divergence"], rows[0]["metric_dequantization"]) == ("hutchinson", "(v + u)/8 − 1")
    assert rows[0]["metric_bits_per_dim"] == pytest.approx(rows[0]["metric_nats_per_dim"] / math.log(2) + 3, abs=1e-12)
    exact = flow.law.log_prob(dequantize(taken, 8.0, 0) - data.info.mean.double(), 0.1)
    assert abs(rows[0]["metric_bits_per_dim"] - float(bits_per_dim(exact, 64, 8.0).mean())) < 0.1
    assert 0 < rows[0]["metric_bits_per_dim_se"] < 1
    low, half = (measurement.at(SamplerConfig(solver="euler", steps=2, t_min=t), seed=0).row for t in (1e-3, 1 / 16))
    assert [row["metric_likelihood_t"] for row in (rows[0], low, half)] == [0.1, 1 / 16, 1 / 16]
    assert low["metric_bits_per_dim"] == half["metric_bits_per_dim"] != rows[0]["metric_bits_per_dim"]
    under = measurement.at(SamplerConfig(solver="euler", steps=2, T=0.06), seed=0).row
    assert "metric_bits_per_dim" not in under and "not above half a grey level, 0.0625" in caplog.text


def test_grey_levels_are_refused_where_data_units_are_meant() -> None:
    with pytest.raises(ValueError, match=r"dtype torch.uint8; need floats of shape"):
        ExactFlow(lambda x, t: 0.5 * x, process_of(2)).log_likelihood(torch.zeros(3, 2, dtype=torch.uint8))


def test_a_likelihood_that_fails_leaves_nulls(caplog: pytest.LogCaptureFixture) -> None:
    """A D that is not finite where data begin but fine where samples do: no columns, a warning, no exception."""
    data = load_data(DataConfig(name="rings", n=100))

    class Broken(ExactFlow):
        def source_with_gradient(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return torch.nan * x

    flow = Broken(lambda x, t: 0.5 * torch.tanh(x), process_of(2))
    measurement = Evaluator(data, EvaluateConfig(samples=50, metrics=("likelihood",))).of(flow)
    row = measurement.at(SamplerConfig(solver="heun2", steps=4), seed=0).row
    assert row["status"] == "complete"
    assert "metric_nats_per_dim" not in row
    assert "no likelihood at T" in caplog.text


def test_every_metric_has_a_column_and_the_default_moves_no_identity(folder: Any) -> None:
    """`likelihood_samples` at its default is in no identity, so rows of earlier studies keep theirs; another number is."""
    assert sorted(column.metric for column in MEASURED if column.filled) == sorted(METRICS)
    before = evaluation(folder.load(evaluate={"samples": 60, "metrics": ["fid"]}))
    assert "likelihood_samples" not in before
    assert evaluation(folder.load(evaluate={"samples": 60, "metrics": ["fid"], "likelihood_samples": 256})) == before
    other = evaluation(folder.load(evaluate={"samples": 60, "metrics": ["fid"], "likelihood_samples": 99}))
    assert other == {**before, "likelihood_samples": 99}


@pytest.mark.parametrize(
    ("sampler", "search", "metrics", "line"),
    [
        ({"max_radius_ratio": 10.0}, {}, ["fid", "likelihood"], "of likelihood: no max_radius_ratio moves them"),
        (
            {},
            {"max_radius_ratio": {"choice": [None, 10]}},
            ["prior_error", "likelihood"],
            "of likelihood and prior_error: no max",
        ),
        ({"max_radius_ratio": 10.0}, {}, ["fid"], None),
        ({}, {}, ["prior_error", "likelihood"], None),
    ],
)
def test_the_plan_says_which_metrics_no_truncation_moves(
    folder: Any, sampler: dict, search: dict, metrics: list, line: str | None
) -> None:
    config = folder.load(
        network=None, train=None, field={"exact": "gaussian_mixture"}, search={"sampler": search},
        sampler={"solver": "heun2", "steps": 4, **sampler}, evaluate={"samples": 60, "metrics": metrics},
    )  # fmt: skip
    plan = describe_plan(config, Worklist(config, make_plan(config)))
    told = [text for text in plan.splitlines() if "whole prior" in text]
    assert [line in text for text in told] == ([True] if line else [])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rtol": -1.0}, "rtol and atol must be positive, got -1.0"),
        ({"rtol": 0.0}, "rtol and atol must be positive"),
        ({"T": -1.0}, "^T: .*got -1.0$"),
        ({"t_min": 0.0}, "^t_min: .*got 0.0$"),
    ],
)
def test_nonsense_is_one_line(options: dict[str, float], words: str) -> None:
    flow = ExactFlow(PointCharges(torch.zeros(1, 2)).mean_source, process_of(2))
    with pytest.raises(ValueError, match=words):
        log_likelihood(flow, torch.ones(3, 2), **options)
