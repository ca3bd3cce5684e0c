"""Predictions beside measurements: points lie on the curve, and others are counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import (
    AnalysisError,
    data_moments,
    load_study,
    plot_outlier_map,
    plot_perturbation_robustness,
    plot_quality_cost,
    plot_theory_curves,
    theory_curves,
)
from analysis.testing.studies import write_study
from analysis.testing.truth import Truth
from analysis.theory.laws import coverage, known_moments
from pfgm.config import DataConfig
from pfgm.data.dataset import load_data

pytestmark = pytest.mark.usefixtures("clean_figures")


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


def test_it_reads_as_a_study_from_disk(tmp_path: Path) -> None:
    one = load_study(write_study(tmp_path / "one", Truth(train_axes=(), sampler_axes=(), train_seeds=1, samples=False)))
    for draw in (plot_quality_cost, plot_outlier_map, plot_theory_curves, plot_perturbation_robustness):
        assert draw(one).get_xlabel()
