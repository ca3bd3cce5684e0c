"""The whole box: volume, worst case, and designs that cannot answer."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from scipy import stats

from analysis import AnalysisError, parameter_importance, regional_sensitivity, summarize, tolerance_volume, worst_case
from analysis.statistics.box import design_points
from analysis.testing.studies import synthetic_frame
from analysis.testing.truth import Truth

pytestmark = pytest.mark.usefixtures("clean_figures")
BOX = Truth(design="sobol", trials=40, train_seeds=2, train_axes=("sigma", "tau", "reference_batch_size"), seed_noise=0.02,
            sampler_axes=("T_ratio",), sampler_points=8, effects={"sigma": lambda s: 0.4 * math.log(s / 0.03)})  # fmt: skip


@pytest.fixture(scope="module")
def box() -> pd.DataFrame:
    return synthetic_frame(BOX)


def test_invalid_designs_are_refused_with_the_cure() -> None:
    frame = synthetic_frame(BOX.changed(design="tpe"))
    message = (
        r"tolerance_volume needs an iid or Sobol' design; this study used tpe \(search.yaml: design.name\)."
        r" Use design: sobol, or pass force=True."
    )
    with pytest.raises(ValueError, match=message):
        tolerance_volume(frame)
    for function in (worst_case, regional_sensitivity, parameter_importance):
        with pytest.raises(ValueError, match=rf"{function.__name__} needs an iid or Sobol' design; this study used tpe"):
            function(frame)
    assert len(tolerance_volume(frame, force=True))
    with pytest.raises(AnalysisError, match=r"32 distinct training points, this study has 12.*Raise design.trials"):
        parameter_importance(synthetic_frame(BOX.changed(trials=12)))
    assert len(parameter_importance(synthetic_frame(BOX.changed(trials=12)), force=True, n_bootstrap=2))
    with pytest.raises(AnalysisError, match="use fanova or ped_anova"):
        parameter_importance(synthetic_frame(BOX), method="shap")


def test_volume_and_worst_case_find_the_constructed_truth() -> None:
    """log FID is 0.4 log(σ / 0.03), the default at σ = 0.1: within 10 % up to σ = 0.1 · 1.1^2.5, 55 % of the box."""
    frame = synthetic_frame(BOX.changed(trials=200, seed_noise=0.005))
    true = math.log(0.1 * 1.1**2.5 / 0.03) / math.log(10)
    volume = tolerance_volume(frame).set_index("box")
    assert volume["low"].le(true)["train"] and volume["high"].ge(true)["train"]
    assert volume.loc["train", "share"] == pytest.approx(true, abs=0.1) and volume.loc["train", "n_points"] == 200
    default = summarize(frame).iloc[0]
    doubt = stats.t.ppf(0.975, default["df"]) * default["se"]
    points = design_points(frame, "train", "fid")
    counts = [int((points.table["y"] <= points.reference + math.log(1.1) + m).sum()) for m in (-doubt, doubt)]
    exact = [stats.binomtest(x, 200).proportion_ci() for x in counts]
    assert (volume.loc["train", "low"], volume.loc["train", "high"]) == pytest.approx((exact[0].low, exact[1].high))
    assert volume.loc["joint", "low"] <= true <= volume.loc["joint", "high"] and volume.loc["joint", "n_points"] == 1600
    worst = worst_case(frame).set_index("box")
    sampled = 0.4 * math.log(frame["train_sigma"].max() / 0.1)
    assert worst.loc["train", "low"] <= math.exp(sampled) <= worst.loc["train", "high"]
    assert worst.loc["train", "point_id"] in set(frame.loc[frame["train_sigma"].gt(0.27), "point_id"])
    failed = frame.copy()
    failed.attrs = frame.attrs
    failed.loc[frame["point_id"].eq("p003"), ["status", "metric_fid"]] = ["failed", math.nan]
    assert tolerance_volume(failed).set_index("box").loc["train", "n_failed"] == 1
    assert worst_case(failed).set_index("box").loc["train", "n_failed"] == 1


def test_a_study_without_default_says_so() -> None:
    frame = synthetic_frame(BOX.changed(with_default=False))
    volume, worst = tolerance_volume(frame), worst_case(frame)
    assert volume.empty and volume.attrs["skipped"]["train box: the default has no value"] == 40
    assert worst.empty and "the default has no value" in worst.attrs["skipped"]


def test_a_complete_row_without_a_number_is_missing_not_outside() -> None:
    frame = synthetic_frame(BOX.changed(effects={}, seed_noise=0.001))
    half = frame["point_id"].isin([f"p{i:03d}" for i in range(1, 21)])
    frame.loc[half, "metric_fid"] = math.nan
    volume = tolerance_volume(frame).set_index("box")
    assert volume.loc["train", ["share", "n_points"]].tolist() == [1.0, 20]
    assert volume.attrs["skipped"]["train point without a value"] == 20
