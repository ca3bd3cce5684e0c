"""Importance and regional sensitivity: the truth is found, by scipy's own statistics."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from scipy import stats

from analysis import parameter_importance, plot_parameter_importance, plot_regional_sensitivity, regional_sensitivity
from analysis.statistics.box import design_points
from analysis.testing.studies import synthetic_frame
from analysis.testing.truth import Truth

pytestmark = pytest.mark.usefixtures("clean_figures")
BOX = Truth(design="sobol", trials=40, train_seeds=2, train_axes=("sigma", "tau", "reference_batch_size"), seed_noise=0.02,
            sampler_axes=("T_ratio",), sampler_points=8, effects={"sigma": lambda s: 0.4 * math.log(s / 0.03)})  # fmt: skip


@pytest.fixture(scope="module")
def box() -> pd.DataFrame:
    return synthetic_frame(BOX)


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
