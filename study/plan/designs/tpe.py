"""The tpe design: Optuna proposes one point at a time, from the rows that exist.

There is no stored optimiser state. Before every proposal an in-memory Optuna study is rebuilt from the manifest and the rows:
a point whose cells are all terminal is told with the mean log metric over its seeds, or as failed when any cell is not
complete; a point still being measured is told as running. A point joins training and sampler parameters.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from pfgm.metrics.columns import all_columns
from study.config.sections import optimizable
from study.config.space import Distribution, Value
from study.config.study import StudyConfig, activate
from study.plan.cell import Cell
from study.plan.designs.design import GrowingDesign
from study.plan.identity import digest
from study.plan.points import PlanError, Point, read_point
from study.plan.reach import Identity, Joint, identities
from study.plan.role import Role
from study.plan.trial import Trial, make_trial, train_seeds

optuna.logging.set_verbosity(optuna.logging.WARNING)
Direction = Literal["minimize", "maximize"]
ATTEMPTS = 50
"""How often Optuna is asked for a point that was not proposed before: a small space of choices runs out of them."""


class Tpe(GrowingDesign):
    """The tree-structured Parzen estimator of Optuna, multivariate, with several directions where several metrics are named."""

    owns = ("trials", "optimize")
    fills_box = True
    rated = False

    def check(self, config: StudyConfig) -> None:
        """Refuse a study with nothing to search, or one that does not measure what is optimised."""
        if not (config.search_train or config.search_sampler):
            raise PlanError(("design", "name"), "'tpe' needs something to search; add a parameter under `search`")
        columns, known = optimizable(), all_columns()
        for metric in _wanted(config):
            needed = known[columns[metric]].metric  # none: every row has it
            if needed and needed not in config.evaluate.metrics:
                raise PlanError(("design", "optimize"), f"{metric} is not measured; add it to evaluate.metrics")

    def reach_lines(self, config: StudyConfig, trials: Sequence[Trial], joint: Mapping[Identity, Joint] | None) -> list[str]:
        """Name a space that has fewer points than are asked for."""
        asked = self.asked(config)
        if joint is None or len(joint) >= asked:
            return []
        return [f"has {len(joint)} points in all, and all are measured; design.trials: {asked} asks for more than there are"]

    def propose(
        self,
        config: StudyConfig,
        cells: Sequence[Cell],
        rows: Mapping[str, Mapping[str, object]],
        joint: Mapping[Identity, Joint] | None = None,
    ) -> list[Trial]:
        """Return the trials (one a train seed) of the next point; the first point is the default.

        Where Optuna finds no new one any more and the points can be counted, it is the first that was not proposed.
        """
        seen: dict[str, list[Cell]] = {}
        for cell in cells:
            seen.setdefault(cell.declared, []).append(cell)
        if not seen:
            return _trials_of(config, "default", 0, config.default("train"), config.default("sampler"))
        wanted = _wanted(config)
        known = [
            _known_trial(config, read_point(point), [rows.get(c.cell_id) for c in members], list(wanted))
            for point, members in seen.items()
        ]
        cell_ids = {c.cell_id for c in cells}
        for attempt in range(ATTEMPTS):
            seed = int(digest([config.design.seed, len(seen), attempt], 8), 16)
            trials = _ask_once(config, known, list(wanted.values()), seed, len(seen))
            if any(c.cell_id not in cell_ids for t in trials for c in t.cells):
                return trials
        done = identities(cells)
        left = [point for name, point in (joint or {}).items() if name not in done]
        return _trials_of(config, "tpe", len(seen), left[0].train, left[0].sampler) if left else []

    def restored(self, config: StudyConfig, rows: Iterable[Mapping[str, object]]) -> list[Trial]:
        """Return the trials of all points that stand in some rows, in the order of the rows."""
        roles: dict[str, str] = {}
        for row in rows:
            roles.setdefault(str(row["design_point"]), str(row["design_role"]))
        trials = []
        for index, (declared, role) in enumerate(roles.items()):
            point = read_point(declared)
            trials += _trials_of(config, role, index, point["train"], point["sampler"])
        return trials


TPE = Tpe()


def _wanted(config: StudyConfig) -> dict[str, Direction]:
    """Return what is optimised, and in which direction."""
    if not config.design.optimize:
        return {"fid": "minimize"}
    return {str(metric): direction for metric, direction in config.design.optimize.items()}


def _ask_once(
    config: StudyConfig, known: Sequence[optuna.trial.FrozenTrial], directions: list[Direction], seed: int, index: int
) -> list[Trial]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of group and constant_liar
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
    study = optuna.create_study(directions=directions, sampler=sampler)
    study.add_trials(known)
    asked = study.ask()
    train = _suggest(asked, "train", config.search_train)
    sampling = _suggest(asked, "sampler", config.search_sampler)
    return _trials_of(config, "tpe", index, train, sampling)


def _trials_of(config: StudyConfig, why: str, index: int, train: Point, sampling: Point) -> list[Trial]:
    """The trials of point number ``index``: one a train seed, with one sampler point."""
    role = Role(why)
    return [make_trial(config, role, train, seed, [(role, sampling)]) for seed in train_seeds(config, role, index)]


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
    columns = optimizable()
    means = [_mean_log([row.get(columns[metric]) for row in finished]) for metric in wanted]
    values = [v for v in means if v is not None]
    complete = all(row["status"] == "complete" for row in finished) and len(values) == len(means)
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
