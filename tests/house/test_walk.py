"""The walk of sigma in the documentation is the way that the number takes."""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path
from types import FrameType

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
from helpers.folder import Folder

from analysis import load_study, plot_robustness
from study.run import main

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "design" / "walk.md"
SIGMA = 0.0712345
"""No other number of the study is like it."""


@cache
def own_file(name: str) -> str | None:
    """The address of a file in the repository; None for those of others."""
    file = Path(name)
    return str(file.relative_to(ROOT)) if file.is_relative_to(ROOT) and ".venv" not in file.parts else None


def modules_that_hold(value: float, found: list[str], frame: FrameType, event: str, returned: object) -> None:
    """Note the module of a function that ends with this number, as such or as text, among its variables."""
    if event != "return" or (file := own_file(frame.f_code.co_filename)) is None:
        return
    seen = (*frame.f_locals.values(), returned)
    if any(x == value if isinstance(x, float) else isinstance(x, str) and str(value) in x for x in seen):
        found.append(file)


@pytest.mark.usefixtures("one_thread")
def test_the_walk_of_sigma_is_written_as_it_is(folder: Folder) -> None:
    folder.write(train={"sigma": 0.2, "steps": 5, "batch_size": 16}, search={"train": {"sigma": {"choice": [SIGMA, 0.2]}}})
    stations = re.findall(r"\]\(\.\./\.\./(\S+\.py)\)", PAGE.read_text(encoding="utf-8"))
    found: list[str] = []
    mpl.use("Agg")
    sys.setprofile(lambda *told: modules_that_hold(SIGMA, found, *told))
    try:
        assert main([str(folder.file), "--inline", "--no-report"]) == 0
        plot_robustness(load_study(folder.path / "results/tiny"), "sigma")
    finally:
        sys.setprofile(None)
        plt.close("all")
    on_the_way = [file for file in dict.fromkeys(found) if file in stations]
    assert on_the_way == stations and len(stations) == 8
    assert len(set(found)) <= 17, "the walk says how many others look at it"
