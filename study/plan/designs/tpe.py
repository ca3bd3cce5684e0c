"""The tpe design: Optuna proposes one point at a time, from the rows that exist.

There is no stored optimiser state. A start rebuilds an in-memory Optuna study from the manifest and the rows, and adds to it as
it goes: a point that is still being measured is told as running; once its cells are all terminal, with the mean log metric over
its seeds, or as failed when any cell is not complete. A study that was stopped therefore proposes what it would have proposed
without the stop. A point joins training and sampler parameters.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from pfgm.metrics.columns import all_columns
from study.config.group import activate
from study.config.sections import optimizable
from study.config.space import Distribution, Value
from study.config.study import StudyConfig
from study.plan.designs.design import TRIALS, GrowingDesign, Proposals
from study.plan.identity import digest
from study.plan.points import PlanError, Point, read_point
from study.plan.reach import Identity, Joint
from study.plan.role import Role
from study.plan.trial import Trial, make_trial, train_seeds

optuna.logging.set_verbosity(optuna.logging.WARNING)
Direction = Literal["minimize", "maximize"]
FAILED = optuna.trial.TrialState.FAIL
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
        asked = config.design.trials or TRIALS
        if joint is None or len(joint) >= asked:
            return []
        return [f"has {len(joint)} points in all, and all are measured; design.trials: {asked} asks for more than there are"]

    def columns(self, config: StudyConfig) -> list[str]:
        """Return the columns that are optimised."""
        known = optimizable()
        return [known[metric] for metric in _wanted(config)]

    def begin(self, config: StudyConfig, joint: Mapping[Identity, Joint] | None) -> TpeProposals:
        """Return the proposals of a study, none so far."""
        return TpeProposals(config, joint)

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


class TpeProposals(Proposals):
    """An Optuna study in memory, and the points in it, in the order proposed."""

    def __init__(self, config: StudyConfig, joint: Mapping[Identity, Joint] | None) -> None:
        self.config, self.joint, self.wanted = config, joint, _wanted(config)
        self.points: dict[str, list[str]] = {}
        """Cells of each point, by what was declared."""
        self.cells, self.done = set[str](), set[Identity]()
        self._begin()

    def _begin(self) -> None:
        self.study = optuna.create_study(directions=list(self.wanted.values()))
        self.n_told = 0
        self.running: dict[str, int] = {}
        """Optuna's numbers of the points that are still being measured."""
        self.spaces: list[dict[str, BaseDistribution]] = []
        """What points have as parameters, where they differ in that."""
        for declared in self.points:
            self._tell_of(declared)

    def _tell_of(self, declared: str) -> None:
        trial = _running_trial(self.config, read_point(declared))
        self.study.add_trial(trial)
        self.running[declared] = self.n_told
        self.n_told += 1
        if trial.distributions not in self.spaces:
            self.spaces.append(trial.distributions)

    def add(self, trials: Sequence[Trial]) -> None:
        """Take in trials; a point that is known may get more cells."""
        again = False
        for cell in (cell for trial in trials for cell in trial.cells):
            self.cells.add(cell.cell_id)
            self.done.add((cell.point_id, cell.sampler_id))
            if cell.declared not in self.points:
                self.points[cell.declared] = []
                self._tell_of(cell.declared)
            again |= cell.declared not in self.running
            self.points[cell.declared].append(cell.cell_id)
        if again:  # with other seeds: Optuna takes nothing back
            self._begin()

    def running_cells(self) -> list[str]:
        """Return the cells of the points that are not measured as a whole."""
        return [cell for declared in self.running for cell in self.points[declared]]

    def next(self, rows: Mapping[str, Mapping[str, object]]) -> list[Trial]:
        """Return the trials (one a train seed) of the next point; the first point is the default.

        Where Optuna finds no new one any more and the points can be counted, it is the first that was not proposed.
        """
        config, n = self.config, len(self.points)
        if not n:
            return _trials_of(config, "default", 0, config.default("train"), config.default("sampler"))
        self._hear(rows)
        for attempt in range(ATTEMPTS):
            trials = self._ask(int(digest([config.design.seed, n, attempt], 8), 16))
            if any(c.cell_id not in self.cells for t in trials for c in t.cells):
                return trials
        left = [point for name, point in (self.joint or {}).items() if name not in self.done]
        return _trials_of(config, "tpe", n, left[0].train, left[0].sampler) if left else []

    def _hear(self, rows: Mapping[str, Mapping[str, object]]) -> None:
        for declared, number in list(self.running.items()):
            measured = [rows[cell] for cell in self.points[declared] if cell in rows]
            if len(measured) == len(self.points[declared]):
                values = _values(measured, list(self.wanted))
                self.study.tell(number, values, state=None if values else FAILED)
                del self.running[declared]

    def _ask(self, seed: int) -> list[Trial]:
        self.study.sampler = _sampler(seed, self.spaces)
        asked = self.study.ask()
        train = _suggest(asked, "train", self.config.search_train)
        sampling = _suggest(asked, "sampler", self.config.search_sampler)
        self.study.tell(asked, state=FAILED)  # it is told again as what was declared, if it is taken
        self.n_told += 1
        return _trials_of(self.config, "tpe", len(self.points), train, sampling)


def _wanted(config: StudyConfig) -> dict[str, Direction]:
    """Return what is optimised, and in which direction."""
    if not config.design.optimize:
        return {"fid": "minimize"}
    return {str(metric): direction for metric, direction in config.design.optimize.items()}


class _OneSpace(optuna.samplers.TPESampler):
    """TPE where all points have the same parameters, so that it need not look for them in every point that there is."""

    def __init__(self, seed: int, space: dict[str, BaseDistribution]) -> None:
        super().__init__(seed=seed, multivariate=True, constant_liar=True)
        self.space = {name: d for name, d in sorted(space.items()) if not d.single()}

    def infer_relative_search_space(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> dict[str, BaseDistribution]:
        return self.space


def _sampler(seed: int, spaces: Sequence[dict[str, BaseDistribution]]) -> optuna.samplers.TPESampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of multivariate, group and constant_liar
        if len(spaces) == 1:
            return _OneSpace(seed, spaces[0])
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


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


def _running_trial(config: StudyConfig, point: Mapping[str, Point]) -> optuna.trial.FrozenTrial:
    params: dict[str, Any] = {}
    distributions: dict[str, BaseDistribution] = {}
    for group, searched in (("train", config.search_train), ("sampler", config.search_sampler)):
        for key, value in point[group].items():
            if searched[key].contains(value):  # a default such as `rule` outside a numeric range is not a sample of it
                params[f"{group}.{key}"], distributions[f"{group}.{key}"] = value, _distribution(searched[key])
    return optuna.trial.create_trial(params=params, distributions=distributions, state=optuna.trial.TrialState.RUNNING)


def _values(rows: Sequence[Mapping[str, object]], wanted: Sequence[str]) -> list[float] | None:
    """Return the means of what is optimised; None where a row is not complete or has no number."""
    columns = optimizable()
    means = [_mean_log([row.get(columns[metric]) for row in rows]) for metric in wanted]
    values = [v for v in means if v is not None]
    complete = all(row["status"] == "complete" for row in rows) and len(values) == len(means)
    return values if complete else None


def _mean_log(values: Sequence[object]) -> float | None:
    numbers = [float(str(v)) for v in values if v is not None]
    if len(numbers) < len(values) or min(numbers) <= 0:
        return None
    return sum(math.log(v) for v in numbers) / len(numbers)
