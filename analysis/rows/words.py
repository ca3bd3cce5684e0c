"""Words and numbers as text: labels of parameters and metrics with their units, values, gaps, ratings.

The label of FID names its feature network and sample count, because values from different ones do not compare.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from analysis.rows.facts import column_of

LABELS = {
    "sigma": "σ (data units)",
    "tau": "τ",
    "M": "M (maximal exponent)",
    "height_ratio": "height σ(1+τ)^M (× the rule's)",
    "gamma": "γ (data units)",
    "reference_batch_size": "reference batch N_ref (points)",
    "steps": "steps",
    "batch_size": "batch size (points)",
    "learning_rate": "learning rate",
    "n_aug": "extra dimensions D",
    "P_mean": "P_mean (mean of log t)",
    "P_std": "P_std (sd of log t)",
    "T": "T (data units)",
    "T_ratio": "T (× the rule's T)",
    "t_min": "t_min (data units)",
    "rtol": "relative tolerance rtol",
    "atol": "absolute tolerance atol (data units)",
    "max_radius_ratio": "prior truncation R/T",
    "precision": "precision of the network",
    "width": "network width (units)",
    "depth": "network depth (blocks)",
}

ANCHORS = {
    "fid_floor": "bootstrap of the data",
    "fid_half": "half of the data against half",
    "fid_gaussian": "one pixel Gaussian",
}
ANCHOR_WORDS = {"fid_floor": "floor", "fid_half": "half", "fid_gaussian": "Gaussian"}


def metric_label(frame: pd.DataFrame, metric: str) -> str:
    """Return an axis label with its unit; FID names its feature network and sample count: ``FID (digits-cnn, n = 1000)``."""
    if metric in ("fid_test", "metric_fid_test"):
        return metric_label(frame, "fid").replace("FID (", "FID against held-out data (")
    if metric not in ("fid", "metric_fid"):
        return column_of(frame, metric).words or metric.replace("_", " ")
    known = frame.loc[frame["metric_fid"].notna()]
    names = [_feature_name(str(v)) for v in sorted(known["metric_features"].dropna().unique())]
    counts = [f"{int(v)}" for v in sorted(known["metric_n"].dropna().unique())]
    parts = (["/".join(names)] if names else []) + ([f"n = {'/'.join(counts)}"] if counts else [])
    return f"FID ({', '.join(parts)})" if parts else "FID"


def _feature_name(features: str) -> str:
    return f"{features}-cnn" if features in ("digits", "fashion_mnist") else features.replace("random", "random convolutions")


def plain_number(value: float, _: object = None) -> str:
    """Write three digits without an exponent below 100,000: 1800, 0.05, 1e-05."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e5 else f"{value:.3g}"


def plain_numbers(values: Iterable[float]) -> list[str]:
    """Write the numbers of an axis as `plain_number` does, infinity as ∞."""
    return [plain_number(value) if math.isfinite(value) else "∞" for value in values]


def format_value(value: object) -> str:
    """Write a parameter value as text: four digits, words as they are, a dash for none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.4g}" if isinstance(value, (int, float, np.number)) and not isinstance(value, bool) else str(value)


def percent(gap: float) -> str:
    """Write a relative gap as text; beyond tenfold its value says nothing more."""
    return f"{gap:.0%}" if math.isfinite(gap) and gap < 10 else "more than 1000%"


RATING_MARKS = {"robust": "●", "sensitive": "▲", "undetermined": "○", "not rated": "–"}
"""Signs beside the words, so that no rating is told by colour alone."""
