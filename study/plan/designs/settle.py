"""The design settle: rounds of work where a verdict is open, until every parameter is rated and its edges are known.

The plan is a pure function of the study file and of the rows of finished rounds. Nothing of it is stored: every start begins
with round 0 and takes round after round from the rows that are there, as far as they reach. So a study that was killed goes on
as if nothing had happened, however many trials run at once, and a larger budget goes on where a smaller one ended. What is
measured next is decided by `study.rows.settle`, which knows numbers alone; here they become trials.

Within a round the fields of the default come first, then parameter after parameter. A budget of fields cuts the last round
short.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pfgm.metrics.columns import all_columns
from study.config.study import StudyConfig
from study.plan.axes import SearchedAxis, searched_axes
from study.plan.designs.design import GrowingDesign, Proposals
from study.plan.designs.fields import Bench
from study.plan.points import Declared, PlanError
from study.plan.role import Role
from study.plan.trial import Trial
from study.rows.settle.judge import SettleAxis, judge
from study.rows.settle.rounds import Round, first_round, next_round

if TYPE_CHECKING:
    from study.plan.reach import Identity, Joint

RATED = ("fid", "sliced_wasserstein", "energy")
"""Metrics that may be rated: the first of them that is measured is."""
HOUR_S = 3600.0


class Settle(GrowingDesign):
    """Spends fields where a verdict is open, and ends when none is."""

    owns = ("edge_factor", "priority", "budget")

    def points(self, config: StudyConfig, group: str) -> list[Declared]:
        """Return the points of round 0, so that the plan checks what they imply."""
        return [
            (Role.arm(axis.key), config.group(group).moved(axis.key, axis.value(value)))
            for axis in searched_axes(config)
            if axis.group == group
            for value in axis.rule.first
        ]

    def check(self, config: StudyConfig) -> None:
        """Refuse a study that cannot be settled as it asks."""
        axes = searched_axes(config)
        if not axes:
            raise PlanError(("design", "name"), "'settle' needs something to settle; add a parameter under `search`")
        if not config.field_source.trains:
            raise PlanError(("design", "name"), "'settle' trains fields as it goes, here the field is given; use one_at_a_time")
        if not set(RATED) & set(config.evaluate.metrics):
            raise PlanError(("evaluate", "metrics"), f"settle rates {', '.join(RATED[:-1])} or {RATED[-1]}; add one of them")
        if config.design.edge_factor is not None and all(axis.rule.width is None for axis in axes):
            words = f"{axes[0].label}: its values are a list, without an order to look for edges in"
            raise PlanError(("design", "edge_factor"), f"{words}; remove edge_factor, or search a range such as log_uniform")
        names = [name for axis in axes for name in (axis.key, f"{axis.group}.{axis.key}")]
        for name in config.design.priority or ():
            if name not in names:
                raise PlanError(("design", "priority"), f"{name!r} is not searched; use {', '.join(axis.key for axis in axes)}")
        budget, first = config.design.budget, Bench(config, axes).work(first_round(_rules(axes), first_seeds(config)))
        n_first = len({trial.train_id for trial in first})
        if budget is not None and budget.fields is not None and budget.fields < n_first:
            cure = f"raise it to {n_first} at least, or lower seeds.train or levels"
            raise PlanError(("design", "budget"), f"fields: {budget.fields} is below the {n_first} fields of round 0; {cure}")

    def asked(self, config: StudyConfig) -> None:
        """Return None: nobody knows how many points it takes."""

    def columns(self, config: StudyConfig) -> list[str]:
        """Return the rated metric, and what rows cost."""
        return [rated_column(config), "cost_train_s", "cost_sample_s", "cost_metric_s"]

    def begin(self, config: StudyConfig, joint: Mapping[Identity, Joint] | None) -> SettleProposals:
        """Return the proposals of a study, none so far."""
        return SettleProposals(config)

    def restored(self, config: StudyConfig, rows: Iterable[Mapping[str, object]]) -> list[Trial]:
        """Return no trial: the rounds follow from the rows."""
        return []


SETTLE = Settle()


def first_seeds(config: StudyConfig) -> int:
    """Return the fields that a value begins with: those of ``seeds.train``, and two at least, for one has no noise."""
    return max(len(config.seeds.train_seeds), 2)


def rated_column(config: StudyConfig) -> str:
    """Return the column of the rated metric."""
    metric = next(name for name in RATED if name in config.evaluate.metrics)
    return next(name for name, column in all_columns().items() if column.short == metric)


def _rules(axes: Sequence[SearchedAxis]) -> list[SettleAxis]:
    return [axis.rule for axis in axes]


class SettleProposals(Proposals):
    """The rounds of a study, as far as its rows reach."""

    def __init__(self, config: StudyConfig) -> None:
        self.config, self.axes = config, searched_axes(config)
        self.rules = _rules(self.axes)
        self.limit = math.log1p(config.analysis.tolerance)
        self.bench = Bench(config, self.axes)
        self.rounds = 0

    def add(self, trials: Sequence[Trial]) -> None:
        """Take in a round, the one that `next` returned last."""
        if trials:
            self.bench.take()
            self.rounds += 1

    def running_cells(self) -> list[str]:
        """Return every cell of the last round."""
        return self.bench.last

    def next(self, rows: Mapping[str, Mapping[str, object]]) -> list[Trial] | None:
        """Return the next round, none when all is settled or spent; None while rows of the last one are missing."""
        if not self.rounds:
            return self._within_budget(first_round(self.rules, first_seeds(self.config)), 0.0)
        if any(cell not in rows for cell in self.bench.last):
            return None
        budget, spent = self.config.design.budget, self.bench.seconds(rows)
        if budget is not None and budget.fields is not None and len(self.bench.fields) >= budget.fields:
            return []
        if budget is not None and budget.hours is not None and spent >= budget.hours * HOUR_S:
            return []
        table = self.bench.table(rows, rated_column(self.config))
        work = next_round(self.rules, table, self.limit, first_seeds(self.config))
        return self._within_budget(work, spent) if work.tasks else []

    def _within_budget(self, work: Round, spent: float) -> list[Trial]:
        budget, n = self.config.design.budget, len(self.bench.fields)
        most = math.inf
        if budget is not None and budget.fields is not None:
            most = budget.fields - n
        elif budget is not None and budget.hours is not None and n:
            most = max(math.floor((budget.hours * HOUR_S - spent) * n / spent), 1) if spent > 0 else math.inf
        return self.bench.work(work, most)

    def lines(self, rows: Mapping[str, Mapping[str, object]]) -> list[str]:
        """Say what is settled, and why something is not."""
        if not self.rounds or any(cell not in rows for cell in self.bench.cells):
            return []
        table = self.bench.table(rows, rated_column(self.config))
        judged = [judge(axis, table, self.limit) for axis in self.rules]
        left = {task.axis.name for task in next_round(self.rules, table, self.limit, first_seeds(self.config)).tasks}
        done = [one for one in judged if one.settled]
        words = [f"{len(done)} of {len(judged)} parameters in {self.rounds} rounds and {len(self.bench.fields)} fields"]
        words += [f"{axis.key} {one.rating}" for axis, one in zip(self.axes, judged, strict=True) if one.settled]
        lines = ["; ".join([words[0], ", ".join(words[1:])] if done else words)]
        for axis, one in zip(self.axes, judged, strict=True):
            if not one.settled:
                lines.append(f"{axis.key} is open ({one.rating}): {_why(axis, left, bool(table.default.n_bad))}")
        return lines


def _why(axis: SearchedAxis, left: set[str], broken: bool) -> str:
    """Say why a parameter is not settled."""
    if broken:
        return "cells of the default itself failed, so nothing can be compared with it; see their error_log"
    if axis.rule.name in left:
        return "the budget is spent; raise design.budget to go on"
    return "a value is too near the tolerance for its noise, or fails at times; more fields would hardly tell"
