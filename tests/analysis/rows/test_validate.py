"""A sound study has no problem; each kind of break is found and named."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import optuna
import pandas as pd
import pytest

from analysis import load_study, to_optuna, validate
from analysis.testing.studies import write_study
from analysis.testing.truth import Truth
from study.rows.records import EVALS, read_table, write_table

EFFECTS = {"sigma": lambda v: 2 * math.log(v / 0.1) ** 2, "T_ratio": lambda v: 0.3 * abs(math.log(v))}
BROKEN = {
    "planned cell without a row": lambda rows: rows[1:],
    "complete row without a number": lambda rows: [{**rows[0], "metric_fid": float("nan")}, *rows[1:]],
    "impossible value": lambda rows: [{**rows[0], "metric_precision": 1.5}, *rows[1:]],
    "value outside the searched box": lambda rows: [{**r, "sampler_T_ratio": 70.0} for r in rows],
    "seed not planned": lambda rows: [{**r, "seed_train": 9} for r in rows],
    "unknown status": lambda rows: [{**rows[0], "status": "lost"}, *rows[1:]],
    "failed without a reason": lambda rows: [{**rows[0], "status": "failed"}, *rows[1:]],
    "one field with two configurations": lambda rows: [{**rows[0], "train_sigma": 0.2}, *rows[1:]],
    "duplicate row": lambda rows: [*rows, rows[0]],
    "row not in the plan (kept)": lambda rows: [*rows, {**rows[0], "cell_id": "new", "seed_sample": 0}],
}


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def status(row: dict[str, object]) -> str:
    if row["train_sigma"] == 0.3 and row["seed_train"] == 0:
        return "failed"
    return "diverged" if row["sampler_T_ratio"] == 5.0 else "pending" if row["sampler_rtol"] == 1e-2 else "complete"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    truth = Truth(status=status, effects=EFFECTS, samples=False, sample_seeds=2)
    return write_study(tmp_path_factory.mktemp("studies") / "synthetic", truth)


@pytest.fixture(scope="module")
def frame(folder: Path) -> pd.DataFrame:
    return load_study(folder)


@pytest.fixture(scope="module")
def sobol(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    truth = Truth(design="sobol", trials=12, effects=EFFECTS, samples=False, train_seeds=2)
    return load_study(write_study(tmp_path_factory.mktemp("sobol") / "synthetic", truth))


@pytest.fixture(scope="module")
def studies(frame: pd.DataFrame, sobol: pd.DataFrame) -> dict[str, optuna.Study]:
    return {"one_at_a_time": to_optuna(frame), "sobol": to_optuna(sobol)}


def test_a_sound_study_has_no_problem(tmp_path: Path) -> None:
    study = write_study(tmp_path / "sound", Truth(train_axes=("sigma",), sampler_axes=("T_ratio", "rtol"), samples=False))
    assert validate(study).empty
    assert validate(load_study(study)).empty


@pytest.mark.parametrize("problem", BROKEN)
def test_each_break_is_found(problem: str, tmp_path: Path) -> None:
    truth = Truth(train_axes=("sigma",), sampler_axes=("T_ratio",), train_seeds=2, samples=False)
    study = write_study(tmp_path / "broken", truth)
    path = study / "evals" / sorted(p.name for p in (study / "evals").iterdir())[0]
    write_table(path, BROKEN[problem](read_table(path)), EVALS)
    found = validate(study)
    assert problem in set(found["problem"])
    assert found.loc[found["problem"].eq(problem), "n"].iloc[0] >= 1


def test_strange_columns_are_named(frame: pd.DataFrame) -> None:
    found = validate(frame.assign(mood="good").drop(columns="metric_recall"))
    assert found.loc[found["problem"].eq("unknown column"), "column"].tolist() == ["mood"]
    assert found.loc[found["problem"].eq("missing column"), "column"].tolist() == ["metric_recall"]


def test_a_moved_study_validates_alike(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "renamed")
    pd.testing.assert_frame_equal(validate(tmp_path / "renamed"), validate(folder))
