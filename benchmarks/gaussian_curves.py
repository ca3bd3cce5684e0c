"""Do the 95 % bands of `analysis.parameter_curves` hold the true curve? Made-up Sobol' points of two to six parameters.

Truths are flat, straight, curved or steps, with an interaction of the first two. Printed for each number of parameters and of
points: the share of each true curve that lies within its band, the mean half-width on the log, and the share of flat parameters
that are rated sensitive.

    python benchmarks/gaussian_curves.py                40 studies of each size; ten minutes
    python benchmarks/gaussian_curves.py --studies 6    a quick look
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import numpy as np
from scipy import stats
from scipy.stats import qmc

from analysis.robustness.gaussian import GRID, LOOKS, _Chain

SD, INTERACTION, LIMIT = 0.15, 0.5, math.log(1.1)


def truths(rng: np.random.Generator, n: int) -> list[tuple[str, Callable[[np.ndarray], np.ndarray]]]:
    """One function of x in [0, 1] for each parameter."""
    found: list[tuple[str, Callable[[np.ndarray], np.ndarray]]] = []
    for _ in range(n):
        size, at = rng.uniform(0.1, 0.8), rng.uniform(0.2, 0.8)
        kinds: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            "flat": lambda x: 0 * x,
            "straight": lambda x, size=size: size * x,  # type: ignore[misc]
            "curved": lambda x, size=size, at=at: 4 * size * (x - at) ** 2,  # type: ignore[misc]
            "step": lambda x, size=size, at=at: size / (1 + np.exp(-(x - at) / 0.1)),  # type: ignore[misc]
        }
        kind = str(rng.choice(list(kinds)))
        found.append((kind, kinds[kind]))
    return found


def one(seed: int, n_parameters: int, n_points: int) -> list[tuple[float, float, str, bool]]:
    """(covered, half-width, kind, sensitive) of each parameter of one study."""
    rng = np.random.default_rng([seed, n_parameters, n_points])
    kinds, x = truths(rng, n_parameters), qmc.Sobol(n_parameters, rng=rng).random(n_points)
    mean = sum(f(x[:, j]) for j, (_, f) in enumerate(kinds)) + INTERACTION * (x[:, 0] - 0.5) * (x[:, 1] - 0.5)
    y = mean + SD * rng.standard_normal(n_points)
    chain = _Chain(x, (y - y.mean()) / y.std(), np.zeros(n_parameters, dtype=bool))
    kept, df, grid, found = (
        chain.run(np.random.default_rng(0)),
        max(n_points - 2 * n_parameters - 2, 4),
        np.linspace(0, 1, GRID),
        [],
    )
    for j, (kind, f) in enumerate(kinds):
        default = rng.uniform(0.3, 0.7)
        d, se = (part * y.std() for part in chain.curve(kept, j, grid, default))
        half = stats.t.ppf(0.975, df) * se
        covered = np.abs(d - (f(grid) - f(np.array(default)))) <= half + 1e-9
        sensitive = bool((d - stats.t.ppf(1 - 0.025 / LOOKS, df) * se > LIMIT).any())
        found.append((float(covered.mean()), float(half.mean()), kind, sensitive))
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=40, help="studies of each size")
    options = parser.parse_args()
    print("parameters points  covered  half-width  flat rated sensitive")
    for n_parameters in (2, 4, 6):
        for n_points in (32, 64, 128):
            start = time.perf_counter()
            rows = [row for seed in range(options.studies) for row in one(seed, n_parameters, n_points)]
            flat = [row[3] for row in rows if row[2] == "flat"]
            covered, half = np.mean([row[0] for row in rows]), np.mean([row[1] for row in rows])
            false = f"{sum(flat)} of {len(flat)}"
            seconds = (time.perf_counter() - start) / options.studies
            print(
                f"{n_parameters:10d} {n_points:6d} {covered:8.3f} {half:11.3f}  {false:>12s}   ({seconds:.1f} s a study)",
                flush=True,
            )


if __name__ == "__main__":
    main()
