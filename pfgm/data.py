"""Named data sets, in the units a field is trained in.

Images are scaled to [−1, 1]; every data set is centred by default (its mean is subtracted, stored, and added back to
samples), because the error of starting from the prior at a finite height is of order T^−2 with a mean and T^−4 without.
Points are flat, float32, shape (N, d); the shape of one item is kept beside them. A data set's identity is the hash of
its points and shape, not its name or path.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pfgm.config import DataConfig

IMAGE_RANGE = (-1.0, 1.0)
MIN_POINTS = 4
"""Fewest points of a data set: precision and recall look at third nearest neighbours."""


class DataError(ValueError):
    """A data set that cannot be used as it is; the message says why and what to do."""


@dataclass(frozen=True)
class DataInfo:
    """What a trained field must know of its data: units, shape and scale (no points)."""

    name: str
    shape: tuple[int, ...]  # of one item: (d,) for vectors, (C, H, W) for images
    mean: Tensor  # (d,), zero when not centred
    bounds: tuple[float, float] | None  # data range samples are clamped to; None for vectors
    n: int
    mean_norm: float  # mean ‖y‖ of the points as trained
    sd: float  # root mean square of the coordinates as trained
    hash: str
    center: bool

    @property
    def dim(self) -> int:
        """d, the number of coordinates of an item."""
        return prod(self.shape)

    def to_data_units(self, x: Tensor) -> Tensor:
        """Add the mean back to samples (n, d) and clamp them to the data's range."""
        x = x + self.mean.to(x)
        return x if self.bounds is None else x.clamp(*self.bounds)


@dataclass(frozen=True)
class Dataset:
    """Points as trained, shape (N, d), float32, and what is known of them."""

    points: Tensor
    info: DataInfo

    @property
    def raw(self) -> Tensor:
        """Points in data units (mean added back), shape (N, d)."""
        return self.info.to_data_units(self.points)


def _digits(config: DataConfig) -> np.ndarray:
    from sklearn.datasets import load_digits

    images: np.ndarray = load_digits().images
    return (images / 8.0 - 1.0).astype(np.float32)[:, None]


def _npz(config: DataConfig) -> np.ndarray:
    if config.path is None:
        raise DataError("data.path: an npz data set needs the file's path, e.g. path: my_data.npz")
    path = Path(config.path).expanduser()
    if not path.is_file():
        raise DataError(f"data.path: no file at {path}; give the path of an .npz file with one array")
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = list(archive.files)
            if len(names) != 1 and "x" not in names:
                raise DataError(f"data.path: {path} holds arrays {', '.join(names)}; name the data array `x`")
            values = archive["x" if "x" in names else names[0]]
    except (ValueError, OSError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"data.path: {path} is not a readable .npz file of plain arrays ({error})") from error
    return _checked_array(values, path)


def _checked_array(values: np.ndarray, path: Path) -> np.ndarray:
    """(N, d) vectors, or images (N, H, W), (N, H, W, C) → (N, C, H, W) in [−1, 1]."""
    if values.ndim < 2:
        raise DataError(f"data.path: {path} has shape {values.shape}; need (N, d), (N, H, W) or (N, H, W, C)")
    if values.ndim == 4 and values.shape[3] not in (1, 3, 4) and values.shape[1] in (1, 3, 4):
        raise DataError(f"data.path: {path} has shape {values.shape}, it seems (N, C, H, W); transpose it to (N, H, W, C)")
    if values.dtype == np.uint8 and values.ndim == 2:
        raise DataError(f"data.path: {path} has uint8 vectors; convert them to float32, or reshape images to (N, H, W)")
    if values.dtype == np.uint8:
        values = values.astype(np.float32) / 127.5 - 1.0
    elif not np.issubdtype(values.dtype, np.floating):
        raise DataError(f"data.path: {path} has dtype {values.dtype}; use a float type, or uint8 for images")
    if not np.isfinite(values).all():
        raise DataError(f"data.path: {path} has {int((~np.isfinite(values)).sum())} values that are not finite")
    if values.ndim > 2 and np.abs(values).max() > 1.0 + 1e-6:
        raise DataError(f"data.path: float images must lie in [−1, 1], {path} reaches {np.abs(values).max():g}")
    if values.ndim == 3:
        values = values[:, None]
    elif values.ndim == 4:
        values = values.transpose(0, 3, 1, 2)
    elif values.ndim > 4:
        raise DataError(f"data.path: {path} has {values.ndim} axes; need at most 4: (N, H, W, C)")
    return values.astype(np.float32)


def _toy(draw: Callable[[np.random.Generator, int, int], np.ndarray], planar: bool) -> Callable[[DataConfig], np.ndarray]:
    def generate(config: DataConfig) -> np.ndarray:
        dim = config.dim or 2
        if planar and dim != 2:
            raise DataError(f"data.dim: {config.name} lies in the plane, got dim {dim}; remove dim")
        rng = np.random.Generator(np.random.Philox(20221))
        return draw(rng, config.n or 2000, dim).astype(np.float32)

    return generate


def _rings(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    radius = rng.choice([0.5, 1.0], n) + 0.03 * rng.standard_normal(n)
    angle = rng.uniform(0, 2 * np.pi, n)
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)


def _spiral(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    angle = 3 * np.pi * np.sqrt(rng.uniform(0.05, 1, n))
    arm = (angle / (3 * np.pi))[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    return arm + 0.02 * rng.standard_normal((n, 2))


def _two_moons(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    angle, lower = rng.uniform(0, np.pi, n), rng.integers(0, 2, n)
    x = np.where(lower, 1 - np.cos(angle), np.cos(angle)) - 0.5
    y = np.where(lower, 0.5 - np.sin(angle), np.sin(angle)) - 0.25
    return np.stack([x, y], 1) + 0.05 * rng.standard_normal((n, 2))


def _gaussians(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    """Eight clusters (2-D: on the unit circle; else at fixed random unit vectors), sd 0.05."""
    if dim == 2:
        angle = np.arange(8) * np.pi / 4
        centres = np.stack([np.cos(angle), np.sin(angle)], 1)
    else:
        centres = rng.standard_normal((8, dim))
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    return centres[rng.integers(0, 8, n)] + 0.05 * rng.standard_normal((n, dim))


def _shell(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    x = rng.standard_normal((n, dim))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


READERS: dict[str, Callable[[DataConfig], np.ndarray]] = {
    "digits": _digits,
    "npz": _npz,
    "rings": _toy(_rings, planar=True),
    "spiral": _toy(_spiral, planar=True),
    "two_moons": _toy(_two_moons, planar=True),
    "gaussians": _toy(_gaussians, planar=False),
    "shell": _toy(_shell, planar=False),
}
"""Data set name → reader; a reader returns (N, d) vectors or (N, C, H, W) images in data units."""

_FILE_READERS = ("npz",)
_TOYS = ("rings", "spiral", "two_moons", "gaussians", "shell")


def load_data(config: DataConfig) -> Dataset:
    """Read a data set and bring it to the units it is trained in.

    Raises:
        DataError: an unknown name, a key the data set does not have, or a file that cannot be used.
    """
    if config.name not in READERS:
        raise DataError(f"data.name: unknown data set '{config.name}'; use one of {', '.join(READERS)}")
    if config.path is not None and config.name not in _FILE_READERS:
        raise DataError(f"data.path: {config.name} has no file; remove path, or use name: npz")
    for key in ("n", "dim"):
        if getattr(config, key) is not None and config.name not in _TOYS:
            raise DataError(f"data.{key}: belongs to the toys {', '.join(_TOYS)}; remove it")
    values = READERS[config.name](config)
    if len(values) < MIN_POINTS:
        raise DataError(f"data: {len(values)} points; at least {MIN_POINTS} are needed, for the third nearest neighbour")
    if not np.ptp(values.reshape(len(values), -1), axis=0).any():
        raise DataError(f"data: all {len(values)} points are equal; give data that differ")
    shape = tuple(int(k) for k in values.shape[1:])
    raw = torch.from_numpy(np.ascontiguousarray(values.reshape(len(values), -1)))
    centre = raw.double().mean(0)
    mean = centre.float() if config.center else torch.zeros_like(centre).float()
    points = raw - mean
    digest = hashlib.sha256(repr((shape, config.center)).encode())
    digest.update(np.ascontiguousarray(values).tobytes())
    info = DataInfo(
        name=config.name,
        shape=shape,
        mean=mean,
        bounds=IMAGE_RANGE if len(shape) == 3 else None,
        n=len(points),
        mean_norm=float(points.double().norm(dim=1).mean()),
        sd=float(points.double().square().mean().sqrt()),
        hash=digest.hexdigest(),
        center=config.center,
    )
    return Dataset(points, info)
