"""Steps a second of `Trainer` against a plain PyTorch loop of the same network, loss, batch, Adam and average.

    python -m benchmarks.model.training [--rounds 7] [--seconds 4] [--device cuda]

The plain loop is what one would write for one experiment: draw a batch, call the objective, backward, clip, Adam, average; it
keeps no history, no separate streams and no state to continue from. Both sides draw their batches from the same number of
images, run on one thread, and take turns of equal numbers of steps, so a busy machine slows both; a turn ends by reading the
loss. Seconds are CPU time on the CPU, which does not count waiting for a core, and wall time on CUDA. The ratio is the plain
loop's time over the trainer's, its median over the rounds and, in brackets, the least and largest: 1 is no overhead, asked for
is 0.95. On CUDA also in bfloat16, with weights in contiguous instead of channels-last order, and at the authors' batch and
reference batch. Neither side waits for the device within a turn.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.ratios import tell
from pfgm.config import DataConfig, NetworkConfig, TrainConfig
from pfgm.data.dataset import Dataset, load_data
from pfgm.field.target import Doubts
from pfgm.flow.poisson_flow import AUTHORS
from pfgm.networks.build import build_network, describe_network
from pfgm.registry import OBJECTIVES
from pfgm.training.trainer import Trainer

STEPS = 10**9
"""More than either side takes: the rate hardly moves."""


@dataclass(frozen=True)
class Case:
    """What is trained, and how."""

    label: str
    shape: tuple[int, int, int]
    network: NetworkConfig
    batch_size: int
    n: int
    reference: int | None = None  # None: all images
    bf16: bool = False
    contiguous: bool = False

    def train(self) -> TrainConfig:
        """PFGM's normalised field."""
        reference = self.reference or "all"
        return TrainConfig(
            batch_size=self.batch_size, reference_batch_size=reference, steps=STEPS, bf16=self.bf16, sigma=0.01, M=250.0
        )  # fmt: skip


UNET = NetworkConfig(name="unet", width=32, depth=3)
CIFAR = AUTHORS["cifar10_ddpmpp"].network
CPU = [
    Case("unet 32, 3 resolutions", (1, 28, 28), UNET, 64, 2000),
    Case("ddpmpp of CIFAR-10", (3, 32, 32), CIFAR, 2, 500),
]
CUDA = [
    Case("unet 32, 3 resolutions", (1, 28, 28), UNET, 64, 8192),
    Case("ddpmpp of CIFAR-10", (3, 32, 32), CIFAR, 128, 8192, 4096),
    Case("ddpmpp, bf16", (3, 32, 32), CIFAR, 128, 8192, 4096, bf16=True),
    Case("ddpmpp, bf16, contiguous", (3, 32, 32), CIFAR, 128, 8192, 4096, bf16=True, contiguous=True),
]


def images(case: Case) -> Dataset:
    """Noise of the case's shape, as bytes."""
    pixels = np.random.default_rng(0).integers(0, 256, (case.n, *case.shape[1:], case.shape[0]), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.npz"
        np.savez(path, x=pixels)
        return load_data(DataConfig(name="npz", path=str(path)))


def trained(case: Case, data: Dataset, steps: int, device: str) -> Iterator[float]:
    """The trainer, ``steps`` a turn."""
    trainer = Trainer(data, case.network, case.train(), 0, device)
    if case.contiguous:
        trainer.network.to(memory_format=torch.contiguous_format)
        trainer.average = [p.detach().clone() for p in trainer.parameters]
    for progress in trainer.run(steps):
        yield progress.loss


def plain(case: Case, data: Dataset, steps: int, device: str) -> Iterator[float]:
    """A loop without anything besides, ``steps`` a turn."""
    torch.manual_seed(0)
    process = Trainer(data, case.network.model_copy(update={"width": 8}), case.train(), 0).process
    network = build_network(case.network, data.info.shape, data.info.sd, process.noise_ratio).to(device)
    if case.contiguous:
        network.to(memory_format=torch.contiguous_format)
    weights = list(network.parameters())
    average = [p.detach().clone() for p in weights]
    optimizer = torch.optim.Adam(weights, lr=1e-3, fused=True)
    generator, points = torch.Generator(device).manual_seed(0), data.points.to(device)
    loss_of, doubts = OBJECTIVES["normalized"], None if device == "cpu" else Doubts(device)
    while True:
        for _ in range(steps):
            if case.reference is None:
                y, sources = points[torch.randint(len(points), (case.batch_size,), generator=generator, device=device)], points
            else:
                index = torch.randperm(len(points), generator=generator, device=device)[: case.reference]
                sources = points[index]
                y = sources[: case.batch_size]
            with torch.autocast(device, torch.bfloat16, enabled=case.bf16):
                loss = loss_of(network, process, y, sources, generator, doubts)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(average, weights, 1e-3)
        yield float(loss.detach())


def measure(case: Case, rounds: int, seconds: float, device: str) -> tuple[float, float, list[float]]:
    """(steps a second of the trainer, of the loop, ratio of each round)."""
    data = images(case)
    clock = time.process_time if device == "cpu" else time.perf_counter
    started = clock()
    next(plain(case, data, 2, device))  # also warms up
    steps = max(1, round(2 * seconds / (clock() - started)))
    sides = [trained(case, data, steps, device), plain(case, data, steps, device)]
    times: list[list[float]] = [[], []]
    for turn in range(rounds + 1):
        for side in (0, 1) if turn % 2 else (1, 0):
            started = clock()
            next(sides[side])
            if turn:  # the first makes networks and buffers
                times[side].append(clock() - started)
    ratios = [b / a for a, b in zip(*times, strict=True)]
    return steps / statistics.median(times[0]), steps / statistics.median(times[1]), ratios


def main() -> None:
    """Command line: a line a network, trainer and plain loop in turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0, help="of a turn, about")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'':30}{'batch':>6}{'trainer':>10}{'plain':>10}  ratio")
    for case in CUDA if options.device == "cuda" else CPU:
        trainer, loop, ratios = measure(case, options.rounds, options.seconds, options.device)
        tell(f"training loop, {case.label}, batch {case.batch_size}", "a plain PyTorch loop", ratios, "0.97")
        shown = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} … {max(ratios):.3f})"
        print(f"{case.label:30}{case.batch_size:>6}{trainer:>8.3g}/s{loop:>8.3g}/s  {shown}", flush=True)
        print(f"    {describe_network(case.network, case.shape)}")


if __name__ == "__main__":
    main()
