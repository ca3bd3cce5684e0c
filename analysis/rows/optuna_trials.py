"""The trials of `to_optuna`: the declared point of each row, the search space, and what a trial holds."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.rows.meta import AnalysisError, as_number, study_of
from analysis.rows.metrics import OUTCOMES

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution


class TrialFacts(NamedTuple):
    """The facts of one trial: a configuration, or a measured row."""

    row: int
    """Position of its first row, planned or measured."""
    mean: float
    """Mean of the complete rows; NaN where there is none."""
    statuses: dict[str, int]
    """Counts of the measured rows; empty where none is measured."""
    start: datetime
    end: datetime
    attrs: dict[str, Any]
    """The user attributes."""


def declared_points(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return {parameter with group: declared value} of every row: from ``design_point``, else from the resolved columns.

    Rows that agree in those columns share one dictionary, since a study repeats each point with every seed.

    Raises:
        AnalysisError: no searched parameter.
    """
    search = study_of(frame).get("search") or {}
    wanted = {f"{group}.{key}": spec for group in ("train", "sampler") for key, spec in (search.get(group) or {}).items()}
    if not wanted:
        raise AnalysisError("to_optuna: this study searched no parameter; add a search section and run it again")
    names = [key.split(".", 1) for key in wanted]
    read = ["design_point", *(f"{group}_{name}" for group, name in names), *(f"network_{name}" for _, name in names)]
    columns = frame[[column for column in dict.fromkeys(read) if column in frame.columns]]
    columns.attrs = {}
    code = columns.groupby(list(columns), sort=False, dropna=False).ngroup()
    points = [_declared_point(row, wanted) for row in columns.loc[~code.duplicated().to_numpy()].to_dict("records")]
    return [points[i] for i in code]


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
    """Return a cell of a frame as None, bool, int, float or str."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    return value.item() if isinstance(value, np.generic) else value


def _as_choice(value: Any, resolved: Any, choices: list[Any]) -> Any:
    """Return the choice that a value is: 128.0 in a column of numbers is the 128 of the YAML; ``all`` is no number there."""
    for choice in choices:
        if value == choice and isinstance(value, bool) == isinstance(choice, bool):
            return choice
    words = [choice for choice in choices if isinstance(choice, str) and as_number(choice) is None]
    return words[0] if len(words) == 1 and as_number(resolved) is not None and not isinstance(value, str) else value


def distributions(frame: pd.DataFrame, points: Sequence[Mapping[str, Any]]) -> tuple[dict[str, BaseDistribution], list[str]]:
    """Return the distribution of every searched parameter, widened to the values seen, and the names of the widened ones."""
    from optuna import distributions as kinds  # optional, and slow to import

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
                space[key] = kinds.CategoricalDistribution([*choices, *extra])
                widened += [key] if extra else []
                continue
            ends = [float(as_number(end) or 0.0) for end in spec[kind]]
            low, high = min([*ends, *seen]), max([*ends, *seen])
            widened += [key] if [low, high] != ends else []
            whole = "int" in kind
            space[key] = (
                kinds.IntDistribution(int(low), int(high), log=kind.startswith("log"))
                if whole
                else kinds.FloatDistribution(float(low), float(high), log=kind.startswith("log"))
            )
    return space, widened


_COLUMNS = (
    "cell_id", "point_id", "sampler_id", "train_id", "design_role", "design_sampler_role", "seed_train", "seed_sample",
    "status", "error", "cost_nfe", "cost_sample_s", "cost_metric_s", "prov_finished_at",
)  # fmt: skip
_FIRST = ("point_id", "sampler_id", "design_role", "design_sampler_role")
_EPOCH = datetime(1970, 1, 1)


def trial_facts(frame: pd.DataFrame, values: pd.Series, keys: list[str], log: bool) -> list[TrialFacts]:
    """Return the facts of every trial in the order of its first row.

    Args:
        frame: rows of `analysis.load_study`.
        values: the metric on its averaging scale, NaN where it is missing.
        keys: columns that name a trial.
        log: whether the mean is geometric.
    """
    every = frame[list(_COLUMNS)].astype({"cost_nfe": float})
    every.attrs = {}
    number = every.groupby(keys, sort=False, dropna=False).ngroup()
    first = np.flatnonzero(~number.duplicated())
    trials = range(len(first))
    rows = every.assign(_y=values, _trial=number, **_times(every)).loc[every["status"].ne("pending")]
    rows = rows.sort_values("_trial", kind="stable")
    of_field = rows.dropna(subset=["_y"]).groupby(["_trial", "train_id"], sort=False)["_y"].mean()
    y = of_field.groupby(level="_trial").mean().reindex(trials).to_numpy(float)
    means = (np.exp(np.minimum(y, 700.0)) if log else y).tolist()
    groups = rows.groupby("_trial", sort=False)
    nfe = groups["cost_nfe"].mean().reindex(trials).tolist()
    starts, ends = (_as_datetimes(times.reindex(trials)) for times in (groups["_start"].min(), groups["_end"].max()))
    edges = np.searchsorted(rows["_trial"].to_numpy(), np.arange(len(first) + 1)).tolist()
    pending = (np.bincount(number, minlength=len(first)) - np.diff(edges)).tolist()
    lists = {name: [_plain(v) for v in rows[name].tolist()] for name in (*_FIRST, "cell_id", "status", "error")}
    for name in ("seed_train", "seed_sample"):
        lists[name] = [None if v is None else int(v) for v in map(_plain, rows[name].tolist())]
    table = []
    for i in trials:
        own = {name: column[edges[i] : edges[i + 1]] for name, column in lists.items()}
        statuses = dict(Counter(own["status"]).most_common())
        attrs = {
            **{name: own[name][0] for name in _FIRST if own[name]}, "cell_ids": own["cell_id"],
            "train_seeds": _distinct(own["seed_train"]), "sample_seeds": _distinct(own["seed_sample"]),
            "n_rows": len(own["cell_id"]), "n_pending": pending[i], "statuses": statuses, "nfe": _plain(nfe[i]),
            "mean_of_complete": means[i] if math.isfinite(means[i]) else None, "errors": _distinct(own["error"])[:3],
        }  # fmt: skip
        table.append(TrialFacts(int(first[i]), means[i], statuses, starts[i], ends[i], attrs))
    return table


def _distinct(values: list[Any]) -> list[Any]:
    return sorted({value for value in values if value is not None})


def frozen_trial(
    facts: TrialFacts, point: Mapping[str, Any], space: Mapping[str, BaseDistribution]
) -> optuna.trial.FrozenTrial:
    """Return the facts as a trial of Optuna; ``point`` holds its declared values, active parameters only."""
    import optuna  # optional, and slow to import

    state = optuna.trial.TrialState[_state(facts.statuses, math.isfinite(facts.mean))]
    active = [key for key in space if key in point]
    trial = optuna.trial.create_trial(
        state=state,
        value=facts.mean if state == optuna.trial.TrialState.COMPLETE else None,
        params={key: point[key] for key in active},
        distributions={key: space[key] for key in active},
        user_attrs=facts.attrs,
    )
    trial.datetime_start, trial.datetime_complete = facts.start, facts.end
    return trial


def _state(statuses: Mapping[str, int], finite: bool) -> str:
    """Return the name of Optuna's state of a trial."""
    if not statuses.keys().isdisjoint(OUTCOMES["n_failed"]):
        return "FAIL"
    if not statuses.keys().isdisjoint(OUTCOMES["n_diverged"]):
        return "PRUNED"
    return "COMPLETE" if finite else "FAIL"


def _times(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Return when each cell ended, and when it began: its end minus the seconds it took."""
    ends = pd.to_datetime(rows["prov_finished_at"], utc=True, errors="coerce", format="ISO8601").dt.tz_localize(None)
    ends = ends.astype("datetime64[us]")  # as fine as Python's datetime
    seconds = rows[["cost_sample_s", "cost_metric_s"]].astype(float).fillna(0).sum(axis=1)
    starts = ends - pd.to_timedelta(np.ceil(seconds * 1e6).clip(lower=1), unit="us")
    return {"_start": starts, "_end": ends}


def _as_datetimes(times: pd.Series) -> list[datetime]:
    """Return Python's datetimes, 1970 where none is known."""
    return [time if isinstance(time, datetime) else _EPOCH for time in times.to_numpy("datetime64[us]").astype(object)]
