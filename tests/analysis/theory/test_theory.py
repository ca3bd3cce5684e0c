"""Predictions against quadrature and against pfgm's own prior; outliers, disturbances and the front against known rows."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate, stats

from analysis import (
    AnalysisError,
    data_moments,
    load_study,
    outlier_map,
    pareto_front,
    perturbation_robustness,
    plot_outlier_map,
    plot_perturbation_robustness,
    plot_quality_cost,
    plot_theory_curves,
    published_points,
    seed_fronts,
    theory_curves,
)
from analysis.statistics.pareto import knee_of
from analysis.testing.studies import write_study
from analysis.testing.truth import Truth
from analysis.theory.laws import coverage, known_moments, prior_error, prior_tail
from pfgm.config import DataConfig
from pfgm.data.dataset import load_data
from pfgm.prior.law import PoissonPrior

mpl.use("Agg")


pytestmark = pytest.mark.usefixtures("clean_figures")


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """A study of T, truncation and solver in which outliers are the latents beyond R/T = 40 and s steps cost 8/s in log FID."""
    truth = Truth(samples=False, effects={"sigma": lambda s: abs(math.log(10 * s))})
    rows = load_study(write_study(tmp_path_factory.mktemp("theory") / "study", truth))
    rows["metric_fid"] *= np.exp(8 / rows["sampler_steps"].astype(float)).fillna(1.0)
    rows["train_height_max"] = rows["train_height_max"].where(rows["design_role"].ne("arm:tau"), 3.6)
    rows["sampler_T"] = rows["train_height_max"] * math.sqrt(2 / math.pi) * rows["sampler_T_ratio"]
    rows["diag_coverage"] = [
        float(coverage(T / h, 64)) for T, h in zip(rows["sampler_T"], rows["train_height_max"], strict=True)
    ]
    rows["sampler_max_radius_ratio"] = rows["sampler_T_ratio"].map({0.3: 10.0, 0.5: 30.0, 2.0: 90.0})
    limit = rows["sampler_max_radius_ratio"].fillna(np.inf)
    rows["metric_outlier_fraction"] = np.maximum(prior_tail(40.0, 64) - prior_tail(limit, 64), 0)
    rows["diag_outlier_radius"] = np.where(limit > 40, 60.0, np.nan)
    rows["sampler_T_ratio"] = rows["sampler_T_ratio"].where(rows["sampler_max_radius_ratio"].isna(), 1.0)
    return rows


@pytest.mark.parametrize("dim", [1, 2, 64])
def test_prior_tail_and_coverage_are_the_priors(dim: int) -> None:
    prior = PoissonPrior(dim, 2.5)
    radii = np.array([0.1, 3.0, 40.0, 1e4])
    np.testing.assert_allclose(prior_tail(radii / 2.5, dim), prior.radius_sf(torch.tensor(radii)).numpy(), rtol=1e-9)
    height = 1.7
    expected = float(prior.radius_cdf(math.sqrt(dim) * height))
    assert coverage(2.5 / height, dim) == pytest.approx(expected, rel=1e-9)


def cauchy_error(sources: np.ndarray, T: float) -> float:
    """KL(p_T‖prior) in one dimension by quadrature."""

    def integrand(u: float) -> float:
        x = T * math.tan(u)
        p = float(np.mean(stats.cauchy.pdf(x, sources, T)))
        return p * math.log(p / stats.cauchy.pdf(x, 0, T)) * T / math.cos(u) ** 2

    return float(integrate.quad(integrand, -math.pi / 2, math.pi / 2, epsabs=1e-14, epsrel=1e-10, limit=400)[0])


@pytest.mark.parametrize("sources", [[-1.0, 1.0], [0.5, 0.5], [-1.0, -1.0, 2.0]])
def test_prior_error_is_the_leading_order(sources: list[float]) -> None:
    """Detects a wrong constant of 2 %: at T = 40 the next order is about (1/40)² of the first."""
    points = np.array(sources)
    assert prior_error(40.0, data_moments(points)) == pytest.approx(cauchy_error(points, 40.0), rel=0.02)


def test_prior_error_in_two_dimensions() -> None:
    """Anisotropic sources ±(a, 0), ±(0, b) by quadrature over the plane; detects a wrong trace term of 2 %."""
    points = np.array([[1.2, 0], [-1.2, 0], [0, 0.5], [0, -0.5]])
    T = 25.0

    def integrand(angle: float, u: float) -> float:
        r = T * math.tan(u)
        x = np.array([r * math.cos(angle), r * math.sin(angle)])
        log = -1.5 * np.log1p(np.square(x - points).sum(1) / T**2)
        h = math.log(float(np.mean(np.exp(log + 1.5 * math.log1p(r**2 / T**2)))))
        prior = T / (2 * math.pi * (r**2 + T**2) ** 1.5)
        return prior * (math.exp(h) * h - math.exp(h) + 1) * r * T / math.cos(u) ** 2  # no cancellation: both integrate to 1

    exact, _ = integrate.dblquad(integrand, 0, math.pi / 2 - 1e-9, 0, 2 * math.pi, epsabs=1e-13, epsrel=1e-5)
    assert prior_error(T, data_moments(points)) == pytest.approx(exact, rel=0.02)


def test_prior_error_is_silent_below_its_range() -> None:
    moments = data_moments(np.array([[-1.0], [1.0]]))
    assert math.isnan(prior_error(2.9, moments)) and not math.isnan(prior_error(3.1, moments))
    assert math.isnan(prior_error(10.0, moments._replace(mean_norm=4.0)))


def test_moments_of_digits_are_those_of_the_training_data(frame: pd.DataFrame) -> None:
    own, expected = known_moments(frame), data_moments(load_data(DataConfig(name="digits")).points[:].numpy())
    assert own is not None
    np.testing.assert_allclose(own[2:], expected[2:], rtol=1e-5)
    assert own.mean_norm < 1e-6 and expected.mean_norm < 1e-4
    assert known_moments(frame.assign(data_name="rings")) is None


def test_coverage_points_lie_on_the_curve(frame: pd.DataFrame) -> None:
    table = theory_curves(frame)
    measured = table.loc[table["theory"].eq("coverage") & table["kind"].eq("measured")]
    np.testing.assert_allclose(measured["y"], coverage(measured["x"].to_numpy(), 64), rtol=1e-5)
    ax = plot_theory_curves(frame, "coverage")
    np.testing.assert_allclose(ax.containers[0].lines[0].get_ydata().astype(float), measured["y"])
    assert ax.get_xscale() == "log" and ax.get_xlabel().startswith("T over")


def test_tau_has_no_effect_where_it_has_none(frame: pd.DataFrame) -> None:
    table = theory_curves(frame)
    points = table.loc[table["theory"].eq("tau_null") & table["kind"].eq("measured")]
    assert points["x"].tolist() == [0.01, 0.03, 0.1]
    assert points["y"].between(0.8, 1.25).all()
    others = points.loc[points["x"].ne(0.03)]
    assert (others["low"].lt(others["y"]) & others["high"].gt(others["y"])).all()
    ax = plot_theory_curves(frame, "tau_null")
    assert ax.get_yscale() == "log" and "÷ default's" in ax.get_ylabel()


def test_prior_error_is_drawn_where_it_holds(frame: pd.DataFrame) -> None:
    before = frame.copy()
    ax = plot_theory_curves(frame, "prior_error")
    pd.testing.assert_frame_equal(frame, before)
    right = ax.figure.axes[1]
    valid = theory_curves(frame).attrs["valid_from"]
    assert right.lines[0].get_xdata().min() >= valid
    assert "nats" in right.get_ylabel()
    no_curve = theory_curves(frame.assign(data_name="rings"))
    assert "moments of these data are not known" in no_curve.attrs["notes"]["prior_error"]
    with pytest.raises(AnalysisError, match="use prior_error, coverage, tau_null"):
        plot_theory_curves(frame, "everything")


def test_other_processes_are_counted_not_drawn(frame: pd.DataFrame) -> None:
    table = theory_curves(frame.assign(train_process="pfgmpp"))
    assert table.empty and table.attrs["skipped"]["another process than pfgm"] == len(frame)
    assert "nothing to compare" in plot_theory_curves(frame.assign(train_process="pfgmpp")).texts[0].get_text()


def test_outliers_by_truncation(frame: pd.DataFrame) -> None:
    before = frame.copy()
    table = outlier_map(frame).set_index(["max_radius_ratio", "T_ratio"])
    assert table.loc[(10.0, 1.0), "outlier_fraction"] == 0
    assert table.loc[(np.inf, 1.0), "outlier_fraction"] == pytest.approx(float(prior_tail(40.0, 64)))
    assert table.loc[(90.0, 1.0), "outlier_radius"] == 60
    assert table["n_fields"].eq(3).all()
    assert sum(outlier_map(frame).attrs["skipped"].values()) + table["n_rows"].sum() == len(frame)
    ax = plot_outlier_map(frame)
    pd.testing.assert_frame_equal(frame, before)
    drawn = {round(x, 6): y for c in ax.containers for x, y in zip(*c.lines[0].get_data(), strict=True)}
    assert drawn[10.0] == 0 and drawn[90.0] == pytest.approx(table.loc[(90.0, 1.0), "outlier_fraction"])
    assert "∞" in [tick.get_text() for tick in ax.get_xticklabels()]
    empty = plot_outlier_map(frame.assign(metric_outlier_fraction=np.nan))
    assert "no outlier fraction" in empty.texts[0].get_text()


def disturbed(frame: pd.DataFrame) -> pd.DataFrame:
    """Copies of the default sampler rows whose log FID rises by 2α, α the level, whatever the field's own noise."""
    base = frame.loc[frame["design_sampler_role"].eq("default")]
    copies = [
        base.assign(cell_id=base["cell_id"] + f"-{kind}-{level}", perturb_kind=kind, perturb_level=level,
                    metric_fid=base["metric_fid"] * math.exp(effect))
        for kind, effects in (("noise", {0.01: 0.02, 0.1: 0.2}), ("weight_bits", {8.0: 0.1, 4.0: 1.0}))
        for level, effect in effects.items()
    ]  # fmt: skip
    result = pd.concat([frame, *copies], ignore_index=True)
    result.attrs = frame.attrs
    return result


def test_degradation_is_paired_so_field_noise_cancels(frame: pd.DataFrame) -> None:
    table = perturbation_robustness(disturbed(frame)).set_index(["perturb_kind", "perturb_level"])
    row = table.loc[("noise", 0.1)]
    assert row["ratio"] == pytest.approx(math.exp(0.2)) and row["high"] - row["low"] < 1e-9
    assert row["n_fields"] == frame["train_id"].nunique()
    assert table.loc[("weight_bits", 4.0), "ratio"] == pytest.approx(math.e)


def test_lone_disturbed_rows_are_counted(frame: pd.DataFrame) -> None:
    rows = disturbed(frame)
    lone = rows.loc[rows["perturb_kind"].notna() | rows["design_sampler_role"].ne("default")]
    lone.attrs = frame.attrs
    table = perturbation_robustness(lone)
    assert table.attrs["skipped"]["no undisturbed row of this field, sampler point and seed"] == 4 * 27
    assert table.loc[table["perturb_kind"].eq("noise"), "ratio"].isna().all()
    with pytest.raises(AnalysisError, match="perturbation_robustness is for ratios, and less must be better; precision"):
        perturbation_robustness(rows, "precision")


def test_steps_compare_with_the_most_steps(frame: pd.DataFrame) -> None:
    table = perturbation_robustness(frame).set_index("perturb_level")
    assert table.index.tolist() == [8.0, 16.0, 32.0] and table["series"].eq("heun2").all()
    assert table.loc[32.0, "ratio"] == 1
    expected = math.exp(8 / 8 - 8 / 32)
    assert table.loc[8.0, "low"] < expected < table.loc[8.0, "high"]
    ax = plot_perturbation_robustness(frame, "steps")
    np.testing.assert_allclose(ax.containers[0].lines[0].get_ydata().astype(float), table["ratio"])
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log") and ax.xaxis.get_transform().base == 2
    bits = plot_perturbation_robustness(disturbed(frame), "weight_bits")
    assert bits.xaxis_inverted() and [t.get_text() for t in bits.get_xticklabels()] == ["4", "8"]
    assert "no row with perturb_kind noise" in plot_perturbation_robustness(frame, "noise").texts[0].get_text()
    with pytest.raises(AnalysisError, match="use noise, weight_noise"):
        plot_perturbation_robustness(frame, "fear")


def test_knee_of_a_known_front() -> None:
    front = pd.DataFrame({"nfe": [8.0, 16.0, 32.0, 64.0], "mean": [8.0, 2.0, 1.8, 1.7]}, index=[5, 6, 7, 9])
    assert knee_of(front) == 6
    assert knee_of(front.iloc[:2]) == -1
    assert knee_of(pd.DataFrame({"nfe": [8.0, 16.0, 32.0], "mean": [4.0, 2.0, 1.0]})) == -1  # a straight line has none


def test_fronts_of_single_seeds(frame: pd.DataFrame) -> None:
    fronts, table = seed_fronts(frame), pareto_front(frame)
    assert fronts["seed_train"].nunique() == 3
    for _, one in fronts.groupby("seed_train"):
        assert one["nfe"].is_monotonic_increasing and one["mean"].is_monotonic_decreasing
    counts = fronts.groupby(["point_id", "sampler_id"]).size()
    known = table.set_index(["point_id", "sampler_id"])["front_seeds"]
    assert (known.loc[counts.index] == counts).all() and known.sum() == counts.sum()
    assert table["cheapest_within"].sum() == 1
    chosen = table.loc[table["cheapest_within"]].iloc[0]
    assert chosen["nfe"] == table.loc[table["within_tolerance"], "nfe"].min()


def test_quality_cost_draws_curves_front_and_marks(frame: pd.DataFrame) -> None:
    before = frame.copy()
    ax = plot_quality_cost(frame)
    pd.testing.assert_frame_equal(frame, before)
    table = pareto_front(frame)
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "least over seeds (biased low)" in legend and "cheapest within 10%" in legend
    default = table.loc[table["design_role"].eq("default")]
    heun = default.loc[default["solver"].eq("heun2") & default["design_sampler_role"].str.contains("arm")].sort_values("nfe")
    curves = [c.lines[0].get_xydata() for c in ax.containers]
    assert any(c.shape == (len(heun), 2) and np.allclose(c, heun[["nfe", "mean"]]) for c in curves)
    squares = [line for line in ax.lines if line.get_marker() == "s" and line.get_markersize() == 11]
    assert squares[0].get_xdata()[0] == table.loc[table["cheapest_within"], "nfe"].iloc[0]
    assert len(plot_quality_cost(frame, metric="precision").containers) == len(curves)


def test_published_points_need_the_same_data_features_and_samples(frame: pd.DataFrame) -> None:
    assert published_points(frame).empty
    cifar = frame.assign(data_name="cifar10", metric_features="inception", metric_n=50_000)
    points = published_points(cifar)
    assert points.set_index("model").loc["PFGM (DDPM++)", ["fid", "nfe"]].tolist() == [2.48, 104]
    assert points.set_index("model").loc["EDM (D → ∞)", ["fid", "nfe"]].tolist() == [1.98, 35]
    assert published_points(cifar.assign(metric_n=10_000)).empty
    assert published_points(cifar.assign(metric_features="digits")).empty
    ax = plot_quality_cost(cifar)
    numbers = {line.get_marker(): line.get_xdata()[0] for line in ax.lines if str(line.get_marker()).startswith("$")}
    assert numbers == {f"${i}$": nfe for i, nfe in enumerate(points["nfe"], start=1)}
    assert not [line for line in plot_quality_cost(frame).lines if str(line.get_marker()).startswith("$")]


def test_it_reads_as_a_study_from_disk(tmp_path: Path) -> None:
    one = load_study(write_study(tmp_path / "one", Truth(train_axes=(), sampler_axes=(), train_seeds=1, samples=False)))
    for draw in (plot_quality_cost, plot_outlier_map, plot_theory_curves, plot_perturbation_robustness):
        assert draw(one).get_xlabel()
