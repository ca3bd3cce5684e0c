"""Data sets: units, identity, and errors that say what to do."""

import numpy as np
import pytest
import torch

from pfgm.config import DataConfig
from pfgm.data.dataset import load_data
from pfgm.data.errors import DataError
from pfgm.registry import READERS
from study.config.yaml_source import ConfigError
from study.load import load_study_config


def test_digits_in_their_units():
    data = load_data(DataConfig())
    assert data.points.shape == (1797, 64)
    assert data.info.shape == (1, 8, 8)
    assert data.info.mean_norm == pytest.approx(4.31, abs=0.01)
    assert data.info.sd == pytest.approx(0.54, abs=0.01)
    assert data.raw[:].min() == -1
    assert data.raw[:].max() == 1
    assert data.points[:].mean(0).abs().max() < 1e-6
    raw = load_data(DataConfig(center=False))
    assert raw.info.mean_norm == pytest.approx(6.77, abs=0.01)
    assert raw.info.hash != data.info.hash
    assert torch.allclose(raw.points[:], data.raw[:], atol=1e-6)


@pytest.mark.parametrize("name", [n for n in READERS if READERS[n].keys == {"n", "dim"}])
def test_toys_are_reproducible_and_centred(name):
    a, b = (load_data(DataConfig(name=name, n=500)) for _ in range(2))
    assert torch.equal(a.points[:], b.points[:])
    assert a.points.shape == (500, 2)
    assert a.points[:].mean(0).abs().max() < 1e-6
    assert 0.2 < a.info.sd < 2
    assert load_data(DataConfig(name=name, n=499)).info.hash != a.info.hash


def test_toys_in_more_dimensions():
    assert load_data(DataConfig(name="shell", n=50, dim=5)).points.shape == (50, 5)
    with pytest.raises(DataError, match=r"lies in the plane"):
        load_data(DataConfig(name="rings", dim=3))


def test_npz_vectors_and_images(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "v.npz", x=rng.standard_normal((30, 7)) * 100)
    vectors = load_data(DataConfig(name="npz", path=str(tmp_path / "v.npz")))
    assert vectors.info.shape == (7,)
    assert vectors.info.bounds is None
    np.savez(tmp_path / "i.npz", rng.integers(0, 256, (30, 6, 5, 3), dtype=np.uint8))
    images = load_data(DataConfig(name="npz", path=str(tmp_path / "i.npz")))
    assert images.info.shape == (3, 6, 5)
    assert images.raw[:].abs().max() <= 1
    np.savez(tmp_path / "g.npz", rng.uniform(-1, 1, (30, 4, 4)))
    assert load_data(DataConfig(name="npz", path=str(tmp_path / "g.npz"))).info.shape == (1, 4, 4)


def test_floats_that_are_never_below_zero_are_said(tmp_path):
    values = np.random.default_rng(0).uniform(0, 1, (30, 4, 4))
    for k, (array, n_notes) in enumerate(((values, 1), (2 * values - 1, 0), ((values * 255).astype(np.uint8), 0))):
        np.savez(tmp_path / f"{k}.npz", array)
        data = load_data(DataConfig(name="npz", path=str(tmp_path / f"{k}.npz")))
        assert len(data.notes) == n_notes
        assert all("probably [0, 1], and are taken for [−1, 1]: save 2 * array - 1" in note for note in data.notes)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(5), r"\(N, d\).* save array.reshape\(-1, 1\)$"),
        (np.zeros((5, 2, 2, 2, 3)), r"reshape the array to one of these, or use name: vectors"),
        (np.full((5, 3, 3), 200.0), r"reaches 200; for grey levels to 255 save array / 127.5 - 1, or array.astype\('uint8'\)$"),
        (np.full((5, 9, 3), -3.0), r"time series, spectrograms or other arrays, use name: vectors$"),
        (np.zeros((5, 2), dtype=complex), r"save the absolute value, or real and imaginary part"),
        (np.zeros((5, 3, 3), dtype=int), r"array.astype\('uint8'\) where it holds 0"),
        (np.zeros((5, 2), dtype=int), "use a float type"),
        (np.full((5, 2), np.nan), "10 values that are not finite"),
        (np.full((5, 3, 3), 7.0), "must lie in"),
        (np.zeros((5, 3, 8, 8)), "transpose it to"),
        (np.arange(10, dtype=np.uint8).reshape(5, 2), "convert them to float32"),
        (np.arange(6.0).reshape(3, 2), "at least 4 are needed"),
        (np.ones((5, 2)), "all 5 points are equal"),
        (np.array([{"a": 1}, None], dtype=object), r"holds Python objects, not numbers; save array.astype\('float32'\)"),
    ],
)
def test_unusable_arrays_are_refused(tmp_path, values, message):
    np.savez(tmp_path / "bad.npz", x=values)
    with pytest.raises(DataError, match=message):
        load_data(DataConfig(name="npz", path=str(tmp_path / "bad.npz")))


def test_unusable_files_and_keys(tmp_path):
    np.savez(tmp_path / "cut.npz", x=np.zeros((300, 2)))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:-100])
    with pytest.raises(DataError, match=r"not a readable \.npz"):
        load_data(DataConfig(name="npz", path=str(tmp_path / "cut.npz")))
    with pytest.raises(DataError, match="no file at"):
        load_data(DataConfig(name="npz", path=str(tmp_path / "none.npz")))
    with pytest.raises(DataError, match="needs the file's path"):
        load_data(DataConfig(name="npz"))
    with pytest.raises(DataError, match="has no file"):
        load_data(DataConfig(path="x.npz"))
    with pytest.raises(DataError, match="belongs to the toys"):
        load_data(DataConfig(n=10))
    with pytest.raises(DataError, match="use one of digits"):
        load_data(DataConfig(name="mnist"))
    np.savez(tmp_path / "two.npz", a=np.zeros((3, 2)), b=np.zeros((3, 2)))
    with pytest.raises(DataError, match="say which, such as key: a, or name the data array `x`"):
        load_data(DataConfig(name="npz", path=str(tmp_path / "two.npz")))


def test_a_study_file_is_told_which_key_of_data_is_wrong(tmp_path):
    np.savez(tmp_path / "few.npz", np.arange(6.0).reshape(3, 2))
    study = "name: tiny\ndata:\n  name: npz\n  path: {}\n  {}\nsearch: {{sampler: {{rtol: {{choice: [1e-2, 1e-3]}}}}}}\n"
    file = tmp_path / "search.yaml"
    for extra, words in (
        ("center: true", "data: 3 points; at least 4 are needed"),
        ("size: 8", "data.size: belongs to images"),
    ):
        file.write_text(study.format(tmp_path / "few.npz", extra))
        with pytest.raises(ConfigError, match=words) as caught:
            load_study_config(file)
        assert "None" not in str(caught.value)
    assert "(got 8)" in str(caught.value)
    assert "search.yaml:5" in str(caught.value)
