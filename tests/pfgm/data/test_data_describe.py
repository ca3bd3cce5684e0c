"""What the command line says of a data set."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from pfgm.config import DataConfig
from pfgm.data.__main__ import main
from pfgm.data.dataset import load_data
from pfgm.data.describe import describe, guess, recommend, text
from pfgm.rules import height_max, rule_M

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def images(tmp_path):
    """40 images, of which two equal earlier ones."""
    values = np.random.default_rng(0).integers(0, 200, (40, 6, 5, 3), dtype=np.uint8)
    values[[7, 39]] = values[3]
    np.savez(tmp_path / "i.npz", values)
    return values, tmp_path / "i.npz"


@pytest.mark.parametrize("center", [True, False])
def test_facts_are_those_of_the_whole_array(images, center, monkeypatch):
    values, path = images
    monkeypatch.setattr("pfgm.data.dataset.CHUNK_VALUES", 500)
    d = describe(load_data(DataConfig(name="npz", path=str(path), center=center)))
    whole = values.transpose(0, 3, 1, 2).reshape(40, -1) / 127.5 - 1
    trained = whole - whole.mean(0) * center
    assert (d.n, d.shape, d.dtype, d.megabytes) == (40, (3, 6, 5), "uint8", values.size / 1e6)
    assert (d.low, d.high) == pytest.approx((whole.min(), whole.max()), abs=1e-6)
    assert d.mean_norm == pytest.approx(np.linalg.norm(trained, axis=1).mean(), rel=1e-6)
    assert d.sd == pytest.approx(np.sqrt((trained**2).mean()), rel=1e-6)
    sd = whole.std(0)
    assert d.pixel_sd == pytest.approx((sd.min(), sd.mean(), sd.max()), rel=1e-5)
    assert d.duplicates == 2
    assert d.n_test == 0


def test_test_points_that_are_also_trained_on_are_counted(images):
    _, path = images
    d = describe(load_data(DataConfig(name="npz", path=str(path), holdout=0.5)))
    assert (d.n, d.n_test) == (20, 20)
    assert d.duplicates + d.test_duplicates in (1, 2)  # three equal images, on one side or on both
    flipped = describe(load_data(DataConfig(name="npz", path=str(path), flip=True)))
    assert (flipped.n, flipped.duplicates, flipped.megabytes) == (80, 2, 40 * 90 / 1e6)


def test_recommended_values_are_the_authors_rules():
    d = describe(load_data(DataConfig(center=False)))
    authors, default = d.recommended
    assert (authors.sigma, authors.tau, default.sigma, default.tau) == (0.01, 0.03, 0.1, 0.03)
    assert authors.M == rule_M(d.mean_norm, 64, 0.01, 0.03) == 261
    assert authors.T == pytest.approx(0.7978845608 * height_max(0.01, 0.03, 261))
    assert authors.R_max == pytest.approx(8 * height_max(0.01, 0.03, 261))
    assert recommend(0.001, 64, 0.1, 0.03).M is None
    assert "σ = 0.01, τ = 0.03  M = 261, T = 17.88, R_max = 179.3 (the authors')" in text(d)


def test_the_reader_of_a_path_is_guessed(images, tmp_path, capsys):
    values, path = images
    np.save(tmp_path / "i.npy", values)
    (tmp_path / "folder").mkdir()
    for k, image in enumerate(values[:5]):
        Image.fromarray(image).save(tmp_path / "folder" / f"{k}.png")
    assert guess(path) == guess(tmp_path / "i.npy") == "npz"
    assert guess(tmp_path / "folder") == "images"
    assert main(["describe", str(path)]) == 0
    assert "40 of shape 3 × 6 × 5" in capsys.readouterr().out
    assert main(["describe", str(tmp_path / "i.npy"), "--reader", "vectors", "--no-center"]) == 0
    out = capsys.readouterr().out
    assert "40 of shape 90" in out and "not centred" in out
    assert main(["describe", str(tmp_path / "folder"), "--size", "4", "--channels", "1"]) == 0
    out = capsys.readouterr().out
    assert "5 of shape 1 × 4 × 4" in out and "resized to 4 × 4" in out and "colour made grey in 5" in out
    assert main(["describe", "shell", "--dim", "10", "--n", "300"]) == 0
    assert "300 of shape 10" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "'nothing' is neither a file or folder nor a data set; use one of digits"),
        (["digits", "--size", "4"], "data.size: belongs to images, parquet; remove it"),
        (["digits", "--n", "-1"], "data.n: "),
        (["digits", "--holdout", "0.9"], "data.holdout: "),
        (["digits", "--reader", "npz"], "data.path: no file at digits"),
        (["digits", "--reader", "mnist"], "data.name: unknown data set 'mnist'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main(["describe", *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out and words in err and err.count("\n") == 1


def test_the_command_line_itself():
    help_text = subprocess.run([sys.executable, "-m", "pfgm.data", "--help"], capture_output=True, text=True, check=True)
    assert "python -m pfgm.data describe photos/ --size 64" in help_text.stdout
    done = subprocess.run([sys.executable, "-m", "pfgm.data", "describe", "digits"], capture_output=True, text=True, check=True)
    assert "1,797 of shape 1 × 8 × 8" in done.stdout and not done.stderr
