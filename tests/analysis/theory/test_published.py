"""Published points appear where data, features and sample count are theirs."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis import plot_quality_cost, published_points

pytestmark = pytest.mark.usefixtures("clean_figures")


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
