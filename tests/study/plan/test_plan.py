"""The plan is a pure function of the study file: identities, designs, extension, seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.folder import Folder

from study.config.study import StudyConfig
from study.config.yaml_source import ConfigError
from study.plan.heights import check_extremes
from study.plan.make import make_plan
from study.plan.points import points
from study.plan.trial import Trial

SPACE = {
    "train": {
        "sigma": {"log_uniform": [0.05, 0.2]},
        "height_ratio": {"log_uniform": [0.5, 5]},
        "reference_batch_size": {"choice": [64, "all"]},
    },
    "sampler": {
        "T_ratio": {"log_uniform": [0.5, 5]},
        "solver": {"choice": ["heun2", "dopri5"]},
        "rtol": {"log_uniform": [1e-5, 1e-2], "when": {"solver": "dopri5"}},
        "steps": {"choice": [4, 8], "when": {"solver": "heun2"}},
    },
}
SOBOL = {"name": "sobol", "trials": 8, "sampler_points": 4}


def cell_ids(config: StudyConfig) -> list[str]:
    return [cell.cell_id for trial in make_plan(config) for cell in trial.cells]


def train_ids(config: StudyConfig) -> set[str]:
    return {trial.train_id for trial in make_plan(config)}


@pytest.mark.parametrize("design", ["one_at_a_time", "sobol", "random", "grid"])
def test_the_plan_is_a_pure_function_of_the_file(folder: Folder, design: str) -> None:
    first = folder.load(search=SPACE, design={"name": design})
    text = folder.file.read_text()
    again = folder.load(search=SPACE, design={"name": design})
    assert make_plan(first) == make_plan(again)
    assert len(set(cell_ids(first))) == len(cell_ids(first))
    turned: dict[str, Any] = {group: dict(reversed(keys.items())) for group, keys in reversed(SPACE.items())}
    other = folder.load(design={"name": design}, search=turned, train={"batch_size": 32, "steps": 20})
    assert folder.file.read_text() != text
    assert make_plan(other) == make_plan(first)


def test_one_at_a_time_is_the_default_and_its_arms(folder: Folder) -> None:
    search = {"train": {"sigma": {"log_uniform": [0.05, 0.2], "levels": 3}, "tau": {"choice": [0.03, 0.05]}}}
    config = folder.load(search=search)
    made = points(config, "train")
    assert made[0] == ("default", {"sigma": 0.1, "tau": 0.03})
    assert made[1:] == [
        ("arm:sigma", {"sigma": 0.05, "tau": 0.03}),
        ("arm:sigma", {"sigma": 0.2, "tau": 0.03}),
        ("arm:tau", {"sigma": 0.1, "tau": 0.05}),
    ]  # the levels that are the default are not measured twice


def test_an_arm_activates_its_condition(folder: Folder) -> None:
    config = folder.load(search={"sampler": SPACE["sampler"]}, sampler={"solver": "dopri5"})
    arms = [point for role, point in points(config, "sampler") if role == "arm:steps"]
    assert [(p["solver"], p["steps"]) for p in arms] == [("heun2", 4), ("heun2", 8)]
    assert all("rtol" not in point for point in arms)


def test_a_point_on_two_arms_has_both_roles(folder: Folder) -> None:
    config = folder.load(search={"sampler": SPACE["sampler"]}, sampler={"solver": "dopri5", "steps": 8})
    made = points(config, "sampler")
    assert len({repr(point) for _, point in made}) == len(made)
    assert [role for role, point in made if point.get("steps") == 8] == ["arm:solver+arm:steps"]


def test_a_grid_is_every_combination(folder: Folder) -> None:
    search = {"train": {"sigma": {"choice": [0.1, 0.2]}, "tau": {"uniform": [0.02, 0.04], "levels": 3}}}
    config = folder.load(search=search, design={"name": "grid"})
    assert len(points(config, "train")) == 6 and len(make_plan(config)) == 6
    sampler = {**SPACE["sampler"], "T_ratio": {"choice": [1.0, 2.0]}}
    conditional = folder.load(search={"sampler": sampler}, design={"name": "grid"})
    assert len(points(conditional, "sampler")) == 2 * (2 + 4)  # T_ratio × (two steps of heun2, or four rtol of dopri5)


@pytest.mark.parametrize("design", ["sobol", "random"])
def test_extension_keeps_what_was_planned(folder: Folder, design: str) -> None:
    small = folder.load(search=SPACE, design={"name": design, "trials": 8, "sampler_points": 4})
    large = folder.load(search=SPACE, design={"name": design, "trials": 16, "sampler_points": 8})
    assert set(cell_ids(small)) < set(cell_ids(large))
    assert len(make_plan(small)) == 8 and len(make_plan(large)) == 16
    assert points(large, "train")[:8] == points(small, "train")
    assert points(large, "sampler")[:4] == points(small, "sampler")


@pytest.mark.parametrize("design", ["sobol", "random"])
def test_drawn_points_lie_in_their_ranges_and_conditions_hold(folder: Folder, design: str) -> None:
    config = folder.load(search=SPACE, design={"name": design, "trials": 32, "sampler_points": 32})
    for group in ("train", "sampler"):
        searched = config.search_train if group == "train" else config.search_sampler
        made = points(config, group)
        assert made[0] == ("default", config.default(group)) and len(made) == 32
        for role, point in made[1:]:
            assert role == design
            assert all(searched[key].contains(value) for key, value in point.items())
    for _, point in points(config, "sampler"):
        assert ("rtol" in point, "steps" in point) == ((True, False) if point["solver"] == "dopri5" else (False, True))


def test_a_parameter_keeps_its_own_sobol_dimension(folder: Folder) -> None:
    """Each key reads one dimension of the sequence: 32 points of a range cover its 32 strata."""
    search = {"train": {"tau": {"uniform": [0.02, 0.04]}, "sigma": {"uniform": [0.05, 0.1]}}}
    config = folder.load(search=search, design={"name": "sobol", "trials": 33})
    drawn = [point for _, point in points(config, "train")[1:]]
    for key, low, width in (("sigma", 0.05, 0.05), ("tau", 0.02, 0.02)):
        strata = np.floor((np.array([point[key] for point in drawn], dtype=float) - low) / width * 32)
        assert sorted(strata) == list(range(32))


def test_seeds(folder: Folder) -> None:
    seeds = {"train": 3, "sample": 2}
    config = folder.load(seeds=seeds, design={"arm_seeds": 1})
    assert [(t.role, t.seed) for t in make_plan(config)] == [("default", 0), ("default", 1), ("default", 2), ("arm:sigma", 0)]
    assert len(cell_ids(config)) == 4 * 2 * 2
    disjoint = make_plan(folder.load(seeds={"train": 3, "disjoint": True}))
    assert [t.seed for t in disjoint] == [0, 1, 2, 10_000, 10_001, 10_002]
    assert [t.seed for t in make_plan(folder.load(seeds={"train": [7, 5]}))] == [7, 5, 7, 5]


def test_what_is_no_part_of_a_field_s_identity(folder: Folder) -> None:
    base = train_ids(folder.load())
    for sections in (
        {"resources": {"cpus": 2, "concurrent": 1}},
        {"sampler": {"solver": "euler", "steps": 4}},
        {"name": "other"},
        {"storage": "elsewhere"},
        {"evaluate": {"samples": 80, "metrics": ["fid"]}},
        {"train": {"steps": 20, "batch_size": 32, "reference_batch_size": 300}},
        {"train": {"steps": 20, "batch_size": 32, "gamma": 5.0, "objective": "normalized"}},
    ):
        assert train_ids(folder.load(**sections)) == base, sections


def test_what_is_part_of_a_field_s_identity(folder: Folder) -> None:
    base = train_ids(folder.load(search=None))
    changed = [
        folder.load(search=None, **sections)
        for sections in (
            {"train": {"steps": 20, "batch_size": 32, "sigma": 0.11}},
            {"train": {"steps": 21, "batch_size": 32}},
            {"network": {"name": "mlp", "width": 17, "depth": 1}},
            {"data": {"name": "rings", "n": 301}},
            {"data": {"name": "spiral", "n": 300}},
            {"data": {"name": "rings", "n": 300, "center": False}},
            {"seeds": {"train": [1]}},
        )
    ]
    assert len(base.union(*map(train_ids, changed))) == len(changed) + 1


def test_a_sampler_point_recurs_across_fields(folder: Folder) -> None:
    config = folder.load(search=SPACE, design=SOBOL)
    plan: list[Trial] = make_plan(config)
    assert len({tuple(p.sampler_id for p in trial.sampler_points) for trial in plan}) == 1
    heights = {trial.cells[0].to_row()["sampler_T"] for trial in plan}
    assert len(heights) == 8  # the same declared T is another number on every field


def test_a_plain_head_is_of_process_pfgm_alone(folder: Folder) -> None:
    """In a study of several processes, rows and fields of those with one head say that it is the one with a skip."""
    plain = {"name": "mlp", "width": 16, "depth": 1, "skip": False}
    config = folder.load(network=plain, search={"train": {"process": {"choice": ["pfgm", "ve"]}, "width": {"choice": [8, 16]}}})
    heads = {(t.train.process, t.network.skip) for t in make_plan(config) if t.network}
    assert heads == {("pfgm", False), ("ve", True)}
    rows = {(r["train_process"], r["network_skip"]) for t in make_plan(config) for r in (c.to_row() for c in t.cells)}
    assert rows == heads


def test_absurd_heights_are_refused_unless_allowed(folder: Folder) -> None:
    absurd = {"train": {"M": {"log_uniform": [10, 900]}, "tau": {"log_uniform": [0.01, 0.2]}}}
    with pytest.raises(ConfigError, match=r"search\.train\.M: implies T up to .* above 1e\+06"):
        folder.load(search=absurd, design=SOBOL)
    config = folder.load(search=absurd, design=SOBOL, allow_extreme=True)
    ranges = check_extremes(config, [trial.point for trial in make_plan(config)], corners=True)
    assert ranges["T"][1] > 1e6


def test_fields_with_latents_of_their_own(folder: Folder) -> None:
    """`seeds.sample: own`: the sample seed is the train seed; cells are those of the same seeds named one by one."""
    search = {"train": {"sigma": {"choice": [0.05, 0.1]}}}
    own = folder.load(search=search, seeds={"train": [3, 5], "sample": "own"})
    assert {(t.seed, t.sample_seeds) for t in make_plan(own)} == {(3, (3,)), (5, (5,))}
    both = folder.load(search=search, seeds={"train": [3, 5], "sample": [3, 5]})
    assert set(cell_ids(own)) < set(cell_ids(both)) and len(cell_ids(own)) == 4
