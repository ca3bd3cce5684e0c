"""Quality against cost as a picture: knee, fronts of seeds, curves and marks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis import pareto_front, plot_quality_cost, seed_fronts
from analysis.statistics.pareto import knee_of

pytestmark = pytest.mark.usefixtures("clean_figures")


def test_the_knee_of_a_known_front_is_found_and_a_straight_line_has_none() -> None:
    front = pd.DataFrame({"nfe": [8.0, 16.0, 32.0, 64.0], "mean": [8.0, 2.0, 1.8, 1.7]}, index=[5, 6, 7, 9])
    assert knee_of(front) == 6
    assert knee_of(front.iloc[:2]) == -1
    assert knee_of(pd.DataFrame({"nfe": [8.0, 16.0, 32.0], "mean": [4.0, 2.0, 1.0]})) == -1  # a straight line has none


def test_fronts_of_single_seeds_fall_and_are_counted_in_the_table(frame: pd.DataFrame) -> None:
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
