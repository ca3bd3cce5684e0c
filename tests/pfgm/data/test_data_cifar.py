"""CIFAR-10 in its archive's layout: read without running what its pickles say."""

import os
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.pixels import some, stored

from pfgm.config import DataConfig
from pfgm.data.dataset import load_data
from pfgm.data.errors import DataError
from pfgm.data.readers.cifar import unpickle_batch

pytestmark = pytest.mark.usefixtures("cache")


def python_2_batch(images: np.ndarray) -> bytes:
    """A batch as the archive has it: protocol 2, byte strings and array written by Python 2."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    data = images.reshape(len(images), 3072).tobytes()
    dtype = b"cnumpy\ndtype\n(" + text(b"u1") + b"K\0K\1tR(K\3" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0t" + text(b"b") + b"tR"
    shape = b"(K\1(M" + struct.pack("<H", len(images)) + b"M\x00\x0ct"
    state = shape + dtype + b"\x89T" + struct.pack("<i", len(data)) + data + b"tb"
    labels = b"](" + b"K\3" * len(images) + b"e"
    return (
        b"\x80\x02}("
        + text(b"batch_label")
        + text(b"batch 1")
        + text(b"labels")
        + labels
        + text(b"data")
        + array
        + state
        + b"u."
    )


def test_the_batch_of_this_test_is_one_that_python_reads():
    """So that what is tested below is the layout of the real thing."""
    images = some(4, 3, 32, 32)
    batch = pickle.loads(python_2_batch(images), encoding="bytes")
    assert batch[b"labels"] == [3] * 4
    assert np.array_equal(batch[b"data"], images.reshape(4, 3072))
    assert batch[b"data"].dtype == np.uint8


NAMES = (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch")


@pytest.fixture
def batches(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for k, name in enumerate(NAMES):
        (folder / name).write_bytes(python_2_batch(some(5, 3, 32, 32, seed=k)))
    (folder / "batches.meta").write_bytes(b"never read")
    return folder


def archive(folder: Path, name: str = "cifar-10-python.tar.gz") -> Path:
    with tarfile.open(folder.parent / name, "w:gz") as tar:
        tar.add(folder, folder.name)
    return folder.parent / name


def cifar(path=None, **keys):
    return load_data(DataConfig(name="cifar10", path=None if path is None else str(path), **keys))


@pytest.mark.parametrize("form", ["archive", "folder", "parent"])
def test_cifar_batches(batches, form, cache):
    path = {"archive": archive, "folder": lambda f: f, "parent": lambda f: f.parent}[form](batches)
    data = cifar(path)
    assert data.info.shape == (3, 32, 32) and data.raw.stored.dtype == torch.uint8
    assert np.array_equal(stored(data.raw), np.concatenate([some(5, 3, 32, 32, seed=k) for k in range(5)]))
    assert np.array_equal(stored(data.test), some(5, 3, 32, 32, seed=5))
    assert len(list(cache.glob("*.npy"))) == 4  # images and classes of both splits
    before = {p.name for p in batches.parent.iterdir()}
    assert np.array_equal(stored(cifar(path).raw), stored(data.raw))
    assert {p.name for p in batches.parent.iterdir()} == before


@pytest.mark.parametrize("protocol", [1, 2, 3, 4])
def test_batches_written_by_python_3(protocol):
    images = some(5, 3, 32, 32)
    content = pickle.dumps({"data": images.reshape(5, 3072), "labels": [1] * 5}, protocol=protocol)
    assert np.array_equal(unpickle_batch(content, "here"), images)


class Evil:
    def __init__(self, function, *arguments):
        self.made = (function, arguments)

    def __reduce__(self):
        return self.made


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("which", ["command", "open", "nested", "numpy", "getattr"])
def test_a_malicious_batch_runs_nothing(tmp_path, batches, which, protocol):
    target = tmp_path / "owned"
    evil = {
        "command": Evil(os.system, f"touch {target}"),
        "open": Evil(open, str(target), "w"),
        "nested": {b"data": [Evil(exec, f"open({str(target)!r}, 'w')")]},
        "numpy": Evil(np.memmap, str(target), np.uint8, "w+", 0, 10),
        "getattr": Evil(getattr, os, "system") if protocol >= 2 else Evil(eval, f"open({str(target)!r}, 'w')"),
    }[which]
    try:
        content = pickle.dumps(evil, protocol=protocol)
    except TypeError:  # modules have no pickle
        content = b"\x80\x02cbuiltins\ngetattr\n(cos\nsystem\nX\x04\0\0\0nametR."
    with pytest.raises(DataError, match=r"not a batch of CIFAR-10 \(it asks for .*, which is refused\)"):
        unpickle_batch(content, "here")
    (batches / "data_batch_3").write_bytes(content)
    for path in (batches, archive(batches)):
        with pytest.raises(DataError, match=r"data_batch_3 in .* which is refused"):
            cifar(path)
    assert not target.exists()


@pytest.mark.parametrize("seed", range(40))
def test_damaged_batches_are_errors_not_data(seed):
    """Bytes changed in the program of the pickle: refused, or, where only a label is hit, the same images."""
    images, rng = some(4, 3, 32, 32), np.random.default_rng(seed)
    content = bytearray(python_2_batch(images))
    start = content.index(images.tobytes())
    for place in rng.integers(0, start, 3):
        content[place] = rng.integers(0, 256)
    try:
        found = unpickle_batch(bytes(content), "here")
    except DataError:
        return
    assert np.array_equal(found, images)


def test_batches_that_are_none_are_refused(batches):
    for value in ({"data": [1, 2]}, [1], {"data": some(4, 100)}, {"data": some(4, 3072).astype(np.int16)}, {"labels": 3}):
        with pytest.raises(DataError, match=r"the array of|has no array `data`"):
            unpickle_batch(pickle.dumps(value, protocol=2), "here")
    objects = {"data": np.array([[{}] * 3072], dtype=object)}
    with pytest.raises(DataError, match=r"is not \(n, 3072\) bytes in rows"):
        unpickle_batch(pickle.dumps(objects, protocol=2), "here")
    fortran = {"data": np.asfortranarray(some(4, 3072))}
    with pytest.raises(DataError, match="bytes in rows"):
        unpickle_batch(pickle.dumps(fortran, protocol=2), "here")
    path = archive(batches)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match="is not a readable archive"):
        cifar(path)
    (batches / "data_batch_2").unlink()
    with pytest.raises(DataError, match="lacks data_batch_2"):
        cifar(archive(batches, "less.tar.gz"))


def test_links_and_giants_in_an_archive_are_not_followed(tmp_path, batches, monkeypatch):
    path = tmp_path / "links.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name in NAMES[1:]:
            tar.add(batches / name, name)
        link = tarfile.TarInfo("data_batch_1")
        link.type, link.linkname = tarfile.SYMTYPE, str(batches / "data_batch_1")
        tar.addfile(link)
    with pytest.raises(DataError, match="lacks data_batch_1"):
        cifar(path)
    monkeypatch.setattr("pfgm.data.readers.cifar.MAX_BATCH", 1000)
    with pytest.raises(DataError, match=r"data_batch_2 in .* bytes, the limit is 1000"):
        cifar(path)


def test_missing_cifar_names_the_ways(tmp_path):
    ways = r"give path: the archive cifar-10-python\.tar\.gz, .* or say download: true"
    with pytest.raises(DataError, match=rf"data\.path: cifar10 is not on this machine; {ways}"):
        cifar()
    with pytest.raises(DataError, match=rf"neither an archive nor the batches .*; {ways}"):
        cifar(tmp_path / "none")
