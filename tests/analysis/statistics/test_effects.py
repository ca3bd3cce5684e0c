"""Comparison, components, importance, sensitivity, volume: against the printed formulas and against known truths."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import analysis
from analysis import (
    AnalysisError,
    compare,
    load_study,
    parameter_importance,
    plot_comparisons,
    plot_failures,
    plot_parameter_importance,
    plot_regional_sensitivity,
    plot_summary,
    plot_tolerance_volume,
    plot_variance_components,
    plot_worst_case,
    power_table,
    regional_sensitivity,
    seeds_needed,
    summarize,
    tolerance_interval,
    tolerance_volume,
    variance_components,
    worst_case,
)
from analysis.power import main as power_main
from analysis.rows.meta import study_of
from analysis.statistics.box import design_points
from analysis.statistics.variance import detectable, moderate, moderate_all, of_means, pool
from analysis.testing.studies import synthetic_frame, write_study
from analysis.testing.truth import Truth, draw_noise, quantiles, synthetic_plan

mpl.use("Agg")

ARMS = Truth(train_axes=("sigma",), sampler_axes=("T_ratio",))
BOX = Truth(design="sobol", trials=40, train_seeds=2, train_axes=("sigma", "tau", "reference_batch_size"), seed_noise=0.02,
            sampler_axes=("T_ratio",), sampler_points=8, effects={"sigma": lambda s: 0.4 * math.log(s / 0.03)})  # fmt: skip


pytestmark = pytest.mark.usefixtures("clean_figures")


@pytest.fixture(scope="module")
def box() -> pd.DataFrame:
    return synthetic_frame(BOX)


# --- variances


def test_moderation_is_between_alone_and_pooled() -> None:
    groups = [np.array([0.0, 2.0, 4.0]), np.array([0.0, 0.2, 0.4]), np.array([1.0])]
    pooled = pool(groups)
    assert pooled is not None and (pooled.variance, pooled.df) == (pytest.approx((4 + 0.04) / 2), 4)
    one = moderate(groups[0], pooled)
    assert (one.prior_df, one.own_df) == (2.0, 2.0), "the others have two degrees of freedom, fewer than the prior's three"
    assert one.prior + one.own == pytest.approx((2 * 2.02 + 2 * 4) / 4)
    single = moderate(groups[2], pooled)
    assert (single.prior, single.prior_df, single.own) == (pytest.approx(2.02), 3.0, 0.0)
    variance, df = moderate_all(np.array([4.0, 0.04, 0.0]), np.array([2.0, 2.0, 0.0]), np.zeros(3, dtype=int))
    assert variance == pytest.approx([3.01, 1.03, 2.02]) and df.tolist() == [4.0, 4.0, 3.0]
    alone, nothing = moderate_all(np.array([4.0, np.nan]), np.array([2.0, 0.0]), np.array([0, 1]))
    assert alone[0] == 4.0 and math.isnan(alone[1]) and nothing.tolist() == [2.0, 0.0]


def test_two_sides_share_one_prior() -> None:
    """Equal sides of three with three prior degrees of freedom: 6.25, not 2 × 5."""
    rng = np.random.default_rng(0)
    groups = [rng.normal(0, 1, 3) for _ in range(50)]
    groups[:2] = [np.array([-1.0, 0.0, 1.0])] * 2
    pooled = pool(groups)
    assert pooled is not None
    side = moderate(groups[0], pooled._replace(variance=1.0))
    variance, df = of_means([(side, 3), (side, 3)])
    assert (variance, df) == (pytest.approx(2 / 3), pytest.approx(1 / (0.6**2 / 3 + 2 * 0.2**2 / 2)))
    assert math.isnan(of_means([(side, 3), (moderate(np.array([]), None), 0)])[0])


def test_one_replicated_configuration_has_its_own_degrees_of_freedom_and_no_more() -> None:
    """Two seeds at the default, one at an arm: both variances are the same number, so the comparison has one degree."""
    base = np.array([0.0, 0.1])
    pooled = pool([base, np.array([0.3])])
    variance, df = of_means([(moderate(base, pooled), 2), (moderate(np.array([0.3]), pooled), 1)])
    assert (variance, df) == (pytest.approx(0.005 * 1.5), 1.0)
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(2000):
        a, b = rng.normal(0, 1, 2), rng.normal(0, 1, 1)
        spread = pool([a, b])
        v, d = of_means([(moderate(a, spread), 2), (moderate(b, spread), 1)])
        covered.append(abs(a.mean() - b.mean()) <= stats.t.ppf(0.975, d) * math.sqrt(v))
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02), "2,000 repetitions: standard error 0.5 %"


def test_detectable_gap_is_detected_four_times_in_five() -> None:
    """4,000 comparisons at the printed gap: the standard error of the share is 0.6 %."""
    rng = np.random.default_rng(0)
    n, sd = 4, 0.08
    gap = detectable(2 * sd**2 / n, 2 * (n - 1))
    a, b = rng.normal(0, sd, (2, 4000, n))
    found = (stats.ttest_ind(a, b + math.log1p(gap), axis=1).pvalue < 0.05).mean()
    assert 0.77 <= found <= 0.83


def test_components_find_the_truth_and_say_what_one_seed_cannot_tell() -> None:
    truth = Truth(design="random", trials=60, train_seeds=4, sample_seeds=6, train_axes=("sigma",), sampler_axes=(),
                  sampler_points=0, point_noise=0.2, seed_noise=0.1, shared_noise=0.05, sample_noise=0.03)  # fmt: skip
    table = variance_components(synthetic_frame(truth)).set_index("component")
    known = {"configuration": 0.2, "train seed": 0.1, "sample seed": 0.05, "residual": 0.03}
    total = sum(sd**2 for sd in known.values())
    for name, sd in known.items():
        row = table.loc[name]
        assert row["sd_low"] <= sd <= row["sd_high"] and row["low"] <= sd**2 / total <= row["high"]
        assert row["sd"] == pytest.approx(sd, rel=0.15) or name == "sample seed"
    assert table["n"].tolist() == [61, 244, 6, 61 * 4 * 6]
    one = variance_components(synthetic_frame(truth.changed(sample_seeds=1))).set_index("component")
    assert one["sd"].isna().tolist() == [False, False, True, True]
    none = variance_components(synthetic_frame(truth.changed(sample_seeds=1, train_seeds=1)))
    assert none["sd"].isna().all()
    ax = plot_variance_components(synthetic_frame(truth))
    assert [bar.get_width() for bar in ax.patches] == pytest.approx(table["share"].tolist())
    assert ax.get_yticklabels()[0].get_text() == "configuration (n = 61)"


# --- compare


def test_compare_is_the_printed_formula() -> None:
    frame = synthetic_frame(ARMS.changed(effects={"sigma": lambda s: 0.5 if s == 0.3 else 0.0}))
    at = frame.loc[frame["design_sampler_role"].eq("default")]
    groups = {v: np.log(g["metric_fid"]).to_numpy() for v, g in at.groupby("train_sigma")}
    s2 = {v: y.var(ddof=1) for v, y in groups.items()}
    s0 = np.mean(list(s2.values()))
    parts = [(3 * s0 / 5 / 3) * 2, 2 * s2[0.1] / 5 / 3, 2 * s2[0.3] / 5 / 3]
    df = sum(parts) ** 2 / (parts[0] ** 2 / 3 + parts[1] ** 2 / 2 + parts[2] ** 2 / 2)
    d = groups[0.3].mean() - groups[0.1].mean()
    half = stats.t.ppf(0.975, df) * math.sqrt(sum(parts))
    result = compare(frame, "default", {"sigma": 0.3})
    assert [result.ratio, result.low, result.high] == pytest.approx(np.exp([d, d - half, d + half]).tolist(), rel=1e-12)
    assert (result.verdict, result.n_a, result.n_b, result.paired) == ("worse", 3, 3, False)
    assert compare(frame, {"sigma": 0.3}, "default").verdict == "better"
    assert "worse at a tolerance of 10%" in result.sentence


def test_the_same_fields_are_paired_and_equal_latents_cancel() -> None:
    noisy = ARMS.changed(
        seed_noise=0.5, shared_noise=0.5, sample_seeds=2, effects={"T_ratio": lambda v: 0.3 if v == 5.0 else 0.0}
    )
    result = compare(synthetic_frame(noisy), "default", {"T_ratio": 5.0})
    assert result.paired and result.ratio == pytest.approx(math.exp(0.3), rel=0.03) and result.verdict == "worse"
    same = compare(synthetic_frame(noisy), "default", {"T_ratio": 2.0})
    assert same.verdict == "equivalent" and same.detectable_gap < 0.1


def test_compare_says_what_it_cannot_do() -> None:
    frame = synthetic_frame(ARMS)
    with pytest.raises(AnalysisError, match=r"sigma = 0.2: no train point has it; tested sigma: 0.03, 0.1, 0.3"):
        compare(frame, "default", {"sigma": 0.2})
    with pytest.raises(AnalysisError, match=r"gamma: not a searched parameter"):
        compare(frame, "default", {"gamma": 1})
    with pytest.raises(AnalysisError, match="precision is averaged as it is"):
        compare(frame, "default", {"sigma": 0.3}, metric="precision")
    with pytest.raises(AnalysisError, match=r'say "default", a dictionary'):
        compare(frame, "best", "default")
    lonely = compare(synthetic_frame(ARMS.changed(train_seeds=1)), "default", {"sigma": 0.3})
    assert lonely.verdict == "inconclusive" and math.isnan(lonely.low) and "raise seeds.train" in lonely.sentence
    frame.loc[frame["train_sigma"].eq(0.3), "status"] = "diverged"
    gone = compare(frame, "default", {"sigma": 0.3})
    assert (gone.verdict, gone.n_b, gone.n_bad_b) == ("inconclusive", 0, 3)
    assert gone.skipped == {"status diverged": 3, "sample seed not on both sides": 1}


# --- importance and sensitivity


def test_importance_finds_the_truth(box: pd.DataFrame) -> None:
    before = box.copy()
    for method in ("fanova", "ped_anova"):
        table = parameter_importance(box, method=method, n_bootstrap=8).set_index("parameter")
        assert table.index[0] == "sigma" and table["importance"].idxmax() == "sigma"
        assert table.loc["sigma", "p_value"] == 0.001 and table.loc[["tau", "reference_batch_size"], "p_value"].min() > 0.02
        assert (table["low"] <= table["high"]).all() and set(table["n_points"]) == {40}
    assert BOX.importance("sigma") == 1.0 and BOX.importance("tau") == 0.0
    shares = parameter_importance(box, n_bootstrap=2)
    assert shares["importance"].iloc[0] > 0.7 and shares.attrs["surrogate_r2"]["train"] > 0.6
    assert shares.attrs["skipped"] == {"1 sampler parameters: 8 sampler points, fewer than 32": 1}
    pd.testing.assert_frame_equal(box, before)
    ax = plot_parameter_importance(box, table=shares)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == shares["parameter"].tolist()
    filled = next(line for line in ax.lines if line.get_marker() == "o" and line.get_markerfacecolor() != "white")
    assert list(filled.get_xdata()) == shares.loc[shares["p_value"].le(0.05), "importance"].tolist()


def test_effect_is_eta_squared_of_ranks(box: pd.DataFrame) -> None:
    table = parameter_importance(box, n_bootstrap=0, n_permutations=19).set_index("parameter")
    points = design_points(box, "train", "fid").table
    ranks = points["y"].rank()
    groups = [g.to_numpy() for _, g in ranks.groupby(points["train_reference_batch_size"])]
    between = sum(len(g) * (g.mean() - ranks.mean()) ** 2 for g in groups)
    assert table.loc["reference_batch_size", "effect"] == pytest.approx(between / ((ranks - ranks.mean()) ** 2).sum())
    assert table["low"].isna().all(), "no resampling, no interval"


def test_sensitivity_is_scipys_ks_and_sees_failures(box: pd.DataFrame) -> None:
    default = {"sigma": lambda s: 1.0 * max(math.log(s / 0.1), 0.0)}
    frame = synthetic_frame(BOX.changed(effects=default, seed_noise=0.01))
    table = regional_sensitivity(frame).set_index("parameter")
    points = design_points(frame, "train", "fid")
    inside = points.table["y"] <= points.reference + math.log(1.1)
    ks = stats.ks_2samp(points.table["train_sigma"][inside], points.table["train_sigma"][~inside]).statistic
    assert table.loc["sigma", "statistic"] == pytest.approx(ks)
    assert table.loc["sigma", "p_value"] == 0.001 and table.loc["tau", "p_value"] > 0.02
    flat = synthetic_frame(BOX.changed(effects={}, seed_noise=0.01))
    none = regional_sensitivity(flat)
    assert none.empty and all("points inside the tolerance; it takes 5" in reason for reason in none.attrs["skipped"])
    flat.loc[flat["train_sigma"].gt(0.15), "status"] = "diverged"
    flat.loc[flat["status"].eq("diverged"), "metric_fid"] = math.nan
    assert regional_sensitivity(flat).set_index("parameter").loc["sigma", "p_value"] == 0.001
    fixed = synthetic_frame(BOX.changed(train_axes=(), sampler_axes=()))
    assert plot_regional_sensitivity(fixed).texts[0].get_text() == "no parameter to compare"


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


# --- volume


def test_volume_and_worst_case() -> None:
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


# --- what failed, what is missing, what is not one study


def test_one_failed_training_blames_no_sampler() -> None:
    """The sampler box is seen within fields: neither a field that failed nor an effect of σ moves it."""
    frame = synthetic_frame(BOX.changed(sampler_points=40))
    gone = frame["train_id"].eq("f007s1")
    frame.loc[gone, ["status", "metric_fid"]] = ["failed", math.nan]
    volume = tolerance_volume(frame).set_index("box")
    assert (volume.loc["sampler", "share"], volume.loc["sampler", "n_failed"]) == (1.0, 0)
    assert volume.attrs["skipped"]["rows of fields without a complete cell"] == 41
    assert volume.loc["train", "n_failed"] == 1


def test_a_complete_row_without_a_number_is_missing_not_outside() -> None:
    frame = synthetic_frame(BOX.changed(effects={}, seed_noise=0.001))
    half = frame["point_id"].isin([f"p{i:03d}" for i in range(1, 21)])
    frame.loc[half, "metric_fid"] = math.nan
    volume = tolerance_volume(frame).set_index("box")
    assert volume.loc["train", ["share", "n_points"]].tolist() == [1.0, 20]
    assert volume.attrs["skipped"]["train point without a value"] == 20


def test_failures_forbid_a_good_verdict() -> None:
    frame = synthetic_frame(ARMS.changed(train_seeds=5, seed_noise=0.005))
    bad = frame["train_sigma"].eq(0.3) & frame["seed_train"].lt(3)
    assert compare(frame, "default", {"sigma": 0.3}).verdict == "equivalent"
    frame.loc[bad, ["status", "metric_fid"]] = ["diverged", math.nan]
    result = compare(frame, "default", {"sigma": 0.3})
    assert (result.verdict, result.n_bad_a, result.n_bad_b) == ("inconclusive", 0, 3)
    assert "0 and 3 cells failed or diverged" in result.sentence


def test_a_default_sampler_that_diverges_rates_nothing_robust() -> None:
    frame = synthetic_frame(ARMS.changed(train_seeds=9, seed_noise=0.005))
    bad = frame["design_sampler_role"].eq("default") & frame["seed_train"].lt(3)
    frame.loc[bad, ["status", "metric_fid"]] = ["diverged", math.nan]
    result = tolerance_interval(frame, "T_ratio")
    assert result.rating == "undetermined" and "at the default itself" in result.rule
    assert result.skipped["no value at the default sampler point"] == 9 * 4


def test_values_are_taken_as_the_yaml_spells_them() -> None:
    frame = synthetic_frame(Truth())
    assert compare(frame, "default", {"rtol": "1e-3"}) == compare(frame, "default", {"rtol": 1e-3})
    assert compare(frame, {"reference_batch_size": "all"}, {"reference_batch_size": 128}).n_b == 3


def test_shares_need_every_component_and_whole_fields() -> None:
    truth = Truth(design="random", trials=20, train_seeds=1, sample_seeds=2, sampler_points=0, seed_noise=0.3)
    one = variance_components(synthetic_frame(truth)).set_index("component")
    assert one["share"].isna().all() and one["sd"].notna().tolist() == [False, False, True, True]
    noise = []
    for seed in range(40):
        frame = synthetic_frame(truth.changed(train_seeds=3, sample_noise=0.05, seed=seed))
        frame.loc[frame["seed_sample"].eq(1) & frame["seed_train"].lt(2), ["status", "metric_fid"]] = ["failed", math.nan]
        noise.append(variance_components(frame).set_index("component").loc["residual", "sd"])
    assert np.mean(np.square(noise)) == pytest.approx(0.05**2, rel=0.2), "20 fields with both seeds, 40 studies: 5 % error"


def test_disturbed_rows_and_several_studies_are_not_averaged() -> None:
    frame = synthetic_frame(ARMS)
    disturbed = frame.assign(perturb_kind="noise", perturb_level=0.1, metric_fid=40.0)
    both = pd.concat([frame, disturbed], ignore_index=True)
    both.attrs = frame.attrs
    assert summarize(both)["mean"].tolist() == summarize(frame)["mean"].tolist()
    assert summarize(both).attrs["skipped"] == {"row of a disturbed field": len(frame)}
    both.attrs = {**frame.attrs, "studies": {"a": {}, "b": {}}}
    with pytest.raises(AnalysisError, match=r"take one with analysis\.of_study"):
        summarize(both)


def test_more_is_better_metrics_are_refused_where_less_must_be() -> None:
    frame = synthetic_frame(BOX)
    for function in (tolerance_volume, worst_case, regional_sensitivity, parameter_importance):
        with pytest.raises(AnalysisError, match=f"{function.__name__} is for ratios, and less must be better; precision"):
            function(frame, "precision")
    with pytest.raises(AnalysisError, match="tolerance_interval is for ratios"):
        tolerance_interval(frame, "sigma", metric="precision")
    with pytest.raises(AnalysisError, match=r"tolerance: must be above 0, e.g. 0.10 for 10 %, got 0"):
        tolerance_interval(frame, "sigma", tolerance=0.0)


def test_the_reference_bin_holds_the_default() -> None:
    for seed in range(20):
        frame = synthetic_frame(BOX.changed(trials=24, seed=seed))
        levels = tolerance_interval(frame, "sigma").levels
        reference = float(levels.loc[levels["is_reference"], "level"].iloc[0])
        drawn = frame.loc[frame["design_role"].ne("default")].drop_duplicates("point_id")["train_sigma"]
        edges = np.quantile(drawn, np.linspace(0, 1, len(levels) + 1))
        own = min(max(int(np.searchsorted(edges, 0.1, side="right")) - 1, 0), len(levels) - 1)
        assert edges[own] <= reference <= edges[own + 1]


# --- power


def test_power_is_told_for_seeds_and_for_fields(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_study(tmp_path / "pilot", ARMS.changed(train_seeds=6, seed_noise=0.1, samples=False))
    table = power_table(load_study(folder), (3, 12), comparisons=2)
    seeds = table.loc[table["noise"].eq("train seeds")]
    assert seeds["sd"].iloc[0] == pytest.approx(0.1, rel=0.4) and seeds["gap"].is_monotonic_decreasing
    assert (seeds["gap_high"] > seeds["gap"]).all() and (seeds["settle_high"] >= seeds["settle"]).all()
    sd = float(seeds["sd"].iloc[0])
    assert seeds["settle"].iloc[0] == seeds_needed(sd, 0.10, 2)
    assert power_main([str(folder), "--seeds", "3", "--tolerance", "0.25"]) == 0
    out = capsys.readouterr().out
    assert "With 80 % power 3 seeds find a gap of" in out and "25% is settled by" in out
    assert power_main([str(folder), "--seeds", "1"]) == 2 and "at least 2" in capsys.readouterr().err
    lonely = write_study(tmp_path / "lonely", ARMS.changed(train_seeds=1, samples=False))
    assert power_main([str(lonely)]) == 2 and "raise seeds.train" in capsys.readouterr().err


# --- lines and bars


def test_lines_are_where_the_tables_say(box: pd.DataFrame) -> None:
    before = box.copy()
    volume, worst = tolerance_volume(box), worst_case(box)
    frame = synthetic_frame(ARMS.changed(status=lambda row: "complete"))
    frame.loc[frame["train_sigma"].eq(0.3) & frame["seed_train"].eq(0), ["status", "metric_fid"]] = ["failed", math.nan]
    pairs = {"σ = 0.3": {"sigma": 0.3}, "T × 5": {"T_ratio": 5.0}}
    compared = pd.DataFrame([compare(frame, "default", other) for other in pairs.values()])
    summary = summarize(frame).sort_values("mean").reset_index(drop=True)
    drawn = (
        (plot_tolerance_volume(box), volume, "share"),
        (plot_worst_case(box), worst, "ratio"),
        (plot_comparisons(frame, pairs), compared, "ratio"),
        (plot_summary(frame), summary, "mean"),
    )
    for ax, table, column in drawn:
        marks = [x for line in ax.lines if line.get_marker() == "o" for x in line.get_xdata()]
        assert sorted(marks) == pytest.approx(sorted(table[column]))
        bars = [tuple(segment[:, 0]) for c in ax.collections for segment in c.get_segments()]
        known = table.dropna(subset=["low"])
        assert np.asarray(bars) == pytest.approx(known[["low", "high"]].to_numpy())
        assert len(ax.get_yticklabels()) == len(table)
    assert drawn[0][0].get_xlim() == (0, 1) and drawn[1][0].get_xscale() == drawn[3][0].get_xscale() == "log"
    assert [t.get_text() for t in drawn[2][0].get_yticklabels()] == [
        f"{name}: {verdict}" for name, verdict in zip(pairs, compared["verdict"], strict=True)
    ]
    assert "default" in [t.get_text() for t in drawn[3][0].get_yticklabels()]
    pd.testing.assert_frame_equal(box, before)


def test_failures_are_stacked_bars() -> None:
    frame = synthetic_frame(ARMS)
    frame.loc[frame["train_sigma"].eq(0.3), "status"] = "diverged"
    ax = plot_failures(frame, "sigma")
    assert ax.get_legend_handles_labels()[1] == ["complete", "diverged"]
    assert [(bar.get_x(), bar.get_width()) for bar in ax.patches] == [(0, 15), (0, 15), (0, 0), (15, 0), (15, 0), (0, 15)]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["0.03", "0.1", "0.3"]


# --- the generator


def test_the_generator_is_what_it_says() -> None:
    """Sample moments of 400 points × 8 fields × 4 sampler points × 3 sample seeds; tolerances of five standard errors."""
    truth = Truth(design="random", trials=400, train_seeds=8, sample_seeds=3, sampler_points=4, seed_noise=0.1, seed_spread=3.0,
                  pair_noise=0.05, shared_noise=0.0, sample_noise=0.02, effects={"sigma": lambda s: s})  # fmt: skip
    plan = synthetic_plan(truth)
    draw = draw_noise(plan, truth, np.random.default_rng(0))
    noise = pd.Series(draw.log_fid - draw.mean)
    field = noise.groupby(plan["train_id"]).mean().groupby(plan.groupby("train_id")["point"].first())
    expected = draw.seed_sd**2 + 0.05**2 / 5 + 0.02**2 / 15
    assert (field.var(ddof=1) / expected).mean() == pytest.approx(1.0, abs=5 * math.sqrt(2 / 7 / 400))
    assert draw.seed_sd.max() / draw.seed_sd.min() == pytest.approx(3.0, rel=0.03)
    within = noise.groupby([plan["train_id"], plan["sampler_id"]]).var(ddof=1).mean()
    assert within == pytest.approx(0.02**2, rel=0.05)
    assert draw.mean - math.log(0.8) == pytest.approx(plan["train_sigma"].to_numpy())
    assert plan.loc[plan["sampler_solver"].eq("dopri5"), "sampler_steps"].isna().all(), "conditional"
    assert np.log(plan["train_sigma"]).between(math.log(0.03), math.log(0.3)).all() and len(quantiles("sigma")) == 400
    assert truth.within("sigma", 0.15) and not truth.within("sigma", 0.3) and truth.within("tau", 0.1)


def test_public_names_exist() -> None:
    assert not [name for name in analysis.__all__ if getattr(analysis, name) is None]
    assert callable(analysis.compare) and study_of(synthetic_frame(ARMS))["design"]["name"] == "one_at_a_time"
