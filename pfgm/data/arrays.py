"""Arrays in numpy's files: `npz` tells images from vectors by their axes, `vectors` takes items of any shape as vectors.

Both read .npz and .npy; an .npy file is mapped into memory, shared by all processes. Nothing is ever unpickled.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pfgm.config import DataConfig
from pfgm.data.errors import DataError
from pfgm.data.items import Items

UNREADABLE = (ValueError, OSError, EOFError, AttributeError, TypeError, zipfile.BadZipFile)
CHUNK_VALUES = 1 << 20
"""Values that are looked at, or converted, at a time."""


def read_npz(config: DataConfig) -> Items:
    """(N, d) vectors of floats, or images (N, H, W), (N, H, W, C), uint8 or floats in [−1, 1]."""
    values, path = _array(config)
    if values.ndim < 2:
        raise DataError(f"data.path: {path} has shape {values.shape}; need (N, d), (N, H, W) or (N, H, W, C)")
    if values.ndim == 4 and values.shape[3] not in (1, 3, 4) and values.shape[1] in (1, 3, 4):
        raise DataError(f"data.path: {path} has shape {values.shape}, it seems (N, C, H, W); transpose it to (N, H, W, C)")
    if values.dtype == np.uint8 and values.ndim == 2:
        raise DataError(f"data.path: {path} has uint8 vectors; convert them to float32, or reshape images to (N, H, W)")
    values = _checked(values, path, images=values.ndim > 2)
    if values.ndim == 3:
        values = values[:, None]
    elif values.ndim == 4:
        values = values.transpose(0, 3, 1, 2)
    elif values.ndim > 4:
        raise DataError(f"data.path: {path} has {values.ndim} axes; need at most 4: (N, H, W, C), or use name: vectors")
    return Items(values)


def read_vectors(config: DataConfig) -> Items:
    """Items of any shape, each as one vector; uint8 stands for v/127.5 − 1."""
    values, path = _array(config)
    if values.ndim < 2:
        raise DataError(f"data.path: {path} has shape {values.shape}; need an axis of items and one or more of numbers")
    values = _checked(values, path, images=False)
    return Items(values.reshape(len(values), -1))


def _array(config: DataConfig) -> tuple[np.ndarray, Path]:
    if config.path is None:
        raise DataError(f"data.path: an {config.name} data set needs the file's path, e.g. path: my_data.npz")
    path = Path(config.path).expanduser()
    if not path.is_file():
        raise DataError(f"data.path: no file at {path}; give the path of an .npz file with one array, or of an .npy file")
    kind = ".npy" if path.suffix == ".npy" else ".npz"
    try:
        if kind == ".npy":
            return np.load(path, mmap_mode="c", allow_pickle=False), path
        with np.load(path, allow_pickle=False) as archive:
            names = list(archive.files)
            if len(names) != 1 and "x" not in names:
                raise DataError(f"data.path: {path} holds arrays {', '.join(names)}; name the data array `x`")
            return archive["x" if "x" in names else names[0]], path
    except DataError:
        raise
    except UNREADABLE as error:
        raise DataError(f"data.path: {path} is not a readable {kind} file of plain arrays ({error})") from error


def _checked(values: np.ndarray, path: Path, images: bool) -> np.ndarray:
    """uint8 as it is, images as float32, vectors as they are; looked at in chunks, since the array may be a mapped file."""
    if values.dtype == np.uint8:
        return values
    if not np.issubdtype(values.dtype, np.floating):
        raise DataError(f"data.path: {path} has dtype {values.dtype}; use a float type, or uint8 for images")
    bad = sum(int((~np.isfinite(part)).sum()) for part in _parts(values))
    if bad:
        raise DataError(
            f"data.path: {path} has {bad} values that are not finite; remove their rows, or put numbers in their place"
        )
    largest = max((float(np.abs(part).max()) for part in _parts(values) if part.size), default=0.0)
    if images and largest > 1.0 + 1e-6:
        raise DataError(f"data.path: float images must lie in [−1, 1], {path} reaches {largest:g}")
    if largest > float(np.finfo(np.float32).max):
        raise DataError(f"data.path: {path} reaches {largest:g}, more than float32 holds; scale the data")
    return values.astype(np.float32, copy=False) if images else values


def _parts(values: np.ndarray) -> Iterator[np.ndarray]:
    rows = max(1, CHUNK_VALUES // max(1, values[:1].size))
    return (values[start : start + rows] for start in range(0, len(values), rows))
