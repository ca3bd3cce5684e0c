"""List what is wrong with the rows of a study, as a table; an empty table says that nothing is.

A statistic counts what it skips; this module looks before any statistic does. It finds cells without a row, rows without a
plan, and complete rows without a number. It finds values outside the searched box, seeds that nobody planned, and one field
with two configurations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.rows.facts import measured_columns
from analysis.rows.load import load_study
from analysis.rows.meta import as_number, settles, study_of
from study.rows.records import EVALS, MISSED, STATUSES
from study.rows.storage import Place

COLUMNS = ["problem", "column", "n", "example", "detail"]
DISJOINT_STRIDE = 10_000
"""Distance of train seeds: with ``seeds.disjoint``, training point i has its train seeds from i times this on."""
Problem = dict[str, object]


def validate(study: str | Path | Place | pd.DataFrame) -> pd.DataFrame:
    """List the problems of a study's rows, one line each; nothing is mended and nothing is left out.

    Args:
        study: a study folder, or a frame of `analysis.load_study`.
    Returns:
        problem, column (where one is at fault), n (rows concerned), example (a ``cell_id``), detail. Empty: no problem.
    Raises:
        AnalysisError: the folder cannot be read at all.
    """
    frame = study if isinstance(study, pd.DataFrame) else load_study(study, perturbed=True, on_the_way=True)
    checks = (_counted, _columns, _keys, _statuses, _metrics, _box, _seeds, _fields)
    result = pd.DataFrame([problem for check in checks for problem in check(frame)], columns=COLUMNS)
    result.attrs = {**frame.attrs, "skipped": {}}
    return result


def _problem(rows: pd.DataFrame, problem: str, column: str = "", detail: str = "") -> Problem:
    example = str(rows["cell_id"].iloc[0]) if len(rows) and "cell_id" in rows else ""
    return {"problem": problem, "column": column, "n": len(rows), "example": example, "detail": detail}


def _counted(frame: pd.DataFrame) -> Iterator[Problem]:
    """List what `load_study` counted on its way."""
    for reason, n in (frame.attrs.get("skipped") or {}).items():
        yield {"problem": reason, "column": "", "n": n, "example": "", "detail": "counted while loading"}


def _columns(frame: pd.DataFrame) -> Iterator[Problem]:
    for column in sorted(set(frame.columns) - set(EVALS.names) - set(frame.attrs.get("columns") or {})):
        yield _problem(frame, "unknown column", column, "not in study/rows/records.py")
    for column in sorted(set(EVALS.names) - set(frame.columns)):
        yield _problem(frame, "missing column", column)


def _keys(frame: pd.DataFrame) -> Iterator[Problem]:
    if "cell_id" in frame and frame["cell_id"].duplicated().any():
        yield _problem(frame.loc[frame["cell_id"].duplicated()], "duplicate row", "cell_id")
    keys = ("point_id", "sampler_id", "seed_train", "seed_sample", "step", "perturb_kind", "perturb_level")
    same = [c for c in keys if c in frame]
    again = frame.duplicated(same) & ~frame.get("cell_id", pd.Series(dtype=object)).duplicated()
    if again.any():
        yield _problem(frame.loc[again], "one configuration and seed measured twice", "", ", ".join(same))


def _statuses(frame: pd.DataFrame) -> Iterator[Problem]:
    pending = frame["status"].eq("pending")
    if pending.any():
        yield _problem(frame.loc[pending], "planned cell without a row", "status", "run the study again to measure it")
    unknown = ~frame["status"].isin([*STATUSES, MISSED, "pending"])
    if unknown.any():
        values = ", ".join(sorted({str(v) for v in frame.loc[unknown, "status"]}))
        yield _problem(frame.loc[unknown], "unknown status", "status", values)
    for status in (*STATUSES[1:], MISSED):
        silent = frame["status"].eq(status) & frame["error"].isna()
        if silent.any():
            yield _problem(frame.loc[silent], f"{status} without a reason", "error")


def _metrics(frame: pd.DataFrame) -> Iterator[Problem]:
    complete = frame.loc[frame["status"].eq("complete")]
    wanted = (study_of(frame).get("evaluate") or {}).get("metrics") or []
    for column in measured_columns(frame):
        if column.filled and column.metric in wanted and column.name in complete:
            asked = complete["perturb_kind"].isna() | (not column.of_field)
            lost = asked & ~np.isfinite(complete[column.name].astype(float))
            if lost.any():
                told = f"evaluate.metrics: {column.metric}"
                yield _problem(complete.loc[lost], "complete row without a number", column.name, told)
    for column in measured_columns(frame):
        if column.name in frame and not column.low is column.high is None:
            low, high = -np.inf if column.low is None else column.low, np.inf if column.high is None else column.high
            values = frame[column.name].astype(float)
            wrong = values.lt(low) | values.gt(high)
            if wrong.any():
                yield _problem(frame.loc[wrong], "impossible value", column.name, f"must lie in [{low:g}, {high:g}]")


def _box(frame: pd.DataFrame) -> Iterator[Problem]:
    """Find searched values outside their range or choices, at points that the search made (the default may lie anywhere)."""
    for group, section in (study_of(frame).get("search") or {}).items():
        role = frame["design_role" if group == "train" else "design_sampler_role"].astype(str)
        for name, spec in (section or {}).items():
            column = next((c for c in (f"{group}_{name}", f"network_{name}") if c in frame), None)
            if column is None:
                continue
            own = [r for r in role.unique() if f"arm:{name}" in r.split("+") or not ("arm:" in r or r == "default")]
            made = role.isin(own)
            rows = frame.loc[made & frame[column].notna()]
            outside = ~rows[column].isin([value for value in rows[column].unique() if _inside(value, spec)])
            if outside.any():
                values = ", ".join(
                    sorted({f"{v:g}" if as_number(v) is not None else str(v) for v in rows.loc[outside, column]})
                )
                detail = f"{values}; searched {_shown(spec)}"
                yield _problem(rows.loc[outside], "value outside the searched box", column, detail)


def _inside(value: Any, spec: Mapping[str, Any]) -> bool:
    if "choice" in spec:
        words = [c for c in spec["choice"] if isinstance(c, str) and as_number(c) is None]
        if words and as_number(value) is not None:
            return True  # `all` and `rule` became a number
        number = as_number(value)
        numbers = [as_number(c) for c in spec["choice"]]
        return value in spec["choice"] or (number is not None and number in numbers)
    ends = next((spec[k] for k in spec if k.endswith("uniform")), None)
    number, low, high = as_number(value), *(as_number(end) for end in ends or (None, None))
    if number is None or low is None or high is None:
        return False
    slack = 1e-9 * max(abs(low), abs(high))
    return low - slack <= number <= high + slack


def _shown(spec: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in spec.items() if key not in ("levels", "when"))


def _seeds(frame: pd.DataFrame) -> Iterator[Problem]:
    seeds = study_of(frame).get("seeds") or {}
    for kind in ("train", "sample"):
        column = f"seed_{kind}"
        planned = seeds.get(kind)
        if planned is None or column not in frame:
            continue
        known = list(range(planned)) if isinstance(planned, int) else [int(seed) for seed in planned]
        found = frame[column].dropna().astype(int)
        own = found % DISJOINT_STRIDE if kind == "train" and seeds.get("disjoint") else found
        further = own.gt(max(known)) & (kind == "train" and settles(frame))  # fields that a round added have the next seeds
        strange = frame.loc[own.index[~(own.isin(known) | found.isin(known) | further)]]
        if len(strange):
            values = ", ".join(str(v) for v in sorted(strange[column].astype(int).unique())[:5])
            yield _problem(strange, "seed not planned", column, f"{values}; planned {known}")


def _fields(frame: pd.DataFrame) -> Iterator[Problem]:
    """Find fields with two configurations: one ``train_id`` stands for one training configuration and one train seed."""
    rows = frame.dropna(subset=["train_id"])
    shared = [c for c in rows.columns if c == "seed_train" or (c.startswith("train_") and c not in ("train_id",))]
    shared = [c for c in shared if c != "train_height_ratio"]  # declared, not resolved: two declarations may meet in one field
    kinds = rows[["train_id", *shared]].drop_duplicates()
    kinds = kinds.loc[kinds["train_id"].duplicated(keep=False)]  # fields of several kinds: none, as a rule
    for column in shared:
        counts = kinds.groupby("train_id")[column].nunique(dropna=False)
        mixed = counts.index[counts > 1]
        if len(mixed):
            yield _problem(rows.loc[rows["train_id"].isin(mixed)], "one field with two configurations", column, str(mixed[0]))
