"""The tpe design: Optuna proposes one point at a time, from the rows that exist.

There is no stored optimiser state. Before every proposal an in-memory Optuna study is rebuilt from the manifest and the rows:
a point whose cells are all terminal is told with the mean log metric over its seeds, or as failed when any cell is not
complete; a point still being measured is told as running. A point joins training and sampler parameters.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from study.config import StudyConfig, activate
from study.plan import Point, Trial, digest, make_trial
from study.space import Distribution, Value

optuna.logging.set_verbosity(optuna.logging.WARNING)
COLUMNS = {"fid": "metric_fid", "sliced_wasserstein": "metric_sliced_wasserstein", "nfe": "cost_nfe"}


def propose(
    config: StudyConfig, cells: Sequence[Mapping[str, object]], rows: Mapping[str, Mapping[str, object]]
) -> list[Trial]:
    """The trials (one a train seed) of the next point; the first point is the default.

    Args:
        cells: manifest rows of all points proposed so far.
        rows: measured rows by cell_id.
    """
    seen = by_point(cells)
    if not seen:
        return _trials(config, "default", config.default("train"), config.default("sampler"))
    wanted = config.design.optimize or {"fid": "minimize"}
    sampler = optuna.samplers.TPESampler(
        seed=int(digest([config.design.seed, len(seen)], 8), 16), multivariate=True, group=True, constant_liar=True
    )
    study = optuna.create_study(directions=list(wanted.values()), sampler=sampler)
    for point, members in seen.items():
        study.add_trial(_known_trial(config, json.loads(point), [rows.get(str(c["cell_id"])) for c in members], list(wanted)))
    asked = study.ask()
    train = _suggest(asked, "train", config.search_train)
    sampling = _suggest(asked, "sampler", config.search_sampler)
    return _trials(config, "tpe", train, sampling)


def by_point(cells: Sequence[Mapping[str, object]]) -> dict[str, list[Mapping[str, object]]]:
    """Manifest rows by declared point, in the order proposed."""
    seen: dict[str, list[Mapping[str, object]]] = {}
    for cell in cells:
        seen.setdefault(str(cell["design_point"]), []).append(cell)
    return seen


def _trials(config: StudyConfig, role: str, train: Point, sampling: Point) -> list[Trial]:
    return [make_trial(config, role, train, seed, [(role, sampling)]) for seed in config.seeds.train_seeds]


def _distribution(d: Distribution) -> BaseDistribution:
    if d.kind == "choice":
        return CategoricalDistribution(d.choices)
    if d.integer:
        return IntDistribution(int(d.low), int(d.high), log=d.log)
    return FloatDistribution(d.low, d.high, log=d.log)


def _suggest(trial: optuna.Trial, group: str, searched: Mapping[str, Distribution]) -> Point:
    """Values of the parameters active at this point, parents before children."""
    point: Point = {}
    waiting = dict(searched)
    while waiting:
        for key, d in list(waiting.items()):
            if d.when is not None and d.when[0] in waiting:
                continue
            waiting.pop(key)
            if d.when is None or (d.when[0] in point and point[d.when[0]] in d.when[1]):
                point[key] = _ask(trial, f"{group}.{key}", d)
    return activate(searched, point)


def _ask(trial: optuna.Trial, name: str, d: Distribution) -> Value:
    if d.kind == "choice":
        value: Value = trial.suggest_categorical(name, d.choices)
        return value
    if d.integer:
        return trial.suggest_int(name, int(d.low), int(d.high), log=d.log)
    return trial.suggest_float(name, d.low, d.high, log=d.log)


def _known_trial(
    config: StudyConfig, point: Mapping[str, Point], rows: Sequence[Mapping[str, object] | None], wanted: Sequence[str]
) -> optuna.trial.FrozenTrial:
    params: dict[str, Any] = {}
    distributions: dict[str, BaseDistribution] = {}
    for group, searched in (("train", config.search_train), ("sampler", config.search_sampler)):
        for key, value in point[group].items():
            if searched[key].contains(value):  # a default such as `rule` outside a numeric range is not a sample of it
                params[f"{group}.{key}"], distributions[f"{group}.{key}"] = value, _distribution(searched[key])
    finished = [row for row in rows if row is not None]
    if len(finished) < len(rows):
        return optuna.trial.create_trial(params=params, distributions=distributions, state=optuna.trial.TrialState.RUNNING)
    values = [_mean_log([row[COLUMNS[metric]] for row in finished]) for metric in wanted]
    complete = all(row["status"] == "complete" for row in finished) and all(v is not None for v in values)
    return optuna.trial.create_trial(
        params=params,
        distributions=distributions,
        values=values if complete else None,
        state=optuna.trial.TrialState.COMPLETE if complete else optuna.trial.TrialState.FAIL,
    )


def _mean_log(values: Sequence[object]) -> float | None:
    numbers = [float(str(v)) for v in values if v is not None]
    if len(numbers) < len(values) or min(numbers) <= 0:
        return None
    return sum(math.log(v) for v in numbers) / len(numbers)
