"""Toys with known laws, drawn with one fixed stream of random numbers: the same points for the same n and dim.

`rings`, `spiral` and `two_moons` lie in the plane; `gaussians` and `shell` in any dimension.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pfgm.config import DataConfig
from pfgm.data.errors import DataError
from pfgm.data.items import Items, Reader

CLUSTER_SD = 0.05
Draw = Callable[[np.random.Generator, int, int], np.ndarray]


def _toy(draw: Draw, planar: bool = False) -> Reader:
    """Return the card of a toy: n points (2,000) of dim coordinates (2)."""

    def generate(config: DataConfig) -> Items:
        dim = config.dim or 2
        if planar and dim != 2:
            raise DataError("data.dim", f"{config.name} lies in the plane, got dim {dim}; remove dim")
        return Items(draw(_stream(), config.n or 2000, dim).astype(np.float32))

    return Reader(generate, frozenset({"n", "dim"}))


def _stream() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(20221))


def _rings(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    radius = rng.choice([0.5, 1.0], n) + 0.03 * rng.standard_normal(n)
    angle = rng.uniform(0, 2 * np.pi, n)
    points: np.ndarray = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    return points


def _spiral(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    angle = 3 * np.pi * np.sqrt(rng.uniform(0.05, 1, n))
    arm = (angle / (3 * np.pi))[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    points: np.ndarray = arm + 0.02 * rng.standard_normal((n, 2))
    return points


def _two_moons(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    angle, lower = rng.uniform(0, np.pi, n), rng.integers(0, 2, n)
    x = np.where(lower, 1 - np.cos(angle), np.cos(angle)) - 0.5
    y = np.where(lower, 0.5 - np.sin(angle), np.sin(angle)) - 0.25
    return np.stack([x, y], 1) + 0.05 * rng.standard_normal((n, 2))


def _gaussians(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    """Eight clusters (2-D: on the unit circle; else at fixed random unit vectors), sd 0.05."""
    return _centres(rng, dim)[rng.integers(0, 8, n)] + CLUSTER_SD * rng.standard_normal((n, dim))


def _centres(rng: np.random.Generator, dim: int) -> np.ndarray:
    if dim == 2:
        angle = np.arange(8) * np.pi / 4
        return np.stack([np.cos(angle), np.sin(angle)], 1)
    centres = rng.standard_normal((8, dim))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    return centres


def gaussians_law(dim: int) -> tuple[np.ndarray, float]:
    """Return the law of `gaussians`: (centres of its eight equal clusters (8, dim), their standard deviation)."""
    return _centres(_stream(), dim), CLUSTER_SD


def _shell(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    x = rng.standard_normal((n, dim))
    points: np.ndarray = x / np.linalg.norm(x, axis=1, keepdims=True)
    return points


RINGS, SPIRAL, TWO_MOONS = _toy(_rings, planar=True), _toy(_spiral, planar=True), _toy(_two_moons, planar=True)
GAUSSIANS, SHELL = _toy(_gaussians), _toy(_shell)
