"""The studies that come with the toolkit: each can be read and planned, and the authors' settings are the authors'."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from analysis.theory.published import POINTS
from pfgm.config import NetworkConfig, SamplerConfig, TrainConfig
from pfgm.flow.edm.field import TRAINED
from pfgm.flow.poisson_flow import AUTHORS
from pfgm.memory import limited_to
from study.config.yaml_source import ConfigError, read_source
from study.describe import plan_lines
from study.host.sharing import work_needed
from study.load import load_study_config
from study.plan.make import make_plan
from study.plan.worklist import Worklist
from study.rows.folders import read_evals
from study.rows.records import read_table
from study.run import main

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
EMBEDDED = ("digits", "digits_base", "digits_bundle", "digits_study", "rings", "tau_null")


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive in CIFAR-10's layout with a few random images."""
    path, rng = tmp_path_factory.mktemp("cifar") / "cifar-10-python.tar.gz", np.random.default_rng(0)
    with tarfile.open(path, "w:gz") as archive:
        for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"):
            batch = {b"data": rng.integers(0, 256, (1000, 3072), dtype=np.uint8), b"labels": [0] * 1000}
            content = pickle.dumps(batch, protocol=2)
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("name", EMBEDDED)
def test_studies_of_embedded_data_can_be_planned(name: str) -> None:
    assert make_plan(load_study_config(EXPERIMENTS / f"{name}.yaml"))


@pytest.mark.parametrize("name", ["fashion_mnist", "fashion_mnist_quick"])
def test_studies_of_fashion_mnist(name: str) -> None:
    if not Path("/usr/share/datasets/fashion-mnist").is_dir():
        pytest.skip("no Fashion-MNIST: apt-get install dataset-fashion-mnist")
    trials = make_plan(load_study_config(EXPERIMENTS / f"{name}.yaml"))
    assert len(trials) >= 4
    assert all(len(t.sampler_points) >= 4 for t in trials)


def test_the_papers_setting_is_the_authors(cifar: Path) -> None:
    """Every number of cifar10_paper.yaml against the table of published settings, both ways."""
    config = load_study_config(EXPERIMENTS / "cifar10_paper.yaml", [f"data.path={cifar}", "evaluate.features=random"])
    published = AUTHORS["cifar10_ddpmpp"]
    (trial,) = make_plan(config)
    assert trial.train == published.train
    assert config.network == published.network
    (point,) = trial.sampler_points
    assert point.config.model_copy(update={"batch_size": published.sampler.batch_size}) == published.sampler
    assert config.info.shape == published.shape and not config.info.center
    evaluate = read_source(EXPERIMENTS / "cifar10_paper.yaml").section("evaluate")
    assert evaluate["features"] == "inception" and evaluate["samples"] == 50_000


def test_the_checkpoints_sampler_is_the_authors(cifar: Path) -> None:
    source = read_source(EXPERIMENTS / "cifar10_checkpoint.yaml")
    with pytest.raises(ConfigError, match=r"field.checkpoint: nothing at checkpoints/cifar10_ddpmpp.pth"):
        load_study_config(EXPERIMENTS / "cifar10_checkpoint.yaml", [f"data.path={cifar}"])
    published = AUTHORS["cifar10_ddpmpp"].sampler
    for key in ("T", "t_min", "solver", "rtol", "denoise", "max_radius_ratio"):
        assert source.section("sampler")[key] == getattr(published, key), key
    assert source.section("data")["center"] is False


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 pictures of coloured discs, larger than any preset takes them, no square."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    y, x = np.mgrid[:270, :300]
    for k in range(60):
        picture = np.broadcast_to(rng.integers(0, 256, 3, dtype=np.uint8), (270, 300, 3)).copy()
        picture[(x - rng.integers(60, 240)) ** 2 + (y - rng.integers(60, 210)) ** 2 < 50**2] = rng.integers(0, 256, 3)
        Image.fromarray(picture).save(folder / f"{k}.png")
    return folder


def test_the_preset_of_64_pixels_is_as_published(pictures: Path, cache: Path) -> None:
    """Every number of ffhq64_pfgmpp.yaml against EDM's published training, which PFGM++ takes, and 40 steps of Heun."""
    file = EXPERIMENTS / "ffhq64_pfgmpp.yaml"
    (trial,) = make_plan(config := load_study_config(file, [f"data.path={pictures}", "evaluate.features=random"]))
    assert trial.train == TrainConfig.model_validate({"process": "pfgmpp", "n_aug": 128.0, "P_mean": -1.2, **TRAINED["64"]})
    layout = {"form": "ddpmpp", "width": 128, "depth": 4, "channel_mult": (1, 2, 2, 2), "attention": (16,), "dropout": 0.05}
    assert config.network == NetworkConfig.model_validate({"name": "edm", "head": "edm", "sigma_data": 0.5, **layout})
    assert config.info.shape == (3, 64, 64) and not config.info.center and config.info.n == 2 * 60
    (point,) = trial.sampler_points
    theirs = {"T": 80.0, "t_min": 2e-3, "solver": "heun2", "steps": 39, "grid": "rho", "batch_size": 256}
    assert point.config == SamplerConfig.model_validate(theirs)
    assert 2 * 39 + point.config.denoise == 79
    assert {p.nfe for p in POINTS if p.data == "ffhq64"} == {79}


def test_the_preset_of_256_pixels_is_the_authors(pictures: Path, cache: Path) -> None:
    """Every number of lsun256_paper.yaml against the table of published settings, both ways."""
    file = EXPERIMENTS / "lsun256_paper.yaml"
    config = load_study_config(file, [f"data.path={pictures}", "evaluate.features=random"])
    published = AUTHORS["lsun_bedroom256"]
    (trial,) = make_plan(config)
    assert trial.train == published.train
    assert config.network == published.network
    (point,) = trial.sampler_points
    assert point.config.model_copy(update={"batch_size": published.sampler.batch_size}) == published.sampler
    assert config.info.shape == published.shape and not config.info.center


@pytest.mark.parametrize(
    ("name", "training_gb", "sampling_gb"), [("ffhq64_pfgmpp", (85, 95), (7, 10)), ("lsun256_paper", (75, 90), (8, 13))]
)
def test_the_memory_of_large_presets_is_told(
    pictures: Path, cache: Path, name: str, training_gb: tuple[int, int], sampling_gb: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Counted on shapes alone: the activations of the published batch and five times the weights, to a tenth."""
    config = load_study_config(EXPERIMENTS / f"{name}.yaml", [f"data.path={pictures}", "evaluate.features=random"])
    found = work_needed(config)
    assert training_gb[0] < found.training / 1e9 < training_gb[1]
    assert sampling_gb[0] < found.sampling / 1e9 < sampling_gb[1]
    monkeypatch.setattr("study.describe.machine.gpu_memory", lambda: None)
    for total, words in ((32e9, "more than this machine has (32 GB): lower train.batch_size, or use a GPU"), (1e12, "a trial")):
        monkeypatch.setattr("study.describe.psutil.virtual_memory", lambda total=total: SimpleNamespace(total=total))
        (line,) = [line for line in plan_lines(config) if line.startswith("  memory ")]
        assert line.endswith(words) and f" {found.training / 1e9:.1f} GB a trial" in line


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["{solver: heun2, steps: 1, T: 80.0", "{solver: bosh3, rtol: 1.0, T: 10.0"])
def test_the_preset_of_64_pixels_runs_in_little_memory(pictures: Path, tmp_path: Path, cache: Path, solver: str) -> None:
    """Two steps of a narrow network on a folder of pictures, then 50 samples in tiles that 60 MB hold: a complete row."""
    changes = {
        "data.path": pictures, "storage": tmp_path, "evaluate.features": "random", "evaluate.samples": 50, "resources.gpus": 0,
        "network.width": 8, "network.depth": 1, "train.batch_size": 2, "train.steps": 2, "train.warmup_steps": 0,
        "evaluate.metrics": "[fid]", "sampler": solver + ", t_min: 0.3, batch_size: 50}",
    }  # fmt: skip
    options = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    with limited_to(60_000_000):
        assert main([str(EXPERIMENTS / "ffhq64_pfgmpp.yaml"), "--inline", "--no-report", *options]) == 0
    (row,) = read_evals(tmp_path / "ffhq64_pfgmpp")
    assert row["status"] == "complete" and row["cost_memory_splits"] > 0
    assert np.isfinite(row["metric_fid"])


@pytest.mark.parametrize("name", ["edm", "pfgmpp"])
def test_the_published_heun_sampler_of_a_checkpoint(cifar: Path, name: str) -> None:
    """EDM's 18 steps from 80 to 0.002 and the last to 0: 35 calls, as in the file's words."""
    path = EXPERIMENTS / f"{name}_checkpoint.yaml"
    with pytest.raises(ConfigError, match=rf"field.checkpoint: nothing at checkpoints/{name}.*; give the authors' file"):
        load_study_config(path, [f"data.path={cifar}"])
    sampler = SamplerConfig.model_validate(read_source(path).section("sampler"))
    assert (sampler.T, sampler.t_min, sampler.solver, sampler.grid) == (80.0, 2e-3, "heun2", "rho")
    assert sampler.steps is not None and 2 * sampler.steps + sampler.denoise == 35
    assert read_source(path).section("data")["center"] is False and "NFE 35" in path.read_text(encoding="utf-8")


def test_the_template_needs_three_lines(tmp_path: Path, cache: Path) -> None:
    text = (EXPERIMENTS / "images_template.yaml").read_text()
    assert text.count("<--") == 4, "three lines, and the sentence about them"
    rng = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for k in range(60):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp_path / f"pictures/{k}.png")
    edited = text.replace("path: my_images", f"path: {tmp_path / 'pictures'}").replace("size: 32", "size: 16")
    (tmp_path / "mine.yaml").write_text(edited.replace("name: my_images", "name: mine"))
    config = load_study_config(tmp_path / "mine.yaml")
    assert config.info.shape == (3, 16, 16)
    assert len(make_plan(config)) == 4  # the default twice, two arms once


def test_identities_stay() -> None:
    """The committed study was planned before networks, features and schedules had the keys they have now."""
    planned = make_plan(load_study_config(EXPERIMENTS / "digits_bundle.yaml"))
    cells = {c.cell_id for t in planned for c in t.cells}
    stored = read_table(EXPERIMENTS / "notebooks/digits_bundle/manifest.parquet")
    assert cells == {row["cell_id"] for row in stored}
    assert {t.train_id for t in planned} == {row["train_id"] for row in stored}


def test_the_settled_study_begins_with_24_fields() -> None:
    """Six parameters of the demo; a design of rounds plans nothing ahead, so round 0 is what the work list begins with."""
    config = load_study_config(EXPERIMENTS / "digits_settled.yaml")
    work = Worklist(config, make_plan(config))
    assert len({trial.train_id for trial in work.waiting}) == 24 and not work.finished
    assert {*config.search_train, *config.search_sampler} == {"sigma", "tau", "M", "reference_batch_size", "T_ratio", "rtol"}
