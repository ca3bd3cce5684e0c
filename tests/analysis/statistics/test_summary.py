"""Means, intervals, outcome counts and seeds needed: printed formulas, coverage and power."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import failure_table, load_study, seeds_needed, summarize
from analysis.statistics.summary import sd_interval, t_interval
from analysis.testing.studies import write_study
from analysis.testing.truth import Truth

SIGMA = Truth(train_axes=("sigma",), sampler_axes=("T_ratio",), samples=False)


def study(tmp_path: Path, truth: Truth) -> pd.DataFrame:
    return load_study(write_study(tmp_path / "study", truth))


def test_t_interval_is_scipys() -> None:
    y = np.array([0.1, 0.5, 0.2, 0.9])
    low, high = stats.t.interval(0.95, len(y) - 1, loc=y.mean(), scale=stats.sem(y))
    interval = t_interval(y)
    assert (interval.low, interval.high) == pytest.approx((low, high), rel=1e-12)
    assert math.isnan(t_interval([1.0]).low)
    assert t_interval([]).n == 0


def test_t_interval_covers_95_percent() -> None:
    """400 repetitions at n = 3: the standard error of coverage is 1.1 %, so a true coverage below 91 % fails."""
    rng = np.random.default_rng(1)
    intervals = [t_interval(rng.normal(0.3, 0.2, 3)) for _ in range(400)]
    coverage = np.mean([i.low <= 0.3 <= i.high for i in intervals])
    assert 0.915 < coverage < 0.985


def test_summary_is_the_printed_formula(tmp_path: Path) -> None:
    """Three points of three fields, two sample seeds: ν moderated by the other points, plus what the sample seeds share."""
    frame = study(tmp_path, SIGMA.changed(sample_seeds=2, shared_noise=0.02, seed_spread=3.0))
    row = summarize(frame).iloc[0]
    at = frame.loc[frame["sampler_id"].eq(row["sampler_id"])].assign(y=lambda f: np.log(f["metric_fid"]))
    fields = at.groupby(["point_id", "train_id"])["y"].mean()
    s2 = fields.groupby(level="point_id").var(ddof=1)
    own = (3 * s2.mean() + 2 * s2[row["point_id"]]) / (3 + 2) / 3
    seeds = []
    for _, point in at.groupby("point_id"):
        table = point.pivot_table(index="train_id", columns="seed_sample", values="y")
        r = table.sub(table.mean(axis=1), axis=0)
        seeds.append((r.mean().var(ddof=1), ((r - r.mean()) ** 2).to_numpy().sum() / (2 * 1)))
    shared = np.mean([v - np.mean([e for _, e in seeds]) / 3 for v, _ in seeds])
    assert shared > 0
    df = (own + shared / 2) ** 2 / (own**2 / 5 + (shared / 2) ** 2 / 1)
    half = stats.t.ppf(0.975, df) * math.sqrt(own + shared / 2)
    mean = fields[row["point_id"]].mean()
    assert (row["n_train_seeds"], row["n_sample_seeds"], row["n_rows"]) == (3, 2, 6)
    assert [row["mean"], row["low"], row["high"]] == pytest.approx(np.exp([mean, mean - half, mean + half]).tolist(), rel=1e-12)
    cell = frame.loc[frame["point_id"].eq(row["point_id"]) & frame["sampler_id"].eq(row["sampler_id"])]
    assert row["min_of_seeds"] == cell["metric_fid"].min() < row["mean"]


def test_one_seed_has_no_interval_and_missing_metrics_are_counted(tmp_path: Path) -> None:
    summary = summarize(study(tmp_path, SIGMA.changed(train_seeds=1, metrics=False)))
    assert summary["mean"].isna().all()
    assert summary.attrs["skipped"] == {"fid missing": 15}
    with pytest.raises(ValueError, match="use one of fid"):
        summarize(study(tmp_path / "b", SIGMA), metric="beauty")


def test_failure_table_counts_by_value(tmp_path: Path) -> None:
    frame = study(tmp_path, SIGMA.changed(status=lambda r: "diverged" if r["train_sigma"] == 0.3 else "complete"))
    table = failure_table(frame, "sigma").set_index("value")
    assert table.loc[0.3, "diverged"] == 15
    assert table["total"].tolist() == [15, 15, 15]
    assert failure_table(frame)["complete"].tolist() == [30]


def test_power_matches_the_known_sizes() -> None:
    """20 % seed noise: about 700 seeds a side for 3 %, about 60 to 70 for 10 %."""
    assert seeds_needed(0.2, 0.03) == pytest.approx(718, rel=0.02)
    assert 60 <= seeds_needed(0.2, 0.10) <= 72
    assert seeds_needed(0.2, 0.10, paired=True) == 37
    assert seeds_needed(0.03, 0.10) == 3, "Student's t: two a side cannot tell 10 % at 3 % noise"


def test_two_fields_say_little_about_the_spread() -> None:
    assert sd_interval(1.0, 1) == pytest.approx((0.446, 31.91), rel=1e-3)
    assert sd_interval(2.0, 100) == pytest.approx((1.756, 2.323), rel=1e-3)


def test_planned_seeds_have_the_power_they_promise() -> None:
    """2,000 studies of seeds_needed(8 %, 10 %) fields a side; the standard error of the detected share is 0.9 %."""
    n = seeds_needed(0.08, 0.10)
    a, b = np.random.default_rng(0).normal(0, 0.08, (2, 2000, n))
    detected = (stats.ttest_ind(a, b + np.log(1.1), axis=1).pvalue < 0.05).mean()
    assert 0.77 <= detected <= 0.84
