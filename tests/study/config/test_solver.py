"""The solver that a study has where its file names none, and that a study which exists keeps."""

from __future__ import annotations

import pytest
import yaml
from helpers.folder import Folder, same_rows

from pfgm.config import SamplerConfig
from study.config.yaml_source import ConfigError
from study.plan.identity import sampler_id

NO_SEARCH = {"train": {"sigma": {"choice": [0.1, 0.2]}}}


def test_a_sampler_point_that_names_no_solver_has_the_default() -> None:
    """A fixed number of calls; a tolerance asks for an adaptive solver."""
    assert SamplerConfig() == SamplerConfig(solver="pc3", steps=24, grid="rho5")
    assert SamplerConfig(rtol=1e-3) == SamplerConfig(solver="dopri5", rtol=1e-3, atol="same")
    assert SamplerConfig(atol=1e-3).solver == "dopri5" and SamplerConfig(steps=9).solver == "pc3"
    assert SamplerConfig(solver="heun2") == SamplerConfig(solver="heun2", steps=16, grid="log")


def test_a_new_study_has_the_default_and_says_so_in_its_folder(folder: Folder) -> None:
    config = folder.load(sampler=None, search=NO_SEARCH)
    assert config.sampling({}) == SamplerConfig() and config.dump()["sampler"]["solver"] == "pc3"


@pytest.mark.parametrize("where", ["sampler", "search"])
def test_a_tolerance_in_the_file_asks_for_an_adaptive_solver(folder: Folder, where: str) -> None:
    if where == "sampler":
        config = folder.load(sampler={"rtol": 1e-2}, search=NO_SEARCH)
    else:
        config = folder.load(sampler=None, search={"sampler": {"rtol": {"log_uniform": [1e-4, 1e-2]}}})
        assert config.default("sampler") == {"rtol": 1e-4}
    assert config.sampling(config.default("sampler")).solver == "dopri5"


def test_a_searched_solver_keeps_the_default_of_the_first_studies(folder: Folder) -> None:
    config = folder.load(sampler=None, search={"sampler": {"solver": {"choice": ["dopri5", "heun2"]}}})
    assert config.default("sampler") == {"solver": "dopri5"} and "solver" not in config.dump()["sampler"]


def test_a_study_that_exists_goes_on_with_its_own_solver(folder: Folder) -> None:
    """Its folder says dopri5, as the default was; its file says nothing, and no cell moves."""
    folder.write(sampler={"solver": "dopri5", "rtol": 1e-2}, search=NO_SEARCH)
    folder.run("--inline")
    before = folder.rows()
    assert len(before) == 2
    folder.write(sampler=None, search=NO_SEARCH, seeds={"train": 2})
    out, _ = folder.run("--inline")
    after = folder.rows()
    assert len(after) == 4, out
    same_rows(before, {cell: after[cell] for cell in before})
    assert {row["sampler_id"] for row in after.values()} == {sampler_id(SamplerConfig(rtol=1e-2))}
    assert yaml.safe_load((folder.path / "results/tiny/study.yaml").read_text())["sampler"]["solver"] == "dopri5"


def test_another_solver_in_the_file_is_still_refused(folder: Folder) -> None:
    folder.write(sampler={"solver": "dopri5", "rtol": 1e-2}, search=NO_SEARCH)
    folder.run("--inline")
    folder.write(sampler={"solver": "pc3"}, search=NO_SEARCH)
    _, err = folder.run("--inline", expect=2)
    assert "sampler" in err and "the rows there would change meaning" in err
    folder.write(sampler={"steps": 9}, search=NO_SEARCH)
    with pytest.raises(ConfigError, match="belongs to fixed-step solvers, this study uses dopri5"):
        folder.load(
            sampler={
                "steps": 9,
            },
            search=NO_SEARCH,
            storage=str(folder.path / "results"),
        )
