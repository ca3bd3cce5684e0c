"""Solves and network calls in tiles of the batch: as large as the memory holds, with the results of the whole."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from torch import Tensor

from pfgm import memory
from pfgm.config import NetworkConfig, SamplerConfig, TrainConfig
from pfgm.data.dataset import DataInfo
from pfgm.flow.trained import Field
from pfgm.memory import fitting_rows, free_bytes, in_tiles, limited_to, n_splits
from pfgm.networks.build import build_network
from pfgm.prior.latent import latent_blocks, latents
from pfgm.process.clock import HEIGHT, Clock, VpClock
from pfgm.process.make import make_process
from pfgm.registry import SOLVERS
from pfgm.sampling.batches import STATES, batch_rows
from pfgm.sampling.integrate import Encoded, Samples, encode, integrate, sample
from pfgm.sampling.own_levels import Width
from pfgm.training.footprint import Alive

FIXED = [name for name, solver in SOLVERS.items() if not solver.adaptive]
SHAPE, DIM, N = (3, 16, 16), 768, 20
MIB = 2**20


@pytest.fixture(scope="module")
def field() -> Field:
    """A U-Net of random weights as a PFGM++ field of small images."""
    torch.manual_seed(0)
    facts = {"mean": torch.zeros(DIM), "bounds": (-1.0, 1.0), "n": 100, "mean_norm": 14.0, "sd": 0.5, "hash": ""}
    info = DataInfo(name="images", shape=SHAPE, center=False, **facts)
    process = make_process(TrainConfig(process="pfgmpp"), info)
    config = NetworkConfig(name="unet", width=16, depth=2)
    network = build_network(config, SHAPE, 0.5, process.noise_ratio).eval().requires_grad_(False)
    for p in network.parameters():
        p += 0.1 * torch.randn_like(p)
    return Field(network, process, config, seed=0)


def rows_seen(field: Field, work: Callable[[], object]) -> list[int]:
    """Rows of every call that the network gets during some work."""
    seen: list[int] = []
    hook = field.network.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    try:
        work()
    finally:
        hook.remove()
    return seen


def drawn(field: Field, **sampler: object) -> Samples:
    config = SamplerConfig.model_validate({"T": 20.0, "t_min": 0.01, "batch_size": 16} | sampler)
    return sample(field.mean_source, field.process, config, N, seed=3)


@pytest.mark.parametrize("solver", FIXED)
def test_samples_of_fixed_steps_do_not_depend_on_the_memory(field: Field, solver: str) -> None:
    """Batches of 8 and calls of 1 row against batches of 16: samples to 1e-5 of their size, and the same number of calls."""
    options = {"solver": solver, "steps": 4}
    whole, before = drawn(field, **options), n_splits()
    limit = 8 * STATES * DIM * 4
    assert field._row_bytes < limit < 2 * field._row_bytes

    def work() -> None:
        with limited_to(limit):
            tiled = drawn(field, **options)
        assert float((tiled.x - whole.x).norm() / whole.x.norm()) < 1e-5
        assert (tiled.nfe, tiled.nfe_max, tiled.status) == (whole.nfe, whole.nfe_max, "complete")
        assert torch.equal(tiled.radius_ratio, whole.radius_ratio)

    assert set(rows_seen(field, work)) == {1}
    assert n_splits() > before


def test_an_adaptive_solver_keeps_its_batch(field: Field) -> None:
    """The step sizes are those of the whole batch, so the calls are as many; only the network sees tiles."""
    options = {"solver": "bosh3", "rtol": 1e-2, "t_min": 0.5}
    whole = drawn(field, **options)
    config = SamplerConfig.model_validate({"solver": "bosh3", "batch_size": 16})

    def work() -> None:
        with limited_to(5 * field._row_bytes):
            assert batch_rows(config, N, DIM, "cpu", torch.float32) == 16
            tiled = drawn(field, **options)
        assert tiled.nfe == whole.nfe
        assert float((tiled.x - whole.x).norm() / whole.x.norm()) < 1e-5

    assert set(rows_seen(field, work)) == {4}


@pytest.mark.parametrize("solver", ["heun2", "bosh3"])
def test_encoding_does_not_depend_on_the_memory(field: Field, solver: str) -> None:
    x = torch.rand(6, DIM, generator=torch.Generator().manual_seed(0)) * 2 - 1
    config = SamplerConfig.model_validate({"T": 20.0, "t_min": 0.1, "solver": solver, "denoise": False})

    def found() -> Encoded:
        return encode(field.mean_source, field.process, config, x)

    whole = found()
    with limited_to(2 * field._row_bytes):
        tiled = found()
    assert tiled.nfe == whole.nfe and tiled.status == "complete"
    torch.testing.assert_close(tiled.latents.direction, whole.latents.direction, rtol=0, atol=1e-5)


def test_a_solve_takes_no_more_than_it_may(field: Field) -> None:
    """Bytes that operations have alive at a time, counted: the limit for the call, the states, and the samples so far."""
    drawn(field, solver="heun2", steps=2)  # what is kept from the first use on
    peaks = []
    for limit in (2**40, 4 * field._row_bytes):
        with limited_to(limit), Alive() as alive:
            drawn(field, solver="heun2", steps=2)
        peaks.append(alive.peak)
    others = 4 * 16 * STATES * DIM + 8 * 3 * N * DIM
    assert peaks[1] < 4 * field._row_bytes + others < peaks[0]


def test_memory_that_suffices_changes_no_bit(field: Field) -> None:
    before, x, t = n_splits(), torch.randn(8, DIM), torch.ones(8)
    assert torch.equal(field.mean_source(x, t), field.process.mean_source(field.network, x, t))
    assert n_splits() == before


def test_counting_what_a_row_takes_calls_no_hook(field: Field) -> None:
    """Of the network or of a layer; a later call has them."""
    fresh, layer = replace(field), next(m for m in field.network.modules() if isinstance(m, torch.nn.Conv2d))
    calls: list[object] = []
    hooks = [m.register_forward_hook(lambda *_: calls.append(0)) for m in (field.network, layer)]
    try:
        assert fresh._row_bytes == field._row_bytes and calls == []
        fresh.mean_source(torch.ones(1, DIM), torch.ones(1))
        assert len(calls) == 2
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("solver", FIXED)
@pytest.mark.parametrize("clock", [HEIGHT, VpClock(0.1, 20.0)], ids=["height", "vp"])
def test_states_are_counted_high_enough(solver: str, clock: Clock) -> None:
    """What a solver of fixed steps holds at its worst, D being one state."""
    x = torch.ones(10, 2000)
    with Alive() as alive:
        integrate(lambda x, t: 0.5 * x, x, T=5.0, t_min=0.1, solver=solver, steps=8, clock=clock, width=Width(0.5, 1.0))
    assert STATES / 4 < alive.peak / (4 * x.numel()) <= STATES


def test_rows_that_fit() -> None:
    assert fitting_rows(600, 1.0, "cpu") == 600
    with limited_to(1000):
        assert [fitting_rows(n, 10.0, "cpu") for n in (1, 100, 101, 5000)] == [1, 100, 64, 64]
        assert [fitting_rows(9, size, "cpu") for size in (111.0, 112.0, 400.0, 2000.0)] == [9, 8, 2, 1]
        with limited_to(20):
            assert fitting_rows(9, 10.0, "cpu") == 2
        before = n_splits()
        assert fitting_rows(9, 10.0, "cpu") == 9
        assert n_splits() == before
        assert fitting_rows(101, 10.0, "cpu") == 64
        assert n_splits() == before + 1
    with pytest.raises(ValueError, match="n_bytes must be at least 1, got 0"), limited_to(0):
        pass


def test_what_the_machine_has_is_what_counts() -> None:
    """A row of a thousandth of the memory: some hundreds together, not a thousand, a power of two."""
    total = psutil.virtual_memory().total
    assert 0 < free_bytes("cpu") <= total
    rows = fitting_rows(1000, total / 1000, "cpu")
    assert 1 <= rows <= 512 and math.log2(rows).is_integer()


def test_processes_side_by_side_share_what_there_is() -> None:
    memory.share_host(1.0)
    whole = free_bytes("cpu")
    try:
        memory.share_host(8.0)
        assert free_bytes("cpu") < whole / 4
    finally:
        memory.share_host(1.0)
    assert free_bytes("cpu") > whole / 2


def test_a_container_s_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less what is used, files in the cache left out."""
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    free = free_bytes("cpu")
    assert free > 10 * MIB
    for name, text in {
        "memory.max": f"{9 * MIB}\n",
        "memory.current": f"{6 * MIB}\n",
        "memory.stat": f"anon 1\ninactive_file {MIB}\n",
    }.items():
        (tmp_path / name).write_text(text)
    assert free_bytes("cpu") == 4 * MIB
    (tmp_path / "memory.max").write_text("max\n")
    assert free_bytes("cpu") > 10 * MIB


def test_tiles_are_joined_in_order() -> None:
    sizes: list[int] = []

    def double(x: Tensor, t: Tensor) -> Tensor:
        sizes.append(len(x))
        return 2 * x * t[:, None]

    x, t = torch.randn(10, 3), torch.rand(10)
    assert torch.equal(in_tiles(double, (x, t), 4), 2 * x * t[:, None])
    assert sizes == [4, 4, 2]
    assert torch.equal(in_tiles(double, (x, t), 10), 2 * x * t[:, None])
    assert sizes[3:] == [10]


@pytest.mark.parametrize("size", [1, 4, 7, 10, 30])
def test_latents_block_by_block_are_the_latents(size: int) -> None:
    blocks, whole = list(latent_blocks(10, 5, 2, size)), latents(10, 5, 2)
    for parts, part in zip(zip(*blocks, strict=True), whole, strict=True):
        assert torch.equal(torch.cat(parts), part)


def test_large_latents_start_the_same_samples(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn batch by batch or at once, bit for bit."""
    kept = drawn(field, solver="euler", steps=2)
    monkeypatch.setattr("pfgm.sampling.batches.KEPT_NUMBERS", 0)
    again = drawn(field, solver="euler", steps=2)
    assert torch.equal(kept.x, again.x) and torch.equal(kept.radius_ratio, again.radius_ratio)
