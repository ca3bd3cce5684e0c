r"""Compute what exact fields predict in closed form: the prior's error, its tail, and the share of it that training reaches.

*Starting from the prior at a finite height T.* Seen from the plane t = T the data are one charge only to leading order. With
h_y(x) the kernel of a source y divided by the prior, the true law is p_T = p · E_y[h_y]. To leading order in y/T,
KL(p_T‖p) ≈ ½ E_p[(E_y h_y − 1)²]. The first order in y is the score of a shifted kernel, with Fisher information
(d+1)/((d+3) T²) · I. So a mean μ ≠ 0 costs (d+1)/(2(d+3)) ‖μ‖²/T². Centred data leave the second order, a quadratic form in
the covariance C:  3(d+1)/(8 T⁴ (d+3)) · [2(d+3)² tr C² − 2(d−1)(tr C)²]/((d+5)(d+7)). The expansion is used for
T ≥ 3 √λ_max(C) and ‖μ‖ ≤ T/3 only. It concerns the exact field without truncation, in nats; FID has another scale.

*Coverage.* Training reaches R_max = √d t_hi at the top. So the share of latents that start inside,
P(R ≤ R_max) = I_{d/(d+(T/t_hi)²)}(d/2, 1/2), is a function of T over the height and of d alone. It is drawn and never rated.

Source: PFGM (arXiv 2209.11178) for the kernel and the prior; the expansions are derived here.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special


def prior_tail(ratio: np.ndarray | float, dim: int) -> np.ndarray:
    r"""Return P(R/T > r) of the untruncated Poisson prior: I_{1/(1+r²)}(1/2, d/2), without the cancellation of 1 − CDF.

    Args:
        ratio: r ≥ 0, the radius in units of the starting height.
        dim: dimension d of the data.
    Source: R²/(R² + T²) ~ Beta(d/2, 1/2), from the radial law r^{d−1}(r² + T²)^{−(d+1)/2}.
    """
    return np.asarray(special.betainc(0.5, 0.5 * dim, 1.0 / (1.0 + np.square(ratio))))


VALID_SD, VALID_MEAN = 3.0, 1 / 3
"""The expansion in y/T holds for T ≥ 3 √λ_max(C) and ‖μ‖ ≤ T/3."""


class DataMoments(NamedTuple):
    """Moments of the data as trained (centred or not), on which the prior's error depends."""

    dim: int
    mean_norm: float
    """‖μ‖ in data units."""
    trace: float
    """tr C."""
    trace_square: float
    """tr C²."""
    top: float
    """λ_max(C), the variance of the first principal component."""


def data_moments(x: np.ndarray) -> DataMoments:
    """Compute the moments of a data set as it is trained on.

    Args:
        x: data points, shape (N, …), in data units, flattened to (N, d).
    """
    flat = np.asarray(x, dtype=float).reshape(len(x), -1)
    mean = flat.mean(axis=0)
    values = np.linalg.eigvalsh(np.cov(flat, rowvar=False, bias=True).reshape(flat.shape[1], -1))
    norm, trace, square = float(np.linalg.norm(mean)), float(values.sum()), float(np.square(values).sum())
    return DataMoments(flat.shape[1], norm, trace, square, float(values[-1]))


def known_moments(frame: pd.DataFrame) -> DataMoments | None:
    """Return the moments of the study's data where they are known here: scikit-learn's digits, in [−1, 1], centred or raw."""
    names, centred = frame["data_name"].dropna().unique(), frame["data_center"].dropna().unique()
    if list(names) != ["digits"] or len(centred) != 1:
        return None
    from sklearn.datasets import load_digits  # a second of imports that other data do not need

    x = load_digits().images / 8.0 - 1.0
    return data_moments(x - x.mean(axis=0) if centred[0] else x)


def prior_error(T: np.ndarray | float, moments: DataMoments) -> np.ndarray:
    r"""Return KL(p_T‖prior) in nats to leading order, NaN below the heights where the expansion holds.

    (d+1)/(2(d+3)) ‖μ‖²/T² + 3(d+1)/(8 T⁴ (d+3)) · [2(d+3)² tr C² − 2(d−1)(tr C)²]/((d+5)(d+7)): the first term leads when
    ‖μ‖ is not small against tr C / T, the second when the data are centred.

    Args:
        T: starting heights, data units.
        moments: of the data as trained.
    """
    heights = np.asarray(T, dtype=float)
    d = moments.dim
    form = 2 * (d + 3) ** 2 * moments.trace_square - 2 * (d - 1) * moments.trace**2
    second = 3 * (d + 1) / (8 * heights**4 * (d + 3)) * form / ((d + 5) * (d + 7))
    first = (d + 1) / (2 * (d + 3)) * moments.mean_norm**2 / heights**2
    valid = (heights >= VALID_SD * math.sqrt(moments.top)) & (moments.mean_norm <= VALID_MEAN * heights)
    return np.where(valid, first + second, np.nan)


def coverage(ratio: np.ndarray | float, dim: int) -> np.ndarray:
    """Return P(R ≤ √d t_hi) for a start at T = ratio · t_hi: the share of the prior that training reached, in [0, 1]."""
    return np.asarray(1.0 - prior_tail(math.sqrt(dim) / np.asarray(ratio, dtype=float), dim))
