"""Decide once what a statistic is asked: which rows, which metric, and along which parameter.

`statistic` decides for a function of a whole study: rows of disturbed fields, and of fields on the way, are left out, and a
metric that was not named is the main one. `ask` decides for one parameter and returns a `Question`, which carries every
decision as data. Rows that are decided already are not decided again, so one statistic may call another at no cost.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Concatenate, Final, ParamSpec, TypeVar, cast

import pandas as pd

from analysis.rows.meta import DECIDED, Axis, Memory, Setting, final, setting_of, undisturbed
from analysis.rows.metrics import Measured, default_metric, need_ratio_metric, on_scale
from analysis.rows.units import unit_key

MAIN: Final = cast("str", None)
"""Default of an argument ``metric``: the study's main metric, which `statistic` puts in its place."""

P = ParamSpec("P")
R = TypeVar("R")
Statistic = Callable[Concatenate[pd.DataFrame, P], R]


def statistic(*, ratio: bool = False, perturbed: bool = False) -> Callable[[Statistic[P, R]], Statistic[P, R]]:
    """Decorate a function of a frame, so that it receives undisturbed rows and a metric.

    Args:
        ratio: refuse a metric that is not averaged on the log.
        perturbed: the function is about disturbed rows, so it receives these too.
    Returns:
        A function with the same signature. ``metric`` may be left out (or None) where its default is `MAIN`.
    """

    def decorate(function: Statistic[P, R]) -> Statistic[P, R]:
        signature = inspect.signature(function)
        metric = signature.parameters.get("metric")
        fills = metric is not None and metric.default is None

        @functools.wraps(function)
        def decided(frame: pd.DataFrame, *args: Any, **options: Any) -> R:  # the arguments of any statistic
            rows = final(frame) if perturbed else decided_rows(frame)
            bound = signature.bind(rows, *args, **options)
            if fills and bound.arguments.get("metric") is None:
                bound.arguments["metric"] = default_metric(rows)
            if ratio:
                need_ratio_metric(rows, bound.arguments["metric"], function.__name__)
            result = function(*bound.args, **bound.kwargs)
            if isinstance(result, pd.DataFrame | pd.Series):
                result.attrs.pop(DECIDED, None)
            return result

        return cast("Statistic[P, R]", decided)

    return decorate


def decided_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the undisturbed rows of a frame, marked; rows that have the mark are returned as they are.

    The frame that gets the mark has a memory too: whoever keeps it for several statistics has each comparison computed once.
    """
    if DECIDED in frame.attrs:
        return frame
    rows = undisturbed(frame)
    if rows is frame:
        rows = frame.copy(deep=False)  # the caller's frame keeps its attrs
    rows.attrs[DECIDED] = Memory(rows)
    return rows


@dataclass(frozen=True)
class Question:
    """One metric along one parameter, with all that was decided about the rows."""

    frame: pd.DataFrame
    """Undisturbed rows with the columns of a comparison, ``field`` (the unit), ``raw`` and ``y`` (the metric on its scale)."""
    setting: Setting
    """The parameter, the design and the roles of the rows."""
    measured: Measured
    """The metric and its scale."""
    answers: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """What was computed for this question, by its name; asked of decided rows again, it is the same question."""


def ask(frame: pd.DataFrame, parameter: str | Axis, metric: str | None = None) -> Question:
    """Decide what a metric along one parameter means in a study.

    Args:
        frame: rows of `analysis.load_study`.
        parameter: a searched parameter.
        metric: default: the main one.
    Raises:
        AnalysisError: no such parameter or metric, or a frame of several studies.
    """
    setting = setting_of(frame, parameter)
    if metric not in setting.questions:
        measured = on_scale(setting.frame, metric)
        unit = unit_key(setting.rows, setting.given)
        rows = setting.rows.assign(field=unit, raw=measured.raw, y=measured.y)
        rows.attrs = {
            name: setting.frame.attrs.get(name, 0) for name in ("disturbed", "on_the_way")
        }  # every step would copy the others
        setting.questions[metric] = Question(rows, setting, measured)
    question: Question = setting.questions[metric]
    return question
