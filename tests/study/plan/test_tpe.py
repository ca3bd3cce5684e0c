"""The tpe design: one point after another from Optuna, rebuilt from the rows at every start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from helpers.folder import Folder

from study.plan.designs import tpe
from study.plan.make import make_plan
from study.plan.points import read_point
from study.plan.reach import joint_points, reach_lines
from study.plan.trial import Trial
from study.plan.worklist import Worklist, stored_plan

SECTIONS: dict[str, Any] = {
    "search": {
        "train": {"sigma": {"log_uniform": [0.05, 0.2]}},
        "sampler": {
            "solver": {"choice": ["heun2", "dopri5"]},
            "rtol": {"log_uniform": [1e-3, 1e-1], "when": {"solver": "dopri5"}},
            "steps": {"choice": [4, 6], "when": {"solver": "heun2"}},
        },
    },
    "seeds": {"train": 2},
    "design": {"name": "tpe", "trials": 6, "optimize": {"fid": "minimize", "nfe": "minimize"}},
}


def declared(rows: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The different points of some rows."""
    return [read_point(point) for point in {str(row["design_point"]) for row in rows.values()}]


@pytest.mark.slow
def test_a_tpe_study_runs_continues_and_grows(folder: Folder) -> None:
    config = folder.load(**SECTIONS)
    folder.run("--inline")
    rows = folder.rows()
    assert len(rows) == 6 * 2 and {row["status"] for row in rows.values()} == {"complete"}
    roles = {row["design_role"] for row in rows.values()}
    assert roles == {"default", "tpe"}
    default = [read_point(str(r["design_point"])) for r in rows.values() if r["design_role"] == "default"]
    assert default == [{"train": config.default("train"), "sampler": config.default("sampler")}] * 2
    for point in declared(rows):
        sampler = point["sampler"]
        assert ("rtol" in sampler, "steps" in sampler) == (sampler["solver"] == "dopri5", sampler["solver"] == "heun2")
        assert config.search_train["sigma"].contains(point["train"]["sigma"])
    out, _ = folder.run("--inline")
    assert "finished, nothing to do" in out
    assert folder.rows() == rows
    folder.run("--inline", "--set", "design.trials=8")
    grown = folder.rows()
    assert len(declared(grown)) == 8 and len(grown) == 16
    assert {cell_id: grown[cell_id] for cell_id in rows} == rows
    folder.run("--inline", "--set", "design.trials=8", "--set", "seeds.train=3")
    assert len(folder.rows()) == 24 and len(declared(folder.rows())) == 8


def test_a_small_space_runs_out_of_points(folder: Folder) -> None:
    """Choices only: after every combination the study is finished, though more points were asked for."""
    search = {"train": {"sigma": {"choice": [0.1, 0.2]}}, "sampler": {"steps": {"choice": [4, 6]}}}
    work = Worklist(folder.load(search=search, design={"name": "tpe", "trials": 10}), [])
    handed = []
    while (trial := work.take()) is not None:
        handed.append(work.give_back(trial.trial_id))
    assert len({c.cell_id for c in work.cells}) == len(work.cells) == len(handed) == 4
    assert work.finished


SMALL: dict[str, Any] = {
    "search": {"train": {"sigma": {"choice": [0.1, 0.2]}}, "sampler": {"steps": {"choice": [4, 6]}}},
    "design": {"name": "tpe", "trials": 10},
}
SAID = "space           has 4 points in all, and all are measured; design.trials: 10 asks for more than there are"


@pytest.mark.slow
def test_a_space_with_fewer_points_than_trials_is_told_and_measured_whole(folder: Folder) -> None:
    config = folder.load(**SMALL)
    out, _ = folder.run("--inline", "--dry-run", "--set", "resources.concurrent=1")
    assert SAID in out and "4 points still to be proposed" in out and "4 planned, 0 measured" in out
    out, _ = folder.run("--inline")
    assert out.count(SAID) == 2  # in the plan and at the end
    assert len(folder.rows()) == 4
    out, _ = folder.run("--inline")
    assert "finished, nothing to do" in out and "0 points still to be proposed" in out and SAID in out
    assert Worklist(config, []).rows_left == 0
    assert not reach_lines(folder.load(**{**SMALL, "design": {"name": "tpe", "trials": 4}}), [], joint_points(config))


def test_what_optuna_does_not_find_is_measured_too(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tpe, "ATTEMPTS", 0)
    work = Worklist(folder.load(**SMALL), [])
    while (trial := work.take()) is not None:
        work.give_back(trial.trial_id)
    assert len(work.cells) == 4 and work.points_to_ask == 0 and work.finished


def test_points_of_a_space_are_counted_as_they_differ(folder: Folder) -> None:
    """Inactive parameters make no points; whole numbers are counted, real ranges have no end."""
    search = {"sampler": {"solver": {"choice": ["heun2", "euler", "dopri5"]},
                          "steps": {"int_uniform": [4, 6], "when": {"solver": ["heun2", "euler"]}}}}  # fmt: skip
    joint = joint_points(folder.load(search=search, sampler={"solver": "heun2", "steps": 4}))
    assert joint is not None and len(joint) == 2 * 3 + 1
    assert next(iter(joint.values())).sampler == {"solver": "heun2", "steps": 4}
    assert joint_points(folder.load(**SECTIONS)) is None
    rule = {"train": {"M": {"choice": ["rule", 60.0]}}}
    named = joint_points(folder.load(search=rule))
    assert named is not None and len(named) == 2


@pytest.mark.parametrize(
    ("search", "design", "words"),
    [
        ({"train": {"sigma": {"choice": [0.1, 0.2]}}}, {"name": "random", "trials": 9},
         ["search.train gives 2 different points, not the 9 of design.trials: there are no more, and all are measured"]),
        ({"sampler": {"steps": {"choice": [4, 6]}}}, {"name": "sobol"},
         ["search.sampler gives 2 different points, not the 8 of design.sampler_points: there are no more, and all"]),
        ({"train": {"sigma": {"choice": [0.1, 0.2, 0.3]}, "tau": {"choice": [0.03, 0.04, 0.05]}}},
         {"name": "random", "trials": 6},
         ["not the 6 of design.trials: draws repeat; design grid measures every combination"]),
        ({"train": {"sigma": {"uniform": [0.1, 0.2]}}}, {"name": "sobol", "trials": 6}, []),
        ({"sampler": {"steps": {"int_uniform": [4, 5], "levels": 4}}}, {"name": "grid"},
         ["search.sampler.steps has 2 whole numbers, not 4 levels; all are measured"]),
        ({"sampler": {"steps": {"int_uniform": [4, 5], "levels": 3}}}, {"name": "one_at_a_time"},
         ["search.sampler.steps has 2 whole numbers, not 3 levels; all are measured"]),
        ({"sampler": {"steps": {"int_uniform": [4, 9], "levels": 3}}}, {"name": "grid"}, []),
    ],
)  # fmt: skip
def test_a_design_that_cannot_reach_its_number_says_so(
    folder: Folder, search: dict[str, Any], design: dict[str, Any], words: list[str]
) -> None:
    config = folder.load(search=search, design=design)
    lines = reach_lines(config, make_plan(config), None)
    assert len(lines) == len(words) and all(word in line for word, line in zip(words, lines, strict=True))


def test_failed_points_are_told_as_failed(folder: Folder) -> None:
    config = folder.load(**SECTIONS)
    work = Worklist(config, [])
    assert isinstance(work.proposals, tpe.TpeProposals)
    (first, second) = work.proposals.next({})
    work.proposals.add([first, second])
    cells = [c.cell_id for trial in (first, second) for c in trial.cells]
    good: dict[str, object] = {"status": "complete", "metric_fid": 0.5, "cost_nfe": 8.0}

    def told(*rows: dict[str, object] | None) -> Any:
        proposals = tpe.TpeProposals(config, None)
        proposals.add([first, second])
        proposals.next({cell: row for cell, row in zip(cells, rows, strict=True) if row is not None})
        return proposals.study.trials[0]

    assert told(good, good).state.name == "COMPLETE"
    assert told(good, {**good, "metric_fid": 2.0}).values == pytest.approx([0.0, 2.0794415])
    assert told(good, {**good, "status": "diverged", "metric_fid": None}).state.name == "FAIL"
    assert told(good, {**good, "metric_fid": None}).state.name == "FAIL"
    assert told(good, None).state.name == "RUNNING"


def measured(cells: Sequence[str]) -> dict[str, dict[str, object]]:
    """Made-up rows of some cells, which follow from their names; every seventh failed."""
    rows = {}
    for cell in cells:
        number = int(cell[:8], 16)
        status = "failed" if number % 7 == 0 else "complete"
        rows[cell] = {"status": status, "metric_fid": 1 + number % 1000 / 100, "cost_nfe": float(1 + number % 50)}
    return rows


ONE_SPACE = {"train": {"sigma": {"log_uniform": [0.05, 0.2]}}, "sampler": {"steps": {"choice": [4, 6]}}}
SEARCHES = [(SECTIONS["search"], {"train": 2}), (SECTIONS["search"], {"train": 1, "disjoint": True}), (ONE_SPACE, {"train": 1})]


def proposed_by(proposals: tpe.TpeProposals, n: int) -> list[dict[str, object]]:
    """The points of a study in which each is measured before the next is proposed."""
    rows: dict[str, dict[str, object]] = {}
    found = []
    for _ in range(n):
        trials = proposals.next(rows)
        proposals.add(trials)
        rows |= measured([c.cell_id for t in trials for c in t.cells])
        found += [t.handout() for t in trials]
    return found


def test_points_with_equal_parameters_are_proposed_as_optuna_would(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told what the parameters are; looking for them in all points gives the same."""
    config = folder.load(**{**SECTIONS, "search": ONE_SPACE, "seeds": {"train": 1}})
    proposals = tpe.TpeProposals(config, None)
    told = proposed_by(proposals, 30)
    assert isinstance(proposals.study.sampler, tpe._OneSpace)
    sampler = tpe._sampler
    monkeypatch.setattr(tpe, "_sampler", lambda seed, spaces: sampler(seed, []))
    proposals = tpe.TpeProposals(config, None)
    assert proposed_by(proposals, 30) == told and not isinstance(proposals.study.sampler, tpe._OneSpace)


@pytest.mark.parametrize(("search", "seeds"), SEARCHES)
def test_what_is_kept_in_memory_proposes_what_a_new_start_would(
    folder: Folder, search: dict[str, Any], seeds: dict[str, Any]
) -> None:
    """Forty points, each proposed by one that is never stopped and by one that knows only rows; late rows come in any order."""
    config = folder.load(**{**SECTIONS, "search": search, "seeds": seeds, "design": {"name": "tpe", "trials": 40}})
    kept = tpe.TpeProposals(config, None)
    points: list[list[Trial]] = []
    rows: dict[str, dict[str, object]] = {}
    late: list[str] = []
    for n in range(40):
        new = tpe.TpeProposals(config, None)
        for trials in points:
            new.add(trials)
        proposed = kept.next(rows)
        assert [t.handout() for t in proposed] == [t.handout() for t in new.next(rows)]
        kept.add(proposed)
        points.append(proposed)
        late += [c.cell_id for t in proposed for c in t.cells]
        if n % 3 == 2:  # the point of last time first
            rows |= measured(late[::-1][: len(late) // 2])
            late = [cell for cell in late if cell not in rows]


def test_a_proposal_writes_itself_down_alone(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest is written now and then; a start knows all points, and reads them in the order proposed."""
    monkeypatch.setattr("study.plan.worklist.MANY_PROPOSED", 5)
    config = folder.load(**{**SECTIONS, "seeds": {"train": 1}, "design": {"name": "tpe", "trials": 12}})
    work = Worklist(config, [])
    work.write_manifest()
    counts = []
    for _ in range(12):
        trial = work.take()
        assert trial is not None
        counts.append(len((config.folder / "proposed").files()))
        assert [c.cell_id for c in Worklist(config, []).cells] == [c.cell_id for c in work.cells]
    assert counts == [1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2]
    work.fold()
    assert (config.folder / "proposed").files() == {} and len(stored_plan(config.folder)[0]) == 12


@pytest.mark.slow
def test_a_study_goes_on_after_a_point_that_fails(folder: Folder) -> None:
    search = {"train": {"learning_rate": {"choice": [1e-3, 1e38]}, "sigma": {"choice": [0.1, 0.15, 0.2]}}}
    folder.write(search=search, design={"name": "tpe", "trials": 6})
    _, err = folder.run("--inline", expect=1)
    statuses = [row["status"] for row in folder.rows().values()]
    assert sorted(statuses) == ["complete"] * 3 + ["diverged"] * 3
    assert "3 of 6 rows are not complete" in err
