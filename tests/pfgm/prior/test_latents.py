"""Latents: exact inverses in both tails, round trips through exact and learned fields, paths, temperature, refusals."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from helpers.exact_flow import ExactFlow, Gaussians, process_of
from scipy import special, stats

from pfgm.config import DataConfig, NetworkConfig, SamplerConfig, TrainConfig
from pfgm.data.dataset import load_data
from pfgm.field.analytic import GaussianMixture, PointCharges
from pfgm.field.empirical import mean_source
from pfgm.flow.exact import exact_field, exact_train
from pfgm.flow.trained import Field
from pfgm.prior.latent import Latents, check_latents, interpolate, latents, make_latents
from pfgm.prior.law import PoissonPrior, with_temperature
from pfgm.prior.tails import RadiusTails
from pfgm.process.pfgm import Pfgm
from pfgm.process.resolve import resolve_sampler
from pfgm.sampling.dequantization import dequantize
from pfgm.sampling.integrate import encode, sample
from pfgm.training.trainer import Trainer

F64 = torch.float64
pytestmark = pytest.mark.usefixtures("one_thread")


def directions(n: int, d: int, seed: int = 0) -> torch.Tensor:
    normal = torch.randn(n, d, dtype=F64, generator=torch.Generator().manual_seed(seed))
    return normal / normal.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("d", [1, 2, 64, 3072])
@pytest.mark.parametrize("n_aug", [1.0, 128.0, math.inf])
@pytest.mark.parametrize("max_ratio", [None, 150.0])
def test_from_latent_inverts_to_latent_in_both_tails(d: int, n_aug: float, max_ratio: float | None) -> None:
    """x → latent → x to 1e-11 relative from 1e-3 to 100 typical radii, where q underflows at d = 64 already."""
    free = PoissonPrior(d, 2.5, n_aug=n_aug)
    typical = float(free.radius_icdf(0.5))
    prior = PoissonPrior(d, 2.5, n_aug=n_aug, max_radius=None if max_ratio is None else max_ratio * typical)
    x = directions(400, d) * typical * torch.logspace(-3, 2, 400, dtype=F64)[:, None]
    found = prior.to_latent(x)
    assert bool(torch.isfinite(found.score).all())
    assert bool((found.score.diff() > 0).all()), "the score tells all radii apart"
    error = (prior.from_latent(*found) - x).norm(dim=1) / x.norm(dim=1)
    assert float(error.max()) < 1e-11
    torch.testing.assert_close(found.direction.norm(dim=1), torch.ones(400, dtype=F64))


def test_to_latent_inverts_from_latent_of_drawn_latents() -> None:
    """q and 1 − q of 1,000 drawn latents come back to 1e-12 in six laws, truncated ones among them."""
    drawn = latents(1000, 6, seed=3)
    for n_aug in (1.0, 128.0, math.inf):
        for max_radius in (None, 7.0):
            prior = PoissonPrior(6, 2.0, n_aug=n_aug, max_radius=max_radius)
            found = prior.to_latent(prior.from_latent(*drawn))
            for back, given in zip(found, drawn, strict=True):
                torch.testing.assert_close(back, given, rtol=1e-9, atol=1e-12)


def test_the_tail_keeps_what_the_quantile_loses() -> None:
    """Two PFGM outliers whose q both round to 1: with the tail they stay apart, by the quantile alone they do not."""
    prior = PoissonPrior(2, 1.0)
    x = torch.tensor([[3e17, 0.0], [0.0, 9e17]], dtype=F64)
    found = prior.to_latent(x)
    assert found.quantile.tolist() == [1.0, 1.0]
    torch.testing.assert_close(prior.from_latent(*found), x, rtol=1e-12, atol=0.0)
    assert bool(torch.isinf(prior.radius_icdf(found.quantile)).all())


def test_far_tails_against_scipy() -> None:
    """log P of χ laws in closed form: Φ(−r) in d = 1, e^{−r²/2} in d = 2, and scipy's χ² where that has not underflowed."""
    r = np.array([15.0, 40.0, 1000.0])
    got = RadiusTails(1, 2.0, math.inf).log_mass(2 * r, upper=True)
    np.testing.assert_allclose(got, special.log_ndtr(-r) + math.log(2), rtol=1e-13)
    np.testing.assert_allclose(RadiusTails(2, 1.0, math.inf).log_mass(r, upper=True), -(r**2) / 2, rtol=1e-13)
    for dim, squares, upper in ((3072, [1100.0, 1300.0], False), (64, [600.0, 900.0], True)):
        expected = stats.chi2(dim).logsf(squares) if upper else stats.chi2(dim).logcdf(squares)
        got = RadiusTails(dim, 1.0, math.inf).log_mass(np.sqrt(squares), upper=upper)
        np.testing.assert_allclose(got, expected, rtol=1e-11)
    ratio = 1e-5  # R²/(R² + r²) of Student-t kernels
    got = RadiusTails(30, 1.0, 128.0).log_mass(np.array([math.sqrt(128 * ratio / (1 - ratio))]), upper=False)
    np.testing.assert_allclose(got, math.log(special.betainc(15.0, 64.0, ratio)), rtol=1e-12)


def test_points_beyond_a_truncated_prior_are_refused() -> None:
    prior = PoissonPrior(2, 2.0, max_radius=10.0)
    x = torch.tensor([[1.0, 1.0], [30.0, 0.0], [0.0, 12.0]], dtype=F64)
    with pytest.raises(ValueError, match=r"2 of 3 points .* radius 10: make max_radius_ratio at least 3\.03 times as large"):
        prior.to_latent(x)
    edge = prior.from_latent(*make_latents(directions(1, 2), torch.ones(1, dtype=F64)))
    assert float(prior.to_latent(edge).tail) < 1e-15
    torch.testing.assert_close(prior.from_latent(*prior.to_latent(edge.float())), edge, rtol=1e-6, atol=0.0)
    with pytest.raises(ValueError, match="needs \\(n, 2\\)"):
        prior.to_latent(torch.zeros(4, 3))


def test_the_centre_has_a_latent() -> None:
    prior = PoissonPrior(3, 1.0)
    found = prior.to_latent(torch.zeros(2, 3, dtype=F64))
    assert found.quantile.tolist() == [0.0, 0.0]
    assert prior.from_latent(*found).tolist() == [[0.0] * 3] * 2


MEANS = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
SMOOTH = Gaussians(MEANS, 0.3)


def case(name: str) -> tuple[ExactFlow, torch.Tensor]:
    """An exact flow and data points of it, at t_min."""
    g = torch.Generator().manual_seed(1)
    if name == "pfgm mixture":
        mixture = GaussianMixture(MEANS, 0.09)
        return ExactFlow(mixture.mean_source, process_of(2)), mixture.sample(100, g)
    if name == "pfgm charges":
        y = torch.randn(30, 2, generator=g, dtype=F64)
        return ExactFlow(PointCharges(y).mean_source, process_of(2)), y + 1e-3 * torch.randn(30, 2, generator=g, dtype=F64)
    if name in ("ve charges", "vp charges"):
        y = torch.randn(30, 2, generator=g, dtype=F64)
        process = process_of(2, process=name[:2])
        x = y + 1e-3 * torch.randn(30, 2, generator=g, dtype=F64)
        return ExactFlow(lambda x, t: mean_source(x, t, y, n_aug=math.inf), process), x
    if name in ("ve", "vp"):
        return ExactFlow(SMOOTH.mean_source, process_of(2, process=name)), SMOOTH.sample(100, g)
    digits = load_data(DataConfig()).points[:100].double()
    y = digits[:30] + 1e-3 * torch.randn(30, 64, generator=g, dtype=F64)
    process, n_aug = (process_of(64), 1.0) if name == "pfgm digits" else (process_of(64, process="pfgmpp"), 128.0)
    return ExactFlow(lambda x, t: mean_source(x, t, digits, n_aug=n_aug), process), y


def relative_error(found: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Root mean square over coordinates of each point's error, over that of all data (n,)."""
    return (found - x).square().mean(1).sqrt() / x.square().mean().sqrt()


@pytest.mark.parametrize("rtol", [1e-3, 1e-5, 1e-7])
@pytest.mark.parametrize(
    "name", ["pfgm mixture", "pfgm charges", "pfgm digits", "pfgmpp digits", "ve", "vp", "ve charges", "vp charges"]
)
def test_data_come_back_from_their_latents(name: str, rtol: float) -> None:
    """x → latent → x with dopri5 in float64: `relative_error` is at most 10 rtol at every point (measured: 0.92 at worst).

    Points beside the border of two modes are expanded on the way down, which is why both ways are solved more tightly: at rtol
    itself the worst were 6 to 1,000 rtol off, and this bound is seen to fail.
    """
    flow, x = case(name)
    found = flow.decode(flow.encode(x, rtol=rtol), rtol=rtol)
    assert float(relative_error(found, x).max()) <= 10 * rtol
    if (name, rtol) == ("ve", 1e-3):
        loose = SamplerConfig(rtol=rtol, denoise=False)
        up = encode(flow.mean_source, flow.process, loose, flow.to_training_units(x), dtype=F64).latents
        down = sample(flow.mean_source, flow.process, loose, len(x), latents=up, dtype=F64).x
        assert float(relative_error(down, flow.to_training_units(x)).max()) > 10 * rtol


@pytest.mark.parametrize("n_aug", [1.0, math.inf])
def test_what_is_decoded_is_not_clamped(n_aug: float) -> None:
    """Digits have the range [−1, 1], samples without a denoise step leave it, and samples are clamped where they do.

    Data beyond the range come back to 10 rtol, and latents whose items lie beyond it to 1e-5; clamped they were off by 0.8.
    """
    data = load_data(DataConfig())
    field = exact_field("gaussian_mixture", data, exact_train(n_aug, data.info))
    x = dequantize(data.raw[:20].double(), 8.0, seed=0).reshape(20, 1, 8, 8)
    assert float((x > 1).double().mean()) > 0.01
    found = field.decode(field.encode(x, rtol=1e-4), rtol=1e-4)
    assert float(relative_error(found.flatten(1), x.flatten(1)).max()) <= 1e-3
    drawn = latents(10, 64, seed=3)
    items = field.decode(drawn, rtol=1e-6)
    assert float(items.abs().max()) > 1.05
    assert float((field.encode(items, rtol=1e-6).direction - drawn.direction).norm(dim=1).max()) < 1e-5
    assert float(field.sample(10, latents=drawn).abs().max()) == 1.0


@pytest.mark.parametrize("process", ["pfgm", "ve", "vp", "pfgmpp"])
def test_samples_go_back_to_their_latents(process: str) -> None:
    """latent → sample → latent of a smooth law, rtol 1e-7: directions to 1e-4 and scores to 1e-4 (measured: up to 3e-5)."""
    law = GaussianMixture(MEANS, 0.09) if process == "pfgm" else SMOOTH
    options = {"n_aug": math.inf} if process == "pfgmpp" else {}
    flow = ExactFlow(law.mean_source, process_of(2, process=process, **options))
    drawn = latents(50, 2, seed=1)
    found = flow.encode(flow.decode(drawn, rtol=1e-7), rtol=1e-7)
    assert float((found.direction - drawn.direction).norm(dim=1).max()) < 1e-4
    assert float((found.score - drawn.score).abs().max()) < 1e-4


@pytest.fixture(scope="module")
def rings() -> Field:
    """A small network that has learned two rings a little."""
    torch.set_num_threads(1)
    trainer = Trainer(
        load_data(DataConfig(name="rings", n=300)), NetworkConfig(width=32, depth=1), TrainConfig(steps=150, batch_size=64), 0
    )
    for _ in trainer.run():
        pass
    return Field.from_trainer(trainer)


@pytest.mark.parametrize("rtol", [1e-3, 1e-5, 1e-7])
def test_a_trained_field_decodes_what_it_encodes(rings: Field, rtol: float) -> None:
    """As `test_data_come_back_from_their_latents`, of a network in float64; in float32 to 1e-3 at rtol 1e-5."""
    x = load_data(DataConfig(name="rings", n=300)).raw[:60].double()
    precise = rings.double()
    found = precise.decode(precise.encode(x, rtol=rtol), rtol=rtol)
    assert found.dtype == F64
    assert float(relative_error(found, x).max()) <= 10 * rtol
    if rtol == 1e-5:
        single = rings.decode(rings.encode(x.float(), rtol=rtol), rtol=rtol)
        assert single.dtype == torch.float32
        assert float(relative_error(single.double(), x).median()) <= 1e-3


def test_given_latents_are_those_of_the_seed(rings: Field) -> None:
    """Sampling from `latents(n, d, seed)` is bit for bit sampling from the seed, in whole batches."""
    assert torch.equal(rings.sample(40, seed=5), rings.sample(40, latents=latents(40, 2, 5)))
    assert torch.equal(rings.sample(40, 5, batch_size=20), rings.sample(40, latents=latents(40, 2, 5), batch_size=20))
    part = rings.sample(7, latents=latents(7, 2, 5), batch_size=4, solver="heun2")
    torch.testing.assert_close(part, rings.sample(7, 5, batch_size=7, solver="heun2"), rtol=1e-4, atol=1e-5)


def test_encoding_does_not_depend_on_what_fills_the_last_batch() -> None:
    """Fixed steps: 7 points in batches of 4 have the latents that they have in one batch; every call is counted."""
    flow, x = case("ve")
    options = {"solver": "rk4", "steps": 8}
    whole, parts = flow.encode(x[:7], **options), flow.encode(x[:7], batch_size=4, **options)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    config = SamplerConfig(solver="rk4", steps=8, batch_size=4)
    assert encode(flow.mean_source, flow.process, config, x[:7]).nfe == 32


def test_an_encoding_that_fails_says_so() -> None:
    """A field that is not finite half-way: status diverged, latents NaN; the flow raises."""
    process = process_of(2)
    broken = ExactFlow(lambda x, t: torch.where(t[:, None] > 1, torch.nan, 0.0) * x, process)
    x = torch.ones(3, 2, dtype=F64)
    found = encode(broken.mean_source, process, SamplerConfig(), x, dtype=F64)
    assert found.status == "diverged"
    assert bool(torch.isnan(found.latents.quantile).all())
    with pytest.raises(RuntimeError, match="encoding ended as diverged"):
        broken.encode(x)


class OneWay(Pfgm):
    """A process whose sampler is no ODE."""

    encodes: ClassVar[bool] = False


def test_a_process_that_does_not_encode_is_refused() -> None:
    flow = ExactFlow(SMOOTH.mean_source, process_of(2, OneWay))
    assert flow.sample(3).shape == (3, 2)
    with pytest.raises(ValueError, match="process: OneWay has no ODE from data to latents"):
        flow.encode(torch.zeros(3, 2))


def test_interpolation_has_both_ends_and_runs_along_the_great_circle() -> None:
    """Ends bit for bit, equal angles between neighbours, scores on a line; the middle of right angles is their bisector."""
    a, b = latents(5, 4, 0), latents(5, 4, 1)
    path = interpolate(a, b, 9)
    for part, start, end in zip(path, a, b, strict=True):
        assert torch.equal(part[::9], start)
        assert torch.equal(part[8::9], end)
    way = path.direction.reshape(5, 9, 4)
    steps = (way[:, 1:] * way[:, :-1]).sum(2).arccos()
    torch.testing.assert_close(steps, steps.mean(1, keepdim=True).expand_as(steps), rtol=1e-9, atol=0.0)
    torch.testing.assert_close(steps.sum(1), (a.direction * b.direction).sum(1).arccos(), rtol=1e-9, atol=0.0)
    scores = path.score.reshape(5, 9)
    torch.testing.assert_close(scores[:, 4], (a.score + b.score) / 2)
    torch.testing.assert_close(path.quantile, torch.special.ndtr(path.score), rtol=1e-12, atol=1e-15)
    square = make_latents(torch.eye(2, dtype=F64), torch.tensor([0.5, 0.5], dtype=F64))
    middle = interpolate(square.rows(slice(0, 1)), square.rows(slice(1, 2)), 3).rows(slice(1, 2))
    torch.testing.assert_close(middle.direction, torch.full((1, 2), math.sqrt(0.5), dtype=F64))
    assert float(middle.quantile) == pytest.approx(0.5, abs=1e-15)


def test_a_path_between_equal_latents_stays() -> None:
    a = latents(6, 3, 2)
    path = interpolate(a, a, 4)
    for part, start in zip(path, a, strict=True):
        torch.testing.assert_close(part, start.repeat_interleave(4, 0), rtol=1e-12, atol=1e-15)


def test_the_middle_of_independent_latents_is_uniform_and_nearer_the_median() -> None:
    """KS of 50,000 middles: first coordinate uniform on the sphere in d = 3, score N(0, 1/2); detects 5 % of the scale."""
    path = interpolate(latents(50_000, 3, 0), latents(50_000, 3, 1), 3).rows(slice(1, None, 3))
    assert stats.kstest(path.direction[:, 0], stats.uniform(-1, 2).cdf).pvalue > 1e-3
    assert stats.kstest(path.score, stats.norm(0, math.sqrt(0.5)).cdf).pvalue > 1e-3
    assert stats.kstest(path.score, stats.norm(0, 1.05 * math.sqrt(0.5)).cdf).pvalue < 1e-4


@pytest.mark.parametrize("n_aug", [1.0, math.inf])
def test_temperature_multiplies_the_starting_point(n_aug: float) -> None:
    prior, drawn = PoissonPrior(5, 3.0, n_aug=n_aug), latents(200, 5, 4)
    for same, part in zip(with_temperature(drawn, 1.0, prior), drawn, strict=True):
        assert torch.equal(same, part)
    half = with_temperature(drawn, 0.5, prior)
    torch.testing.assert_close(prior.from_latent(*half), 0.5 * prior.from_latent(*drawn), rtol=1e-11, atol=0.0)
    assert torch.equal(half.direction, drawn.direction)
    for back, part in zip(with_temperature(half, 2.0, prior), drawn, strict=True):
        torch.testing.assert_close(back, part, rtol=1e-9, atol=1e-12)


def test_a_temperature_is_refused_where_it_means_nothing() -> None:
    drawn, prior = latents(50, 5, 4), PoissonPrior(5, 3.0, max_radius=20.0)
    with pytest.raises(ValueError, match="temperature must be a positive number, got 0"):
        with_temperature(drawn, 0.0, prior)
    with pytest.raises(ValueError, match="beyond the truncated prior's radius 20"):
        with_temperature(drawn, 3.0, prior)


def test_latents_of_the_wrong_shape_are_refused() -> None:
    flow, drawn = ExactFlow(SMOOTH.mean_source, process_of(2)), latents(4, 2, 0)
    with pytest.raises(ValueError, match=r"latents of the wrong shape: direction \(4, 3\).*has d = 2"):
        flow.sample(4, latents=latents(4, 3, 0))
    with pytest.raises(ValueError, match=r"n must be at least 1, got 0"):
        flow.sample(0)
    with pytest.raises(ValueError, match=r"latents must be Latents, as .* got Tensor"):
        flow.decode(torch.zeros(4, 2))  # type: ignore[arg-type]
    for edited in (
        drawn._replace(quantile=torch.full_like(drawn.quantile, 0.5)),
        drawn._replace(direction=5 * drawn.direction),
    ):
        with pytest.raises(ValueError, match=r"latents whose parts do not agree .* make them anew with"):
            flow.sample(4, latents=edited)
    with pytest.raises(ValueError, match=r"n = 5 samples need 5 latents: give n = 4"):
        flow.sample(5, latents=drawn)
    with pytest.raises(ValueError, match=r"need \(n, d\) and \(n,\)"):
        check_latents(drawn._replace(tail=drawn.tail[:2]))
    with pytest.raises(ValueError, match="wrong shape"):
        interpolate(drawn, latents(3, 2, 0), 4)
    with pytest.raises(ValueError, match="at least 2"):
        interpolate(drawn, drawn, 1)
    with pytest.raises(ValueError, match="4 of 4 pairs have opposite directions"):
        interpolate(drawn, drawn._replace(direction=-drawn.direction), 3)
    with pytest.raises(ValueError, match=r"need floats of shape \(n, \*\(2,\)\)"):
        flow.encode(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="x has 2 values that are not finite; remove their items"):
        flow.encode(torch.tensor([[0.0, math.nan], [math.inf, 0.0]]))
    with pytest.raises(ValueError, match="the step at the end has no way back"):
        flow.encode(torch.zeros(4, 2), denoise=True)
    with pytest.raises(ValueError, match="not read by solver dopri5"):
        flow.encode(torch.zeros(4, 2), steps=3)


def test_sampling_takes_latents_of_either_precision(rings: Field) -> None:
    """float32 latents, as a file may hold them, start where the float64 ones do, to float32."""
    drawn, seen = latents(10, 2, 0), list[torch.Tensor]()
    single = Latents(*(part.float() for part in drawn))
    config = SamplerConfig(solver="heun2", steps=4)
    numbers = resolve_sampler(config, rings.process)

    def recorded(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return rings.mean_source(x, t)

    made = sample(recorded, rings.process, config, 10, latents=single)
    expected = rings.process.prior(numbers.T).from_latent(*drawn)
    torch.testing.assert_close(seen[0].double(), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(made.radius_ratio, expected.norm(dim=1) / numbers.T, rtol=1e-4, atol=1e-6)


def test_flow_says_the_prior_it_starts_from(rings: Field) -> None:
    prior = rings.prior(T_ratio=2.0, max_radius_ratio=5.0)
    assert prior.T == 2 * rings.process.rule_T
    assert prior.max_radius == 5 * prior.T
