"""Rows on the way: a study as it would be, had every training ended at a share of its steps.

`evaluate.at_steps` measures the default sampler point of every field at shares of ``train.steps``. Such a row is no outcome of
its configuration, so every statistic leaves it out. Here the rows of one share become a frame of their own, which the same
statistics take. It has no other sampler point than the default.
"""

from __future__ import annotations

import math

import pandas as pd

from analysis.rows.meta import DECIDED, AnalysisError, Axis, final, find_axis, is_default, study_of, undisturbed
from analysis.rows.metrics import default_metric, on_scale
from study.rows.on_the_way import step_at

END = 1.0
"""The share that is the whole training."""


def lengths(frame: pd.DataFrame) -> list[float]:
    """Return the shares of the training at which a study was measured, growing, the end last.

    Args:
        frame: rows of `analysis.load_study` with ``on_the_way=True``.
    Raises:
        AnalysisError: it has no row on the way.
    """
    early = _early(frame)
    if not early.any():
        there = any(str(reason).startswith("intermediate step") for reason in frame.attrs.get("skipped") or {})
        cure = "load them with load_study(path, on_the_way=True)"
        cure = cure if there else f"write evaluate: {{at_steps: [0.25, 0.5, 1]}}, run the study again, and {cure}"
        raise AnalysisError(f"no row of a field on the way; {cure}")
    declared = (study_of(frame).get("evaluate") or {}).get("at_steps")
    rows = frame.loc[early]
    found = declared or (rows["step"] / rows["train_steps"]).unique().tolist()
    return sorted({*(float(share) for share in found), END})


def at_length(frame: pd.DataFrame, share: float) -> pd.DataFrame:
    """Return the rows at a share of the training as if that were its end; at 1 the rows of the end themselves.

    Args:
        frame: as `lengths` takes it.
        share: one of `lengths`.
    """
    if share == END:
        rows = final(frame)
    else:
        wanted = {steps: step_at(share, int(steps)) for steps in frame["train_steps"].dropna().unique()}
        rows = frame.loc[_early(frame) & frame["step"].eq(frame["train_steps"].map(wanted))]
        rows = rows.assign(is_final=True).reset_index(drop=True)
    rows = rows.copy(deep=False)
    rows.attrs = {key: value for key, value in frame.attrs.items() if key not in (DECIDED, "on_the_way")}
    return rows


def trained_axis(frame: pd.DataFrame, parameter: str | Axis) -> Axis:
    """Return a searched training parameter.

    Raises:
        AnalysisError: no such parameter, or one of the sampler.
    """
    axis = find_axis(undisturbed(frame), parameter)
    if axis.group != "train":
        raise AnalysisError(f"{axis.name}: the default sampler point alone is measured on the way; name a training parameter")
    return axis


def unnamed(frame: pd.DataFrame) -> int:
    """Count the rows on the way at a step that ``evaluate.at_steps`` does not name any more."""
    return int(_early(frame).sum()) - sum(len(at_length(frame, share)) for share in lengths(frame) if share != END)


def quality_curves(frame: pd.DataFrame, metric: str | None = None) -> pd.DataFrame:
    """Return the quality of every field against the step of its training, at the default sampler point.

    Args:
        frame: as `lengths` takes it.
        metric: default: the main one.
    Returns:
        train_id, seed_train, step, design_role, value (mean over sample seeds, geometric where the metric is averaged on the
        log; NaN where no row is complete); ``attrs``: metric, skipped.
    Raises:
        AnalysisError: it has no row on the way, or no such metric.
    """
    metric = metric or default_metric(frame)
    parts = [undisturbed(at_length(frame, share)) for share in lengths(frame)]
    rows = pd.concat([part.loc[is_default(part, "sampler")] for part in parts], ignore_index=True)
    rows.attrs = {}
    measured = on_scale(rows, metric)
    keys = ["train_id", "seed_train", "step", "design_role"]
    table = measured.y.groupby([rows[key] for key in keys], sort=False, dropna=False).mean().rename("value").reset_index()
    table["value"] = table["value"].map(math.exp, na_action="ignore") if measured.log else table["value"]
    skipped = {f"status {status}": int(n) for status, n in rows["status"].value_counts().items() if status != "complete"}
    result = table.sort_values(["train_id", "step"], kind="stable").reset_index(drop=True)
    result.attrs = {"metric": metric, "skipped": skipped}
    return result


def _early(frame: pd.DataFrame) -> pd.Series:
    return frame["is_final"].eq(False) if "is_final" in frame else pd.Series(False, index=frame.index)
