"""IDX files and numpy's files: the real layouts, and everything in them that must not be trusted."""

import gzip
import io
import os
import struct

import numpy as np
import pytest
import torch
from helpers.pixels import some, stored

from pfgm.config import DataConfig
from pfgm.data.dataset import load_data
from pfgm.data.errors import DataError
from pfgm.data.readers import idx as idx_module
from pfgm.data.readers.idx import DEBIAN
from pfgm.registry import READERS

pytestmark = pytest.mark.usefixtures("cache")


# IDX


def idx_bytes(images: np.ndarray) -> bytes:
    return b"\0\0\x08\x03" + struct.pack(">3i", *images.shape) + images.tobytes()


@pytest.fixture
def idx_folder(tmp_path):
    folder = tmp_path / "idx"
    folder.mkdir()
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(some(20, 6, 5))))
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(some(7, 6, 5, seed=1))))
    return folder


def fashion(path=None, **keys):
    return load_data(DataConfig(name="fashion_mnist", path=None if path is None else str(path), **keys))


def test_idx_files_compressed_and_plain(idx_folder):
    data = fashion(idx_folder)
    assert np.array_equal(stored(data.raw)[:, 0], some(20, 6, 5))
    assert np.array_equal(stored(data.test)[:, 0], some(7, 6, 5, seed=1))
    assert data.info.shape == (1, 6, 5)
    (idx_folder / "train-images-idx3-ubyte.gz").unlink()
    (idx_folder / "train-images.idx3-ubyte").write_bytes(idx_bytes(some(20, 6, 5)))
    plain = fashion(idx_folder)
    assert plain.info.hash == data.info.hash
    with open("/proc/self/maps") as maps:
        assert "train-images.idx3-ubyte" in maps.read()
    with pytest.raises(DataError, match=r"data\.holdout: fashion_mnist comes with a test split"):
        fashion(idx_folder, holdout=0.1)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c[:-1], "(does not hold|cannot)"),
        (lambda c: c + b"x", "does not hold"),
        (lambda c: b"\0\0\x0d\x03" + c[4:], "no IDX file of 8-bit images"),
        (lambda c: b"\0\0\x08\x01" + c[4:], "no IDX file of 8-bit images"),
        (lambda c: c[:10], "no IDX file of 8-bit images"),
        (lambda c: c[:4] + struct.pack(">3i", 2**31 - 1, 2**15, 2**15) + c[16:], "which it cannot"),
        (lambda c: c[:4] + struct.pack(">3i", -20, 6, -5) + c[16:], "which it cannot"),
    ],
)
def test_idx_files_that_lie_are_refused(idx_folder, change, message, compressed):
    content = change(idx_bytes(some(20, 6, 5)))
    path = idx_folder / "train-images-idx3-ubyte.gz"
    path.unlink()
    path.with_suffix(".gz" if compressed else "").write_bytes(gzip.compress(content) if compressed else content)
    with pytest.raises(DataError, match=message):
        fashion(idx_folder)


def test_broken_gzip_is_refused(idx_folder):
    path = idx_folder / "t10k-images-idx3-ubyte.gz"
    content = path.read_bytes()
    for broken in (content[:-20], b"hello" * 30, content[:100] + b"\xff\xff" + content[102:]):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz (cannot be read|does not hold)"):
            fashion(idx_folder)


def test_missing_fashion_mnist_names_the_three_ways(tmp_path, monkeypatch):
    monkeypatch.setattr(idx_module, "DEBIAN", tmp_path / "none")
    ways = r"give path: .* package dataset-fashion-mnist, or say download: true"
    with pytest.raises(DataError, match=rf"data\.path: fashion_mnist is not on this machine; {ways}"):
        fashion()
    with pytest.raises(DataError, match=rf"data\.path: no train-images-idx3-ubyte.gz and .*; {ways}"):
        fashion(tmp_path)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="no Fashion-MNIST: apt-get install dataset-fashion-mnist")
def test_fashion_mnist_itself():
    data = fashion()
    assert (data.info.n, data.info.shape, len(data.test)) == (60_000, (1, 28, 28), 10_000)
    assert data.raw.stored.dtype == torch.uint8 and data.raw.stored.numel() == 47_040_000
    # Mean grey level and its spread, as they are published for torchvision's users: 0.2860, 0.3530 of the range 0 … 1.
    levels = data.raw.stored.double() / 255
    assert float(levels.mean()) == pytest.approx(0.2860, abs=5e-5)
    assert float(levels.std()) == pytest.approx(0.3530, abs=5e-5)
    assert data.points[:1000].mean().abs() < 0.05
    assert data.info.mean_norm == pytest.approx(16.2, abs=0.1)


# numpy's files


class Evil:
    def __init__(self, function, *arguments):
        self.made = (function, arguments)

    def __reduce__(self):
        return self.made


def arrays(name, path, **keys):
    return load_data(DataConfig(name=name, path=str(path), **keys))


def test_npy_files_are_mapped_and_never_written(tmp_path):
    values = np.random.default_rng(0).standard_normal((40, 7)).astype(np.float32)
    np.save(tmp_path / "v.npy", values)
    data = arrays("npz", tmp_path / "v.npy", center=False)
    assert np.array_equal(data.points[:].numpy(), values)
    data.raw.stored.zero_()
    assert np.array_equal(np.load(tmp_path / "v.npy"), values)
    with open("/proc/self/maps") as maps:
        assert str(tmp_path / "v.npy") in maps.read()
    np.save(tmp_path / "i.npy", some(30, 6, 5, 3))
    assert arrays("npz", tmp_path / "i.npy").info.shape == (3, 6, 5)
    np.save(tmp_path / "d.npy", values.astype(np.float64))
    assert arrays("npz", tmp_path / "d.npy").info.hash == arrays("npz", tmp_path / "v.npy").info.hash


@pytest.mark.parametrize("shape", [(30, 5), (30, 2, 3), (30, 2, 3, 4), (30, 2, 1, 2, 2, 3)])
@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64, np.float16])
def test_vectors_are_items_of_any_shape(tmp_path, shape, kind):
    values = some(*shape).astype(kind)
    np.save(tmp_path / "v.npy", values)
    np.savez(tmp_path / "v.npz", x=values, y=np.zeros(3))
    data = arrays("vectors", tmp_path / "v.npy", center=False)
    assert data.info.shape == (values[0].size,) and data.info.bounds is None
    expected = values.reshape(30, -1).astype(np.float32)
    assert np.allclose(data.points[:].numpy(), expected / 127.5 - 1 if kind == np.uint8 else expected, atol=1e-6)
    assert data.raw.stored.dtype == (torch.uint8 if kind == np.uint8 else torch.float32)
    assert arrays("vectors", tmp_path / "v.npz", center=False).info.hash == data.info.hash


@pytest.mark.parametrize("name", ["npz", "vectors"])
@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_pickled_objects_are_refused(tmp_path, name, suffix):
    objects = np.array([Evil(os.system, f"touch {tmp_path}/owned")] * 5, dtype=object)
    path = tmp_path / f"evil{suffix}"
    (np.savez if suffix == ".npz" else np.save)(path, objects, allow_pickle=True)
    with pytest.raises(DataError, match=r"holds Python objects, not numbers; save array.astype"):
        arrays(name, path)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(5), "need an axis of items"),
        (np.zeros((5, 0)), r"every point has shape \(0,\)"),
        (np.zeros((5, 2), dtype=np.int32), "dtype int32; use a float type"),
        (np.zeros((5, 2), dtype=np.complex64), "dtype complex64"),
        (np.full((5, 2), np.inf), "10 values that are not finite"),
        (np.full((5, 2), 1e300), "more than float32 holds"),
        (np.zeros((5, 2), dtype="U3"), "use a float type"),
    ],
)
def test_unusable_vectors_are_refused(tmp_path, values, message):
    np.save(tmp_path / "bad.npy", values)
    with pytest.raises(DataError, match=message):
        arrays("vectors", tmp_path / "bad.npy")


def test_npy_files_that_are_cut_are_refused(tmp_path):
    out = io.BytesIO()
    np.save(out, np.zeros((100, 3)))
    for content, words in (
        (out.getvalue()[:-8], r"is not a readable \.npy"),
        (out.getvalue()[:40], r"is not a readable \.npy"),
        (b"", "is empty, not an .npz or .npy file; write it again"),
        (b"hello", "is plain text, not an .npz or .npy file; read it with numpy.loadtxt"),
    ):
        (tmp_path / "cut.npy").write_bytes(content)
        with pytest.raises(DataError, match=words):
            arrays("vectors", tmp_path / "cut.npy")


def test_a_key_is_refused_by_every_data_set_that_lacks_it(tmp_path):
    values = {"path": "x", "download": True, "n": 5, "dim": 2, "size": 4, "crop": "none", "channels": 1, "column": "a"}
    for name, reader in READERS.items():
        for key, value in values.items():
            if key in reader.keys:
                continue
            with pytest.raises(DataError, match=rf"data\.{key}: .*; remove"):
                load_data(DataConfig(name=name, **{key: value}))
    with pytest.raises(DataError, match=r"data\.flip: rings has vectors"):
        load_data(DataConfig(name="rings", flip=True))
    with pytest.raises(DataError, match=r"data\.holdout: keeps 2 of 20 points apart, at least 4"):
        load_data(DataConfig(name="rings", n=20, holdout=0.1))
    for bad in (0.0, 0.6, 1, True, "0.1"):
        with pytest.raises(ValueError, match="holdout"):
            DataConfig(name="rings", holdout=bad)
