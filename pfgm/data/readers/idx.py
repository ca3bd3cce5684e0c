"""Fashion-MNIST in its IDX files: 60,000 grey 28 × 28 images to train on, and the 10,000 of its test split.

An IDX file is two zero bytes, a type byte (8: unsigned bytes), the number of axes, the axes as big-endian 32-bit integers, and
the values. It may be compressed; a plain one is mapped into memory.
Source: Xiao, Rasul and Vollgraf, arXiv 1708.07747.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pfgm.config import DataConfig
from pfgm.data.errors import DataError
from pfgm.data.items import Items, Reader
from pfgm.data.labels import Labels
from pfgm.data.pictures.cache import cache_folder
from pfgm.data.pictures.download import DownloadError, Remote, fetch

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
SITE = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
}
"""Checksums as published with the data; Debian's files hold the same, compressed anew."""
TRAIN, TEST = ("train-images-idx3-ubyte", "train-images.idx3-ubyte"), ("t10k-images-idx3-ubyte", "t10k-images.idx3-ubyte")
TRAIN_LABELS = ("train-labels-idx1-ubyte", "train-labels.idx1-ubyte")
TEST_LABELS = ("t10k-labels-idx1-ubyte", "t10k-labels.idx1-ubyte")
LABELS_MD5 = {
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
"""The same of the classes."""
CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
MAX_LABELS = 10_000_000
"""Labels of a file, at most."""
MAX_DEFLATE = 1032
"""A gzip file expands at most this many times, so that a header cannot claim more."""
BLOCK = 1 << 20


def read_fashion_mnist(config: DataConfig) -> Items:
    """From ``data.path``, Debian's package, or the web; (N, 1, 28, 28), uint8."""
    folder = _folder(config)
    train, test = (read_idx(_found(folder, names)) for names in (TRAIN, TEST))
    if train.shape[1:] != test.shape[1:]:
        raise DataError(
            "data.path", f"images in {folder} are {train.shape[1:]} to train on and {test.shape[1:]} to test; get them anew"
        )
    return Items(train[:, None], test[:, None], f"read from {folder}", labels=_labels(folder, len(train), len(test)))


def _labels(folder: Path, n: int, n_test: int) -> Labels | None:
    """Classes by their files; None where these are not in the folder, for images alone were asked for by earlier versions."""
    paths = [_any(folder, names) for names in (TRAIN_LABELS, TEST_LABELS)]
    if None in paths:
        return None
    train, test = (read_labels(path) for path in paths if path is not None)
    if (len(train), len(test)) != (n, n_test) or max(train.max(), test.max()) >= len(CLASSES):
        raise DataError("data.path", f"labels in {folder} do not go with its images; get them anew")
    return Labels.known(CLASSES, train, test)


def read_labels(path: Path) -> np.ndarray:
    """Labels of one file, (N,), uint8.

    Raises:
        DataError: it is not an IDX file of labels, or not whole.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as handle:
            header, content = handle.read(8), handle.read(MAX_LABELS + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError("data.path", f"{path} cannot be read ({error}); get it anew") from error
    if len(header) < 8 or header[:4] != b"\0\0\x08\x01" or struct.unpack(">i", header[4:])[0] != len(content) or not content:
        raise DataError("data.path", f"{path} is no whole IDX file of labels; get it anew")
    return np.frombuffer(content, np.uint8)


def is_idx_folder(folder: Path) -> bool:
    """Return whether the files of `read_fashion_mnist` are there."""
    return _any(folder, TRAIN) is not None and _any(folder, TEST) is not None


def read_idx(path: Path) -> np.ndarray:
    """Images of one file, (N, H, W), uint8.

    Raises:
        DataError: it is not an IDX file of images, or not whole.
    """
    compressed = path.suffix == ".gz"
    size = path.stat().st_size
    try:
        with gzip.open(path, "rb") if compressed else open(path, "rb") as handle:
            header = handle.read(16)
            if len(header) < 16 or header[:4] != b"\0\0\x08\x03":
                raise DataError("data.path", f"{path} is no IDX file of 8-bit images; get it anew")
            shape = struct.unpack(">3i", header[4:])
            n_bytes = prod(shape)
            if min(shape) <= 0 or n_bytes > size * (MAX_DEFLATE if compressed else 1):
                raise DataError("data.path", f"{path} says it holds {shape} bytes, which it cannot; get it anew")
            if not compressed and size == 16 + n_bytes:
                return np.memmap(path, np.uint8, "c", 16, shape)
            values = np.empty(shape, np.uint8)
            if not _filled(values, handle) or handle.read(1):
                raise DataError("data.path", f"{path} does not hold the {shape} bytes that it says; get it anew")
    except (OSError, EOFError, zlib.error) as error:
        raise DataError("data.path", f"{path} cannot be read ({error}); get it anew") from error
    return values


def _filled(values: np.ndarray, handle: BinaryIO | gzip.GzipFile) -> bool:
    """Fill the array from the file, in parts: a whole compressed file would be held twice. Whether there was enough."""
    rest = values.reshape(-1).data
    while rest:
        part = handle.read(min(len(rest), BLOCK))
        if not part:
            return False
        rest[: len(part)] = part
        rest = rest[len(part) :]
    return True


def _folder(config: DataConfig) -> Path:
    if config.path is not None:
        folder = Path(config.path).expanduser()
        if not is_idx_folder(folder):
            raise DataError("data.path", f"no {' and '.join(MD5)} (or the same without .gz) in {folder}; {_ways()}")
        return folder
    downloads = cache_folder() / "fashion-mnist"
    for folder in (DEBIAN, downloads):
        if is_idx_folder(folder):
            return folder
    if not config.download:
        raise DataError("data.path", f"fashion_mnist is not on this machine; {_ways()}")
    try:
        for name, checksum in {**MD5, **LABELS_MD5}.items():
            fetch(Remote(SITE + name, "md5", checksum), downloads / name)
    except DownloadError as error:
        raise DataError("data.download", f"{error}; {_ways()}") from error
    return downloads


def _ways() -> str:
    return (
        "give path: the folder of its IDX files, install Debian's package dataset-fashion-mnist, or say download: true (30 MB)"
    )


def _any(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / f for name in names for f in (name, name + ".gz") if (folder / f).is_file()), None)


def _found(folder: Path, names: tuple[str, ...]) -> Path:
    path = _any(folder, names)
    assert path is not None  # the folder was chosen for it
    return path


FASHION_MNIST = Reader(read_fashion_mnist, frozenset({"path", "download"}))
