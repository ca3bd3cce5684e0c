"""A study as its report sees it: rows, ratings, disturbed rows, and what several sections share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from analysis.report.ask import Result, ask
from analysis.report.blocks import Figure
from analysis.report.figure import ALONE, HEIGHT, Draw, figure
from analysis.robustness.interval import ToleranceInterval, tolerance_interval
from analysis.robustness.partial import partial_curves
from analysis.rows.load import load_study
from analysis.rows.meta import compares, searched_axes, seeks_best
from analysis.rows.metrics import default_metric
from analysis.rows.words import metric_label
from analysis.statistics.importance import parameter_importance


@dataclass(frozen=True)
class Study:
    """One study of a report; every section is a function of it."""

    name: str
    """Unique among the studies of a report; anchors and folders bear it too."""
    frame: pd.DataFrame
    intervals: Sequence[ToleranceInterval]
    """The verdict on every searched parameter, from `rate`."""
    disturbed: pd.DataFrame | None = None
    """The rows of its disturbed fields, from `disturbed_rows`."""
    measured_early: pd.DataFrame | None = None
    """All its rows, those on the way too, from `early_rows`."""
    figures: Path = Path("figures")
    """The folder that its figures are written to."""

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Return every row, by the name of its CSV."""
        found = {"rows": self.frame, "disturbed": self.disturbed}
        if self.measured_early is not None:
            found["on-the-way"] = self.measured_early.loc[self.measured_early["is_final"].eq(False)]
        return {name: table for name, table in found.items() if table is not None}

    @cached_property
    def every(self) -> pd.DataFrame:
        """Return the rows, then those of disturbed fields, with the ``attrs`` of the first."""
        if self.disturbed is None:
            return self.frame
        both = pd.concat([self.frame, self.disturbed], ignore_index=True)
        both.attrs = self.frame.attrs
        return both

    @cached_property
    def importance(self) -> Result:
        """Return `analysis.parameter_importance`, or why it is refused; computed once, for two sections."""
        return ask(parameter_importance, self.frame)

    @cached_property
    def curves(self) -> Result | None:
        """Return `analysis.partial_curves`, or why it is refused; None where a design compares values, or seeks the best."""
        return None if compares(self.frame) or seeks_best(self.frame) else ask(partial_curves, self.frame)

    @cached_property
    def metric(self) -> str:
        """Return the rated metric."""
        return default_metric(self.frame)

    @cached_property
    def label(self) -> str:
        """Return the rated metric in words."""
        return metric_label(self.frame, self.metric)

    def draw(
        self, name: str, caption: str, alt: str, draws: Sequence[Draw], least: float = ALONE, height: float = HEIGHT
    ) -> Figure:
        """Draw a figure into the study's folder; the arguments are those of `analysis.report.figure.figure`."""
        return figure(self.figures, name, caption, alt, draws, least, height)


def rate(frame: pd.DataFrame) -> list[ToleranceInterval]:
    """Rate every searched parameter."""
    return [tolerance_interval(frame, axis) for axis in searched_axes(frame) if axis.column in frame.columns]


def disturbed_rows(frame: pd.DataFrame) -> pd.DataFrame | None:
    """Read again the rows of disturbed fields that `load_study` left out of the frame; None where there are none."""
    if not any(str(reason).startswith("perturbed field") for reason in frame.attrs["skipped"]):
        return None
    every = load_study(str(frame.attrs["path"]), perturbed=True)
    return every.loc[every["perturb_kind"].notna()].reset_index(drop=True)


def early_rows(frame: pd.DataFrame) -> pd.DataFrame | None:
    """Read a study again with the rows on the way that `load_study` left out of the frame; None where there are none."""
    if not any(str(reason).startswith("intermediate step") for reason in frame.attrs["skipped"]):
        return None
    every = load_study(str(frame.attrs["path"]), on_the_way=True)
    every.attrs["study"] = frame.attrs["study"]  # which may have been given another tolerance
    return every
