"""Labels: read beside the points, and nothing else of the data changes."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from pfgm.config import DataConfig
from pfgm.data.dataset import load_data
from pfgm.data.errors import DataError
from pfgm.data.given import dataset
from pfgm.data.labels import Labels

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 8, 8)).astype(np.uint8)
WORDS = np.array(["cat", "dog", "bird"])[np.arange(12) % 3]


def named(data) -> list[str]:
    return [data.info.classes[k] for k in data.labels.tolist()]


def test_digits_have_their_digits():
    data = load_data(DataConfig(name="digits"))
    assert named(data) == [str(k) for k in load_digits().target]
    assert sum(data.info.class_counts) == data.info.n == 1797 and data.test_labels is None


def test_what_is_held_out_takes_its_labels_along():
    """Every point is found again in the whole data set, with its label."""
    whole, parts = load_data(DataConfig(name="digits")), load_data(DataConfig(name="digits", holdout=0.1))
    for points, labels in ((parts.raw, parts.labels), (parts.test, parts.test_labels)):
        nearest = torch.cdist(points[:], whole.raw[:]).argmin(1)
        assert torch.equal(whole.labels[nearest], labels)


@pytest.fixture
def fashion(tmp_path):
    for split, n in (("train", 9), ("t10k", 6)):
        images = b"\0\0\x08\x03" + struct.pack(">3i", n, 4, 4) + RNG.integers(0, 256, 16 * n).astype(np.uint8).tobytes()
        (tmp_path / f"{split}-images-idx3-ubyte").write_bytes(images)
        labels = b"\0\0\x08\x01" + struct.pack(">i", n) + bytes(k % 10 for k in range(n))
        (tmp_path / f"{split}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    return tmp_path


def test_idx_labels(fashion):
    data = load_data(DataConfig(name="fashion_mnist", path=str(fashion)))
    assert data.labels.tolist() == list(range(9)) and data.test_labels.tolist() == list(range(6))
    assert data.info.classes[9] == "ankle boot"
    (fashion / "train-labels-idx1-ubyte.gz").unlink()
    without = load_data(DataConfig(name="fashion_mnist", path=str(fashion)))
    assert without.labels is None and without.info.classes == () and without.info.hash == data.info.hash


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0\x08\x03" + bytes(13), b"\0\0\x08\x01" + struct.pack(">i", 20) + bytes(9)],
    ids=["empty", "images", "cut"],
)
def test_damaged_idx_labels_are_refused(fashion, content):
    (fashion / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match=r"train-labels.* is no whole IDX file of labels; get it anew"):
        load_data(DataConfig(name="fashion_mnist", path=str(fashion)))


@pytest.mark.parametrize("below", ["", "photos/"])
def test_pictures_are_of_the_class_of_their_folder(tmp_path, monkeypatch, below):
    monkeypatch.setenv("PFGM_CACHE", str(tmp_path / "cache"))
    for k, (image, word) in enumerate(zip(IMAGES, WORDS, strict=True)):
        place = tmp_path / "pictures" / f"{below}{word}" / "more" / f"{k}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place)
    data = load_data(DataConfig(name="images", path=str(tmp_path / "pictures")))
    assert named(data) == sorted(WORDS) and data.info.class_counts == (4, 4, 4)
    first = [k for k, word in enumerate(WORDS) if word == "bird"]
    assert {tuple(row) for row in data.raw.stored[:4].tolist()} == {tuple(IMAGES[k].flatten().tolist()) for k in first}
    hash_before = data.info.hash
    Image.fromarray(IMAGES[0]).save(tmp_path / "pictures" / "zz.png")  # one picture in no folder
    assert load_data(DataConfig(name="images", path=str(tmp_path / "pictures"))).labels is None
    assert hash_before != load_data(DataConfig(name="images", path=str(tmp_path / "pictures"))).info.hash


@pytest.mark.parametrize("name", ["npz", "vectors"])
@pytest.mark.parametrize(
    "labels", [WORDS, np.arange(12) % 3, (np.arange(12) % 3).astype(float)], ids=["words", "numbers", "floats"]
)
def test_an_array_of_an_archive_names_the_classes(tmp_path, name, labels):
    np.savez(tmp_path / "a.npz", x=RNG.standard_normal((12, 5)), y=labels)
    keys = {"name": name, "path": str(tmp_path / "a.npz"), "key": "x"}
    data, plain = load_data(DataConfig(**keys, labels="y")), load_data(DataConfig(**keys))
    assert [str(v) for v in named(data)] == [str(v).removesuffix(".0") for v in labels]
    assert plain.labels is None and plain.info.hash == data.info.hash
    with pytest.raises(DataError, match=r"data\.labels: no array z in .*; it holds x, y, write one of these"):
        load_data(DataConfig(**keys, labels="z"))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_column_of_a_table_names_the_classes_and_is_no_coordinate(tmp_path, suffix):
    x = RNG.standard_normal((12, 2))
    table = pa.table({"a": x[:, 0], "kind": WORDS.tolist(), "b": x[:, 1]})
    path = tmp_path / f"t{suffix}"
    if suffix == ".csv":
        path.write_text("a,kind,b\n" + "".join(f"{a!r},{w},{b!r}\n" for (a, b), w in zip(x.tolist(), WORDS, strict=True)))
    else:
        pq.write_table(table, path)
    data = load_data(DataConfig(name="vectors", path=str(path), labels="kind"))
    assert data.info.shape == (2,) and named(data) == WORDS.tolist()
    with pytest.raises(DataError, match=r"data\.labels: no column 'sort' in .*; it has a, kind, b"):
        load_data(DataConfig(name="vectors", path=str(path), labels="sort"))


def test_a_column_of_pictures_has_its_classes_beside_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PFGM_CACHE", str(tmp_path / "cache"))
    from io import BytesIO  # as bytes of a file

    def png(image):
        Image.fromarray(image).save(out := BytesIO(), format="PNG")
        return out.getvalue()

    for split, rows in (("train", range(9)), ("test", range(9, 12))):
        pictures = [png(IMAGES[k]) for k in rows]
        pq.write_table(pa.table({"image": pictures, "label": [int(k % 3) for k in rows]}), tmp_path / f"{split}-0.parquet")
    data = load_data(DataConfig(name="parquet", path=str(tmp_path), labels="label"))
    assert data.labels.tolist() == [k % 3 for k in range(9)] and data.test_labels.tolist() == [0, 1, 2]


def test_a_torch_dataset_of_pairs_has_labels():
    pairs = [(torch.full((2,), float(k)), k % 4) for k in range(12)]
    data = dataset(pairs)
    assert data.labels.tolist() == [k % 4 for k in range(12)] and data.info.classes == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (np.zeros(12, int), "there are 1 classes; need 2 to"),
        (np.arange(5), "there are 5 labels for 12 points; give one for each"),
        (np.linspace(0, 1, 12), "labels must be whole numbers or words, got numbers with fractions or gaps"),
        (np.zeros((12, 2)), "give one number or word a point"),
        (np.array([None, "a"] * 6, dtype=object), "some points have no label"),
    ],
)
def test_labels_that_tell_no_classes_are_refused(labels, text):
    with pytest.raises(DataError, match=f"labels: .*{text}"):
        dataset(RNG.standard_normal((12, 3)), labels=labels)


def test_a_test_split_with_a_class_of_its_own_is_refused():
    with pytest.raises(DataError, match="the test split has the class 'c', which no point to train on has"):
        Labels.of(np.array(["a", "b"]), 2, np.array(["a", "c"]))
