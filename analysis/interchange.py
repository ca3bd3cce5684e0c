"""A study for other programs: several studies in one frame, Optuna's plots and dashboard, a CSV table.

What leaves this package loses the rules that its statistics keep, so each function says what one record of the other
program stands for. Optuna knows one value a trial and no seeds: a trial here is a configuration, training point ×
sampler point, valued by the geometric mean over its train and sample seeds; or, on request, one measured row.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.load import AnalysisError, Shared, as_number, load_study, study_of
from analysis.statistics import default_metric, is_log, metric_values
from study.storage import Place

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import TrialState

HIGHER_IS_BETTER = ("precision", "recall")
"""Metrics that a study maximises; all others are minimised."""


def load_studies(paths: Iterable[str | Path | Place]) -> pd.DataFrame:
    """Several studies under one another, for the same study on two data sets or on two machines.

    The frame has the columns of one study and ``study``, the folder's name; the counts and the YAML of each stay apart,
    because an axis, a default or a tolerance belongs to one study. `of_study` gives one study back, as `load_study` does.

    Args:
        paths: study folders or ``s3://`` URIs; folders of one name are told apart by their parent's.
    Returns:
        Rows of all studies, whole numbers as floats where another study has none; ``attrs["studies"]``: {name: attrs of
        `load_study`}; ``attrs["skipped"]``: {"name: reason": count}.
    Raises:
        AnalysisError: no path given, one path given twice, or a study that cannot be read.
    """
    frames = [load_study(path) for path in paths]
    if not frames:
        raise AnalysisError("load_studies: no study given; name at least one folder, results/<study>")
    names = _distinct_names([str(frame.attrs["path"]) for frame in frames])
    attrs = {name: dict(frame.attrs) for name, frame in zip(names, frames, strict=True)}
    labelled = []
    for name, frame in zip(names, frames, strict=True):
        frame.attrs = {}
        labelled.append(frame.assign(study=name))
    result = pd.concat(labelled, ignore_index=True)
    skipped = {f"{name}: {reason}": n for name, own in attrs.items() for reason, n in own["skipped"].items()}
    result.attrs = {"studies": Shared(attrs), "skipped": skipped}
    return result


def of_study(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """One study of a `load_studies` frame with its own ``attrs``, for every function that takes one study.

    Raises:
        AnalysisError: no such study in the frame.
    """
    studies = frame.attrs.get("studies") or {}
    if name not in studies:
        raise AnalysisError(f"{name}: not a study of this frame; it holds {', '.join(studies) or 'none'}")
    result = frame.loc[frame["study"].eq(name)].drop(columns="study").reset_index(drop=True)
    result.attrs = dict(studies[name])
    return result


def _distinct_names(paths: list[str]) -> list[str]:
    """The shortest tails of the paths that differ: ``digits``, or ``a/digits`` beside ``b/digits``."""
    parts = [Place.of(path).absolute().path.rstrip("/").split("/") for path in paths]
    if len({tuple(part) for part in parts}) < len(parts):
        raise AnalysisError(f"load_studies: a study is named twice in {', '.join(paths)}; name each once")
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return paths


def to_csv(frame: pd.DataFrame, path: str | Path) -> Path:
    """Write a frame as UTF-8 CSV that reads back to the same numbers (17 digits); null is an empty field.

    Args:
        frame: any frame of this package.
        path: the file; its folder is made when missing.
    Returns:
        The path. ``attrs`` (the YAML, the counts of skipped rows) do not fit in a table and stay behind.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(target, index=False, float_format="%.17g", encoding="utf-8")
    return target


def to_optuna(
    frame: pd.DataFrame,
    metric: str | None = None,
    *,
    unit: str = "configuration",
    storage: str | None = None,
    name: str | None = None,
) -> optuna.Study:
    """The study as an Optuna study, for ``optuna.visualization`` and optuna-dashboard.

    unit "configuration": one trial a (training point, sampler point), value exp(mean of log metric over the fields' means)
    (shares: the plain mean). A configuration with a failed or timed-out cell is FAIL, with a diverged one PRUNED, whatever
    its other seeds gave (their mean is the user attribute ``mean_of_complete``): a mean of survivors would look too good.
    unit "row": one trial a measured cell, its train and sample seeds as user attributes.

    Parameters carry their group (``train.sigma``, ``sampler.rtol``) and appear where they are active only. Distributions
    are those of the search section, widened where the declared default lies outside (user attribute ``widened``).

    Args:
        frame: rows of `analysis.load_study`.
        metric: default ``fid``; precision and recall are maximised, all else minimised.
        unit: ``configuration`` or ``row``.
        storage: an Optuna storage URL such as ``sqlite:///study.db``; in memory if None.
        name: name of the Optuna study (default: the study's).
    Returns:
        The Optuna study; its user attributes hold metric, unit, skipped ({reason: count}), widened and path.
    Raises:
        AnalysisError: another unit, or no searched parameter.
    """
    if unit not in ("configuration", "row"):
        raise AnalysisError(f"unit: got {unit}; use configuration or row")
    import optuna

    metric = metric or default_metric(frame)
    points = _declared_points(frame)
    space, widened = _distributions(frame, points)
    best = optuna.study.StudyDirection
    direction = best.MAXIMIZE if metric.removeprefix("metric_") in HIGHER_IS_BETTER else best.MINIMIZE
    title = name or str(study_of(frame).get("name") or "study")
    study = optuna.create_study(storage=storage, study_name=title, direction=direction)
    values, skipped = metric_values(frame, metric)
    rows = frame.assign(_y=values, _field=frame["train_id"])
    rows.attrs = {}
    keys = ["cell_id"] if unit == "row" else ["point_id", "sampler_id"]
    trials, pending = [], 0
    for _, group in rows.groupby(keys, sort=False, dropna=False):
        measured = group.loc[group["status"].ne("pending")]
        if measured.empty:
            pending += 1
            continue
        trials.append(_trial(measured, points.loc[group.index[0]], space, metric, len(group) - len(measured)))
    study.add_trials(trials)
    if pending:
        skipped = {**skipped, f"{unit} without a measured cell": pending}
    facts = {"metric": metric, "unit": unit, "skipped": skipped, "widened": widened, "path": frame.attrs.get("path", "")}
    for key, value in facts.items():
        study.set_user_attr(key, value)
    return study


def _declared_points(frame: pd.DataFrame) -> pd.Series:
    """{parameter with group: declared value} of every row: from ``design_point``, else from the resolved columns."""
    search = study_of(frame).get("search") or {}
    wanted = {f"{group}.{key}": spec for group in ("train", "sampler") for key, spec in (search.get(group) or {}).items()}
    if not wanted:
        raise AnalysisError("to_optuna: this study searched no parameter; add a search section and run it again")
    return pd.Series([_declared_point(row, wanted) for row in frame.to_dict("records")], index=frame.index, dtype=object)


def _declared_point(row: Mapping[Any, Any], wanted: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    text = row.get("design_point")
    declared = json.loads(text) if isinstance(text, str) else None
    point: dict[str, Any] = {}
    for key, spec in wanted.items():
        group, name = key.split(".", 1)
        column = f"{group}_{name}" if f"{group}_{name}" in row else f"network_{name}"
        resolved = _plain(row.get(column))
        if declared is not None and name not in declared.get(group, {}):
            continue
        value = resolved if declared is None else declared[group][name]
        if "choice" in spec:
            value = _as_choice(value, resolved, spec["choice"])
        elif as_number(value) is None:
            value = resolved  # `rule` and other words: the number that they became
        if value is not None or None in spec.get("choice", ()):
            point[key] = value
    return point


def _plain(value: Any) -> Any:
    """A cell of a frame as None, bool, int, float or str."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    return value.item() if isinstance(value, np.generic) else value


def _as_choice(value: Any, resolved: Any, choices: list[Any]) -> Any:
    """The choice that a value is: 128.0 in a column of numbers is the 128 of the YAML; ``all`` is no number there."""
    for choice in choices:
        if value == choice and isinstance(value, bool) == isinstance(choice, bool):
            return choice
    words = [choice for choice in choices if isinstance(choice, str) and as_number(choice) is None]
    return words[0] if len(words) == 1 and as_number(resolved) is not None and not isinstance(value, str) else value


def _distributions(frame: pd.DataFrame, points: pd.Series) -> tuple[dict[str, BaseDistribution], list[str]]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    space: dict[str, BaseDistribution] = {}
    widened = []
    for group, section in (study_of(frame).get("search") or {}).items():
        for name, spec in (section or {}).items():
            key = f"{group}.{name}"
            seen = [point[key] for point in points if key in point]
            kind = next(k for k in ("log_uniform", "uniform", "log_int_uniform", "int_uniform", "choice") if k in spec)
            if kind == "choice":
                choices = list(spec["choice"])
                extra = [value for value in dict.fromkeys(seen) if value not in choices]
                space[key] = CategoricalDistribution([*choices, *extra])
                widened += [key] if extra else []
                continue
            ends = [float(as_number(end) or 0.0) for end in spec[kind]]
            low, high = min([*ends, *seen]), max([*ends, *seen])
            widened += [key] if [low, high] != ends else []
            whole = "int" in kind
            space[key] = (
                IntDistribution(int(low), int(high), log=kind.startswith("log"))
                if whole
                else FloatDistribution(float(low), float(high), log=kind.startswith("log"))
            )
    return space, widened


def _trial(
    rows: pd.DataFrame, point: Mapping[str, Any], space: Mapping[str, BaseDistribution], metric: str, n_pending: int
) -> optuna.trial.FrozenTrial:
    import optuna

    usable = rows.dropna(subset=["_y"])
    y = usable.groupby("_field")["_y"].mean().mean() if len(usable) else math.nan
    mean = math.exp(y) if is_log(metric) else float(y)
    state = _state(rows["status"], math.isfinite(mean))
    complete = state == optuna.trial.TrialState.COMPLETE
    attrs = {
        "point_id": _plain(rows["point_id"].iloc[0]), "sampler_id": _plain(rows["sampler_id"].iloc[0]),
        "design_role": _plain(rows["design_role"].iloc[0]),
        "design_sampler_role": _plain(rows["design_sampler_role"].iloc[0]),
        "cell_ids": rows["cell_id"].tolist(), "train_seeds": sorted({int(s) for s in rows["seed_train"].dropna()}),
        "sample_seeds": sorted({int(s) for s in rows["seed_sample"].dropna()}), "n_rows": len(rows), "n_pending": n_pending,
        "statuses": {str(k): int(v) for k, v in rows["status"].value_counts().items()},
        "nfe": _plain(rows["cost_nfe"].mean()), "mean_of_complete": mean if math.isfinite(mean) else None,
        "errors": sorted({str(e) for e in rows["error"].dropna()})[:3],
    }  # fmt: skip
    trial = optuna.trial.create_trial(
        state=state,
        value=mean if complete else None,
        params={key: point[key] for key in space if key in point},
        distributions={key: space[key] for key in space if key in point},
        user_attrs=attrs,
    )
    trial.datetime_start, trial.datetime_complete = _times(rows)
    return trial


def _state(status: pd.Series, finite: bool) -> TrialState:
    from optuna.trial import TrialState

    if status.isin(["failed", "timeout"]).any():
        return TrialState.FAIL
    if status.isin(["diverged", "solver_limit"]).any():
        return TrialState.PRUNED
    return TrialState.COMPLETE if finite else TrialState.FAIL


def _times(rows: pd.DataFrame) -> tuple[datetime, datetime]:
    """From the first cell's start (its end minus the seconds it took) to the last one's end; 1970 where none is known."""
    ends = pd.to_datetime(rows["prov_finished_at"], utc=True, errors="coerce").dt.tz_localize(None)
    seconds = rows[["cost_sample_s", "cost_metric_s"]].astype(float).fillna(0).sum(axis=1)
    known = ends.notna()
    if not known.any():
        return datetime(1970, 1, 1), datetime(1970, 1, 1)
    starts = (ends[known] - pd.to_timedelta(seconds[known], unit="s")).dt.floor("us")  # as fine as Python's datetime
    last = ends[known].max().to_pydatetime()
    return min(starts.min().to_pydatetime(), last - timedelta(microseconds=1)), last
