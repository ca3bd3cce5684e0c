"""Fronts, pairs and tolerances against plain loops, and what their tables say of the rows that they leave out."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

import analysis
from analysis import (
    interaction,
    load_study,
    pareto_front,
    perturbation_robustness,
    plot_interaction,
    plot_quality_cost,
    seed_fronts,
    solver_tolerance,
    summarize,
)
from analysis.report.sections.interaction import MAX_PAIRS
from analysis.report.sections.interaction import section as interaction_section
from analysis.report.study import Study
from analysis.rows.units import field_key
from analysis.statistics.pareto import non_dominated
from analysis.testing.studies import write_study
from analysis.testing.truth import Truth

mpl.use("Agg")
FLAGS = ["on_front", "knee", "within_tolerance", "cheapest_within"]
COUNTS = {"n_failed": ("failed", "timeout"), "n_diverged": ("diverged", "solver_limit"), "n_pending": ("pending",)}


pytestmark = pytest.mark.usefixtures("clean_figures")


def broken(row: dict[str, object]) -> str:
    kinds = ("failed", "timeout", "diverged", "solver_limit", "pending", "complete", "complete", "complete", "complete")
    return kinds[sum(map(ord, str(row["cell_id"]))) % len(kinds)]


@pytest.fixture(scope="module", params=["one_at_a_time", "sobol"])
def frame(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    truth = Truth(design=request.param, trials=6, sample_seeds=2, status=broken, samples=False, seed_noise=0.3)
    return load_study(write_study(tmp_path_factory.mktemp(request.param) / "synthetic", truth))


@pytest.mark.parametrize("metric", ["fid", "precision"])
@pytest.mark.parametrize("pair", [("sigma", "T_ratio"), ("M", "rtol"), ("sigma", "solver")])
def test_interaction_is_a_plain_loop(frame: pd.DataFrame, pair: tuple[str, str], metric: str) -> None:
    rows = frame
    if frame.attrs["study"]["design"]["name"] == "one_at_a_time":
        for column, name in (("design_role", pair[0]), ("design_sampler_role", pair[1])):
            rows = rows.loc[[bool({"default", f"arm:{name}"} & set(role.split("+"))) for role in rows[column]]]
    first, second = f"train_{pair[0]}", f"sampler_{pair[1]}"
    rows = rows.dropna(subset=[first, second])
    expected = []
    for key, cells in rows.groupby([first, second]):
        done = cells.loc[cells["status"].eq("complete")]
        fields = [group[f"metric_{metric}"].to_numpy(float) for _, group in done.groupby(field_key(done))]
        means = [np.log(v).mean() if metric == "fid" else v.mean() for v in fields]
        mean = math.nan if not means else math.exp(np.mean(means)) if metric == "fid" else np.mean(means)
        counts = [int(cells["status"].isin(statuses).sum()) for statuses in COUNTS.values()]
        expected.append([*key, mean, len(fields), *counts])
    table = interaction(frame, *pair, metric)
    assert list(table) == ["value_1", "value_2", "mean", "n_fields", *COUNTS]
    wanted = pd.DataFrame(expected, columns=list(table))
    assert wanted["mean"].notna().any() and wanted[list(COUNTS)].to_numpy().any()
    pd.testing.assert_frame_equal(table, wanted, rtol=1e-9, check_dtype=False)
    unmeasured = {k: n for k, n in table.attrs["skipped"].items() if k.startswith("status ")}
    assert sum(unmeasured.values()) == rows["status"].ne("complete").sum()


def test_many_pairs_are_drawn_small_and_too_many_are_left_out(frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    few = plot_interaction(frame, "sigma", "T_ratio").collections[0].get_sizes()[0]
    monkeypatch.setattr("analysis.plots.pairs._mark_size", lambda n: (4.0, 0.3))
    assert plot_interaction(frame, "sigma", "T_ratio").collections[0].get_sizes()[0] < few == 90
    assert MAX_PAIRS == 5000
    monkeypatch.setattr("analysis.report.sections.interaction.MAX_PAIRS", 3)
    assert "Not drawn" in interaction_section(Study("synthetic", frame, [])).blocks[0].text


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


def test_names_that_reports_return_are_public() -> None:
    assert analysis.write_reports.__module__ == "analysis.report.write"
    assert analysis.ToleranceInterval.__module__ == "analysis.robustness.interval"
    assert {"ToleranceInterval", "write_reports"} <= set(analysis.__all__)
