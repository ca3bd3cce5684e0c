"""CIFAR-10, the version for Python: 50,000 RGB 32 × 32 images to train on, and the 10,000 of its test batch.

Its batches are pickles, and a pickle is a program. None is run here. Only the four names that an array
of numbers needs are known. Each is replaced by a stand-in that keeps what it is given, and the pixels are cut from the bytes
that were kept. The archive is read member by member; nothing is extracted.
Source: Krizhevsky, Learning multiple layers of features from tiny images, 2009.
"""

from __future__ import annotations

import io
import pickle
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from pfgm.config import DataConfig
from pfgm.data.errors import DataError
from pfgm.data.items import Items, Reader
from pfgm.data.labels import Labels
from pfgm.data.pictures.cache import Decoded, cache_folder, cached
from pfgm.data.pictures.download import DownloadError, Remote, fetch

ARCHIVE = Remote("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "md5", "c58f30108f718f92721af3b95e74349a")
TRAIN, TEST = tuple(f"data_batch_{k}" for k in range(1, 6)), ("test_batch",)
ITEM = (3, 32, 32)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MAX_BATCH = 256 << 20
"""Bytes of one batch; the real ones have 31 MB."""


def read_cifar10(config: DataConfig) -> Items:
    """From ``data.path`` (archive or extracted folder) or the web; (N, 3, 32, 32), uint8."""
    path = _place(config)
    files = [path] if path.is_file() else [path / name for name in (*TRAIN, *TEST)]
    facts = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    batches: dict[str, Batch] = {}

    def read(names: tuple[str, ...]) -> list[Batch]:
        if not batches:
            batches.update(_batches(path))
        return [batches[name] for name in names]

    def decode(names: tuple[str, ...]) -> Decoded:
        parts = [batch.images for batch in read(names)]
        return Decoded((sum(map(len, parts)), *ITEM), parts, lambda: f"read from {path}")

    def classes(names: tuple[str, ...]) -> np.ndarray:
        def told() -> Decoded:
            parts = [batch.labels[:, None] for batch in read(names)]
            return Decoded((sum(map(len, parts)), 1), parts, lambda: f"classes of {path}")

        return cached(("cifar10", "labels", names, facts), told)[0][:, 0]

    train, how = cached(("cifar10", "train", facts), lambda: decode(TRAIN))
    test, _ = cached(("cifar10", "test", facts), lambda: decode(TEST))
    labels, test_labels = classes(TRAIN), classes(TEST)
    known = (len(labels), len(test_labels)) == (len(train), len(test))  # else some batch has none
    return Items(train, test, how, labels=Labels.known(CLASSES, labels, test_labels) if known else None)


def is_cifar_folder(folder: Path) -> bool:
    """Return whether the batches are there."""
    return all((folder / name).is_file() for name in (*TRAIN, *TEST))


class Batch(NamedTuple):
    """images (n, 3, 32, 32) and labels (n,) of one file, uint8; no labels where it has none."""

    images: np.ndarray
    labels: np.ndarray


def unpickle_batch(content: bytes, where: str) -> np.ndarray:
    """The images of one batch, (n, 3, 32, 32), uint8; as `read_batch`."""
    return read_batch(content, where).images


def read_batch(content: bytes, where: str) -> Batch:
    """What one batch holds; nothing that it names is called.

    Raises:
        DataError: it is not a batch, or asks for anything but bytes, numbers, lists, dictionaries and an array.
    """
    try:
        batch = _Reader(io.BytesIO(content), encoding="bytes").load()
    except MemoryError:
        raise
    except Exception as error:  # a broken pickle fails in as many ways as there are opcodes
        words = " ".join(str(error).split())[:200]
        raise DataError("data.path", f"{where} is not a batch of CIFAR-10 ({words}); get the archive anew") from error
    found = {k.decode("latin1") if isinstance(k, bytes) else k: v for k, v in batch.items()} if isinstance(batch, dict) else {}
    data, labels = found.get("data"), found.get("labels", [])
    if not isinstance(data, _Array):
        raise DataError("data.path", f"{where} has no array `data`; get the archive anew")
    images = data.images(where)
    if labels and not (isinstance(labels, list) and len(labels) == len(images) and set(labels) <= set(range(len(CLASSES)))):
        raise DataError("data.path", f"the labels of {where} do not go with its images; get the archive anew")
    return Batch(images, np.array(labels, np.uint8))


class _Dtype:
    """Stands for numpy's dtype: keeps its name."""

    def __init__(self, name: object = b"", *flags: object) -> None:
        self.name = name.decode("latin1") if isinstance(name, bytes) else name

    def __setstate__(self, state: object) -> None:
        """Byte order and such; a byte has none."""


class _Array:
    """Stands for a numpy array: keeps its state."""

    state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def images(self, where: str) -> np.ndarray:
        """(n, 3, 32, 32), from the bytes of an (n, 3072) array."""
        match self.state:
            case (_, (int(n), 3072), _Dtype(name="u1" | "|u1"), False | 0, bytes(content)) if 0 < n == len(content) / 3072:
                return np.frombuffer(content, np.uint8).reshape(n, *ITEM)
        raise DataError("data.path", f"the array of {where} is not (n, 3072) bytes in rows; get the archive anew")


def _array(*_: object) -> _Array:
    """Stands for numpy's `_reconstruct`."""
    return _Array()


def _encode(text: object, encoding: object = "latin1") -> bytes:
    """Stands for `_codecs.encode`, by which Python 3 writes bytes for Python 2."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("bytes in an unknown encoding")
    return text.encode("latin1")


STAND_INS: dict[tuple[str, str], object] = {
    ("numpy.core.multiarray", "_reconstruct"): _array,
    ("numpy._core.multiarray", "_reconstruct"): _array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        """Never a real class."""
        if (module, name) not in STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is refused")
        return STAND_INS[module, name]


def _place(config: DataConfig) -> Path:
    if config.path is not None:
        path = Path(config.path).expanduser()
        if path.is_file() or is_cifar_folder(path):
            return path
        if is_cifar_folder(path / "cifar-10-batches-py"):
            return path / "cifar-10-batches-py"
        raise DataError("data.path", f"neither an archive nor the batches of CIFAR-10 at {path}; {_ways()}")
    target = cache_folder() / "cifar-10" / "cifar-10-python.tar.gz"
    if not target.is_file() and not config.download:
        raise DataError("data.path", f"cifar10 is not on this machine; {_ways()}")
    try:
        return fetch(ARCHIVE, target)
    except DownloadError as error:
        raise DataError("data.download", f"{error}; {_ways()}") from error


def _ways() -> str:
    return (
        "give path: the archive cifar-10-python.tar.gz, or the folder cifar-10-batches-py that it unpacks to, or say"
        " download: true (170 MB)"
    )


def _batches(path: Path) -> dict[str, Batch]:
    found = {name: read_batch(content, f"{name} in {path}") for name, content in _contents(path)}
    if not found:
        cure = "for pictures, unpack it and give the folder, or make it a zip, with name: images"
        raise DataError("data.path", f"{path} has none of CIFAR-10's batches; {cure}")
    missing = [name for name in (*TRAIN, *TEST) if name not in found]
    if missing:
        raise DataError("data.path", f"{path} lacks {', '.join(missing)}; get the archive anew")
    return found


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of every batch."""
    try:
        if path.is_dir():
            yield from ((name, (path / name).read_bytes()) for name in (*TRAIN, *TEST))
            return
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                if name not in (*TRAIN, *TEST) or not member.isreg():
                    continue
                if member.size > MAX_BATCH:
                    raise DataError(
                        "data.path", f"{name} in {path} has {member.size} bytes, the limit is {MAX_BATCH}; get it anew"
                    )
                content = archive.extractfile(member)
                assert content is not None  # it is a regular file
                yield name, content.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError("data.path", f"{path} is not a readable archive or folder ({error}); {_ways()}") from error


CIFAR10 = Reader(read_cifar10, frozenset({"path", "download"}))
