"""The same on a GPU: exact field, training that is stopped and continued, sampling, and a whole study. Skipped without one."""

from __future__ import annotations

import pytest
import torch
from conftest import Folder

from pfgm.checkpoint import Field, pack_tensors, unpack_tensors
from pfgm.config import DataConfig, NetworkConfig, SamplerConfig, TrainConfig
from pfgm.data import load_data
from pfgm.field import normalized_target
from pfgm.sampling import sample
from pfgm.training import Trainer

NETWORKS = [
    NetworkConfig(width=64),
    NetworkConfig(name="unet", width=16, depth=2),
    NetworkConfig(name="ddpmpp", width=16, depth=1, channel_mult=(1, 2), dropout=0.1),
]

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


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
