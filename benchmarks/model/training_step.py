"""What the target costs in a training step: its share of the time on a CPU, and its calls of kernels on a GPU.

    python -m benchmarks.model.training_step [--rounds 20] [--widths 64 128 256 512]

Time: steps of the digits study at several widths, one thread. Before: the target in float64 with nothing kept, which was the
trainer's until TRAINING_VERSION 2. Now: the trainer's. Steps, targets of before and of now take turns, so a busy machine slows
all; seconds are CPU time, medians over the rounds. The share of before is that of a step in which its target stands in the
place of the present one. The error is the largest relative one of the present target over the batches, against float64.

Calls: operations that reach a kernel, counted as they are dispatched, of a later step that asks its device nothing, as on a GPU
with its chunks. Views count nothing.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.ratios import tell
from pfgm.config import DataConfig, NetworkConfig, TrainConfig
from pfgm.data.dataset import Dataset, load_data
from pfgm.field.distances import chunk_elements
from pfgm.field.empirical import normalized_target
from pfgm.field.plane import Plane
from pfgm.field.target import Doubts, training_target
from pfgm.flow.poisson_flow import AUTHORS
from pfgm.training.trainer import Trainer

VIEWS = {"as_strided", "view", "_unsafe_view", "expand", "slice", "select", "t", "transpose", "unsqueeze", "squeeze", "detach",
         "alias", "split", "permute", "unbind", "diagonal", "unfold", "_reshape_alias", "empty", "empty_like", "empty_strided",
         "lift_fresh", "chunk", "split_with_sizes", "new_empty", "set_"}  # fmt: skip
"""Operations without a kernel."""
STEPS = 10**9


class Calls(TorchDispatchMode):
    """Counts operations that reach a kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n += func._schema.name.partition("::")[2] not in VIEWS
        return func(*args, **(kwargs or {}))


def cpu_seconds(function: Callable[[], object]) -> float:
    """CPU time of one call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def share(width: int, rounds: int) -> str:
    """One line: a step and its target, before and now."""
    data = load_data(DataConfig(name="digits"))
    trainer = Trainer(data, NetworkConfig(width=width), TrainConfig(steps=STEPS), 0)
    plane, gamma = trainer.batches.plane, 5.0
    times: dict[str, list[float]] = {"step": [], "now": [], "before": []}
    worst = 0.0
    for k in range(rounds + 2):
        x, t, target, _ = trainer.batches.draw(None)
        took = {
            "step": cpu_seconds(lambda: [trainer._advance(1e-3) for _ in range(5)]) / 5,
            "now": cpu_seconds(lambda x=x, t=t: [training_target(x, t, plane, gamma) for _ in range(5)]) / 5,
            "before": cpu_seconds(lambda x=x, t=t: [normalized_target(x, t, data.points, gamma) for _ in range(5)]) / 5,
        }
        exact = normalized_target(x.double(), t.double(), data.points, gamma)
        worst = max(worst, float(((target.double() - exact).norm(dim=1) / exact.norm(dim=1)).max()))
        if k > 1:
            for name, seconds in took.items():
                times[name].append(1e3 * seconds)
    step, now, before = (statistics.median(times[name]) for name in ("step", "now", "before"))
    spread = [n / s for n, s in zip(times["now"], times["step"], strict=True)]
    was = step - now + before
    gains = [(s - n + b) / s for s, n, b in zip(times["step"], times["now"], times["before"], strict=True)]
    tell(f"training step of digits, width {width}", "the target in float64, nothing kept", gains)
    return (
        f"{width:6d} {was:8.2f} {before:8.2f} {100 * before / was:6.0f} %  {step:8.2f} {now:8.2f}"
        f" {100 * now / step:6.0f} % ({100 * min(spread):.0f} … {100 * max(spread):.0f}) {worst:10.1e}"
    )


def noise(shape: tuple[int, int, int], n: int) -> Dataset:
    """Random images, as bytes."""
    pixels = np.random.default_rng(0).integers(0, 256, (n, *shape[1:], shape[0]), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.npz"
        np.savez(path, x=pixels)
        return load_data(DataConfig(name="npz", path=str(path)))


CASES: dict[str, tuple[Callable[[], Dataset], NetworkConfig, TrainConfig]] = {
    "digits": (lambda: load_data(DataConfig(name="digits")), NetworkConfig(), TrainConfig(steps=STEPS)),
    "Fashion-MNIST's size, U-Net": (
        lambda: noise((1, 28, 28), 20_000),
        NetworkConfig(name="unet", width=32, depth=3),
        TrainConfig(steps=STEPS, batch_size=16, sigma=0.01, M=250.0),
    ),
    "CIFAR-10's size, DDPM++, 4,096 sources": (
        lambda: noise((3, 32, 32), 8192),
        AUTHORS["cifar10_ddpmpp"].network,
        TrainConfig(steps=STEPS, batch_size=1, reference_batch_size=4096, sigma=0.01, M=250.0),
    ),
}


def calls(case: str) -> str:
    """One line: calls of a whole step and of its target."""
    make, network, train = CASES[case]
    data = make()
    trainer = Trainer(data, network, train, 0)
    trainer.doubts = Doubts("cpu")
    trainer.batches.plane = Plane(data.points, asks=False, elements=chunk_elements("cuda"))
    trainer._advance(1e-3)
    counts = []
    for mends in (False, True):
        trainer.doubts.mends = mends
        with Calls() as step:
            trainer._advance(1e-3)
        (x, t, _), sources = trainer.batches.points()
        with Calls() as target:
            training_target(x, t, sources, 5.0, doubts=trainer.doubts)
        counts += [step.n, target.n]
    return f"{case:40} {counts[0]:6d} {counts[1]:8d} {counts[3]:12d}"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--widths", type=int, nargs="*", default=[64, 128, 256, 512])
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.widths:
        print("digits, reference all, B = 128, one thread; CPU ms")
        print("             before                           now")
        print(" width     step   target   share      step   target   share (least … largest)   max error")
    for width in options.widths:
        print(share(width, options.rounds), flush=True)
    print(f"\n{'calls of kernels':40} {'step':>6} {'target':>8} {'and mending':>12}")
    for case in CASES:
        print(calls(case), flush=True)


if __name__ == "__main__":
    main()
