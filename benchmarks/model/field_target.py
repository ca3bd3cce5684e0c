"""CPU time, memory and accuracy of PFGM's training target against the authors' materialised formula, in one run.

    python -m benchmarks.model.field_target [--repeats 3]

The baseline materialises (B, N, d+1) differences, takes their norm, its (d+1)-th power relative to the nearest source and
the weighted sum, in float64 and once in memory: its most favourable honest form. Both sides run on one thread, and their
repetitions are interleaved, so a busy machine slows both. Memory is the growth of the process's high-water mark over its
size before the call, in a fresh process (Linux), or the baseline's one tensor where that exceeds 4 GiB. "of GEMM" is the rate
of 4BNd operations against a large square float64 product, "of two products" the time of the two bare products of the same
shapes against the whole target. The last rows
show the design where every row needs its exact path: points halfway between near-duplicates.
"""

import argparse
import ctypes
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.ratios import tell
from pfgm.field.empirical import normalized_target
from pfgm.field.plane import Plane
from pfgm.field.target import training_target

GAMMA, N = 5.0, 4096
SIZES = [(64, 128, False), (784, 128, False), (3072, 32, False), (3072, 128, False), (784, 128, True), (3072, 32, True)]
MAX_BASELINE_BYTES = 4 * 2**30


def authors_formula(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
    """v = −√d Ê/(‖Ê‖ + γ) with Ê = Σ_j w_j (x − y_j, t), w_j ∝ (ρ_min/ρ_j)^{d+1}, through a (B, N, d+1) tensor."""
    d = data.shape[1]
    sources = torch.nn.functional.pad(data, (0, 1))
    difference = torch.cat([x, t[:, None]], dim=1)[:, None] - sources
    rho = torch.linalg.vector_norm(difference, dim=2)
    weights = (rho.amin(1, keepdim=True) / rho) ** (d + 1)
    weights = weights / weights.sum(1, keepdim=True)
    e_hat = difference.mul_(weights[:, :, None]).sum(1)
    return -math.sqrt(d) * e_hat / (torch.linalg.vector_norm(e_hat, dim=1, keepdim=True) + GAMMA)


def design(x: Tensor, t: Tensor, data: Tensor) -> Tensor:
    """This package's target."""
    return normalized_target(x, t, data, GAMMA)


def batch(d: int, B: int, between_twins: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Points at the heights of training around data of unit scale, a quarter of it in pairs 0.01 apart."""
    generator = torch.Generator().manual_seed(d)
    data = torch.randn(N, d, dtype=torch.float64, generator=generator)
    shift = torch.randn(N // 8, d, dtype=torch.float64, generator=generator)
    data[N // 8 : N // 4] = data[: N // 8] + 0.01 * shift / shift.norm(dim=1, keepdim=True)
    if between_twins:
        x = 0.5 * (data[:B] + data[N // 8 : N // 8 + B])
        return x, torch.full((B,), 1e-3, dtype=torch.float64), data
    t = 0.01 * torch.exp(9.0 * torch.rand(B, dtype=torch.float64, generator=generator))
    return data[:B] + torch.randn(B, d, dtype=torch.float64, generator=generator) * t[:, None], t, data


def cpu_seconds(function: Callable[[], object]) -> float:
    """CPU time of one call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def high_water_bytes() -> int:
    """The process's peak resident size since the last reset, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def peak_memory(name: str, d: int, B: int, between_twins: bool) -> int:
    """Peak memory of one call in a fresh process, in bytes."""
    command = [sys.executable, "-m", "benchmarks.model.field_target", "--child", name, str(d), str(B), str(int(between_twins))]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def child(name: str, d: int, B: int, between_twins: bool) -> None:
    """Print the growth of the high-water mark over one call; a small call first loads the kernels."""
    function = {"authors": authors_formula, "design": design}[name]
    function(*(part[:8] for part in batch(d, 8, False)))
    x, t, data = batch(d, B, between_twins)
    ctypes.CDLL(None).malloc_trim(0)  # freed memory that the allocator keeps would hide what the call needs
    Path("/proc/self/clear_refs").write_text("5")
    before = high_water_bytes()
    function(x, t, data)
    print(high_water_bytes() - before)


def measure(d: int, B: int, between_twins: bool, repeats: int) -> str:
    """One row of the table."""
    x, t, data = batch(d, B, between_twins)
    square = torch.randn(1536, 1536, dtype=torch.float64)
    materialised = B * N * (d + 1) * 8
    small = materialised <= MAX_BASELINE_BYTES
    ours = design(x, t, data)  # also the warm-up
    truth = torch.cat([authors_formula(x[i : i + 4], t[i : i + 4], data) for i in range(0, B, 4)])
    plane = Plane(data)  # what a training keeps
    error, error_training = (
        ((found - truth).norm(dim=1) / truth.norm(dim=1)).max().item()
        for found in (ours, training_target(x, t, plane, GAMMA).double())
    )
    weights = torch.rand(B, N, dtype=torch.float64)
    times: dict[str, list[float]] = {"authors": [], "design": [], "training": [], "gemm": [], "products": []}
    for _ in range(repeats):
        times["authors"].append(cpu_seconds(lambda: authors_formula(x, t, data)) if small else math.nan)
        for _ in range(5):
            times["design"].append(cpu_seconds(lambda: design(x, t, data)))
            times["training"].append(cpu_seconds(lambda: training_target(x, t, plane, GAMMA)))
            times["gemm"].append(cpu_seconds(lambda: square @ square))
            times["products"].append(cpu_seconds(lambda: (x @ data.mT, weights @ data)))
    median = {name: statistics.median(values) for name, values in times.items()}
    fraction = (4.0 * B * N * d / median["design"]) / (2.0 * 1536**3 / median["gemm"])
    memory_authors = peak_memory("authors", d, B, between_twins) if small else materialised
    memory = peak_memory("design", d, B, between_twins)
    if small:
        ratios = [a / median["design"] for a in times["authors"]]
        name = f"d = {d}, B = {B}{', twins' if between_twins else ''}"
        tell(f"field target, {name}", "the authors' materialised formula", ratios)
        ratios = [a / median["training"] for a in times["authors"]]
        tell(f"target of a training step, {name}", "the authors' materialised formula", ratios)
    return (
        f"{d:5d} {B:4d} {'twins' if between_twins else '':6s} {1e3 * median['authors']:10.0f} {1e3 * median['design']:8.1f} "
        f"{median['authors'] / median['design']:6.1f}x {memory_authors / 2**20:9.0f}{' ' if small else '*'} "
        f"{memory / 2**20:8.1f} {memory_authors / memory:6.1f}x {100 * fraction:6.0f} % "
        f"{100 * median['products'] / median['design']:6.0f} % {error:10.1e}"
        f" {1e3 * median['training']:9.1f} {median['authors'] / median['training']:6.1f}x {error_training:10.1e}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", nargs=4, metavar=("NAME", "D", "B", "TWINS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.child:
        name, d, B, between_twins = arguments.child
        child(name, int(d), int(B), between_twins == "1")
        return
    print(f"N = {N}, float64, one thread; CPU time in ms, memory in MiB (* by formula)")
    print(
        "    d    B points    authors   design   ratio   authors    design   ratio  of GEMM  of two products  max error"
        "  training   ratio  max error"
    )
    for d, B, between_twins in SIZES:
        print(measure(d, B, between_twins, arguments.repeats), flush=True)


if __name__ == "__main__":
    main()
