"""Ratings: the constructed truth is found, noise is rarely called sensitive, failures and gaps are never hidden."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import load_study, robustness_curve, summarize, tolerance_interval, tolerance_volume
from analysis.power import power_table, sentences
from analysis.report.sections.answers import short
from analysis.report.sections.answers.short import verdict_sentences
from analysis.report.study import Study
from analysis.rows.meta import study_of
from analysis.statistics.variance import FEW_DF, few
from analysis.testing.studies import synthetic_frame, write_study
from analysis.testing.truth import Truth

pytestmark = pytest.mark.usefixtures("clean_figures")
SIGMA = Truth(train_axes=("sigma",), sampler_axes=("T_ratio",), samples=False)
ARMS = Truth(train_axes=("sigma",), sampler_axes=("T_ratio",))
BOX = Truth(design="sobol", trials=40, train_seeds=2, train_axes=("sigma", "tau", "reference_batch_size"), seed_noise=0.02,
            sampler_axes=("T_ratio",), sampler_points=8, effects={"sigma": lambda s: 0.4 * math.log(s / 0.03)})  # fmt: skip
GAIN = {"sigma": lambda v: -0.7 if v == 0.3 else 0.0, "rtol": lambda v: 1.5 if v == 0.1 else 0.0}
TRUTH = Truth(train_axes=("sigma", "tau"), sampler_axes=("rtol",), effects=GAIN)


def study(tmp_path: Path, truth: Truth) -> pd.DataFrame:
    return load_study(write_study(tmp_path / "study", truth))


def steep(strength: float) -> dict[str, object]:
    return {"sigma": lambda s: strength * abs(math.log(s / 0.1) / math.log(3))}


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


@pytest.fixture(scope="module")
def box() -> pd.DataFrame:
    return synthetic_frame(BOX)


def test_one_failed_training_blames_no_sampler() -> None:
    """The sampler box is seen within fields: neither a field that failed nor an effect of σ moves it."""
    frame = synthetic_frame(BOX.changed(sampler_points=40))
    gone = frame["train_id"].eq("f007s1")
    frame.loc[gone, ["status", "metric_fid"]] = ["failed", math.nan]
    volume = tolerance_volume(frame).set_index("box")
    assert (volume.loc["sampler", "share"], volume.loc["sampler", "n_failed"]) == (1.0, 0)
    assert volume.attrs["skipped"]["rows of fields without a complete cell"] == 41
    assert volume.loc["train", "n_failed"] == 1


def test_a_default_sampler_that_diverges_rates_nothing_robust() -> None:
    frame = synthetic_frame(ARMS.changed(train_seeds=9, seed_noise=0.005))
    bad = frame["design_sampler_role"].eq("default") & frame["seed_train"].lt(3)
    frame.loc[bad, ["status", "metric_fid"]] = ["diverged", math.nan]
    result = tolerance_interval(frame, "T_ratio")
    assert result.rating == "undetermined" and "at the default itself" in result.rule
    assert result.skipped["no value at the default sampler point"] == 9 * 4


def test_the_reference_bin_holds_the_default() -> None:
    for seed in range(20):
        frame = synthetic_frame(BOX.changed(trials=24, seed=seed))
        levels = tolerance_interval(frame, "sigma").levels
        reference = float(levels.loc[levels["is_reference"], "level"].iloc[0])
        drawn = frame.loc[frame["design_role"].ne("default")].drop_duplicates("point_id")["train_sigma"]
        edges = np.quantile(drawn, np.linspace(0, 1, len(levels) + 1))
        own = min(max(int(np.searchsorted(edges, 0.1, side="right")) - 1, 0), len(levels) - 1)
        assert edges[own] <= reference <= edges[own + 1]


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    frame = synthetic_frame(TRUTH)
    here = frame["train_sigma"].eq(0.3)
    noise = np.random.default_rng(0).normal(0, 0.005, len(frame))
    frame["metric_recall"] = np.where(here, 0.5, 0.8) + noise
    frame["metric_precision"] = 0.9 + noise
    frame["cost_train_s"] = 60.0 + 1000 * noise
    return frame


def test_few_degrees_of_freedom_are_said(tmp_path: Path) -> None:
    """Two seeds at the default and one at each arm leave one degree of freedom; three everywhere, all different, leave ten."""
    assert few(1) and few(FEW_DF - 0.1) and not few(FEW_DF) and not few(0)
    poor = synthetic_frame(Truth(train_axes=("sigma", "tau"), sampler_axes=(), train_seeds=2, arm_seeds=1))
    rich = synthetic_frame(Truth(train_axes=("sigma", "tau"), sampler_axes=(), train_seeds=3, disjoint=True))
    for frame, said in ((poor, True), (rich, False)):
        interval = tolerance_interval(frame, "tau")
        assert (interval.df < FEW_DF) is said
        assert ("variance from 1 degree of freedom, fewer than 5: it may be luck" in interval.rule) is said
        words = " ".join(verdict_sentences(Study("one", frame, [interval])))
        assert ("rests on 1 degree of freedom, fewer than 5: it may be luck" in words) is said
        assert ("tau (0.01 to 0.1 within tolerance; 1 degree" in words or "tau (1 degree of freedom" in words) is said
        table = summarize(frame)
        assert table.loc[table["design_role"].eq("default"), "few_df"].tolist() == [said]
        assert any("fewer than 5: it may be luck" in line for line in sentences(power_table(frame, (3,)), 0.1)) is said
        assert len(short.section(Study("synthetic", frame, [interval], figures=tmp_path)).blocks) >= 4


def test_equal_seeds_narrow_the_interval_and_the_rating_says_so() -> None:
    """Where fields of equal seeds are alike, three seeds say as much as forty that are not: noise .15, correlation .99."""
    truth = Truth(train_axes=("sigma", "tau"), sampler_axes=(), seed_noise=0.15, alike=0.99, sample_noise=0.0)
    alike, apart = (tolerance_interval(synthetic_frame(truth.changed(disjoint=d)), "tau") for d in (False, True))
    assert (alike.rating, apart.rating) == ("robust", "undetermined")
    assert alike.held_fixed.endswith("compared seed by seed") and "seed by seed" not in apart.held_fixed
