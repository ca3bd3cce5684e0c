"""Quality against cost: fronts by brute force, knees, tolerance, and counts that no table loses."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import (
    load_study,
    pareto_front,
    perturbation_robustness,
    plot_quality_cost,
    seed_fronts,
    solver_tolerance,
    summarize,
)
from analysis.statistics.pareto import non_dominated
from analysis.testing.studies import write_study
from analysis.testing.truth import Truth

pytestmark = pytest.mark.usefixtures("clean_figures")
SIGMA = Truth(train_axes=("sigma",), sampler_axes=("T_ratio",), samples=False)
FLAGS = ["on_front", "knee", "within_tolerance", "cheapest_within"]
COUNTS = {"n_failed": ("failed", "timeout"), "n_diverged": ("diverged", "solver_limit"), "n_pending": ("pending",)}


def study(tmp_path: Path, truth: Truth) -> pd.DataFrame:
    return load_study(write_study(tmp_path / "study", truth))


def steep(strength: float) -> dict[str, object]:
    return {"sigma": lambda s: strength * abs(math.log(s / 0.1) / math.log(3))}


def test_front_is_brute_force() -> None:
    rng = np.random.default_rng(0)
    cost, loss = rng.integers(1, 20, 200).astype(float), rng.integers(1, 20, 200).astype(float)
    loss[:5] = np.nan
    brute = [
        bool(np.isfinite(b)) and not any((c <= a and d <= b and (c < a or d < b)) for c, d in zip(cost, loss, strict=True))
        for a, b in zip(cost, loss, strict=True)
    ]
    assert non_dominated(cost, loss).tolist() == brute


def _one_seed_diverges(row: dict[str, object]) -> str:
    return "diverged" if row["sampler_rtol"] == 1e-2 and row["seed_train"] == 0 else "complete"


def test_the_cheapest_within_tolerance_is_found_and_what_diverged_is_never_on_the_front(tmp_path: Path) -> None:
    effects = {**steep(0.5), "rtol": lambda r: 2.0 if r >= 0.1 else 0.0}
    truth = SIGMA.changed(sampler_axes=("rtol",), effects=effects, status=_one_seed_diverges)
    front = pareto_front(study(tmp_path, truth))
    assert front["is_default"].sum() == 1
    assert not front.loc[front["n_diverged"].gt(0), "on_front"].any()
    cheapest = front.loc[front["cheapest_within"]]
    assert cheapest["sampler_rtol"].tolist() == [1e-3]
    assert front.loc[front["on_front"], "front_seeds"].max() == 3


def test_solver_tolerance_counts_what_diverged(tmp_path: Path) -> None:
    truth = SIGMA.changed(
        sampler_axes=("rtol", "solver"), status=lambda r: "solver_limit" if r["sampler_rtol"] == 1e-5 else "complete"
    )
    table = solver_tolerance(study(tmp_path, truth)).set_index("rtol")
    assert table.loc[1e-5, "diverged_share"] == 1.0
    assert table.loc[1e-4, "solver_error"] == pytest.approx(0.3 * 1e-2)
    skipped = solver_tolerance(study(tmp_path / "b", truth)).attrs["skipped"]
    assert skipped == {"fixed-step solver: no rtol": 9, "status solver_limit": 9}


def broken(row: dict[str, object]) -> str:
    kinds = ("failed", "timeout", "diverged", "solver_limit", "pending", "complete", "complete", "complete", "complete")
    return kinds[sum(map(ord, str(row["cell_id"]))) % len(kinds)]


@pytest.fixture(scope="module", params=["one_at_a_time", "sobol"])
def frame(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    truth = Truth(design=request.param, trials=6, sample_seeds=2, status=broken, samples=False, seed_noise=0.3)
    return load_study(write_study(tmp_path_factory.mktemp(request.param) / "synthetic", truth))


def test_tables_keep_the_counts_of_what_they_left_out(frame: pd.DataFrame) -> None:
    skipped = summarize(frame, by=["point_id", "sampler_id"]).attrs["skipped"]
    assert {"status failed", "status diverged", "status pending"} <= set(skipped)
    assert skipped.items() <= pareto_front(frame).attrs["skipped"].items()
    assert skipped.items() <= perturbation_robustness(frame).attrs["skipped"].items()
    table = solver_tolerance(frame)
    counted = {k: n for k, n in table.attrs["skipped"].items() if k.startswith("status ")}
    assert sum(counted.values()) == table[list(COUNTS)].to_numpy().sum() > 0


def test_an_empty_tolerance_table_has_every_column(frame: pd.DataFrame) -> None:
    steps = frame.loc[frame["sampler_solver"].eq("heun2")]
    empty, full = solver_tolerance(steps), solver_tolerance(frame)
    assert empty.empty and not full.empty and list(empty) == list(full)
    bounds = {f"{name}_{end}" for name in ("solver_error", "quality", "nfe") for end in ("low", "high")}
    assert {*bounds, *COUNTS} <= set(empty)


def test_a_share_has_means_but_no_front(frame: pd.DataFrame) -> None:
    table = pareto_front(frame, "precision")
    assert not table[FLAGS].any().any() and table["front_seeds"].eq(0).all() and table["mean"].notna().any()
    reason = "precision: a share, not a loss; without front, knee and tolerance"
    assert table.attrs["skipped"][reason] == table["mean"].notna().sum()
    assert seed_fronts(frame, "precision").empty and list(seed_fronts(frame, "precision")) == list(seed_fronts(frame))
    assert not [r for r in pareto_front(frame).attrs["skipped"] if "share" in r] and pareto_front(frame)["on_front"].any()
    assert plot_quality_cost(frame, metric="precision").has_data()


@pytest.mark.parametrize("disjoint", [False, True])
def test_fronts_of_seeds_hold_one_field_of_each_point(disjoint: bool, tmp_path: Path) -> None:
    truth = Truth(design="sobol", trials=8, status=broken, samples=False, seed_noise=0.3, disjoint=disjoint)
    frame = load_study(write_study(tmp_path / "synthetic", truth))
    fronts = seed_fronts(frame)
    ranks = {
        (point, seed): sorted(set(own["seed_train"] if disjoint else frame["seed_train"])).index(seed)
        for point, own in frame.groupby("point_id")
        for seed in own["seed_train"].unique()
    }
    keys = ["point_id", "sampler_id"]
    assert sorted(fronts["seed_rank"].unique()) == [0, 1, 2]
    assert not fronts.duplicated(["seed_rank", *keys]).any()
    for rank, front in fronts.groupby("seed_rank"):
        own = frame.loc[[ranks[key] == rank for key in zip(frame["point_id"], frame["seed_train"], strict=True)]]
        done = own.loc[own["status"].eq("complete")]  # one sample seed: one row a configuration
        best = done.loc[non_dominated(done["cost_nfe"].to_numpy(float), done["metric_fid"].to_numpy(float))]
        assert set(front[keys].itertuples(index=False, name=None)) == set(best[keys].itertuples(index=False, name=None))
        np.testing.assert_allclose(front["mean"], best.sort_values("cost_nfe", kind="stable")["metric_fid"])
    counts = pareto_front(frame).set_index(keys)["front_seeds"]
    assert counts.sum() == len(fronts) and counts.max() <= 3


def test_points_that_are_equal_are_all_kept() -> None:
    cost, loss = np.array([1.0, 1.0, 2.0, 2.0, 3.0, np.nan]), np.array([5.0, 5.0, 4.0, 4.0, 4.0, 1.0])
    assert non_dominated(cost, loss).tolist() == [True, True, True, True, False, False]
    assert non_dominated(np.array([np.nan]), np.array([1.0])).tolist() == [False]
