"""Variance components: the truth is found, and what one seed cannot tell is left out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis import plot_variance_components, variance_components
from analysis.testing.studies import synthetic_frame
from analysis.testing.truth import Truth

pytestmark = pytest.mark.usefixtures("clean_figures")


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
