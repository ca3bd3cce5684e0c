"""Out-of-memory recovery under real limits: RLIMIT_AS on the host, a memory fraction on CUDA, each in a process of its own."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import traceback
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pfgm.config import DataConfig, NetworkConfig, TrainConfig
from pfgm.data.dataset import load_data
from pfgm.field.empirical import _look_from, mean_source, normalized_target
from pfgm.memory import ByRows, is_out_of_memory, n_splits
from pfgm.metrics.features.classifiers import shipped_classifier
from pfgm.metrics.features.networks import feature_network
from pfgm.metrics.neighbours import precision_recall
from pfgm.sampling.integrate import integrate
from pfgm.training.parts import InParts
from pfgm.training.trainer import Trainer

MIB = 2**20
NO_CUDA = "no CUDA device: it takes an NVIDIA GPU and its driver"
DEVICES = [
    pytest.param("cpu", marks=pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS binds on Linux")),
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_CUDA)),
]


pytestmark = pytest.mark.usefixtures("one_thread")


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers, the same on every device."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make_trainer(device: str, batch_size: int = 64, width: int = 64, data: str = "rings", **options: Any) -> Trainer:
    """A training of two steps, its weights away from their zeros."""
    network = NetworkConfig(name=options.pop("network", "mlp"), width=width, depth=2)
    train = TrainConfig(steps=2, batch_size=batch_size, warmup_steps=1, **options)
    points = load_data(DataConfig(name=data, n=200 if data == "rings" else None))
    trainer = Trainer(points, network, train, seed=0, device=device)
    with torch.no_grad():
        for k, p in enumerate(trainer.parameters):
            p += 0.02 * normal(*p.shape, seed=k).to(p)
    return trainer


WIDTH = {"cpu": 64, "cuda": 256}

# What the process under a limit does: work(n) at a size n, and how much memory (MiB) it may add at which size.

Work = Callable[[int], tuple[list[Tensor], int]]
"""Size → results, and a count that must not depend on the memory."""


def solve(device: str) -> Work:
    """An adaptive solve of n rows with a network; the count is its NFE."""
    trainer = make_trainer(device, width=WIDTH[device])

    @torch.no_grad()
    def source(x: Tensor, t: Tensor) -> Tensor:
        return trainer.process.mean_source(trainer.network, x, t)

    def work(n: int) -> tuple[list[Tensor], int]:
        out = integrate(source, 5 * normal(n, 2).to(device), T=5.0, t_min=1.0, solver="bosh3", rtol=0.1, denoise=True)
        assert out.status == "complete"
        return [out.x], out.nfe

    return work


def target(device: str) -> Work:
    """The field's target at n rows, over 5000 sources."""
    sources = normal(5000, 64).to(device)

    def work(n: int) -> tuple[list[Tensor], int]:
        x, t = normal(n, 64, seed=1).to(device), normal(n, seed=2).abs().to(device) + 0.1
        return [normalized_target(x, t, sources, 5.0)], 0

    return work


def step(device: str) -> Work:
    """Two training steps of n rows: the gradients of the second, and the weights; the count is the steps."""
    load_checkpointing(device)

    def work(n: int) -> tuple[list[Tensor], int]:
        trainer = make_trainer(device, n, width=WIDTH[device])
        list(trainer.run())
        gradient = torch.cat([p.grad.flatten() for p in trainer.parameters if p.grad is not None])
        return [gradient, torch.cat([p.detach().flatten() for p in trainer.parameters])], trainer.step

    return work


def load_checkpointing(device: str) -> None:
    """One call in parts: the first loads torch's compiler."""
    network = make_trainer(device).network
    InParts(network, 2)(torch.ones(2, 2, device=device), torch.ones(2, device=device)).sum().backward()


def distances(device: str) -> Work:
    """Precision and recall of 1024 samples against n points: the mask that is filled on the side included."""

    def work(n: int) -> tuple[list[Tensor], int]:
        return [torch.tensor(precision_recall(normal(min(n, 1024), 2, seed=1).to(device), normal(n, 2).to(device)))], 0

    return work


def features(device: str) -> Work:
    """Features of n images in one chunk."""

    def work(n: int) -> tuple[list[Tensor], int]:
        return [feature_network("digits", (1, 8, 8), device)(normal(n, 64), chunk=n)], 0

    return work


CASES: dict[str, tuple[Callable[[str], Work], dict[str, tuple[int, int]]]] = {
    "solve": (solve, {"cpu": (8000, 7), "cuda": (400_000, 800)}),
    "target": (target, {"cpu": (1500, 30), "cuda": (40_000, 700)}),
    "step": (step, {"cpu": (8000, 16), "cuda": (100_000, 700)}),
    "distances": (distances, {"cpu": (3000, 15), "cuda": (40_000, 250)}),
    "features": (features, {"cpu": (1000, 15), "cuda": (200_000, 2000)}),
}
WARM = 100
"""Rows of the call before the limit, which loads what the libraries load once."""


def limit(device: str, mib: int | None) -> None:
    """Let this process add at most ``mib`` MiB to the memory that it has; None lifts the limit."""
    if device == "cuda":
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(1.0 if mib is None else (torch.cuda.memory_reserved() + mib * MIB) / total)
        return
    import resource

    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (most if mib is None else pages * resource.getpagesize() + mib * MIB, most))


def compare(case: str, device: str) -> dict[str, Any]:
    """The case under its limit, then twice without one."""
    make, sizes = CASES[case]
    n, mib = sizes[device]
    work = make(device)
    work(WARM)
    if device == "cpu":
        normal(8000, 256) @ normal(256, 256)  # MKL keeps 33 MiB after its first large product
    before = n_splits()
    limit(device, mib)
    split, count = work(n)
    limit(device, None)
    limited = n_splits()
    whole, whole_count = work(n)
    again, _ = work(n)
    pairs = list(zip(split, whole, strict=True))
    return {
        "splits": limited - before,
        "splits_without_limit": n_splits() - limited,
        "counts": [count, whole_count],
        "error": max(float((a - b).norm() / b.norm()) for a, b in pairs),
        "same_again": all(torch.equal(a, b) for a, b in zip(whole, again, strict=True)),
    }


def too_big(device: str) -> dict[str, Any]:
    """A training step whose gradients alone exceed the memory: the error of the last attempt."""
    list(make_trainer(device, 4).run())
    load_checkpointing(device)
    trainer = make_trainer(device, 4, width=2048)
    before = n_splits()
    limit(device, 8)
    try:
        list(trainer.run())
    except Exception as error:
        limit(device, None)
        return {"out_of_memory": is_out_of_memory(error), "splits": n_splits() - before, "step": trainer.step}
    raise AssertionError("the step was meant to fail")


def attempt(case: str, device: str) -> dict[str, Any]:
    """What `compare` or `too_big` finds, or the error that it met."""
    try:
        return too_big(device) if case == "too_big" else compare(case, device)
    except Exception:
        limit(device, None)
        return {"failed": traceback.format_exc()}


@functools.cache
def under_limits(device: str) -> dict[str, dict[str, Any]]:
    """Every case in one fresh process, whose freed memory is free: glibc keeps no tensors back."""
    environment = os.environ | {
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "PYTHONWARNINGS": "ignore",
    }
    command, root = [sys.executable, __file__, device], Path(__file__).resolve().parents[3]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=root, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", CASES)
def test_recovers_and_records(case: str, device: str) -> None:
    """In parts, results and counts are those of the whole, to 1e-5 (CUDA, whose batches are larger: 1e-4); without a limit
    nothing is split, and equal runs give equal bits."""
    found = under_limits(device)[case]
    assert "failed" not in found, found["failed"]
    assert found["splits"] > 0
    assert found["splits_without_limit"] == 0
    assert found["counts"][0] == found["counts"][1]
    assert found["error"] <= {"cpu": 1e-5, "cuda": 1e-4}[device]
    assert found["same_again"]


@pytest.mark.parametrize("device", DEVICES)
def test_a_step_that_fits_in_no_parts_raises(device: str) -> None:
    """A batch of four: in two parts, in four, then the error itself."""
    assert under_limits(device)["too_big"] == {"out_of_memory": True, "splits": 2, "step": 0}


def allocate(rows: int, most: int) -> None:
    """Needs no memory for up to ``most`` rows, and more than any machine has for one more."""
    torch.empty(1 << 50 if rows > most else 0)


def hungry(most: int) -> tuple[Callable[[Tensor], Tensor], list[int]]:
    """x ↦ 2x, which fits into the memory for up to ``most`` rows, and the sizes it was called with."""
    sizes: list[int] = []
    held: list[weakref.ref[Tensor]] = []

    def f(x: Tensor) -> Tensor:
        assert all(tensor() is None for tensor in held), "a failed attempt must be freed before the next"
        sizes.append(len(x))
        double = 2 * x
        if len(x) > most:
            held.append(weakref.ref(double))
        allocate(len(x), most)
        return double

    return f, sizes


def test_halves_until_it_fits_and_remembers() -> None:
    f, sizes = hungry(3)
    by_rows, before, x = ByRows(f), n_splits(), normal(10, 2)
    assert torch.equal(by_rows(x), 2 * x)
    assert sizes == [10, 5, 3, 3, 3, 1]
    assert n_splits() - before == 2
    assert torch.equal(by_rows(x), 2 * x)
    assert sizes[6:] == [3, 3, 3, 1]
    assert n_splits() - before == 2


def test_one_row_that_does_not_fit_raises() -> None:
    f, sizes = hungry(0)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        ByRows(f)(normal(4, 2))
    assert sizes == [4, 2, 1]


def test_other_errors_pass_through() -> None:
    calls = []

    def f(x: Tensor) -> Tensor:
        calls.append(len(x))
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        ByRows(f)(normal(4, 2))
    assert calls == [4]


def test_out_of_memory_is_told_from_other_errors() -> None:
    with pytest.raises(MemoryError) as of_python:
        bytearray(1 << 62)
    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(1 << 60)
    assert is_out_of_memory(of_python.value)
    assert is_out_of_memory(of_torch.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))
    with pytest.raises(RuntimeError) as of_shapes:
        torch.ones(2, 3) @ torch.ones(2, 3)
    assert not is_out_of_memory(of_shapes.value)
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert not is_out_of_memory(ValueError("DefaultCPUAllocator: can't allocate memory"))


def test_nothing_changes_where_the_memory_suffices() -> None:
    """Bit for bit what the wrapped functions return, and no split."""
    before, x, t = n_splits(), normal(300, 64), normal(300, seed=1).abs() + 0.1
    assert torch.equal(ByRows(shipped_classifier("digits"))(x), shipped_classifier("digits")(x))
    direct = _look_from(x.double(), t.double(), x, 1.0, False)
    assert torch.equal(mean_source(x, t, x), direct.y_bar.to(x.dtype))
    trainer = make_trainer("cpu", data="digits")
    list(trainer.run())
    with torch.no_grad():
        out = integrate(trainer.network.denoise, x, T=2.0, t_min=1.0, solver="euler", steps=1)
        d = trainer.network.denoise(x, torch.full((300,), 2.0))
    assert torch.equal(out.x, d + (x - d) * 0.5)
    assert trainer.parts == 1
    assert n_splits() == before


@pytest.mark.parametrize(
    "options",
    [{}, {"bf16": True}, {"objective": "raw", "data": "rings"}, {"process": "pfgmpp", "n_aug": 128.0}, {"network": "unet"}],
    ids=str,
)
def test_parts_give_the_gradients_of_the_whole(options: dict[str, Any]) -> None:
    """Two steps in three uneven parts: relative error of the gradient below 1e-5 (bfloat16: 1e-2)."""
    gradients = []
    for parts in (1, 3):
        trainer = make_trainer("cpu", batch_size=16, width=16, **{"data": "digits", **options})
        trainer.parts = parts
        list(trainer.run())
        gradients.append(torch.cat([p.grad.flatten() for p in trainer.parameters if p.grad is not None]))
    error = float((gradients[0] - gradients[1]).norm() / gradients[0].norm())
    assert error <= (1e-2 if options.get("bf16") else 1e-5)


def run_with_memory(most: int, where: str) -> Trainer:
    """Two steps of 64 rows, where the first layer has memory for ``most`` rows only, in the forward or the backward pass."""
    trainer = make_trainer("cpu")
    held: list[weakref.ref[Tensor]] = []

    def hook(_module: object, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert all(tensor() is None for tensor in held), "a failed attempt must be freed before the next"
        held.append(weakref.ref(inputs[0]))
        if where == "backward":
            output.register_hook(lambda gradient: allocate(len(gradient), most))
        else:
            allocate(len(output), most)

    first = trainer.network.backbone.first
    assert isinstance(first, torch.nn.Module)
    first.register_forward_hook(hook)
    list(trainer.run(report_every=1))
    return trainer


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_step_is_repeated_as_it_was(where: str) -> None:
    """Memory for 20 of 64 rows: four parts, and losses, gradients and weights of the whole step to 1e-5."""
    whole, before = run_with_memory(64, where), n_splits()
    split = run_with_memory(20, where)
    assert split.parts == 4
    assert n_splits() - before == 2
    assert [p.loss for p in split.history] == pytest.approx([p.loss for p in whole.history], rel=1e-5)
    for a, b in zip(split.parameters, whole.parameters, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-5)


def test_one_part_is_held_at_a_time() -> None:
    """Rows of which the network's first layer has activations at once, forward and backward: those of one part."""
    trainer = make_trainer("cpu")
    seen: list[int] = []
    first = trainer.network.backbone.first
    assert isinstance(first, torch.nn.Module)
    first.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    x, t = normal(64, 2), normal(64).abs() + 0.1
    InParts(trainer.network, 4).denoise(x, t).square().sum().backward()
    assert seen == [16] * 8  # four forward, four again in the backward pass


def test_parts_are_part_of_the_training_state() -> None:
    trainer = make_trainer("cpu")
    trainer.parts = 4
    state = trainer.state()
    again = make_trainer("cpu")
    again.load_state(state)
    assert again.parts == 4
    del state["parts"]
    again.load_state(state)
    assert again.parts == 1


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_deterministic_debug_mode("warn")
    torch.backends.cudnn.allow_tf32 = False
    print(json.dumps({name: attempt(name, sys.argv[1]) for name in ["too_big", *CASES]}))
