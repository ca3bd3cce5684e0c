"""The tpe design: one point after another from Optuna, rebuilt from the rows at every start."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Folder

from study import tpe
from study.plan import read_point
from study.worklist import Worklist

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
    work = Worklist(folder.load(search=search, design={"name": "tpe", "trials": 10}))
    handed = []
    while (trial := work.take()) is not None:
        handed.append(work.give_back(trial.trial_id))
    assert len({str(c["cell_id"]) for c in work.cells}) == len(work.cells) == len(handed) == 4
    assert work.finished


def test_failed_points_are_told_as_failed(folder: Folder) -> None:
    config = folder.load(**SECTIONS)
    point = {"train": {"sigma": 0.1}, "sampler": {"solver": "heun2", "steps": 4}}
    good: dict[str, object] = {"status": "complete", "metric_fid": 0.5, "cost_nfe": 8.0}

    def told(*rows: dict[str, object] | None) -> Any:
        return tpe._known_trial(config, point, rows, ["fid", "nfe"])  # type: ignore[arg-type]

    assert told(good, good).state.name == "COMPLETE"
    assert told(good, {**good, "metric_fid": 2.0}).values == pytest.approx([0.0, 2.0794415])
    assert told(good, {**good, "status": "diverged", "metric_fid": None}).state.name == "FAIL"
    assert told(good, {**good, "metric_fid": None}).state.name == "FAIL"
    assert told(good, None).state.name == "RUNNING"
    assert told(good, good).params == {"train.sigma": 0.1, "sampler.solver": "heun2", "sampler.steps": 4}


@pytest.mark.slow
def test_a_study_goes_on_after_a_point_that_fails(folder: Folder) -> None:
    search = {"train": {"learning_rate": {"choice": [1e-3, 1e38]}, "sigma": {"choice": [0.1, 0.15, 0.2]}}}
    folder.write(search=search, design={"name": "tpe", "trials": 6})
    _, err = folder.run("--inline", expect=1)
    statuses = [row["status"] for row in folder.rows().values()]
    assert sorted(statuses) == ["complete"] * 3 + ["diverged"] * 3
    assert "3 of 6 rows are not complete" in err
