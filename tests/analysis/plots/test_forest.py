"""Estimates and outcomes as lines and bars: marks are where the tables say."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from analysis import (
    compare,
    plot_comparisons,
    plot_failures,
    plot_summary,
    plot_tolerance_volume,
    plot_worst_case,
    summarize,
    tolerance_volume,
    worst_case,
)
from analysis.testing.studies import synthetic_frame
from analysis.testing.truth import Truth

pytestmark = pytest.mark.usefixtures("clean_figures")
ARMS = Truth(train_axes=("sigma",), sampler_axes=("T_ratio",))
BOX = Truth(design="sobol", trials=40, train_seeds=2, train_axes=("sigma", "tau", "reference_batch_size"), seed_noise=0.02,
            sampler_axes=("T_ratio",), sampler_points=8, effects={"sigma": lambda s: 0.4 * math.log(s / 0.03)})  # fmt: skip


@pytest.fixture(scope="module")
def box() -> pd.DataFrame:
    return synthetic_frame(BOX)


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
