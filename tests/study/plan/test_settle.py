"""The settle design: rounds that follow from the rows alone, budgets that cut and continue them, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from helpers.folder import Folder

from study.config.study import StudyConfig
from study.config.yaml_source import ConfigError
from study.plan.axes import searched_axes
from study.plan.designs.fields import DEFAULT
from study.plan.designs.settle import SettleProposals
from study.plan.make import make_plan
from study.plan.trial import Trial
from study.plan.worklist import Worklist

SEARCH: dict[str, Any] = {
    "train": {"sigma": {"log_uniform": [0.02, 0.4], "levels": 2}, "reference_batch_size": {"choice": [64, "all"]}},
    "sampler": {"T_ratio": {"log_uniform": [0.3, 3.0], "levels": 2}, "steps": {"int_uniform": [2, 9], "levels": 2}},
}
SETTLE: dict[str, Any] = {"search": SEARCH, "design": {"name": "settle", "budget": {"fields": 60}}, "seeds": {"train": 2}}


def measured(trials: list[Trial], sd: float = 0.04) -> dict[str, dict[str, object]]:
    """Made-up rows that follow from what is measured alone: σ and T have an optimum at the default, steps below 4 are bad."""
    rows = {}
    for trial in trials:
        for cell in trial.cells:
            rng = np.random.default_rng([int(trial.train_id[:8], 16), trial.seed])
            own = np.random.default_rng([int(cell.cell_id[:8], 16)])
            sampler = cell.sampler.point
            d = (
                0.9 * math.log(float(str(trial.point["sigma"])) / 0.1) ** 2
                + 0.9 * math.log(float(str(sampler["T_ratio"]))) ** 2
            )
            d += 0.2 * max(4 - int(str(sampler["steps"])), 0)
            d += 3.0 * (cell.step is not None)  # before the end of its training a field is bad
            fid = math.exp(d + sd * rng.standard_normal() + 0.01 * own.standard_normal())
            rows[cell.cell_id] = {"status": "complete", "metric_fid": fid, "cost_train_s": 30.0, "cost_sample_s": 1.0}
    return rows


def run(config: StudyConfig, rows: dict[str, dict[str, object]] | None = None) -> tuple[SettleProposals, list[list[Trial]]]:
    """A study from its start to its end, on made-up rows; some rows may be there already."""
    proposals, rounds, rows = SettleProposals(config), list[list[Trial]](), dict(rows or {})
    while trials := proposals.next(rows):
        proposals.add(trials)
        rounds.append(trials)
        assert proposals.next({k: v for k, v in rows.items() if k not in proposals.bench.last}) is None, "rows are missing"
        rows |= measured(trials)
    return proposals, rounds


def handouts(rounds: list[list[Trial]]) -> list[list[dict[str, object]]]:
    return [[trial.handout() for trial in trials] for trials in rounds]


def test_rows_on_the_way_move_no_round(folder: Folder) -> None:
    """They are measured with their fields, and no verdict and no budget looks at them."""
    config = folder.load(**SETTLE)
    (proposals, rounds), shared = run(config), {"samples": 60, "metrics": ["fid", "sliced_wasserstein"]}
    other, same = run(folder.load(**SETTLE, evaluate={**shared, "at_steps": [0.25, 0.5]}))
    assert handouts(same) == handouts(rounds)
    rows = [measured([trial for trials in made for trial in trials]) for made in (rounds, same)]
    assert proposals.lines(rows[0]) == other.lines(rows[1])
    fields = {trial.train_id for trials in rounds for trial in trials}
    assert len(rows[1]) == len(rows[0]) + 2 * len(fields)


def test_round_0_is_the_default_and_the_first_values(folder: Folder) -> None:
    """Every training value with two seeds, and the default; values of the sampler ride on six fields, the default's first."""
    config = folder.load(**SETTLE)
    assert make_plan(config) == []
    (first, *_) = run(config)[1]
    points = [(str(t.role), t.seed) for t in first]
    assert points[:2] == [("default", 0), ("default", 1)] and points.count(("arm:sigma", 0)) == 2
    assert ("arm:reference_batch_size", 1) in points and len(points) == 8
    roles = [[str(p.role) for p in t.sampler_points] for t in first]
    assert roles[:6] == [["default", "arm:T_ratio", "arm:T_ratio", "arm:steps", "arm:steps"]] * 6
    assert roles[6:] == [["default"]] * 2
    work = Worklist(config, [])
    assert len(work.waiting) == 8 and work.rows_left == 6 * 5 + 2 and not work.finished


def test_edges_are_narrowed_and_verdicts_are_the_truth(folder: Folder) -> None:
    """σ leaves 10 % at a factor of 1.38 both ways, T too, steps below 4: every bracket holds it and is as narrow as asked."""
    config = folder.load(**SETTLE)
    proposals, rounds = run(config)
    rows = measured([t for trials in rounds for t in trials])
    assert proposals.lines(rows)[0].startswith(f"4 of 4 parameters in {len(rounds)} rounds and ")
    table = proposals.bench.table(rows, "metric_fid")
    assert len(proposals.bench.fields) == table.stored <= 60
    tested = sorted(float(str(v)) for v in table.values["train.sigma"])
    factor = math.exp(math.sqrt(math.log(1.1) / 0.9))
    for true in (0.1 / factor, 0.1 * factor):
        inner, outer = max(v for v in [0.1, *tested] if v <= true), min(v for v in [0.1, *tested] if v >= true)
        assert outer / inner <= 1.5 * (1 + 1e-3)
    assert sorted(table.values["sampler.steps"]) == [2, 3, 9], "whole numbers as they are"
    assert list(table.values["train.reference_batch_size"]) == [64]
    added = {
        str(t.role)
        for trials in rounds[1:]
        for t in trials
        if t.role.arms == ("sigma",) and t.point["sigma"] not in (0.02, 0.4)
    }
    assert added == {"arm:sigma+edge"}


@pytest.mark.parametrize("seeds", [{"train": 2}, {"train": [7, 3]}, {"train": 2, "sample": 2, "disjoint": True}])
def test_a_new_start_proposes_what_was_proposed(folder: Folder, seeds: dict[str, Any]) -> None:
    """From the rows of any round on, a start without memory takes the same rounds, whatever order the rows are in."""
    config = folder.load(**{**SETTLE, "seeds": seeds})
    _, rounds = run(config)
    assert len(rounds) > 2
    for reached in (1, 2, len(rounds)):
        rows = measured([t for trials in rounds[:reached] for t in trials])
        again = dict(reversed(rows.items()))
        assert handouts(run(config, again)[1]) == handouts(rounds)
    used = [t.seed for trials in rounds for t in trials if t.role.is_default]
    if seeds["train"] == [7, 3]:
        assert used[:2] == [7, 3] and set(used[2:]) <= {7, 3, *range(8, 80)}, "after those of the file come the next ones"
    if seeds.get("disjoint"):
        assert {t.seed // 10_000 for t in rounds[0]} == {0, 1, 2, 3}


def test_a_budget_cuts_the_last_round_and_a_larger_one_goes_on(folder: Folder) -> None:
    whole = handouts(run(folder.load(**SETTLE))[1])
    n_whole = len({(h["point"]["sigma"], h["seed"], str(h["role"])) for trials in whole for h in trials})  # type: ignore[index]
    for fields in (12, 17, 22):
        proposals, rounds = run(folder.load("design.budget.fields=" + str(fields), **SETTLE))
        assert len(proposals.bench.fields) == min(fields, n_whole)
        cut = handouts(rounds)
        assert cut[:-1] == whole[: len(cut) - 1]
        fresh = [h for h in cut[-1] if ["default", {}] != h["sampling"]]
        assert all(h in whole[len(cut) - 1] for h in fresh if h["sampling"][0][0] == "default" and len(h["sampling"]) == 1)  # type: ignore[index]
    rows = measured([t for trials in rounds for t in trials])
    assert "the budget is spent; raise design.budget to go on" in " ".join(proposals.lines(rows))
    hours, _ = run(folder.load(**{**SETTLE, "design": {"name": "settle", "budget": {"hours": 0.15}}}))
    assert 8 <= len(hours.bench.fields) < n_whole, "a field took 30 s, a row one"


def test_priority_comes_first_and_what_fails_is_outside(folder: Folder) -> None:
    config = folder.load(**{**SETTLE, "design": {"name": "settle", "priority": ["sigma"]}})
    assert [axis.rule.rank for axis in searched_axes(config) if axis.key == "sigma"] == [0]
    proposals = SettleProposals(config)
    first = proposals.next({})
    assert first is not None
    proposals.add(first)
    rows = measured(first)
    for trial in first:
        for cell in trial.cells:
            if cell.sampler.point["steps"] == 9:
                rows[cell.cell_id] = {"status": "diverged", "metric_fid": None}
    table = proposals.bench.table(rows, "metric_fid")
    assert table.values["sampler.steps"][9].n_bad == 6 and not len(table.values["sampler.steps"][9].y)
    assert len(table.default.y) == 2 and table.default.n_bad == 0
    following = proposals.next(rows)
    assert following is not None and any(t.role.arms == ("sigma",) for t in following)
    broken = {cell: {"status": "failed"} for cell in rows}
    assert proposals.next(broken) == []
    assert "cells of the default itself failed" in proposals.lines(broken)[1]
    assert DEFAULT in proposals.bench.fields[DEFAULT, 0]


def test_axes_that_meet_and_defaults_that_are_null(folder: Folder) -> None:
    """A solver and its steps meet in one sampler point, whose rows count for both; null is a default like any other."""
    search = {"sampler": {"solver": {"choice": ["heun2", "euler"]}, "max_radius_ratio": {"choice": [None, 50.0]},
                          "steps": {"choice": [4, 8], "when": {"solver": ["euler"]}}}}  # fmt: skip
    config = folder.load(search=search, sampler={"solver": "heun2", "steps": 4}, design={"name": "settle"})
    assert {axis.key: axis.rule.first for axis in searched_axes(config)} == {
        "solver": ("euler",), "max_radius_ratio": (50.0,), "steps": (4, 8)
    }  # fmt: skip
    proposals = SettleProposals(config)
    first = proposals.next({})
    assert first is not None
    proposals.add(first)
    there = proposals.bench.fields[DEFAULT, 0]
    assert there["sampler.solver", "euler"] == there["sampler.steps", 4] and len(first[0].sampler_points) == 4
    rows: dict[str, dict[str, object]] = {c: {"status": "complete", "metric_fid": 1.0} for c in proposals.bench.cells}
    assert proposals.bench.table(rows, "metric_fid").values["sampler.steps"][4].asked == 2


NUMERIC = {"train": {"sigma": {"log_uniform": [0.05, 0.4]}}}


@pytest.mark.parametrize(
    ("design", "search", "words"),
    [
        ({"budget": {"fields": 50, "hours": 2}}, NUMERIC,
         r"search.yaml:\d+: design.budget: has fields: 50 and hours: 2; give one of them"),
        ({"budget": {}}, NUMERIC, r"design.budget: is empty; write how many, such as \{fields: 80\} or \{hours: 2\}"),
        ({"budget": {"fields": 5}}, NUMERIC,
         r"design.budget: fields: 5 is below the 8 fields of round 0; raise it to 8 at least, or lower seeds.train or lev"),
        ({"edge_factor": 1}, NUMERIC, r"design.edge_factor: must be above 1, got 1; 1.5 brackets an edge between 0.1 and 0.15"),
        ({"edge_factor": 1.5}, {"sampler": {"solver": {"choice": ["heun2", "euler"]}}},
         r"design.edge_factor: search.sampler.solver: its values are a list, without an order to look for edges in; rem"),
        ({"optimize": {"fid": "minimize"}}, NUMERIC, r"design.optimize: belongs to tpe, the design is settle; remove"),
        ({"priority": ["tau"]}, NUMERIC, r"design.priority: 'tau' is not searched; use sigma"),
        ({"name": "sobol", "edge_factor": 1.5}, NUMERIC, r"design.edge_factor: belongs to settle, the design is sobol; rem"),
        ({}, {}, r"design.name: 'settle' needs something to settle; add a parameter under `search`"),
    ],
)  # fmt: skip
def test_what_cannot_be_settled_is_refused_in_a_line(
    folder: Folder, design: dict[str, Any], search: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        folder.load(search=search, seeds={"train": 2}, design={"name": "settle", **design})
    assert "\n" not in str(caught.value)


def test_metrics_and_given_fields_that_cannot_be_settled(folder: Folder) -> None:
    with pytest.raises(ConfigError, match=r"evaluate.metrics: settle rates fid, sliced_wasserstein or energy; add one of them"):
        folder.load(search=NUMERIC, design={"name": "settle"}, evaluate={"samples": 60, "metrics": ["precision_recall"]})
    given = {"field": {"exact": "empirical"}, "train": None, "network": None, "search": {"sampler": SEARCH["sampler"]}}
    with pytest.raises(ConfigError, match=r"design.name: 'settle' trains fields as it goes, here the field is given"):
        folder.load(**given, design={"name": "settle"})


def test_keys_of_settle_leave_other_studies_as_they_were(folder: Folder) -> None:
    assert "edge_factor" not in folder.load(search=NUMERIC).to_yaml()
    dumped = folder.load(**SETTLE).dump()["design"]
    assert dumped["budget"] == {"fields": 60, "hours": None} and "priority" not in dumped
