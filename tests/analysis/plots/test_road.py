"""From a frame to a drawn curve: how many rooms the road passes."""

from __future__ import annotations

import sys
from types import FrameType

import pandas as pd
import pytest

from analysis import plot_robustness
from analysis.testing.studies import synthetic_frame
from analysis.testing.truth import Truth

OWN = ("analysis", "study", "pfgm")
MOST = 20


def module(frame: FrameType | None) -> str:
    """The module of our own whose code a frame runs; "" for others."""
    name = str(frame.f_globals.get("__name__", "")) if frame is not None else ""
    return name if name.split(".")[0] in OWN else ""


def calls_between_modules(frame: pd.DataFrame, parameter: str) -> list[tuple[str, str]]:
    """Every call from one of our modules into another while the curve of a parameter is drawn."""
    draw = plot_robustness
    found: list[tuple[str, str]] = []

    def look(called: FrameType, event: str, _: object) -> None:
        here, there = module(called.f_back), module(called)
        if event == "call" and here and there and here != there:
            found.append((here, there))

    sys.setprofile(look)
    try:
        draw(frame, parameter)
    finally:
        sys.setprofile(None)
    return found


@pytest.mark.parametrize("parameter", ["sigma", "rtol"])
def test_a_curve_is_drawn_in_at_most_20_calls_between_modules(parameter: str, clean_figures: None) -> None:
    """Decisions travel as data, so no module asks another twice; it took 90 such calls before."""
    frame = synthetic_frame(Truth())
    assert len(calls_between_modules(frame, parameter)) <= MOST


def test_more_values_and_more_seeds_take_no_more_calls(clean_figures: None) -> None:
    few, many = (synthetic_frame(Truth(train_seeds=n, sample_seeds=n)) for n in (2, 4))
    assert calls_between_modules(few, "sigma") == calls_between_modules(many, "sigma")
