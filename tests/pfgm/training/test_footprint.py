"""Memory that is counted without a device, against what real passes keep and what the allocator was asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from pfgm.config import NetworkConfig, TrainConfig
from pfgm.field.distances import chunk_elements
from pfgm.field.plane import Plane
from pfgm.field.target import Doubts, training_target
from pfgm.networks.base import FieldNetwork
from pfgm.networks.build import build_network
from pfgm.networks.cost import row_bytes
from pfgm.networks.edm.block import FORMS
from pfgm.training.footprint import CONTEXT, Alive, activations, at_most, call_peak, footprint, target_bytes

NETWORKS = [
    (NetworkConfig(width=64, depth=2), (1, 8, 8)),
    (NetworkConfig(name="unet", width=16, depth=2, patch=2), (1, 28, 28)),
    (NetworkConfig(name="unet", width=16, depth=3), (3, 16, 16)),
    (NetworkConfig(name="ddpmpp", width=32, depth=1, channel_mult=(1, 2), dropout=0.1), (3, 32, 32)),
]
EACH = pytest.mark.parametrize(("config", "shape"), NETWORKS, ids=lambda v: v.name if isinstance(v, NetworkConfig) else "")


def made(config: NetworkConfig, shape: tuple[int, ...]) -> FieldNetwork:
    return build_network(config, shape, 1.0, 1.48)


def kept_by(network: FieldNetwork, shape: tuple[int, ...], rows: int, bf16: bool) -> int:
    """Bytes of the tensors that a real forward pass saves, weights left out, each storage once."""
    weights = {p.untyped_storage().data_ptr() for p in (*network.parameters(), *network.buffers())}
    saved: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage
        return tensor

    x, t = torch.randn(rows, math.prod(shape)), torch.ones(rows)
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out = network(x, t)
    assert out.requires_grad
    return sum(storage.nbytes() for storage in saved.values())


@pytest.mark.parametrize("bf16", [False, True])
@EACH
def test_what_a_pass_keeps_is_counted(config: NetworkConfig, shape: tuple[int, ...], bf16: bool) -> None:
    """Saved tensors of a real pass; besides, the output, and the copies in bfloat16 that autocast keeps of all weights."""
    network = made(config, shape)
    real, counted = kept_by(network, shape, 24, bf16), activations(network, shape, 24, bf16, as_on_cuda=False)
    output = 4 * 24 * (math.prod(shape) + 1)
    copies = output // 2 + 2 * sum(p.numel() for p in network.parameters()) if bf16 else 0
    assert real <= counted <= real + output + copies


def asked_for(work: Callable[[], object]) -> int:
    """Most bytes that the CPU's allocator had given out at a time during the work, as the profiler saw it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = work()
    now = peak = 0
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    del result
    return peak


@EACH
def test_the_peak_of_a_call_is_the_allocator_s(config: NetworkConfig, shape: tuple[int, ...]) -> None:
    """To 2 %: kernels may have temporaries of their own."""
    network, rows = made(config, shape).eval(), 64
    x, t = torch.randn(rows, math.prod(shape)), torch.ones(rows)
    with torch.no_grad():
        network(x, t)
        real = asked_for(lambda: network(x, t))
    assert call_peak(network, shape, rows) == pytest.approx(real, rel=0.02)


LARGE = {"width": 128, "depth": 4, "channel_mult": (1, 2, 2, 2)}


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        *NETWORKS,
        (NetworkConfig.model_validate({"name": "ddpmpp", **LARGE}), (3, 64, 64)),
        *((NetworkConfig.model_validate({"name": "edm", "head": "edm", "form": form, **LARGE}), (3, 64, 64)) for form in FORMS),
    ],
    ids=lambda v: v.name if isinstance(v, NetworkConfig) else "",
)
def test_the_bytes_of_a_row_are_the_peak_of_a_call(config: NetworkConfig, shape: tuple[int, ...]) -> None:
    """Counted without the operations, of nothing but shapes: at least a call's on many rows, and at most a seventh more."""
    with torch.device("meta"):
        network = made(config, shape).eval()
    counted, rows = row_bytes(network, shape), 16
    assert call_peak(network, shape, rows) / rows <= counted <= 1.15 * call_peak(network, shape, rows) / rows
    assert row_bytes(network.double(), shape) == pytest.approx(2 * counted, rel=0.01)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(("d", "rows", "sources"), [(64, 128, 2000), (784, 64, 5000), (3072, 64, 600)])
def test_the_peak_of_a_target_is_the_allocator_s(d: int, rows: int, sources: int, device: str) -> None:
    """To 20 %, in chunks of either device, without asking; chunks beyond the second are not played."""
    g = torch.Generator().manual_seed(0)
    data, x, t = torch.randn(sources, d, generator=g), torch.randn(rows, d, generator=g), torch.ones(rows)
    elements = chunk_elements(device)
    plane = Plane(data, asks=False, elements=elements)
    real = asked_for(lambda: training_target(x, t, plane, 5.0, doubts=Doubts("cpu")))
    peak, held = target_bytes(d, rows, sources, device)
    assert peak == pytest.approx(real, rel=0.2)
    assert held >= 8 * rows * min(sources, elements // max(d, rows)) + (8 * d * sources if d * sources <= elements else 0)


def test_a_training_step_s_activations_are_the_allocator_s() -> None:
    """Forward and backward of the U-Net: what is kept and the gradients, within 20 %."""
    config, shape = NETWORKS[1]
    network, rows = made(config, shape), 64
    x, t = torch.randn(rows, 784), torch.ones(rows)
    network(x, t).square().mean().backward()
    network.zero_grad(set_to_none=True)
    real = asked_for(lambda: network(x, t).square().mean().backward())
    weights = sum(4 * p.numel() for p in network.parameters())
    counted = activations(network, shape, rows)
    assert counted <= real <= 1.2 * (counted + weights)


def test_alive_counts_what_lives() -> None:
    with Alive() as alive:
        a = torch.ones(1000)
        b = a.reshape(10, 100)
        assert alive.now == 4000
        c = a + 1
        assert alive.now == alive.peak == 8000
        del a, b
        assert alive.now == 4000
        c.mul_(2)
        assert (alive.now, alive.peak) == (4000, 8000)


def test_cuda_keeps_norms_in_float32() -> None:
    network = made(*NETWORKS[1])
    on_cpu, on_cuda, full = (activations(network, (1, 28, 28), 8, *how) for how in ((True, False), (True, True), (False, True)))
    assert on_cpu < on_cuda
    assert on_cpu < 0.7 * full


def test_the_parts_of_a_footprint() -> None:
    """DDPM++ on CIFAR-10: five times its weights, activations in proportion to the batch."""
    network = NetworkConfig(name="ddpmpp", width=64, depth=1)

    def of(batch: int = 128, rows: int = 100, double: int = 0) -> int:
        return footprint(network, (3, 32, 32), 50_000, TrainConfig(batch_size=batch), rows, double).total

    whole = footprint(network, (3, 32, 32), 50_000, TrainConfig(batch_size=128), 100)
    assert whole.data == 50_000 * 3072 * 4
    assert whole.total == CONTEXT + whole.data + whole.training
    small, large = (footprint(network, (3, 32, 32), 50_000, TrainConfig(batch_size=b), 100).training for b in (32, 64))
    with torch.device("meta"):
        n = sum(p.numel() for p in made(network, (3, 32, 32)).parameters())
    slope = (large - small) / 32
    assert whole.training == pytest.approx(large + 64 * slope, rel=0.02)
    assert small - 32 * slope == pytest.approx(5 * 4 * n, rel=0.05)
    assert of(rows=5000) > of() == of(rows=10)
    assert of(double=5000) > of(rows=5000)


@pytest.mark.parametrize(("bf16", "reference"), [(False, None), (True, 2000)])
@EACH
def test_the_bound_is_more_than_the_count(
    config: NetworkConfig, shape: tuple[int, ...], bf16: bool, reference: int | Literal["all"] | None
) -> None:
    """Of every part, at small and large batches: who is told that a field is small can rely on it."""
    for rows, sampled in ((32, 500), (512, 10)):
        train = TrainConfig(batch_size=rows, reference_batch_size=reference, bf16=bf16)
        counted, bound = (of(config, shape, 20_000, train, sampled, 2 * rows) for of in (footprint, at_most))
        assert bound.data == counted.data
        assert counted.training <= bound.training and counted.sampling <= bound.sampling


def test_the_bound_of_a_small_network_is_small() -> None:
    """Less than is worth a line of a plan, so that a small study need not count."""
    bound = at_most(NetworkConfig(width=64, depth=2), (2,), 10_000, TrainConfig(batch_size=256), 10_000)
    assert bound.training < 3e8 and bound.sampling < 3e8


def test_targets_and_references_count() -> None:
    """Vectors: a small network over a large reference batch needs what its target needs."""
    network = NetworkConfig(width=16, depth=1)

    def training(reference: int | Literal["all"]) -> int:
        train = TrainConfig(batch_size=64, reference_batch_size=reference)
        return footprint(network, (784,), 20_000, train, 10).training

    assert training("all") > target_bytes(784, 64, 20_000)[0] > 100 * 2**20
    taken, converted, norm, distances = 4 * 784, 8 * 784, 8, 8 * 64
    assert training(10_000) - training(5000) == pytest.approx((taken + converted + norm + distances) * 5000, rel=0.01)
