"""Values better than the default: told with what they cost, and rarely found where there are none."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import improvements, load_study, tolerance_interval
from analysis.report.sections.answers.short import verdict_sentences
from analysis.report.study import Study
from analysis.robustness.gains import improvement_sentences
from analysis.testing.studies import synthetic_frame, write_study
from analysis.testing.truth import Truth

pytestmark = pytest.mark.usefixtures("clean_figures")
GAIN = {"sigma": lambda v: -0.7 if v == 0.3 else 0.0, "rtol": lambda v: 1.5 if v == 0.1 else 0.0}
TRUTH = Truth(train_axes=("sigma", "tau"), sampler_axes=("rtol",), effects=GAIN)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    frame = synthetic_frame(TRUTH)
    here = frame["train_sigma"].eq(0.3)
    noise = np.random.default_rng(0).normal(0, 0.005, len(frame))
    frame["metric_recall"] = np.where(here, 0.5, 0.8) + noise
    frame["metric_precision"] = 0.9 + noise
    frame["cost_train_s"] = 60.0 + 1000 * noise
    return frame


def test_a_better_value_is_told_with_what_it_costs(frame: pd.DataFrame) -> None:
    """A gain of a half (log ratio -0.7, seed noise 0.05, 3 seeds) and a loss of recall of 0.3; precision and time stay."""
    table = improvements(frame)
    assert set(zip(table["parameter"], table["value"], strict=True)) == {("sigma", 0.3)}
    rows = table.set_index("quantity")
    assert list(rows.index) == ["fid", "precision", "recall", "nfe", "train_s"]
    assert rows.loc["fid", "change"] == pytest.approx(math.exp(-0.7), rel=0.15)
    assert rows.loc["fid", "high"] < 1 / 1.1
    assert rows.loc["recall", ["default", "mean", "change"]].tolist() == pytest.approx([0.8, 0.5, -0.3], abs=0.02)
    assert rows["moved"].to_dict() == {"fid": True, "precision": False, "recall": True, "nfe": False, "train_s": False}
    levels = tolerance_interval(frame, "sigma").levels.set_index("level")
    assert rows.loc["fid", ["change", "low", "high"]].tolist() == pytest.approx(np.exp(levels.loc[0.3, ["d", "low", "high"]]))
    (sentence,) = improvement_sentences(table, "FID")
    assert sentence.startswith("Better than the default by more than 10%: sigma = 0.3, FID × 0.")
    assert "recall 0.5 instead of 0.8" in sentence and "precision 0.9, unchanged" in sentence
    assert sentence in verdict_sentences(Study("one", frame, [tolerance_interval(frame, "sigma")]))[-1].replace(
        "FID (digits-cnn, n = 1000)", "FID"
    )


def test_no_false_gain() -> None:
    """With no effect at all, at most one of 60 parameters of 30 studies has a better value: smallest rate seen 10 %."""
    flat = [improvements(synthetic_frame(TRUTH.changed(effects={}, seed=seed))) for seed in range(30)]
    assert sum(table["parameter"].nunique() for table in flat) <= 1
    small = improvements(synthetic_frame(TRUTH.changed(effects={"sigma": lambda v: -0.08 if v == 0.3 else 0.0})))
    assert small.empty, "a gain within the tolerance is none"
    assert improvement_sentences(small, "FID") == ["No tested value is surely better than the default by more than 10%."]


def test_failures_and_single_seeds_are_no_gain_and_a_box_gains_by_bins(tmp_path: Path) -> None:
    failed = TRUTH.changed(
        status=lambda r: "failed" if r["train_sigma"] == 0.3 and r["seed_train"] == 0 else "complete", samples=False
    )
    table = improvements(load_study(write_study(tmp_path / "failed", failed)))
    assert table.empty and table.attrs["skipped"] == {
        "sigma: status failed": 1,
        "rtol: status failed": 5,
        "rtol: rows of fields without a complete cell": 5,
    }, "a value where fields fail is not better"
    lonely = synthetic_frame(TRUTH.changed(train_seeds=1))
    assert improvements(lonely).query("parameter == 'sigma'").empty, "one seed has no interval"
    sobol = TRUTH.changed(design="sobol", trials=48, sampler_points=3, effects={"sigma": lambda v: -math.log(v)})
    better = improvements(synthetic_frame(sobol))
    assert better["parameter"].eq("sigma").all() and better["value"].min() > 0.1, "bins above the default's"
    tpe = synthetic_frame(sobol.changed(design="tpe"))
    assert improvements(tpe).empty and improvement_sentences(improvements(tpe), "FID") == []
