"""Metrics of rows: what is not averaged, and what is refused where less must be better."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from analysis import (
    AnalysisError,
    parameter_importance,
    regional_sensitivity,
    summarize,
    tolerance_interval,
    tolerance_volume,
    worst_case,
)
from analysis.testing.studies import synthetic_frame
from analysis.testing.truth import Truth

pytestmark = pytest.mark.usefixtures("clean_figures")
ARMS = Truth(train_axes=("sigma",), sampler_axes=("T_ratio",))
BOX = Truth(design="sobol", trials=40, train_seeds=2, train_axes=("sigma", "tau", "reference_batch_size"), seed_noise=0.02,
            sampler_axes=("T_ratio",), sampler_points=8, effects={"sigma": lambda s: 0.4 * math.log(s / 0.03)})  # fmt: skip


def test_disturbed_rows_and_several_studies_are_not_averaged() -> None:
    frame = synthetic_frame(ARMS)
    disturbed = frame.assign(perturb_kind="noise", perturb_level=0.1, metric_fid=40.0)
    both = pd.concat([frame, disturbed], ignore_index=True)
    both.attrs = frame.attrs
    assert summarize(both)["mean"].tolist() == summarize(frame)["mean"].tolist()
    assert summarize(both).attrs["skipped"] == {"row of a disturbed field": len(frame)}
    both.attrs = {**frame.attrs, "studies": {"a": {}, "b": {}}}
    with pytest.raises(AnalysisError, match=r"take one with analysis\.of_study"):
        summarize(both)


def test_more_is_better_metrics_are_refused_where_less_must_be() -> None:
    frame = synthetic_frame(BOX)
    for function in (tolerance_volume, worst_case, regional_sensitivity, parameter_importance):
        with pytest.raises(AnalysisError, match=f"{function.__name__} is for ratios, and less must be better; precision"):
            function(frame, "precision")
    with pytest.raises(AnalysisError, match="tolerance_interval is for ratios"):
        tolerance_interval(frame, "sigma", metric="precision")
    with pytest.raises(AnalysisError, match=r"tolerance: must be above 0, e.g. 0.10 for 10 %, got 0"):
        tolerance_interval(frame, "sigma", tolerance=0.0)
