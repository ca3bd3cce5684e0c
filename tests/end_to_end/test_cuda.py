"""The same on a GPU: exact field, training that is stopped and continued, sampling, and a whole study. Skipped without one."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from helpers.folder import Folder
from scipy import stats

from pfgm.config import DataConfig, NetworkConfig, SamplerConfig, TrainConfig
from pfgm.data.dataset import load_data
from pfgm.field.analytic import PointCharges
from pfgm.field.empirical import normalized_target
from pfgm.field.target import SILENT_ROWS, Doubts, training_target
from pfgm.flow.exact import exact_field, exact_train
from pfgm.flow.packed import pack_tensors, unpack_tensors
from pfgm.flow.trained import Field
from pfgm.process.kernel import gamma_on_device
from pfgm.sampling.disturbances import StepNoise, disturb_weights
from pfgm.sampling.integrate import sample
from pfgm.training.footprint import footprint
from pfgm.training.trainer import Trainer

NETWORKS = [
    NetworkConfig(width=64),
    NetworkConfig(name="unet", width=16, depth=2),
    NetworkConfig(name="ddpmpp", width=16, depth=1, channel_mult=(1, 2), dropout=0.1),
]

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: it takes an NVIDIA GPU and its driver")


@pytest.mark.parametrize("d", [2, 64, 784, 3072])
def test_the_field_is_the_one_of_the_cpu(d: int) -> None:
    """Float64 on both: 1e-9, also halfway between near duplicates."""
    g = torch.Generator().manual_seed(0)
    sources = torch.randn(512, d, generator=g)
    sources[256:] = sources[:256] + 1e-3 * torch.randn(256, d, generator=g)
    x = torch.cat([sources[:32] + 0.3 * torch.randn(32, d, generator=g), (sources[:32] + sources[256:288]) / 2])
    t = torch.logspace(-3, 1, 64)
    v = normalized_target(x, t, sources, 5.0)
    w = normalized_target(x.cuda(), t.cuda(), sources.cuda(), 5.0).cpu()
    assert w.isfinite().all()
    assert (v - w).abs().max() <= 2e-6 * v.norm(dim=1).max()  # the result is float32


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_resume_is_bit_identical(network: NetworkConfig, bf16: bool) -> None:
    data = load_data(DataConfig(name="digits"))
    train = TrainConfig(steps=60, batch_size=64, bf16=bf16)
    torch.set_deterministic_debug_mode("warn")
    whole = Trainer(data, network, train, 0, "cuda")
    list(whole.run(20))
    first = Trainer(data, network, train, 0, "cuda")
    next(first.run(20))
    second = Trainer(data, network, train, 0, "cuda")
    second.load_state({k: v.cuda() for k, v in unpack_tensors(pack_tensors(first.state())).items()})
    assert second.step == 20
    list(second.run(20))
    torch.set_deterministic_debug_mode("default")
    assert all(torch.equal(a, b) for a, b in zip(whole.average, second.average, strict=True))
    assert [p.loss for p in whole.history] == [p.loss for p in second.history]
    assert whole.history[-1].loss < whole.history[0].loss


STEPS = {
    "pfgm, normalized": TrainConfig(batch_size=64, steps=4),
    "pfgm, normalized, of a part": TrainConfig(batch_size=64, steps=4, reference_batch_size=256, restrict_M=True),
    "bf16": TrainConfig(batch_size=64, steps=4, bf16=True),
    "pfgmpp, denoise, 128": TrainConfig(batch_size=64, steps=4, process="pfgmpp", n_aug=128.0),
    "pfgmpp, denoise, inf": TrainConfig(batch_size=64, steps=4, process="pfgmpp", n_aug=math.inf),
    "pfgmpp, reference, 2": TrainConfig(batch_size=64, steps=4, process="pfgmpp", n_aug=2.0, objective="reference"),
    "ve": TrainConfig(batch_size=64, steps=4, process="ve"),
    "vp": TrainConfig(batch_size=64, steps=4, process="vp"),
    "pfgm, raw": TrainConfig(batch_size=64, steps=4, objective="raw", force=True),
}


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
@pytest.mark.parametrize("case", STEPS)
def test_no_step_waits_for_the_device(case: str, network: NetworkConfig, deterministic: bool) -> None:
    """After a first step, in which libraries set themselves up, one that would wait is an error."""
    if network.name == "ddpmpp" and STEPS[case].process != "pfgm":
        pytest.skip("ddpmpp is for process pfgm")
    trainer = Trainer(load_data(DataConfig(name="digits")), network, STEPS[case], 0, "cuda")
    torch.set_deterministic_debug_mode("warn" if deterministic else "default")
    trainer._advance(1e-3)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            loss, norm = trainer._advance(1e-3)
    finally:
        torch.cuda.set_sync_debug_mode("default")
        torch.set_deterministic_debug_mode("default")
    assert trainer.doubts is not None
    assert math.isfinite(float(loss)) and math.isfinite(float(norm))


def test_a_wait_would_be_seen() -> None:
    torch.cuda.set_sync_debug_mode("error")
    try:
        with pytest.raises(RuntimeError, match="synchronizing"):
            torch.ones(1, device="cuda").item()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("d", [2, 64, 784])
@pytest.mark.parametrize("gap", [1e-2, 1e-6])
def test_the_field_that_asks_nothing_is_the_field(d: int, gap: float) -> None:
    g = torch.Generator().manual_seed(0)
    sources = torch.randn(512, d, generator=g, dtype=torch.float64)
    sources[-SILENT_ROWS:] = sources[:SILENT_ROWS] + gap * torch.randn(SILENT_ROWS, d, generator=g, dtype=torch.float64)
    x = torch.cat([(sources[:SILENT_ROWS] + sources[-SILENT_ROWS:]) / 2, torch.randn(60, d, generator=g, dtype=torch.float64)])
    t = torch.full((len(x),), gap, dtype=torch.float64)
    doubts = Doubts("cuda")
    quiet = training_target(x.cuda(), t.cuda(), sources.cuda(), 5.0, doubts=doubts).cpu()
    assert int(doubts.most) <= SILENT_ROWS
    torch.testing.assert_close(quiet, normalized_target(x, t, sources, 5.0), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("n_aug", [0.5, 2.0, 128.0, 3e6])
def test_gamma_variables_of_the_device_have_their_law(n_aug: float) -> None:
    """KS, 20,000 draws: detects numbers that are a quarter too large."""
    like = torch.empty(20_000, dtype=torch.float64, device="cuda")
    made = gamma_on_device(n_aug / 2, like, torch.Generator("cuda").manual_seed(3)).cpu().numpy()
    assert stats.kstest(made, stats.gamma(n_aug / 2).cdf).pvalue > 1e-3


def test_samples_are_those_of_the_cpu() -> None:
    """One field, trained on the GPU, sampled on both from the same latents: equal calls, nearly equal samples."""
    data = load_data(DataConfig(name="digits"))
    trainer = Trainer(data, NetworkConfig(width=128), TrainConfig(steps=300, learning_rate=2e-3), 0, "cuda")
    list(trainer.run())
    field = Field.from_trainer(trainer)
    sampler = SamplerConfig(solver="heun2", steps=16)
    on_gpu = sample(field.mean_source, field.process, sampler, 256, device="cuda")
    field.network.cpu()
    on_cpu = sample(field.mean_source, field.process, sampler, 256)
    assert (on_gpu.status, on_gpu.nfe) == (on_cpu.status, on_cpu.nfe) == ("complete", 33)
    apart = (on_gpu.x.cpu() - on_cpu.x).abs().amax(1)
    assert apart.median() < 1e-3 and (apart < 0.05).float().mean() > 0.97  # a few fall to another digit


def test_a_study_runs_on_the_gpu_and_repeats_itself(folder: Folder) -> None:
    folder.write()
    folder.run("--inline")
    folder.run("--inline", "--set", "storage=again")
    rows, again = folder.rows(), folder.rows(storage="again")
    assert [row["status"] for row in rows.values()] == ["complete"] * 4
    assert {row["prov_device"] for row in rows.values()} == {"cuda"}
    assert all(row["cost_memory_mb"] > 0 for row in rows.values())
    assert {c: r["metric_fid"] for c, r in rows.items()} == {c: r["metric_fid"] for c, r in again.items()}


@pytest.mark.parametrize("process", ["pfgm", "ve", "vp"])
def test_disturbed_samples_latents_and_likelihood_are_those_of_the_cpu(process: str) -> None:
    """The same noise before every step, rounded and noisy weights, encoded latents and log p, in float64 on both."""
    data = load_data(DataConfig(name="digits"))
    trainer = Trainer(data, NetworkConfig(width=64), TrainConfig(process=process, steps=100), 0, "cuda")
    list(trainer.run())
    made = []
    for device in ("cuda", "cpu"):
        field = Field.from_trainer(trainer).double()
        field.network.to(device)
        rough = replace(field, network=disturb_weights(disturb_weights(field.network, "weight_bits", 8), "weight_noise", 0.02))
        sampler = SamplerConfig(solver="heun2", steps=8, denoise=False)
        x = sample(rough.mean_source, rough.process, sampler, 64, device=device, dtype=torch.float64, noise=StepNoise(0.1, 0)).x
        items = field.process.info.to_data_units(x)
        latents = field.encode(items, rtol=1e-5)
        told = field.log_likelihood(items[:4], T=20.0, rtol=1e-5)
        made.append([x.cpu(), latents.direction.cpu(), latents.quantile.cpu(), told.log_prob.cpu()])
    for on_gpu, on_cpu in zip(*made, strict=True):
        torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["empirical", "gaussian_mixture"])
def test_an_exact_field_is_the_one_of_the_cpu(kind: str) -> None:
    data = load_data(DataConfig(name="digits"))
    train = exact_train(8.0, data.info)
    fields = [exact_field(kind, data, train, device) for device in ("cuda", "cpu")]
    samples = [field.sample(32, solver="heun2", steps=16).cpu() for field in fields]
    torch.testing.assert_close(*samples, rtol=1e-6, atol=1e-6)
    errors = [field.prior_error(20.0).kl for field in fields]
    assert errors[0] == pytest.approx(errors[1], rel=1e-6)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(
    "network",
    [NetworkConfig(name="unet", width=64, depth=2), NetworkConfig(name="ddpmpp", width=64, depth=2, channel_mult=(1, 2))],
    ids=lambda network: network.name,
)
def test_memory_is_as_counted(network: NetworkConfig, bf16: bool) -> None:
    """Two steps of 1024 digits: what the allocator had given out at most, within 30 %."""
    data, train = load_data(DataConfig(name="digits")), TrainConfig(batch_size=1024, steps=2, bf16=bf16)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    list(Trainer(data, network, train, 0, "cuda").run())
    taken = torch.cuda.max_memory_allocated() - before
    counted = footprint(network, data.info.shape, data.info.n, train, 1)
    assert counted.data + counted.training == pytest.approx(taken, rel=0.3)


def test_gradients_of_charges_hold_no_coordinates_of_pairs() -> None:
    """256 points, 10,000 charges, d = 784: (B, K) numbers of 20 MB each, not (B, K, d) of 16 GB; as on the CPU to rounding."""
    g = torch.Generator().manual_seed(0)
    y, x = torch.randn(10_000, 784, generator=g), torch.randn(256, 784, generator=g, dtype=torch.float64)
    found = []
    for device in ("cpu", "cuda"):
        charges, at = PointCharges(y.to(device)), x.to(device).requires_grad_()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        found.append(torch.autograd.grad(charges.log_prob(at, 1.0).sum(), at)[0].cpu())
        assert torch.cuda.max_memory_allocated() - before < 1e9
    torch.testing.assert_close(*found, rtol=1e-7, atol=1e-9)


def test_a_compiled_training_is_the_same_to_rounding() -> None:
    data, train = load_data(DataConfig(name="digits")), TrainConfig(batch_size=64, steps=12)
    plain, compiled = (Trainer(data, NETWORKS[1], train, 0, "cuda", compile) for compile in (False, True))
    expected = [p.loss for p in plain.run(4)]
    assert [p.loss for p in compiled.run(4)] == pytest.approx(expected, rel=1e-3)
    assert compiled.compiled is not None and compiled.compiled.cost_s is not None
