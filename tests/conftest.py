"""Tiny studies for the tests of ``study``: two rings in the plane, a network of 16 units, a few dozen steps."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from study.config.study import StudyConfig
from study.load import load_study_config
from study.rows.records import read_evals
from study.run import main

TINY: dict[str, Any] = {
    "name": "tiny",
    "storage": "results",
    "data": {"name": "rings", "n": 300},
    "network": {"name": "mlp", "width": 16, "depth": 1},
    "train": {"steps": 20, "batch_size": 32},
    "sampler": {"solver": "heun2", "steps": 4},
    "evaluate": {"samples": 60, "metrics": ["fid", "sliced_wasserstein"]},
    "search": {"train": {"sigma": {"choice": [0.1, 0.2]}}, "sampler": {"steps": {"choice": [4, 6]}}},
}
"""Two fields, two sampler points: four rows."""

os.environ.update(RAY_worker_niceness="0")  # Ray's workers are nicer than that, and hardly run on a busy machine
SAME = ("cost_nfe", "cost_nfe_max", "status")
PREFIXES = ("metric_", "diag_", "train_", "sampler_", "seed_", "data_", "network_", "design_")
KEYS = ("cell_id", "trial_id", "point_id", "train_id", "sampler_id", "step", "is_final")


def pytest_configure() -> None:
    """Each of several test processes takes one core, and so do the commands that it starts."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)
        os.environ.setdefault("OMP_NUM_THREADS", "1")


LONGEST = ("run", "faults", "storage", "analysis_report", "notebook", "cluster", "cluster_files", "exact", "features", "tries",
           "terminal", "report_browser", "stop", "legends", "report_several")  # fmt: skip
"""Files that take longest, those first: handed out whole in this order, all test processes end together."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first. Files stay whole, so that what a file shares (a Ray cluster, a finished study) is made once.

    With `--dist loadfile --no-loadscope-reorder`; xdist 3.8's loadgroup groups nothing under pytest 9.2.
    """
    rank = {f"test_{name}.py": i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was not tested, and why."""
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in terminalreporter.getreports("skipped"))
    if not reasons:
        return
    terminalreporter.section("not tested here")
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count:4d} tests: {reason}")


@pytest.fixture
def clean_figures() -> Iterator[None]:
    """Close the figures of a test of plots; it must leave matplotlib's settings as they were."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    before = dict(mpl.rcParams)
    yield
    plt.close("all")
    assert dict(mpl.rcParams) == before


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small work; more threads would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for decoded pictures."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("PFGM_CACHE", str(folder))
    return folder


class Folder:
    """A folder with one study file, and the command line to run it."""

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, path / "search.yaml"

    def write(self, **sections: Any) -> Path:
        """Write search.yaml: the tiny study with some sections replaced; a section that is None is left out."""
        values = {**TINY, **sections}
        self.file.write_text(yaml.safe_dump({k: v for k, v in values.items() if v is not None}, sort_keys=False))
        return self.file

    def load(self, *overrides: str, **sections: Any) -> StudyConfig:
        """The configuration of the tiny study with some sections replaced."""
        return load_study_config(self.write(**sections), overrides)

    def start(self, *options: str, file: str = "search.yaml") -> subprocess.Popen[str]:
        """Start ``python -m study.run`` here; its output is read by `finish`."""
        command = [sys.executable, "-m", "study.run", file, "--no-report", *options]
        return subprocess.Popen(command, cwd=self.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *options: str, expect: int = 0) -> tuple[str, str]:
        """Run to the end; returns (stdout, stderr) and checks the exit code. Inline, it runs in this process."""
        if "--inline" in options:
            code, out, err = self._run_here(*options)
            assert code == expect, f"exit {code}, not {expect}\n{out}\n{err}"
            return out, err
        process = self.start(*options)
        try:
            out, err = process.communicate(timeout=600)
        finally:
            process.kill()
        assert process.returncode == expect, f"exit {process.returncode}, not {expect}\n{out}\n{err}"
        return out, err

    def _run_here(self, *options: str) -> tuple[int, str, str]:
        out, err, threads = io.StringIO(), io.StringIO(), torch.get_num_threads()
        deterministic = torch.are_deterministic_algorithms_enabled()
        with contextlib.chdir(self.path), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(["search.yaml", "--no-report", *options])
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        return code, out.getvalue(), err.getvalue()

    def rows(self, name: str = "tiny", storage: str = "results") -> dict[str, dict[str, Any]]:
        """Rows by cell_id."""
        return {str(row["cell_id"]): row for row in read_evals(self.path / storage / name)}

    def fields(self, storage: str = "results") -> set[str]:
        """Names of the published fields."""
        return {p.name for p in (self.path / storage / "fields").iterdir() if not p.name.startswith(".")}


def promised(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that equal seeds promise bit for bit."""
    return {k: v for k, v in row.items() if k in SAME or k in KEYS or k.startswith(PREFIXES)}


def same_rows(a: Mapping[str, Mapping[str, Any]], b: Mapping[str, Mapping[str, Any]]) -> None:
    """Fail unless two studies have exactly the same rows in every promised column."""
    assert a.keys() == b.keys()
    for cell_id in a:
        assert promised(a[cell_id]) == promised(b[cell_id])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    """An empty folder for one study, also the working directory of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    yield Folder(tmp_path)
    assert os.getcwd() == str(tmp_path)


@pytest.fixture(scope="module")
def make_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Folder]:
    """Folders that the tests of one module share."""
    return lambda name: Folder(tmp_path_factory.mktemp(name))
