r"""Count the sources of a reference batch that a training point sees, against its height.

PFGM's target at (x, t) is a mean over the reference batch with weights w_j ∝ ρ_j^{−(d+1)}, ρ_j² = ‖x − y_j‖² + t². Its
effective sample size 1/Σ_j w_j² says how many of the N_ref sources take part: one at the bottom, where the nearest decides, and
all of them far up, where they look alike. In between lies where a larger batch changes the target, and where its bias is made.
Points are drawn as in training, from the Poisson kernel at height t around a data point that belongs to the batch: x = y + R u,
R = t ‖g_d‖/|g_1|. The same directions and radii R/t serve at every height, and the batches of one point are nested. So curves
differ by height and size alone.

Source: PFGM (arXiv 2209.11178), the weights of the reference batch; 1/Σ w² is Kish's effective sample size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from analysis.rows.meta import AnalysisError

ROWS = 64
"""Points whose distances to all sources are held at once."""
BAND = (0.1, 0.9)
"""Quantiles over points between which the band lies."""
_COLUMNS = ["t", "n_ref", "ess", "low", "high"]


def effective_sources(x: np.ndarray, t: float, sources: np.ndarray) -> np.ndarray:
    """Return the number of sources seen from (x, t): 1/Σ_j w_j², w_j ∝ (‖x − y_j‖² + t²)^{−(d+1)/2}, shape (B,).

    Args:
        x: points, shape (B, d), data units.
        t: height, positive, data units.
        sources: the reference batch, shape (N, d).
    """
    parts = [cdist(part, sources, "sqeuclidean") for part in np.array_split(x, max(1, len(x) // ROWS))]
    return np.concatenate([_effective(squared, t, sources.shape[1]) for squared in parts])


def effective_sample_size(
    x: np.ndarray, heights: Sequence[float] | np.ndarray, n_ref: int | Sequence[int] | None = None, *,
    seed: int = 0, n_points: int = 256,
) -> pd.DataFrame:  # fmt: skip
    """Compute the effective sample size of reference batches of several sizes at several heights.

    Args:
        x: data points, shape (N, …), data units, flattened to (N, d).
        heights: t, positive, data units.
        n_ref: sizes of the reference batch, each from 1 to N (default: all N points).
        seed: of the points and the batches.
        n_points: training points that are looked from at every height.
    Returns:
        t, n_ref, ess (median over the points), low, high (10 % and 90 % quantiles over the points); one row a size and height.
    Raises:
        AnalysisError: a height that is not positive and finite, a size outside 1 … N, or no point.
    """
    flat = np.asarray(x, dtype=float).reshape(len(x), -1)
    levels = np.asarray(heights, dtype=float).ravel()
    sizes = [len(flat)] if n_ref is None else [int(n) for n in np.atleast_1d(n_ref)]
    _check(levels, sizes, len(flat), n_points)
    rng = np.random.default_rng(seed)
    found = [_seen(flat, levels, sizes, min(ROWS, n_points - start), rng) for start in range(0, n_points, ROWS)]
    ess = np.concatenate(found, axis=2)  # (sizes, heights, points)
    low, middle, high = np.quantile(ess, (BAND[0], 0.5, BAND[1]), axis=2)
    rows = [
        (float(t), n, middle[i, k], low[i, k], high[i, k]) for i, n in enumerate(sizes) for k, t in enumerate(levels)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=_COLUMNS)


def _effective(squared: np.ndarray, t: float, d: int) -> np.ndarray:
    """Return 1/Σ w² of squared distances (B, N) in log space: (Σ k)²/Σ k², k = ρ^{−(d+1)}."""
    log_kernel = -0.5 * (d + 1) * np.log(squared + t**2)
    return np.asarray(np.exp(2 * logsumexp(log_kernel, axis=1) - logsumexp(2 * log_kernel, axis=1)))


def _seen(flat: np.ndarray, levels: np.ndarray, sizes: list[int], n: int, rng: np.random.Generator) -> np.ndarray:
    """Return effective sizes of n points, (sizes, heights, n); a batch has a point's own source, then a random order."""
    count, d = flat.shape
    own = rng.integers(count, size=n)
    normal = rng.standard_normal((n, d))
    step = normal / np.linalg.norm(normal, axis=1, keepdims=True)
    step *= np.sqrt(rng.chisquare(d, n)[:, None]) / np.abs(rng.standard_normal((n, 1)))
    order = np.argsort(np.where(np.arange(count) == own[:, None], -1.0, rng.random((n, count))), axis=1)
    ess = np.empty((len(sizes), len(levels), n))
    for k, t in enumerate(levels):
        squared = np.take_along_axis(cdist(flat[own] + t * step, flat, "sqeuclidean"), order, axis=1)
        for i, size in enumerate(sizes):
            ess[i, k] = _effective(squared[:, :size], t, d)
    return ess


def _check(levels: np.ndarray, sizes: list[int], count: int, n_points: int) -> None:
    if not (np.isfinite(levels).all() and (levels > 0).all()):
        raise AnalysisError(f"heights: got {levels.min()} to {levels.max()}; give positive finite heights, e.g. np.geomspace")
    for size in sizes:
        if not 1 <= size <= count:
            raise AnalysisError(f"n_ref: got {size}; the data have {count} points, give 1 to {count}")
    if n_points < 1:
        raise AnalysisError(f"n_points: got {n_points}; give at least 1")
