"""Labels, scales and visible failures of the plots."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from analysis import (
    learning_curves,
    load_study,
    plot_interaction,
    plot_learning_curves,
    plot_quality_cost,
    plot_robustness,
    plot_samples,
    plot_solver_tolerance,
)
from analysis.plots.style import log_limits, pad_log, set_parameter_axis
from analysis.rows.meta import Axis
from analysis.testing.studies import write_study
from analysis.testing.truth import Truth

mpl.use("Agg")


pytestmark = pytest.mark.usefixtures("clean_figures")


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    def status(row: dict[str, object]) -> str:
        return "failed" if row["train_sigma"] == 0.3 and row["seed_train"] == 0 else "complete"

    return load_study(write_study(tmp_path_factory.mktemp("plots") / "study", Truth(status=status)))


def texts(ax: Axes) -> str:
    return " ".join(text.get_text() for text in ax.texts)


def test_an_interval_that_ends_near_the_values_is_not_cut_and_a_far_one_runs_past_the_frame() -> None:
    ax, shares = plt.figure().subplots(), np.array([0.68, 0.69])
    pad_log(ax, shares, False, np.array([[0.655, 0.71], [math.nan, 0.99]]))
    bottom, top = ax.get_ylim()
    assert bottom < 0.655 and 0.71 < top < 0.75
    pad_log(ax, shares, False)
    assert ax.get_ylim()[0] > 0.655, "without intervals the frame is narrower"
    values = np.array([1.0, 10.0])
    assert log_limits(values, np.array([0.5, 24.0, 1000.0]), 1.5, 1.7) == pytest.approx((0.5 / 1.05, 24.0 * 1.05))
    assert log_limits(values, np.array([math.nan, 0.0]), 1.5, 1.7) == pytest.approx((1 / 1.5, 17.0))


def test_robustness_labels_scales_star_and_failures(frame: pd.DataFrame) -> None:
    ax = plot_robustness(frame, "sigma")
    assert ax.get_xlabel() == "σ (data units)"
    assert ax.get_ylabel() == "FID (digits-cnn, n = 1000)"
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert "×\n1" in texts(ax)
    assert "n=3" in texts(ax)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0.03", "0.1", "0.3"]
    assert any(line.get_marker() == "*" and list(line.get_xdata()) == [0.1] for line in ax.lines)
    assert any(line.get_markerfacecolor() == "white" and list(line.get_xdata()) == [0.3] for line in ax.lines)


def test_scale_follows_the_search(frame: pd.DataFrame) -> None:
    assert plot_robustness(frame, "M").get_xscale() == "linear"
    assert plot_robustness(frame, "sigma", metric="recall").get_yscale() == "linear"
    assert plot_robustness(frame, "T").get_xlabel() == "T (× the rule's T)"
    solver = plot_robustness(frame, "solver")
    assert [tick.get_text() for tick in solver.get_xticklabels()] == ["dopri5", "heun2"]


def test_given_axes_are_used_and_returned(frame: pd.DataFrame) -> None:
    _, ax = plt.subplots()
    assert plot_robustness(frame, "tau", ax=ax) is ax
    assert plot_quality_cost(frame, ax=ax) is ax


def test_quality_against_cost_has_log_axes_and_a_legend_of_solvers(frame: pd.DataFrame) -> None:
    ax = plot_quality_cost(frame)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert ax.xaxis.get_transform().base == 2
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend[:4] == ["dopri5", "heun2", "default", "some failed"]


def test_anchors_stand_beside_fid(frame: pd.DataFrame) -> None:
    ax = plot_robustness(frame, "sigma")
    shown = texts(ax) + ax.get_title(loc="right")
    assert all(value in shown for value in ("0.1", "0.34", "16.3"))


def test_solver_tolerance_and_its_error(frame: pd.DataFrame) -> None:
    ax = plot_solver_tolerance(frame)
    assert ax.get_xlabel() == "relative tolerance rtol"
    assert ax.get_ylabel() == "solver error, median RMS (data units)"
    assert plot_solver_tolerance(frame, quantity="nfe").yaxis.get_transform().base == 2
    with pytest.raises(ValueError, match="use solver_error, quality or nfe"):
        plot_solver_tolerance(frame, quantity="beauty")


def test_interaction_marks_failed_cells(frame: pd.DataFrame) -> None:
    ax = plot_interaction(frame, "sigma", "T_ratio")
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert len(ax.collections[0].get_offsets()) == 15


def test_learning_curves_know_roles(frame: pd.DataFrame) -> None:
    history = learning_curves(frame.attrs["path"])
    assert set(history["design_role"]) >= {"default", "arm:sigma"}
    ax = plot_learning_curves(history)
    segments = [line for collection in ax.collections for line in collection.get_segments()]
    assert len(segments) == history["train_id"].nunique()
    first = history.loc[history["train_id"].eq(history["train_id"].iloc[0]), ["step", "loss"]].to_numpy()
    assert any(len(line) == len(first) and (line == first).all() for line in segments)
    assert ax.get_xlabel() == "training step"


def test_samples_by_role_and_cell(frame: pd.DataFrame) -> None:
    ax = plot_samples(frame, "default")
    assert ax.get_title().startswith("default: FID")
    assert len(ax.images) == 1
    assert len(plot_samples(frame.attrs["path"], str(frame["cell_id"].iloc[-1])).images) == 1
    with pytest.raises(ValueError, match="no such cell in this study"):
        plot_samples(frame, "nothing")


def test_features_of_other_data_are_named(tmp_path: Path) -> None:
    truth = Truth(train_axes=("sigma",), sampler_axes=(), features="pixels", samples=False)
    assert plot_robustness(load_study(write_study(tmp_path / "toy", truth)), "sigma").get_ylabel().startswith("sliced Wass")


def test_an_infinite_value_has_its_place_on_the_axis() -> None:
    """PFGM++ up to ∞ extra dimensions: the values in order, ∞ last, and no scale."""
    _, ax = plt.subplots()
    axis = Axis("n_aug", "train", "train_n_aug", "extra dimensions D", True, False, 32.0, math.inf, 128.0)
    assert set_parameter_axis(ax, axis, [math.inf, 32.0, 128.0]) == {32.0: 0.0, 128.0: 1.0, math.inf: 2.0}
    assert [label.get_text() for label in ax.get_xticklabels()] == ["32", "128", "∞"]


def test_an_axis_without_a_point_of_its_own_says_so(frame: pd.DataFrame) -> None:
    """A design that has measured its default only has no curve yet: a sentence on empty axes."""
    rows = frame.loc[frame["design_role"].eq("default") & frame["design_sampler_role"].eq("default")].reset_index(drop=True)
    rows.attrs = {**frame.attrs, "study": {**frame.attrs["study"], "design": {"name": "tpe"}}}
    ax = plot_robustness(rows, "sigma")
    assert [text.get_text() for text in ax.texts] == ["no complete row"]
