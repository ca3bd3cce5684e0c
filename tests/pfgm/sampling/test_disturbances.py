"""Disturbances: noise before solver steps, rounded and noisy weights; their rows in a study, paired by latent."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from helpers.folder import Folder, same_rows
from scipy import stats

from analysis import load_study, write_report
from analysis.report.sections.record.runnable import run_yaml
from pfgm.config import NetworkConfig, SamplerConfig, TrainConfig
from pfgm.data.dataset import load_data
from pfgm.field.analytic import PointCharges
from pfgm.networks.build import build_network
from pfgm.process.clock import LOG_HEIGHT, VpClock
from pfgm.process.make import make_process
from pfgm.process.resolve import resolve_train
from pfgm.sampling.disturbances import StepNoise, disturb_weights, quantize
from pfgm.sampling.integrate import integrate, sample
from study.config.yaml_source import ConfigError
from study.load import load_study_config
from study.plan.make import make_plan

F64 = torch.float64


def tiny_network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_network(NetworkConfig(width=16, depth=1), (2,), 1.0, 1.0)


@pytest.mark.parametrize("clock", [None, LOG_HEIGHT, VpClock(0.1, 20.0)])
@pytest.mark.parametrize("solver", ["euler", "midpoint", "heun2", "rk4", "multistep2"])
def test_noise_is_added_before_every_step(solver: str, clock: Any) -> None:
    """x ← x + α t n with the step's own t: where D is called at the start of each step, and where the last one ends.

    A step that is disturbed ends where the same solver, from the same disturbed point, ends by itself.
    """
    noise, called = StepNoise(0.2, seed=3), list[tuple[torch.Tensor, float]]()
    x = torch.randn(5, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    options = {} if clock is None else {"clock": clock}

    def source(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        called.append((x, float(t[0])))
        return 0.5 * x if solver != "multistep2" else torch.ones_like(x)  # whose steps depend on D before

    out = integrate(source, x, T=8.0, t_min=0.5, solver=solver, steps=4, disturb=noise.of_rows(0), **options)
    assert out.status == "complete"
    first = called[:: len(called) // 4]
    assert [t for _, t in first] == pytest.approx([8.0, 4.0, 2.0, 1.0])
    for k, (at, t) in enumerate(first):
        disturbed = x + 0.2 * t * noise.draw(k, 0, 5, 2)
        torch.testing.assert_close(at, disturbed)
        x = integrate(source, disturbed, T=t, t_min=t / 2, solver=solver, steps=1, **options).x
    torch.testing.assert_close(out.x, x)


def test_noise_has_the_size_it_says() -> None:
    """One Euler step of a charge at 0 shrinks x + α T n by t_min/T: KS of n over 4,000 numbers; 10 % more is seen to fail."""
    start = torch.zeros(2000, 2, dtype=F64)
    disturb = StepNoise(0.1, seed=0).of_rows(0)
    out = integrate(
        PointCharges(torch.zeros(1, 2, dtype=F64)).mean_source,
        start,
        T=10.0,
        t_min=1.0,
        solver="euler",
        steps=1,
        disturb=disturb,
    )
    n = (out.x * 10 / 1.0 / (0.1 * 10.0)).flatten()
    assert stats.kstest(n, "norm").pvalue > 1e-3 > stats.kstest(1.1 * n, "norm").pvalue


def test_noise_belongs_to_the_sample_not_to_the_batch() -> None:
    """Equal for every batch size, other for every step and seed; not a stream that latents come from."""
    noise = StepNoise(0.1, seed=0)
    whole = noise.draw(2, 0, 300, 3)
    torch.testing.assert_close(torch.cat([noise.draw(2, 0, 130, 3), noise.draw(2, 130, 170, 3)]), whole)
    torch.testing.assert_close(noise.draw(2, 63, 2, 3), whole[63:65])
    assert not torch.isclose(whole, noise.draw(3, 0, 300, 3)).any()
    assert not torch.isclose(whole, StepNoise(0.1, seed=1).draw(2, 0, 300, 3)).any()
    data = load_data(folder_data())
    process = make_process(resolve_train(TrainConfig(), data.info), data.info)
    charges = PointCharges(data.points[:50].double())
    samplers = [SamplerConfig(solver="heun2", steps=4, batch_size=size) for size in (20, 100)]
    made = [sample(charges.mean_source, process, s, 100, dtype=F64, noise=noise).x for s in samplers]
    torch.testing.assert_close(made[0], made[1])
    undisturbed = [
        sample(charges.mean_source, process, samplers[0], 100, dtype=F64, noise=n).x for n in (None, StepNoise(0.0, 0))
    ]
    assert torch.equal(*undisturbed)
    assert not torch.isclose(made[0], undisturbed[0]).all()


def folder_data() -> Any:
    from pfgm.config import DataConfig

    return DataConfig(name="rings", n=200)


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_quantized_weights(bits: int) -> None:
    """At most 2^b − 1 values, symmetric about 0, the largest kept, an error of at most Δ/2; zeros stay."""
    w = torch.randn(40, 50, generator=torch.Generator().manual_seed(1))
    q, delta = quantize(w, bits), float(w.abs().max()) / (2 ** (bits - 1) - 1)
    steps = (q / delta).double()
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-3)
    assert len(steps.round().unique()) <= 2**bits - 1
    assert float((q - w).abs().max()) <= delta / 2 * (1 + 1e-4)
    assert float(q.abs().max()) == pytest.approx(float(w.abs().max()))
    assert not quantize(torch.zeros(3), bits).any()


def test_weights_are_disturbed_tensor_by_tensor_and_exempt_ones_are_left() -> None:
    network = tiny_network()
    before = {name: p.clone() for name, p in network.named_parameters()}
    for kind, level in (("weight_bits", 3), ("weight_noise", 0.1)):
        changed = disturb_weights(network, kind, level, exempt=["*.bias", "backbone.first.weight"])
        for name, p in changed.named_parameters():
            exempt = name.endswith(".bias") or name == "backbone.first.weight"
            assert torch.equal(p, before[name]) == (exempt or not before[name].any() or _constant(before[name], kind)), name
        assert all(torch.equal(p, before[name]) for name, p in network.named_parameters()), "the network itself stays"


def _constant(w: torch.Tensor, kind: str) -> bool:
    """A tensor of ones is its own rounding."""
    return kind == "weight_bits" and bool((w.abs() == w.abs().max()).all())


def test_weight_noise_is_relative_and_its_own_stream() -> None:
    """rms of the change over rms of the weight is the level, over 2,000 weights: within 5 %; equal for equal seeds."""
    network = tiny_network()
    old = dict(network.named_parameters())["embedding.layers.0.weight"]
    new = [
        dict(disturb_weights(network, "weight_noise", 0.1, seed=s).named_parameters())["embedding.layers.0.weight"]
        for s in (0, 0, 1)
    ]
    change = (new[0] - old).detach().square().mean().sqrt() / old.detach().square().mean().sqrt()
    assert float(change) == pytest.approx(0.1, rel=0.05)
    assert torch.equal(new[0], new[1])
    assert not torch.equal(new[0], new[2])


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: StepNoise(-0.1, 0), "noise: α must be a number from 0 on, got -0.1"),
        (lambda: StepNoise(math.inf, 0), "got inf"),
        (lambda: disturb_weights(tiny_network(), "weight_bits", 1), "weight_bits: must be whole numbers from 2 to 16, got 1"),
        (lambda: disturb_weights(tiny_network(), "weight_bits", 2.5), "got 2.5"),
        (lambda: disturb_weights(tiny_network(), "noise", 0.1), "noise: does not disturb weights; use weight_bits"),
        (lambda: disturb_weights(tiny_network(), "dropout", 0.1), "dropout: unknown disturbance; use noise"),
        (lambda: disturb_weights(tiny_network(), "weight_bits", 4, exempt=["last"]), "'last' names no weight; they are called"),
        (
            lambda: integrate(lambda x, t: x, torch.ones(2, 2), T=2.0, t_min=1.0, disturb=StepNoise(0.1, 0).of_rows(0)),
            "noise before every step needs a fixed-step solver, got dopri5; use heun2",
        ),
    ],
)
def test_refusals(act: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        act()


LEVELS = {"noise": [0, 0.1, 0.2], "weight_bits": [8, 4], "weight_noise": [0.05]}


def test_disturbed_rows_are_rows_of_the_study(folder: Folder) -> None:
    """Default sampler point, every field and sample seed; paired with the undisturbed row; continued without repeating."""
    search = {"train": {"process": {"choice": ["pfgm", "vp"]}}, "sampler": {"steps": {"choice": [4, 6]}}}
    folder.write(perturb=LEVELS, seeds={"sample": 2}, search=search)
    folder.run("--inline")
    rows = folder.rows()
    assert len(rows) == 2 * 2 * (2 + 5)
    assert {r["status"] for r in rows.values()} == {"complete"}
    kinds = {(r["perturb_kind"], r["perturb_level"]) for r in rows.values()}
    assert kinds == {
        (None, None),
        ("noise", 0.1),
        ("noise", 0.2),
        ("weight_bits", 8.0),
        ("weight_bits", 4.0),
        ("weight_noise", 0.05),
    }
    by_key = {
        (r["train_id"], r["seed_sample"], r["sampler_steps"], r["perturb_kind"], r["perturb_level"]): r for r in rows.values()
    }
    for (field, seed, steps, kind, _), row in by_key.items():
        if kind is not None:
            assert steps == 4
            base = by_key[field, seed, 4, None, None]
            assert row["metric_sliced_wasserstein"] != base["metric_sliced_wasserstein"]
            assert row["cost_nfe"] == base["cost_nfe"]
    frame = load_study("results/tiny")
    assert len(frame) == 8, "disturbed rows answer another question"
    assert any("perturbed" in reason for reason in frame.attrs["skipped"])

    folder.write(perturb={**LEVELS, "noise": [0.1, 0.2, 0.4]}, seeds={"sample": 2}, search=search)
    out, _ = folder.run("--inline")
    grown = folder.rows()
    assert len(grown) == len(rows) + 4
    same_rows({k: grown[k] for k in rows}, rows)
    assert "reused" not in out or len(folder.fields()) == 2


def test_cells_without_disturbance_keep_their_names(folder: Folder) -> None:
    plain = [c.cell_id for t in make_plan(folder.load()) for c in t.cells]
    config = folder.load(perturb=LEVELS)
    cells = [c.to_row() for t in make_plan(config) for c in t.cells]
    assert [c["cell_id"] for c in cells if c["perturb_kind"] is None] == plain
    assert len({c["cell_id"] for c in cells}) == len(cells)


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"perturb": {"weight_bits": [1]}}, r"perturb.weight_bits: must be whole numbers from 2 to 16, got 1; use 4, 6 or 8"),
        ({"perturb": {"weight_bits": [4.5]}}, "perturb.weight_bits: "),
        ({"perturb": {"noise": [-0.1]}}, "perturb.noise: must be finite numbers from 0 on"),
        ({"perturb": {"noise": [0.1, 0.1]}}, "perturb.noise: names a level twice"),
        ({"perturb": {"noise": 0.1}}, r"perturb.noise: must be a list, such as \[0.1\]"),
        ({"perturb": {"noise": [True]}}, "perturb.noise: "),
        ({"perturb": {"noise": [0.1], "exempt": ["*.bias"]}}, "perturb.exempt: belongs to weight_bits and weight_noise"),
        ({"perturb": {"exempt": ["*.bias"]}}, "perturb.exempt: belongs to weight_bits and weight_noise"),
        ({"perturb": {"nois": [0.1]}}, "did you mean `noise`"),
        (
            {"perturb": {"noise": [0.1]}, "sampler": {"solver": "pc2", "steps": 4, "grid": "tuned"}, "search": {}},
            "perturb.noise: needs steps that all samples take together; sampler.grid is tuned, use rho",
        ),
        (
            {"perturb": {"noise": [0.1]}, "sampler": {"solver": "dopri5"}, "search": {}},
            "perturb.noise: .*sampler.solver is dopri5, use heun2",
        ),
        ({"perturb": {"weight_bits": [4], "exempt": ["head"]}}, "perturb.exempt: 'head' names no weight; they are called"),
        ({"perturb": {"noise": [0.1]}, "design": {"name": "tpe"}}, "perturb: design tpe looks for the best"),
    ],
)
def test_mistakes_in_the_file(folder: Folder, sections: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        folder.load(**sections)


def test_a_weaker_network_is_a_training_point(folder: Folder) -> None:
    """search.train.width: own fields and point ids, the right columns; without it the names are as before."""
    plain = {t.train_id for t in make_plan(folder.load(search={}))}
    config = folder.load(search={"train": {"width": {"choice": [8, 16]}, "depth": {"choice": [1, 2]}}}, design={"name": "grid"})
    trials = make_plan(config)
    assert [(t.network.width, t.network.depth) for t in trials if t.network] == [(16, 1), (8, 1), (8, 2), (16, 2)]
    assert len({t.train_id for t in trials}) == len({t.point_id for t in trials}) == 4
    assert trials[0].train_id in plain, "the same field, by whichever study"
    assert [c.to_row()["network_width"] for t in trials for c in t.cells] == [16, 8, 8, 16]
    folder.write(search={"train": {"width": {"choice": [8, 16]}}})
    folder.run("--inline")
    assert sorted(r["network_width"] for r in folder.rows().values()) == [8, 16]


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"search": {"train": {"width": {"choice": [0, 16]}}}}, "search.train.width: .*greater than 0"),
        ({"search": {"train": {"width": {"choice": [8, 32]}}}}, "width: default 16 is outside the range"),
        ({"search": {"train": {"widht": {"choice": [8, 16]}}}}, "did you mean `width`"),
    ],
)
def test_mistakes_in_the_network(folder: Folder, sections: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        folder.load(**sections)


def test_the_report_draws_degradation_and_its_yaml_can_be_run(folder: Folder) -> None:
    """A searched width goes back under network, disturbances stay out of the best row's file."""
    folder.write(perturb=LEVELS, seeds={"train": 2}, search={"train": {"width": {"choice": [8, 16]}}})
    folder.run("--inline")
    write_report("results/tiny")
    report = folder.path / "results/tiny/report"
    assert {p.stem for p in (report / "figures").glob("degradation-*.svg")} >= {"degradation-noise", "degradation-weight_bits"}
    frame = load_study("results/tiny")
    narrow = frame.loc[frame["network_width"].eq(8)].iloc[0]
    (folder.path / "narrow.yaml").write_text(run_yaml(frame, narrow, "narrow"))
    config = load_study_config(folder.path / "narrow.yaml")
    assert config.network.width == 8
    assert not config.perturb.levels
    (folder.path / "default.yaml").write_text(run_yaml(frame, None, "default"))
    assert load_study_config(folder.path / "default.yaml").perturb.levels
