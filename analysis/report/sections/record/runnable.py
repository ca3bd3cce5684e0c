"""The default and the best row of a study as YAML that ``python -m study.run`` accepts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import yaml

from analysis.report.blocks import Block, Code, Section, Text
from analysis.report.study import Study
from analysis.rows.meta import Axis, searched_axes, study_of
from analysis.rows.metrics import default_metric
from analysis.statistics.pick import choose_cell
from analysis.statistics.summary import summarize


def section(study: Study) -> Section:
    """Print the default and the best row as YAML that `study.run` accepts."""
    frame = study.frame
    name = str(study_of(frame).get("name", "study"))
    blocks: list[Block] = [
        Text("The default, ready for python -m study.run:"),
        Code(run_yaml(frame, None, f"{name}-default")),
    ]
    best = choose_cell(frame, "best") if frame["status"].eq("complete").any() else None
    if best is not None:
        n = int(summarize(frame, default_metric(frame))["mean"].notna().sum())
        blocks.append(
            Text(
                f"The configuration with the lowest mean over its seeds among {n} complete ones. It is a raw"
                " minimum and biased low:"
                " confirm it on new seeds before quoting its value."
            )
        )
        blocks.append(Code(run_yaml(frame, best, f"{name}-best")))
    return Section("yaml", "Default and best as runnable YAML", tuple(blocks))


def run_yaml(frame: pd.DataFrame, row: pd.Series | None, name: str) -> str:
    """Return study.yaml without ``search``; with a row, its values replace the searched parameters."""
    study = {
        key: dict(value) if isinstance(value, dict) else value for key, value in study_of(frame).items() if key != "search"
    }
    study |= {"name": name, "design": {"name": "one_at_a_time"}}
    for axis in searched_axes(frame) if row is not None else []:
        assert row is not None
        value = _yaml_value(axis, row)
        section = "network" if axis.column.startswith("network_") else axis.group
        study.setdefault(section, {})[axis.name] = value
        for chosen, other, neutral in _EXCLUSIVE:
            if axis.name == chosen and value is not None:
                study[axis.group][other] = neutral
    _drop_other_process(frame, study)
    _drop_other_solver(frame, study)
    if row is not None or not any((study.get("perturb") or {}).values()):
        study.pop("perturb", None)  # a question about the default sampler point
    for section in ("data", "field", "network", "evaluate"):  # null is the default there
        study[section] = {key: value for key, value in study.get(section, {}).items() if value is not None}
    study = {key: value for key, value in study.items() if value != {}}
    return str(yaml.safe_dump(study, sort_keys=False, allow_unicode=True, default_flow_style=None, width=90))


def _drop_other_process(frame: pd.DataFrame, study: dict[str, Any]) -> None:
    """Drop the keys that have no meaning under the chosen process: null in every row of that process."""
    train = study.get("train", {})
    rows = frame.loc[frame["train_process"].eq(train.get("process", "pfgm"))]
    for key in [key for key, value in train.items() if value is not None and f"train_{key}" in frame.columns]:
        if rows[f"train_{key}"].isna().all():
            del train[key]


_SOLVER_KEYS = (("rtol", "atol"), ("steps", "grid"))
"""Sampler keys of adaptive and of fixed-step solvers."""


def _drop_other_solver(frame: pd.DataFrame, study: dict[str, Any]) -> None:
    """Drop the keys that the chosen solver does not read: null in every row of that solver."""
    sampler = study.get("sampler", {})
    rows = frame.loc[frame["sampler_solver"].eq(sampler.get("solver", "dopri5"))]
    for keys in _SOLVER_KEYS:
        if rows[f"sampler_{keys[0]}"].isna().all():
            for key in keys:
                sampler.pop(key, None)


_EXCLUSIVE = (
    ("M", "height_ratio", None),
    ("height_ratio", "M", "rule"),
    ("T", "T_ratio", None),
    ("T_ratio", "T", "rule"),
)
"""(chosen, the other name of the same quantity, what the other becomes)."""


def _yaml_value(axis: Axis, row: pd.Series) -> Any:
    value = row.get(axis.column)
    if value is None or pd.isna(value):
        return None
    if axis.name == "reference_batch_size" and value == row["data_n"]:
        return "all"
    if axis.categorical:
        return value.item() if isinstance(value, np.generic) else value
    return int(value) if axis.name in _INTEGERS else float(value)


_INTEGERS = ("reference_batch_size", "steps", "batch_size", "warmup_steps", "width", "depth")
