"""Arrays in numpy's files: `npz` tells images from vectors by their axes, `vectors` takes items of any shape as vectors.

Both read .npz and .npy, by what they are and not by their names; an .npy file is mapped into memory, shared by all processes.
Nothing is ever unpickled. `vectors` also reads tables (`pfgm.data.readers.tables`).
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pfgm.config import DataConfig
from pfgm.data.errors import DataError
from pfgm.data.items import Items, Reader
from pfgm.data.labels import Labels
from pfgm.data.readers.kinds import WORDS, kind_of
from pfgm.data.readers.tables import is_table, read_table

UNREADABLE = (ValueError, OSError, EOFError, AttributeError, TypeError, zipfile.BadZipFile)
CHUNK_VALUES = 1 << 20
"""Values that are looked at, or converted, at a time."""
SLACK = 1e-6
"""Images may leave [−1, 1] by this."""
CURES = {
    "text": "read it with numpy.loadtxt and save the array with numpy.save, or name it .csv and use name: vectors",
    "pickle": "a pickle is a program, and none is run: load it yourself, and save the array with numpy.save",
    "torch": "load it yourself, and save tensor.numpy() with numpy.save",
    "safetensors": "load it yourself, and save the array with numpy.save",
    "hdf5": "load it yourself, and save the array with numpy.save",
    "matlab": "load it with scipy.io.loadmat, and save the array with numpy.save",
    "parquet": "use name: parquet for a column of pictures, name: vectors and the suffix .parquet for numbers",
    "zip": "use name: images for a zip of pictures",
    "picture": "use name: images, and give the folder it is in",
    "empty": "write it again",
}
"""What to do with a file of another kind."""


def read_npz(config: DataConfig) -> Items:
    """(N, d) vectors of floats, or images (N, H, W), (N, H, W, C), uint8 or floats in [−1, 1]."""
    path = _place(config)
    if is_table(path):
        raise DataError("data.path", f"{path} is a table of numbers; use name: vectors")
    values = _array(config, path)
    labels = _labels(config, path, len(values) if values.ndim else 0)
    if values.ndim == 1:
        raise _one_axis(path, values)
    if values.ndim == 4 and values.shape[3] not in (1, 3, 4) and values.shape[1] in (1, 3, 4):
        raise DataError("data.path", f"{path} has shape {values.shape}, it seems (N, C, H, W); transpose it to (N, H, W, C)")
    if values.dtype == np.uint8 and values.ndim == 2:
        raise DataError("data.path", f"{path} has uint8 vectors; convert them to float32, or reshape images to (N, H, W)")
    if values.ndim not in (2, 3, 4):
        raise DataError(
            "data.path",
            f"{path} has shape {values.shape}; need (N, d), (N, H, W) or (N, H, W, C): reshape the array to one of"
            " these, or use name: vectors, which makes each item one row of numbers",
        )
    values, notes = _checked(values, path, images=values.ndim > 2)
    if values.ndim == 3:
        values = values[:, None]
    elif values.ndim == 4:
        values = values.transpose(0, 3, 1, 2)
    return Items(values, notes=notes, labels=labels)


def read_vectors(config: DataConfig) -> Items:
    """Items of any shape, each as one vector; uint8 stands for v/127.5 − 1. Or the rows of a table."""
    path = _place(config)
    if is_table(path):
        if config.key is not None:
            raise DataError("data.key", f"belongs to an .npz file with several arrays, {path} is a table; remove it")
        return read_table(path, config.labels)
    values = _array(config, path)
    if values.ndim == 0:
        raise DataError("data.path", f"{path} holds one number; need an axis of items and one or more of numbers")
    if values.ndim == 1:
        raise _one_axis(path, values)
    values, _ = _checked(values, path, images=False)
    return Items(values.reshape(len(values), -1), labels=_labels(config, path, len(values)))


def _place(config: DataConfig) -> Path:
    if config.path is None:
        raise DataError("data.path", f"an {config.name} data set needs the file's path, e.g. path: my_data.npz")
    path = Path(config.path).expanduser()
    if not path.is_file():
        also = ", or of a .csv, .tsv or .parquet table" if config.name == "vectors" else ""
        raise DataError(
            "data.path", f"no file at {path}; give the path of an .npz file with one array, or of an .npy file{also}"
        )
    return path


def _one_axis(path: Path, values: np.ndarray) -> DataError:
    return DataError(
        "data.path",
        f"{path} has shape {values.shape}; need an axis of items and one or more of numbers: (N, d),"
        f" (N, H, W) or (N, H, W, C). Where each of the {len(values)} numbers is a point, save array.reshape(-1, 1)",
    )


def _array(config: DataConfig, path: Path) -> np.ndarray:
    try:
        kind = kind_of(path)
        if kind == "npy":
            if config.key is not None:
                raise DataError("data.key", f"belongs to an .npz file with several arrays, {path} holds one; remove it")
            values: np.ndarray = np.load(path, mmap_mode="c", allow_pickle=False)
        elif kind == "npz":
            values = _of_archive(config.key, path)
        elif kind in CURES and not (kind == "zip" and not zipfile.is_zipfile(path)):
            raise DataError("data.path", f"{path} is {WORDS[str(kind)]}, not an .npz or .npy file; {CURES[str(kind)]}")
        else:
            found = f"it is {WORDS[kind]}" if kind in WORDS else "its first bytes are none of theirs"
            raise DataError("data.path", f"{path} is not a readable .npz or .npy file ({found}, or cut short); get it again")
    except DataError:
        raise
    except UNREADABLE as error:
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            text = "holds Python objects, not numbers; save array.astype('float32'), or rows of one length"
            raise DataError("data.path", f"{path} {text}") from error
        raise DataError("data.path", f"{path} is not a readable .{kind or 'npz'} file ({error}); save it again") from error
    return values


def _labels(config: DataConfig, path: Path, n: int) -> Labels | None:
    """The classes that ``labels`` names, an array of an .npz file."""
    if config.labels is None:
        return None
    if kind_of(path) != "npz":
        raise DataError("data.labels", f"names an array of an .npz file, {path} holds one array; save both with numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as archive:
            if config.labels not in archive.files:
                held = ", ".join(archive.files)
                raise DataError("data.labels", f"no array {config.labels} in {path}; it holds {held}, write one of these")
            return Labels.of(archive[config.labels], n)
    except UNREADABLE as error:
        if isinstance(error, DataError):
            raise
        raise DataError("data.labels", f"{path} has no readable array {config.labels} ({error}); save it again") from error


def _of_archive(key: str | None, path: Path) -> np.ndarray:
    with np.load(path, allow_pickle=False) as archive:
        names = list(archive.files)
        wanted = key if key is not None else "x" if "x" in names else names[0] if len(names) == 1 else None
        if wanted is None:
            cure = f"say which, such as key: {names[0]}, or name the data array `x`"
            raise DataError("data.path", f"{path} holds arrays {', '.join(names)}; {cure}")
        if wanted not in names:
            raise DataError("data.key", f"no array in {path}; it holds {', '.join(names)}, write one of these")
        values: np.ndarray = archive[wanted]
        return values


def _checked(values: np.ndarray, path: Path, images: bool) -> tuple[np.ndarray, tuple[str, ...]]:
    """uint8 as it is, images as float32, vectors as they are, and notes; looked at in chunks, since a file may be mapped."""
    if values.dtype == np.uint8:
        return values, ()
    if not np.issubdtype(values.dtype, np.floating):
        raise DataError("data.path", f"{path} has dtype {values.dtype}; {_numbers(values.dtype, images)}")
    bad = sum(int((~np.isfinite(part)).sum()) for part in _parts(values))
    if bad:
        raise DataError(
            "data.path", f"{path} has {bad} values that are not finite; remove their rows, or put numbers in their place"
        )
    ends = [(float(part.min()), float(part.max())) for part in _parts(values) if part.size]
    low, high = min((e[0] for e in ends), default=0.0), max((e[1] for e in ends), default=0.0)
    if images and max(-low, high) > 1.0 + SLACK:
        raise DataError("data.path", f"float images must lie in [−1, 1], {path} {_beyond(low, high)}")
    if max(-low, high) > float(np.finfo(np.float32).max):
        raise DataError("data.path", f"{path} reaches {max(-low, high):g}, more than float32 holds; scale the data")
    if not images:
        return values, ()
    note = (
        f"the images of {path} lie in {low:.3g} … {high:.3g}, which is probably [0, 1], and are taken for [−1, 1]: save"
        " 2 * array - 1 in their place, or uint8"
    )
    return values.astype(np.float32, copy=False), (note,) if low >= 0 and values.size else ()


def _numbers(dtype: np.dtype, images: bool) -> str:
    """Return what to make of numbers that are no floats."""
    if np.issubdtype(dtype, np.complexfloating):
        return "save the absolute value, or real and imaginary part as two axes"
    if np.issubdtype(dtype, np.number) or dtype == np.bool_:
        return "use a float type, or uint8 for images: " + (
            "array.astype('uint8') where it holds 0 … 255" if images else "array.astype('float64')"
        )
    return "use a float type: words and dates must become numbers first"


def _beyond(low: float, high: float) -> str:
    """Return how images leave their range, and what they probably are."""
    if low >= 0 and high <= 255:
        return f"reaches {high:g}; for grey levels to 255 save array / 127.5 - 1, or array.astype('uint8')"
    return (
        f"holds {low:.4g} … {high:.4g}; scale them, or, where these are time series, spectrograms or other arrays,"
        " use name: vectors"
    )


def _parts(values: np.ndarray) -> Iterator[np.ndarray]:
    rows = max(1, CHUNK_VALUES // max(1, values[:1].size))
    return (values[start : start + rows] for start in range(0, len(values), rows))


KEYS = frozenset({"path", "key", "standardize", "labels"})
NPZ, VECTORS = Reader(read_npz, KEYS), Reader(read_vectors, KEYS)
