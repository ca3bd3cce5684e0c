"""Do the bands of `analysis.partial_curves` hold the curve? Simulated designs whose curves are known.

    python -m benchmarks.statistics.partial                200 studies of each kind, on every core; minutes
    python -m benchmarks.statistics.partial --studies 20   a quick look

Each study has 2 to 6 parameters and 32 to 128 points of a Sobol' design, one field a point. Each parameter is flat, monotone,
U-shaped or a step over a tenth of the range, with a random size and place. In a third of the studies two parameters interact a
little; in another third the metric is eight times worse at one end of a parameter, by how much depends on a second one. The
noise of a field has a standard deviation of .05, .15 or .4 in log FID. Printed: the share of the curve within the bands that
hold 95 % at each value, the share of whole curves within the bands that hold for all of it, how often a parameter is rated
wrongly (robust though its curve leaves the tolerance of 10 %; sensitive though it does not), and how many are rated at all.
Beside it: the same with amplitudes, lengths and noise at their mode alone.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import time
from collections import defaultdict
from collections.abc import Callable

import numpy as np
from scipy.stats import qmc

from analysis.robustness.gaussian import partial_dependence
from analysis.robustness.partial import _simultaneous
from benchmarks.ratios import tell

SIZES = ((2, 32), (4, 64), (6, 64), (6, 128))
NOISES = (0.05, 0.15, 0.4)
GRID = np.linspace(0, 1, 33)
TOLERANCE = math.log(1.1)
Effect = Callable[[np.ndarray], np.ndarray]


def cliff(x: np.ndarray) -> np.ndarray:
    """Much worse at the lower end, as digits are with a low height."""
    return np.asarray(2 * np.maximum(1 - x / 0.4, 0) ** 2)


CLIFF = 2 * 0.4 / 3
"""Its mean over the range."""


def effect(rng: np.random.Generator) -> Effect:
    """What one parameter does to log FID."""
    size, place = 0.4 * rng.uniform(0.3, 1.5), rng.uniform(0.2, 0.8)
    kinds: list[Effect] = [
        np.zeros_like, lambda x: size * x, lambda x: 4 * size * (x - place) ** 2,
        lambda x: size / (1 + np.exp(-(x - place) / 0.05)),
    ]  # fmt: skip
    return kinds[rng.integers(len(kinds))]


def one_study(p: int, n: int, noise: float, seed: int) -> list[tuple[float, ...]]:
    """A row a parameter: share of the curve covered, all of it covered, wrongly robust, wrongly sensitive, rated."""
    rng = np.random.default_rng([p, n, round(1000 * noise), seed])
    effects = [effect(rng) for _ in range(p)]
    x = qmc.Sobol(p, rng=rng).random(n)
    y = sum(f(column) for f, column in zip(effects, x.T, strict=True)) + noise * rng.standard_normal(n)
    averaged: list[Effect] = [np.zeros_like] * p  # what interactions add to each parameter alone
    if seed % 3 == 1:
        y = y + 0.8 * (x[:, 0] - 0.5) * (x[:, 1] - 0.5)
    elif seed % 3 == 2:
        y = y + cliff(x[:, 0]) * (0.5 + x[:, 1])
        averaged[:2] = [cliff, lambda u: CLIFF * u]
    own, values = [0.5] * p, [GRID] * p
    found = partial_dependence(x, y, [False] * p, values, own)
    rows = []
    for f, more, curve in zip(effects, averaged, found, strict=True):
        true = f(GRID) - f(np.array([0.5])) + more(GRID) - more(np.array([0.5]))
        sd = np.sqrt(np.maximum(np.diag(curve.covariance), 0.0))
        error, away = np.abs(curve.mean - true), np.abs(GRID - 0.5) > 1e-9
        width = _simultaneous(curve, sd) * sd
        robust, sensitive = (curve.mean + width <= TOLERANCE).all(), (curve.mean - width > TOLERANCE).any()
        leaves = (true > TOLERANCE).any()
        rows.append((
            (error <= 1.96 * sd + 1e-9)[away].mean(), (error <= width + 1e-9).all(), robust and leaves,
            sensitive and not leaves, robust or sensitive,
        ))  # fmt: skip
    return rows


def work(job: tuple[int, int, float, int, int]) -> tuple[tuple[int, int, float], list[tuple[float, ...]]]:
    """``count`` studies of one kind, from a number on."""
    p, n, noise, start, count = job
    return (p, n, noise), [row for seed in range(start, start + count) for row in one_study(p, n, noise, seed)]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=200, help="studies of each kind")
    options = parser.parse_args()
    started = time.perf_counter()
    size = max(1, min(10, options.studies))
    jobs = [
        (p, n, noise, at, min(size, options.studies - at))
        for p, n in SIZES for noise in NOISES for at in range(0, options.studies, size)
    ]  # fmt: skip
    found: dict[tuple[int, int, float], list[tuple[float, ...]]] = defaultdict(list)
    with multiprocessing.get_context("spawn").Pool() as pool:
        for kind, rows in pool.imap_unordered(work, jobs):
            found[kind] += rows
    print(f"{options.studies} studies of each kind; shares of parameters")
    print("parameters points  noise  at each value  whole curve  wrong robust  wrong sensitive  rated")
    for (p, n, noise), rows in sorted(found.items()):
        share = np.asarray(rows, dtype=float).mean(0)
        print(
            f"{p:10d} {n:6d} {noise:6.2f} {share[0]:14.3f} {share[1]:12.3f} {share[2]:13.3f} {share[3]:16.3f} {share[4]:6.2f}"
        )
        tell(f"bands of {p} parameters, {n} points, noise {noise:g}", "95 %", [share[0] / 0.95], "0.98")
    print(f"{time.perf_counter() - started:.0f} s on {multiprocessing.cpu_count()} cores")


if __name__ == "__main__":
    main()
