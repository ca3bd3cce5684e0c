"""The curve of one parameter: means, and what was held fixed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import load_study, robustness_curve
from analysis.testing.studies import synthetic_frame, write_study
from analysis.testing.truth import Truth

SIGMA = Truth(train_axes=("sigma",), sampler_axes=("T_ratio",), samples=False)


def study(tmp_path: Path, truth: Truth) -> pd.DataFrame:
    return load_study(write_study(tmp_path / "study", truth))


def steep(strength: float) -> dict[str, object]:
    return {"sigma": lambda s: strength * abs(math.log(s / 0.1) / math.log(3))}


def test_held_fixed_names_what_every_compared_point_has() -> None:
    """Points of pfgmpp have no sigma, tau and M beside a default of pfgm: not held fixed; gamma, which both have, is."""
    frame = synthetic_frame(Truth(train_axes=("sigma",), sampler_axes=()))
    arm = frame["design_role"].eq("arm:sigma")
    own = ["train_sigma", "train_tau", "train_M", "train_reference_batch_size"]
    frame["train_n_aug"] = np.where(arm, 8.0, math.nan)
    frame.loc[arm, own] = math.nan
    frame["design_role"] = frame["design_role"].str.replace("sigma", "n_aug")
    frame.attrs["study"]["search"]["train"] = {"n_aug": {"choice": [8.0]}}
    frame["train_height_max"] = np.where(arm, 4.0, 3.6)
    frame["train_gamma"] = 5.0
    frame.loc[frame.index[frame["design_role"].eq("default")][0], "train_gamma"] = math.nan  # its trial ended early
    words = robustness_curve(frame, "n_aug", ["fid"]).attrs["held_fixed"]
    assert "held fixed: gamma = 5 (the largest height changes)" in words
    for name in ("sigma", "tau", "M =", "reference_batch_size"):
        assert name not in words
    frame["train_gamma"] = frame["train_gamma"].where(~arm)
    words = robustness_curve(frame, "n_aug", ["fid"]).attrs["held_fixed"]
    assert "held fixed" not in words and "the largest height changes" in words


def test_a_curve_has_geometric_means_and_says_what_was_held_fixed(tmp_path: Path) -> None:
    frame = study(tmp_path, SIGMA.changed(effects=steep(0.5)))
    curve = robustness_curve(frame, "sigma", ("fid", "precision"))
    at = frame.loc[frame["design_sampler_role"].eq("default") & frame["train_sigma"].eq(0.3), "metric_fid"]
    row = curve.loc[curve["metric"].eq("fid") & curve["value"].eq(0.3)].iloc[0]
    assert row["mean"] == pytest.approx(np.exp(np.log(at).mean()))
    assert (row["n_fields"], row["min"], row["max"]) == (3, pytest.approx(at.min()), pytest.approx(at.max()))
    assert "M = 121" in curve.attrs["held_fixed"]
    assert "largest height changes" in curve.attrs["held_fixed"]
