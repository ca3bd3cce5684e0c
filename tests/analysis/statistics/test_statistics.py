"""Intervals against closed forms, coverage, ratings on constructed truths, the front against brute force."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import (
    failure_table,
    interaction,
    load_study,
    pareto_front,
    robustness_curve,
    seeds_needed,
    solver_tolerance,
    summarize,
    tolerance_interval,
)
from analysis.rows.meta import study_of
from analysis.statistics.pareto import non_dominated
from analysis.statistics.summary import sd_interval, t_interval
from analysis.testing.studies import synthetic_frame, write_study
from analysis.testing.truth import Truth

SIGMA = Truth(train_axes=("sigma",), sampler_axes=("T_ratio",), samples=False)


def study(tmp_path: Path, truth: Truth) -> pd.DataFrame:
    return load_study(write_study(tmp_path / "study", truth))


def steep(strength: float) -> dict[str, object]:
    return {"sigma": lambda s: strength * abs(math.log(s / 0.1) / math.log(3))}


def test_t_interval_is_scipys() -> None:
    y = np.array([0.1, 0.5, 0.2, 0.9])
    low, high = stats.t.interval(0.95, len(y) - 1, loc=y.mean(), scale=stats.sem(y))
    interval = t_interval(y)
    assert (interval.low, interval.high) == pytest.approx((low, high), rel=1e-12)
    assert math.isnan(t_interval([1.0]).low)
    assert t_interval([]).n == 0


def test_t_interval_covers_95_percent() -> None:
    """400 repetitions at n = 3: the standard error of coverage is 1.1 %, so a true coverage below 91 % fails."""
    rng = np.random.default_rng(1)
    intervals = [t_interval(rng.normal(0.3, 0.2, 3)) for _ in range(400)]
    coverage = np.mean([i.low <= 0.3 <= i.high for i in intervals])
    assert 0.915 < coverage < 0.985


def test_summary_is_the_printed_formula(tmp_path: Path) -> None:
    """Three points of three fields, two sample seeds: ν moderated by the other points, plus what the sample seeds share."""
    frame = study(tmp_path, SIGMA.changed(sample_seeds=2, shared_noise=0.02, seed_spread=3.0))
    row = summarize(frame).iloc[0]
    at = frame.loc[frame["sampler_id"].eq(row["sampler_id"])].assign(y=lambda f: np.log(f["metric_fid"]))
    fields = at.groupby(["point_id", "train_id"])["y"].mean()
    s2 = fields.groupby(level="point_id").var(ddof=1)
    own = (3 * s2.mean() + 2 * s2[row["point_id"]]) / (3 + 2) / 3
    seeds = []
    for _, point in at.groupby("point_id"):
        table = point.pivot_table(index="train_id", columns="seed_sample", values="y")
        r = table.sub(table.mean(axis=1), axis=0)
        seeds.append((r.mean().var(ddof=1), ((r - r.mean()) ** 2).to_numpy().sum() / (2 * 1)))
    shared = np.mean([v - np.mean([e for _, e in seeds]) / 3 for v, _ in seeds])
    assert shared > 0
    df = (own + shared / 2) ** 2 / (own**2 / 5 + (shared / 2) ** 2 / 1)
    half = stats.t.ppf(0.975, df) * math.sqrt(own + shared / 2)
    mean = fields[row["point_id"]].mean()
    assert (row["n_train_seeds"], row["n_sample_seeds"], row["n_rows"]) == (3, 2, 6)
    assert [row["mean"], row["low"], row["high"]] == pytest.approx(np.exp([mean, mean - half, mean + half]).tolist(), rel=1e-12)
    cell = frame.loc[frame["point_id"].eq(row["point_id"]) & frame["sampler_id"].eq(row["sampler_id"])]
    assert row["min_of_seeds"] == cell["metric_fid"].min() < row["mean"]


def test_one_seed_has_no_interval_and_missing_metrics_are_counted(tmp_path: Path) -> None:
    summary = summarize(study(tmp_path, SIGMA.changed(train_seeds=1, metrics=False)))
    assert summary["mean"].isna().all()
    assert summary.attrs["skipped"] == {"fid missing": 15}
    with pytest.raises(ValueError, match="use one of fid"):
        summarize(study(tmp_path / "b", SIGMA), metric="beauty")


def test_failure_table_counts_by_value(tmp_path: Path) -> None:
    frame = study(tmp_path, SIGMA.changed(status=lambda r: "diverged" if r["train_sigma"] == 0.3 else "complete"))
    table = failure_table(frame, "sigma").set_index("value")
    assert table.loc[0.3, "diverged"] == 15
    assert table["total"].tolist() == [15, 15, 15]
    assert failure_table(frame)["complete"].tolist() == [30]


def test_power_matches_the_known_sizes() -> None:
    """20 % seed noise: about 700 seeds a side for 3 %, about 60 to 70 for 10 %."""
    assert seeds_needed(0.2, 0.03) == pytest.approx(718, rel=0.02)
    assert 60 <= seeds_needed(0.2, 0.10) <= 72
    assert seeds_needed(0.2, 0.10, paired=True) == 37
    assert seeds_needed(0.03, 0.10) == 3, "Student's t: two a side cannot tell 10 % at 3 % noise"


def test_two_fields_say_little_about_the_spread() -> None:
    assert sd_interval(1.0, 1) == pytest.approx((0.446, 31.91), rel=1e-3)
    assert sd_interval(2.0, 100) == pytest.approx((1.756, 2.323), rel=1e-3)


def test_planned_seeds_have_the_power_they_promise() -> None:
    """2,000 studies of seeds_needed(8 %, 10 %) fields a side; the standard error of the detected share is 0.9 %."""
    n = seeds_needed(0.08, 0.10)
    a, b = np.random.default_rng(0).normal(0, 0.08, (2, 2000, n))
    detected = (stats.ttest_ind(a, b + np.log(1.1), axis=1).pvalue < 0.05).mean()
    assert 0.77 <= detected <= 0.84


@pytest.mark.parametrize(
    ("strength", "noise", "rating"),
    [(0.0, 0.01, "robust"), (0.7, 0.05, "sensitive"), (0.15, 0.15, "undetermined")],
)
def test_ratings_find_the_constructed_truth(tmp_path: Path, strength: float, noise: float, rating: str) -> None:
    frame = study(tmp_path, SIGMA.changed(effects=steep(strength), seed_noise=noise, train_seeds=4))
    result = tolerance_interval(frame, "sigma")
    assert result.rating == rating
    if rating == "robust":
        assert (result.low, result.high, result.inside) == (0.03, 0.3, (0.03, 0.1, 0.3))
        assert result.decades == pytest.approx(1.0)
    if rating == "sensitive":
        assert result.inside == (0.1,)
        assert "lower bound" in result.rule
    if rating == "undetermined":
        assert "smallest detectable gap" in result.rule
        assert result.n_needed is not None
        assert result.n_needed > 4


def test_flat_studies_are_rarely_sensitive(tmp_path: Path) -> None:
    """50 flat studies, three fields, 20 % noise: a true rate of 5 % gives more than 6 once in 80; one of 25 % fails surely."""
    frame = study(tmp_path, SIGMA.changed(sampler_axes=()))
    rng = np.random.default_rng(5)
    ratings = []
    for _ in range(50):
        frame["metric_fid"] = np.exp(rng.normal(0, 0.2, len(frame)))
        ratings.append(tolerance_interval(frame, "sigma").rating)
    assert ratings.count("sensitive") <= 6
    assert ratings.count("robust") <= 5  # three seeds with 20 % noise can hardly show 10 %


def test_sampler_parameters_are_paired_within_fields(tmp_path: Path) -> None:
    """Field noise of 50 % cancels in the pair: cell noise of 1 % settles 10 % with the fields of a small study."""
    truth = Truth(train_axes=("sigma",), sampler_axes=("T_ratio",), seed_noise=0.5, effects={}, samples=False)
    result = tolerance_interval(study(tmp_path, truth), "T_ratio")
    assert result.rating == "robust"
    assert (result.n_reference, result.low, result.high) == (9, 0.3, 5.0)


def test_failures_are_outside_the_tolerance(tmp_path: Path) -> None:
    truth = SIGMA.changed(
        seed_noise=0.01, status=lambda r: "diverged" if r["train_sigma"] == 0.3 and r["seed_train"] == 0 else "complete"
    )
    frame = study(tmp_path, truth)
    result = tolerance_interval(frame, "sigma")
    assert (result.rating, result.high, result.n_failed) == ("sensitive", 0.1, 1)
    assert "at 0.3: 1 diverged" in result.rule
    assert tolerance_interval(frame, "T_ratio").rating == "robust"  # that field fails at the default sampler point too


def test_a_default_that_fails_itself_is_no_yardstick(tmp_path: Path) -> None:
    status = lambda r: "diverged" if r["design_role"] == "default" and r["seed_train"] == 0 else "complete"  # noqa: E731
    result = tolerance_interval(study(tmp_path, SIGMA.changed(seed_noise=0.001, status=status)), "sigma")
    assert (result.rating, result.inside) == ("undetermined", ())
    assert "at the default itself" in result.rule


def test_one_diverged_training_blames_no_parameter_of_a_sobol_study(tmp_path: Path) -> None:
    truth = Truth(design="sobol", trials=36, train_seeds=1, train_axes=("sigma", "tau"), sampler_axes=("T_ratio",),
                  sampler_points=8, samples=False)  # fmt: skip
    one = study(tmp_path / "one", truth.changed(status=lambda r: "diverged" if r["point_id"] == "p007" else "complete"))
    for name in ("sigma", "tau", "T_ratio"):
        result = tolerance_interval(one, name)
        assert result.rating != "sensitive", result.rule
        assert result.rating != "robust" or result.n_failed == 0
    many = study(tmp_path / "many", truth.changed(status=lambda r: "diverged" if r["train_sigma"] > 0.2 else "complete"))
    result = tolerance_interval(many, "sigma")
    assert result.rating == "sensitive", result.rule
    assert "diverged" in result.rule
    assert tolerance_interval(many, "T_ratio").n_failed == 0, "fields that diverge at the default sampler blame no sampler"


def test_two_bins_are_never_robust(tmp_path: Path) -> None:
    """With seven sampler points the default's bin is half the range: that the other half is better says nothing of it."""
    truth = Truth(design="sobol", trials=8, train_axes=("sigma",), sampler_axes=("T_ratio",), sampler_points=7,
                  effects={"T_ratio": lambda v: -1.5 * math.log(v)}, samples=False)  # fmt: skip
    found = [tolerance_interval(study(tmp_path / str(seed), truth.changed(seed=seed)), "T_ratio") for seed in range(6)]
    assert {len(few.tested) for few in found} == {2}
    assert "robust" not in {few.rating for few in found}
    assert "raise design.sampler_points" in next(few.rule for few in found if few.rating == "undetermined")


def test_a_point_on_two_arms_counts_on_both(tmp_path: Path) -> None:
    frame = study(tmp_path, Truth(train_axes=("sigma",), sampler_axes=("solver", "steps"), samples=False))
    assert set(frame["design_sampler_role"]) == {"default", "arm:steps", "arm:solver+arm:steps"}
    assert tolerance_interval(frame, "steps").tested == (8.0, 16.0, 32.0)
    assert set(tolerance_interval(frame, "solver").tested) == {"dopri5", "heun2"}


def test_a_T_that_follows_the_rule_is_one_level(tmp_path: Path) -> None:
    """Every field has its own rule's T: those are the default, not more tested values."""
    frame = study(tmp_path, SIGMA)
    study_of(frame)["search"]["sampler"] = {"T": {"log_uniform": [0.8, 15.0]}}
    frame["design_sampler_role"] = frame["design_sampler_role"].str.replace("arm:T_ratio", "arm:T")
    default = frame["design_sampler_role"].eq("default")
    frame.loc[default, "sampler_T"] *= frame.loc[default, "train_sigma"] / 0.1
    assert len(tolerance_interval(frame, "T").tested) == 5


def test_pending_cells_leave_a_value_undetermined(tmp_path: Path) -> None:
    truth = SIGMA.changed(
        seed_noise=0.01, status=lambda r: "pending" if r["train_sigma"] == 0.3 and r["seed_train"] == 0 else "complete"
    )
    result = tolerance_interval(study(tmp_path, truth), "sigma")
    assert result.rating == "undetermined"
    assert "pending" in result.rule


def test_one_seed_arms_say_what_they_assume(tmp_path: Path) -> None:
    frame = study(tmp_path, SIGMA.changed(train_seeds=4, arm_seeds=1, seed_noise=0.01))
    result = tolerance_interval(frame, "sigma")
    assert "n = 1 here: the variance of the other configurations" in result.assumed
    lonely = tolerance_interval(study(tmp_path / "b", SIGMA.changed(train_seeds=1)), "sigma")
    assert lonely.rating == "undetermined"
    assert "one train seed" in lonely.rule


def test_sobol_finds_a_strong_parameter_and_not_a_null_one(tmp_path: Path) -> None:
    truth = Truth(design="sobol", trials=36, train_seeds=1, train_axes=("sigma", "tau"), sampler_axes=("T_ratio",),
                  sampler_points=3, effects=steep(1.5), samples=False)  # fmt: skip
    frame = study(tmp_path, truth)
    assert tolerance_interval(frame, "sigma").rating == "sensitive"
    assert tolerance_interval(frame, "tau").rating != "sensitive"
    curve = robustness_curve(frame, "sigma", ["fid"])
    assert len(curve) == 6
    assert curve["n_units"].sum() == 36
    assert "marginal effect" in curve.attrs["held_fixed"]


def test_tpe_is_not_rated(tmp_path: Path) -> None:
    truth = Truth(design="tpe", with_default=False, train_seeds=1, samples=False)
    result = tolerance_interval(study(tmp_path, truth), "sigma")
    assert result.rating == "not rated"
    assert "use one_at_a_time or sobol" in result.rule


def test_held_fixed_names_what_every_compared_point_has() -> None:
    """Points of pfgmpp have no sigma, tau and M beside a default of pfgm: not held fixed; gamma, which both have, is."""
    frame = synthetic_frame(Truth(train_axes=("sigma",), sampler_axes=()))
    arm = frame["design_role"].eq("arm:sigma")
    own = ["train_sigma", "train_tau", "train_M", "train_reference_batch_size"]
    frame["train_n_aug"] = np.where(arm, 8.0, math.nan)
    frame.loc[arm, own] = math.nan
    frame["design_role"] = frame["design_role"].str.replace("sigma", "n_aug")
    frame.attrs["study"]["search"]["train"] = {"n_aug": {"choice": [8.0]}}
    frame["train_height_max"] = np.where(arm, 4.0, 3.6)
    frame["train_gamma"] = 5.0
    frame.loc[frame.index[frame["design_role"].eq("default")][0], "train_gamma"] = math.nan  # its trial ended early
    words = robustness_curve(frame, "n_aug", ["fid"]).attrs["held_fixed"]
    assert "held fixed: gamma = 5 (the largest height changes)" in words
    for name in ("sigma", "tau", "M =", "reference_batch_size"):
        assert name not in words
    frame["train_gamma"] = frame["train_gamma"].where(~arm)
    words = robustness_curve(frame, "n_aug", ["fid"]).attrs["held_fixed"]
    assert "held fixed" not in words and "the largest height changes" in words


def test_curve_means_and_what_was_held_fixed(tmp_path: Path) -> None:
    frame = study(tmp_path, SIGMA.changed(effects=steep(0.5)))
    curve = robustness_curve(frame, "sigma", ("fid", "precision"))
    at = frame.loc[frame["design_sampler_role"].eq("default") & frame["train_sigma"].eq(0.3), "metric_fid"]
    row = curve.loc[curve["metric"].eq("fid") & curve["value"].eq(0.3)].iloc[0]
    assert row["mean"] == pytest.approx(np.exp(np.log(at).mean()))
    assert (row["n_fields"], row["min"], row["max"]) == (3, pytest.approx(at.min()), pytest.approx(at.max()))
    assert "M = 121" in curve.attrs["held_fixed"]
    assert "largest height changes" in curve.attrs["held_fixed"]


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


def test_pareto_flags(tmp_path: Path) -> None:
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


def test_interaction_is_measured_cells_only(tmp_path: Path) -> None:
    frame = study(tmp_path, Truth(samples=False, train_seeds=1))
    assert len(interaction(frame, "sigma", "T_ratio")) == 3 * 5  # crossed: every field at every sampler point
    assert len(interaction(frame, "sigma", "tau")) == 5  # two arms meet at the default only
