"""Tiny studies for the tests of ``study``: two rings in the plane, a network of 16 units, a few dozen steps."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from helpers.folder import Folder

os.environ.update(RAY_worker_niceness="0")  # Ray's workers are nicer than that, and hardly run on a busy machine


def pytest_configure() -> None:
    """Each of several test processes takes one core, and so do the commands that it starts, which can be interrupted.

    A shell script that starts the tests in the background (`make test &`) has them ignore Ctrl-C, and all that they start.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)
        os.environ.setdefault("OMP_NUM_THREADS", "1")


LONGEST = ("report", "cluster", "run", "bundled", "faults", "cluster_files", "docs_browser", "storage", "exact", "notebook",
           "segments", "settled_study", "features", "terminal", "many_rows", "extending", "docs", "report_browser", "presets",
           "tries", "unused", "trackers", "latents", "legends", "stop", "house", "interchange", "report_several", "footprint",
           "interval")  # fmt: skip
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
