"""A study with known answers, for the tests of several rooms; a module that needs another has its own ``frame``."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from analysis import load_study
from analysis.testing.studies import write_study
from analysis.testing.truth import Truth
from analysis.theory.laws import coverage, prior_tail


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """A study of T, truncation and solver in which outliers are the latents beyond R/T = 40 and s steps cost 8/s in log FID."""
    truth = Truth(samples=False, effects={"sigma": lambda s: abs(math.log(10 * s))})
    rows = load_study(write_study(tmp_path_factory.mktemp("theory") / "study", truth))
    rows["metric_fid"] *= np.exp(8 / rows["sampler_steps"].astype(float)).fillna(1.0)
    rows["train_height_max"] = rows["train_height_max"].where(rows["design_role"].ne("arm:tau"), 3.6)
    rows["sampler_T"] = rows["train_height_max"] * math.sqrt(2 / math.pi) * rows["sampler_T_ratio"]
    rows["diag_coverage"] = [
        float(coverage(T / h, 64)) for T, h in zip(rows["sampler_T"], rows["train_height_max"], strict=True)
    ]
    rows["sampler_max_radius_ratio"] = rows["sampler_T_ratio"].map({0.3: 10.0, 0.5: 30.0, 2.0: 90.0})
    limit = rows["sampler_max_radius_ratio"].fillna(np.inf)
    rows["metric_outlier_fraction"] = np.maximum(prior_tail(40.0, 64) - prior_tail(limit, 64), 0)
    rows["diag_outlier_radius"] = np.where(limit > 40, 60.0, np.nan)
    rows["sampler_T_ratio"] = rows["sampler_T_ratio"].where(rows["sampler_max_radius_ratio"].isna(), 1.0)
    return rows
