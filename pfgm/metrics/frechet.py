"""Fréchet distance between two Gaussians fitted to feature vectors, float64 throughout."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Moments(NamedTuple):
    """Mean (k,) and unbiased covariance (k, k), float64."""

    mean: Tensor
    covariance: Tensor


def moments(features: Tensor) -> Moments:
    """`Moments` of features (n, k)."""
    features = features.double()
    return Moments(features.mean(0), torch.cov(features.T).reshape(features.shape[1], features.shape[1]))


def frechet_distance(
    mean_1: Tensor | np.ndarray, cov_1: Tensor | np.ndarray, mean_2: Tensor | np.ndarray, cov_2: Tensor | np.ndarray
) -> float:
    r"""‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂) − 2 Σ √λ(Σ₁^{1/2} Σ₂ Σ₁^{1/2}), the square roots by symmetric eigenvalues.

    Args:
        mean_1, mean_2: shape (k,).
        cov_1, cov_2: shape (k, k), symmetric, positive semi-definite.
    Raises:
        ValueError: the shapes do not agree, or an entry is not finite.
    Source: Heusel et al., arXiv 1706.08500 (FID); Dowson & Landau 1982 for the distance.
    """
    m_1, s_1, m_2, s_2 = (torch.as_tensor(a, dtype=torch.float64) for a in (mean_1, cov_1, mean_2, cov_2))
    m_2, s_1, s_2 = (a.to(m_1.device) for a in (m_2, s_1, s_2))  # statistics that were kept come back on the host
    k = len(m_1)
    if m_2.shape != (k,) or s_1.shape != (k, k) or s_2.shape != (k, k):
        raise ValueError(f"means must be (k,), covariances (k, k); got {[tuple(a.shape) for a in (m_1, s_1, m_2, s_2)]}")
    if not all(bool(torch.isfinite(a).all()) for a in (m_1, s_1, m_2, s_2)):
        raise ValueError("means and covariances must be finite: a sample or feature was not")
    values, vectors = torch.linalg.eigh(s_1)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    overlap = torch.linalg.eigvalsh(root @ s_2 @ root).clamp(min=0).sqrt().sum()
    return float((m_1 - m_2).square().sum() + s_1.trace() + s_2.trace() - 2 * overlap)
