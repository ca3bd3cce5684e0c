"""The study file to start from comes with the package: from a built wheel, in any folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from study.load import load_study_config
from study.plan.make import make_plan
from study.run import main

ROOT = Path(__file__).resolve().parents[2]
ONE = ("--set", "resources.concurrent=1")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a wheel of the package installs."""
    pytest.importorskip("setuptools")
    source, out, site = (tmp_path_factory.mktemp(name) for name in ("source", "wheel", "site"))
    for name in ("pfgm", "study", "analysis"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(out)], cwd=source, check=True, capture_output=True, timeout=300)
    with zipfile.ZipFile(next(out.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    return site


def run(folder: Path, site: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, check=False, timeout=180
    )


def test_the_example_of_an_installed_package_runs_in_any_folder(tmp_path: Path, installed: Path) -> None:
    where = run(tmp_path, installed, "-c", "import study; print(study.__file__)")
    assert where.stdout.decode().startswith(str(installed))
    assert not (installed / "experiments").exists()
    made = run(tmp_path, installed, "-m", "study.run", "--example")
    assert made.returncode == 0 and made.stdout.isascii()
    (tmp_path / "search.yaml").write_bytes(made.stdout)
    told = run(tmp_path, installed, "-m", "study.run", "search.yaml", "--dry-run", "--set", "train.steps=20", *ONE)
    assert told.returncode == 0, told.stderr.decode()
    assert b"example: one_at_a_time study of 1797 digits" in told.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["search.yaml"]


def test_the_example_is_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--example"]) == 0
    text = capsys.readouterr().out
    Path("search.yaml").write_text(text, encoding="utf-8")
    config = load_study_config("search.yaml")
    assert {t.seed for t in make_plan(config)} == {0, 1} and config.search_train.keys() == {"sigma"}
    shown = [line.split("  ")[0].lstrip("# ") for line in text.splitlines() if line.startswith("#     data: ")]
    assert len(shown) == 3


@pytest.mark.parametrize("arguments", [[], ["--dry-run"], ["nowhere.yaml"], ["empty.yaml"]])
def test_whoever_has_no_file_is_told_where_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.yaml").write_text("", encoding="utf-8")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "python -m study.run --example prints one to start from" in error
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    told = capsys.readouterr().out
    assert "--example" in told and "experiments/" not in told
