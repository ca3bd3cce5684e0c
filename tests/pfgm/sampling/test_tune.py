"""Grid tuned: levels chosen for one field come nearer the converged samples, and follow from field and sampler point alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from helpers.exact_flow import ExactFlow, process_of
from torch import Tensor

from pfgm.config import SamplerConfig
from pfgm.field.analytic import GaussianMixture
from pfgm.prior.latent import latents
from pfgm.sampling import tune as tuning
from pfgm.sampling.integrate import integrate, sample
from pfgm.sampling.own_levels import TunedLevels, Width, tuned_levels

F64 = torch.float64
MEANS = torch.tensor([[2.0, 0, 0, 0], [-1.0, 1.5, 0, 0], [-1.0, -1.5, 0.5, 0]], dtype=F64)


@pytest.fixture(autouse=True)
def a_short_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer latents and iterations than in earnest."""
    monkeypatch.setattr(tuning, "LATENTS", 48)
    monkeypatch.setattr(tuning, "ITERATIONS", 3)


def mixture(**train: Any) -> ExactFlow:
    """The exact field of three Gaussians in four dimensions, with gradients."""
    process = process_of(4, **train)
    return ExactFlow(GaussianMixture(MEANS, 0.2, n_aug=process.n_aug).mean_source, process)


def root_mean_square(flow: ExactFlow, sampler: SamplerConfig, seed: int = 5) -> float:
    """The error of a sampler point against an exact solution, over latents of their own."""
    exact = sampler.model_copy(update={"solver": "dopri5", "rtol": 1e-6, "atol": "same", "steps": None, "grid": None})
    found = [
        sample(flow.mean_source, flow.process, point, 100, seed, dtype=F64, tuned=flow.tuned(point)).x
        for point in (sampler, exact)
    ]
    return float((found[0] - found[1]).square().mean().sqrt())


@pytest.mark.parametrize("train", [{}, {"process": "pfgmpp", "n_aug": 64.0}, {"process": "ve"}, {"process": "vp"}])
def test_tuned_levels_come_nearer_on_latents_that_they_were_not_chosen_on(
    train: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "ITERATIONS", 15)
    flow = mixture(**train)
    errors = {grid: root_mean_square(flow, SamplerConfig(solver="pc2", steps=6, grid=grid)) for grid in ("tuned", "own", "rho")}
    assert errors["tuned"] < 0.9 * min(errors["own"], errors["rho"]), errors


def test_levels_belong_to_the_field_and_the_sampler_point_alone() -> None:
    """They are found again bit for bit, whatever the batch size, and another field has others."""
    point = SamplerConfig(solver="pc2", steps=5, grid="tuned")
    found = mixture().tuned(point)
    assert found == mixture().tuned(point.model_copy(update={"batch_size": 7}))
    assert found != mixture().tuned(point.model_copy(update={"denoise": False}))
    assert found != ExactFlow(GaussianMixture(MEANS / 4, 0.2).mean_source, process_of(4)).tuned(point)
    assert mixture().tuned(SamplerConfig(solver="pc2", steps=5, grid="own")) is None


def test_whoever_asks_may_have_turned_gradients_off() -> None:
    point = SamplerConfig(solver="pc2", steps=3, grid="tuned")
    expected = mixture(process="ve").tuned(point)
    for off in (torch.no_grad, torch.inference_mode):
        flow = mixture(process="ve")
        with off():
            assert flow.tuned(point) == expected


def test_companions_in_a_batch_change_nothing() -> None:
    flow, point = mixture(), SamplerConfig(solver="pc3", steps=5, grid="tuned", batch_size=40)
    levels = flow.tuned(point)
    together = sample(flow.mean_source, flow.process, point, 40, 3, dtype=F64, tuned=levels)
    alone = sample(flow.mean_source, flow.process, point.model_copy(update={"batch_size": 1}), 40, 3, dtype=F64, tuned=levels)
    assert together.nfe == alone.nfe == 6  # one call a step, and the denoise
    assert (together.x - alone.x).abs().max() <= 1e-12
    chosen = flow.sample(10, latents=latents(40, 4, 3).rows(slice(10)), solver="pc3", steps=5, grid="tuned")
    assert torch.equal(chosen, flow.sample(10, 3, solver="pc3", steps=5, grid="tuned"))


def test_levels_in_parts_of_the_batch_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large items are differentiated in parts, which moves the levels by rounding only."""
    point = SamplerConfig(solver="pc2", steps=4, grid="tuned")
    whole = mixture().tuned(point)
    monkeypatch.setattr(tuning, "NUMBERS", 4 * 20)
    parts = mixture().tuned(point)
    assert whole is not None and parts is not None
    assert parts.share == pytest.approx(whole.share, abs=1e-6)
    assert parts.log_widths == pytest.approx(whole.log_widths, abs=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_levels_fall_from_T_to_t_min_wherever_a_sample_starts(share: float) -> None:
    """Also where the chosen widths lie above T or below t_min for a sample of an extreme slope."""
    x = torch.ones(5, 3, dtype=F64) * torch.tensor([0.0, 1e-6, 1.0, 1e3, 1e9], dtype=F64)[:, None]
    own = tuned_levels(
        TunedLevels(share, tuple(math.log(s) for s in (1e6, 3.0, 1.0, 0.1, 1e-9))), x, 10.0, 1e-3, Width(0.5, 1.0)
    )
    assert own.t.shape == (6, 5) and own.t[0].eq(10).all() and own.far.gt(0).all()
    assert (own.t[1:] < own.t[:-1]).all() and (own.t[-1] >= 1e-3 * (1 - 1e-12)).all()


def test_one_step_can_be_tuned() -> None:
    assert root_mean_square(mixture(), SamplerConfig(solver="pc2", steps=1, grid="tuned")) < 1.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"solver": "heun2"}, "grid: tuned has other levels for each sample, which solver heun2 cannot follow; use multistep2"),
        ({"tuned": None}, "tuned: grid tuned needs the levels of 3 steps"),
        ({"steps": 4}, "tuned: grid tuned needs the levels of 4 steps"),
        ({"width": None}, "grid tuned needs the width of the data"),
        ({"upwards": True}, "tuned is known for the undisturbed way down only, where a line starts; use grid rho"),
        ({"disturb": lambda x, t, k: x}, "tuned is known for the undisturbed way down only"),
    ],
)
def test_where_tuned_levels_cannot_be(change: dict[str, object], words: str) -> None:
    flow, levels = mixture(), TunedLevels(1.0, (0.0, -1.0, -2.0))
    options = {"T": 3.0, "t_min": 0.1, "solver": "pc2", "grid": "tuned", "steps": 3, "width": Width(1.0, 1.0), "tuned": levels}
    with pytest.raises(ValueError, match=words):
        integrate(flow.mean_source, torch.ones(4, 4, dtype=F64), **(options | change))


def test_a_field_that_is_not_finite_is_refused_with_the_cure() -> None:
    def broken(x: Tensor, t: Tensor) -> Tensor:
        return x * torch.nan

    flow = ExactFlow(broken, process_of(2))
    with pytest.raises(ValueError, match="no levels can be tuned: the converged samples ended as diverged; use grid rho"):
        flow.sample(3, solver="pc2", steps=3, grid="tuned")
