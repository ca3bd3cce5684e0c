"""A design is one object and one name: those of the package, and one from outside."""

from __future__ import annotations

import pickle
import sys
from types import ModuleType

import pytest
from helpers.folder import Folder

from study.config.designs import DESIGNS
from study.config.study import StudyConfig
from study.config.yaml_source import ConfigError
from study.load import load_study_config
from study.plan.designs.design import Design, GrowingDesign, design_of, grows, owners
from study.plan.make import make_plan
from study.plan.points import Declared, PlanError
from study.rows.records import read_table


class Ends(Design):
    """The two ends of every range together, as a stranger would write it."""

    owns = ("trials",)
    fills_box = True

    def points(self, config: StudyConfig, group: str) -> list[Declared]:
        """Return the low and the high corner."""
        searched = config.searched(group)
        return [(f"ends{i}", {key: d.choices[-i] if d.choices else (d.low, d.high)[i] for key, d in searched.items()})
                for i in (0, 1)]  # fmt: skip

    def check(self, config: StudyConfig) -> None:
        """Refuse a study that searches no training parameter."""
        if not config.search_train:
            raise PlanError(("search", "train"), "ends of nothing; add a parameter")


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> str:
    """The design `ends`, registered by the name of a module as an outside package would do it."""
    module = ModuleType("a_stranger")
    module.ENDS = Ends()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "a_stranger", module)
    for kept in ("_parts", "_loaded"):
        monkeypatch.setattr(DESIGNS, kept, dict(getattr(DESIGNS, kept)))
    DESIGNS.register("ends", "a_stranger:ENDS")
    return "ends"


SEARCH = {"train": {"sigma": {"log_uniform": [0.05, 0.2]}}, "sampler": {"T_ratio": {"log_uniform": [0.5, 2.0]}}}


def test_a_design_from_outside_is_planned_and_run(folder: Folder, ends: str) -> None:
    config = folder.load(search=SEARCH, design={"name": ends})
    plan = make_plan(config)
    assert [(t.role, t.point) for t in plan] == [
        ("default", {"sigma": 0.1}), ("ends0", {"sigma": 0.05}), ("ends1", {"sigma": 0.2})
    ]  # fmt: skip
    assert all([p.role for p in t.sampler_points] == ["default", "ends0", "ends1"] for t in plan)
    folder.run("--inline")
    rows = folder.rows().values()
    assert len(rows) == 9 and {row["prov_design"] for row in rows} == {ends}
    assert len(read_table(folder.path / "results/tiny/manifest.parquet")) == 9
    assert "finished, nothing to do" in folder.run("--inline")[0]


def test_a_design_from_outside_is_checked_as_one_of_ours(folder: Folder, ends: str) -> None:
    with pytest.raises(ConfigError, match=r"search\.yaml:\d+: search\.train: ends of nothing; add a parameter"):
        folder.load(search={"sampler": SEARCH["sampler"]}, design={"name": ends})
    with pytest.raises(ConfigError, match=r"design\.arm_seeds: belongs to one_at_a_time, the design is ends; remove 1"):
        folder.load(search=SEARCH, design={"name": ends, "arm_seeds": 1})
    with pytest.raises(ConfigError, match=r"design.sampler_points: belongs to sobol, random, the design is ends"):
        folder.load(search=SEARCH, design={"name": ends, "sampler_points": 2})
    assert folder.load(search=SEARCH, design={"name": ends, "trials": 3}).design.trials == 3
    assert owners("trials") == ["sobol", "random", "tpe", "ends"]


def test_a_study_of_an_outside_design_is_written_and_read_back(
    folder: Folder, ends: str, recwarn: pytest.WarningsRecorder
) -> None:
    config = folder.load(search=SEARCH, design={"name": ends})
    folder.file.write_text(config.to_yaml(), encoding="utf-8")
    assert load_study_config(folder.file).dump() == config.dump()
    assert pickle.loads(pickle.dumps(config)).design.name == ends
    assert not [w for w in recwarn if "serializ" in str(w.message).lower()]


def test_an_unknown_design_is_told_which_there_are(folder: Folder) -> None:
    words = r"must be 'one_at_a_time', 'sobol', 'grid', 'random', 'settle' or 'tpe', got 'ends'"
    with pytest.raises(ConfigError, match=rf"design\.name: {words}"):
        folder.load(search=SEARCH, design={"name": "ends"})
    with pytest.raises(ConfigError, match=r"or 'tpe', got \['grid'\]"):
        folder.load(search=SEARCH, design={"name": ["grid"]})


def test_names_after_a_registration_are_told_too(folder: Folder, ends: str) -> None:
    with pytest.raises(ConfigError, match=r"'tpe' or 'ends', got 'end'"):
        folder.load(search=SEARCH, design={"name": "end"})


@pytest.mark.parametrize("name", DESIGNS.names())
def test_every_design_says_what_it_is(folder: Folder, name: str) -> None:
    config = folder.load(search=SEARCH, design={"name": name})
    design = design_of(config)
    known = {"trials", "sampler_points", "arm_seeds", "optimize", "edge_factor", "priority", "budget"}
    assert isinstance(design, Design) and set(design.owns) <= known
    assert grows(name) == isinstance(design, GrowingDesign) == (name in ("tpe", "settle"))
    assert design.rated == (name != "tpe")
    assert bool(make_plan(config)) != grows(name)
