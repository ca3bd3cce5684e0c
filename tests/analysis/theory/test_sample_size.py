"""Effective sample size: exact limits, an independent formula, pfgm's own weights, and the curve that is drawn."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch

from analysis import AnalysisError, effective_sample_size, plot_effective_sample_size
from analysis.theory.sample_size import effective_sources
from pfgm.field.empirical import log_weights
from pfgm.prior.law import PoissonPrior

mpl.use("Agg")

pytestmark = pytest.mark.usefixtures("clean_figures")


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("d", [1, 2, 64, 3072])
def test_limits(d: int) -> None:
    """t → ∞: every source counts; t → 0 at a source: that one alone."""
    y = normal(50, d)
    np.testing.assert_allclose(effective_sources(y[:3], 1e8, y), 50, rtol=1e-9)
    np.testing.assert_allclose(effective_sources(y[:3] + 1e-12, 1e-9, y), 1, rtol=1e-6)


def test_equidistant_sources() -> None:
    """Two at one distance are two at every height, k corners of a simplex are k."""
    two = np.array([[1.0, 0.0], [-1.0, 0.0]])
    for t in (1e-6, 0.1, 10.0):
        np.testing.assert_allclose(effective_sources(np.array([[0.0, 3.0]]), t, two), 2, rtol=1e-12)
        np.testing.assert_allclose(effective_sources(np.zeros((1, 40)), t, np.eye(40)), 40, rtol=1e-12)


def test_the_weights_are_the_fields() -> None:
    """1/Σ w² with the weights of `pfgm.field.empirical`, row blocks or not."""
    x, y = normal(200, 8), normal(70, 8, seed=1)
    for t in (0.05, 1.0, 20.0):
        w = log_weights(torch.from_numpy(x), t, torch.from_numpy(y)).exp().numpy()
        np.testing.assert_allclose(effective_sources(x, t, y), 1 / np.square(w).sum(1), rtol=1e-6)


def test_the_curve_goes_from_one_source_to_the_whole_batch() -> None:
    table = effective_sample_size(normal(300, 4), [1e-6, 1.0, 1e7], n_ref=[10, 100, 300])
    assert list(table.columns) == ["t", "n_ref", "ess", "low", "high"] and len(table) == 9
    ess = table.pivot_table(index="t", columns="n_ref", values="ess")
    np.testing.assert_allclose(ess.loc[1e-6], 1.0, rtol=1e-3)
    np.testing.assert_allclose(ess.loc[1e7], [10, 100, 300], rtol=1e-6)
    assert (ess.diff().iloc[1:] > 0).all(axis=None) and ess.loc[1.0].is_monotonic_increasing
    assert (table["low"] <= table["ess"]).all() and (table["ess"] <= table["high"]).all()
    assert (table["high"] <= table["n_ref"] * (1 + 1e-9)).all() and (table["low"] >= 1 - 1e-9).all()


def test_points_come_from_the_poisson_kernel() -> None:
    """Medians agree with points of `PoissonPrior` around the data; a Gaussian kernel of scale t would be far off."""
    y = normal(400, 3)
    measured = effective_sample_size(y, [0.5], n_points=4000).loc[0]
    own = np.random.default_rng(1).integers(400, size=4000)
    kernel = PoissonPrior(3, 0.5).sample([4000], torch.Generator().manual_seed(0)).numpy()
    wanted = np.quantile(effective_sources(y[own] + kernel, 0.5, y), (0.1, 0.5, 0.9))
    np.testing.assert_allclose(measured[["low", "ess", "high"]].astype(float), wanted, rtol=0.12)
    gaussian = effective_sources(y[own] + 0.5 * normal(4000, 3, seed=2), 0.5, y)
    assert abs(float(np.quantile(gaussian, 0.9)) / wanted[2] - 1) > 0.3


def test_equal_seeds_and_shapes() -> None:
    """Images are flattened; equal seeds give equal rows, other seeds others."""
    images = normal(40, 1, 2, 2)
    table = effective_sample_size(images, [0.1, 1.0], n_ref=20, seed=3, n_points=100)
    pd.testing.assert_frame_equal(table, effective_sample_size(images.reshape(40, 4), [0.1, 1.0], 20, seed=3, n_points=100))
    assert not table.equals(effective_sample_size(images, [0.1, 1.0], n_ref=20, seed=4, n_points=100))


def test_the_plot_shows_every_size() -> None:
    table = effective_sample_size(normal(60, 2), np.geomspace(0.01, 10, 8), n_ref=[20, 60], n_points=50)
    ax = plot_effective_sample_size(table)
    curves = [line for line in ax.lines if len(line.get_xdata()) == 8]
    for line, size in zip(curves, (20, 60), strict=True):
        np.testing.assert_allclose(line.get_ydata(), table.loc[table["n_ref"].eq(size), "ess"])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "median, batch of 20",
        "10 to 90 % of points, batch of 60",
        "median, batch of 60",
    ]
    assert "height t" in ax.get_xlabel() and "effective number" in ax.get_ylabel()
    assert ax is plot_effective_sample_size(table.iloc[:0], ax=ax)


def test_mistakes_are_named() -> None:
    y = normal(5, 2)
    with pytest.raises(AnalysisError, match="positive finite heights"):
        effective_sample_size(y, [0.0, 1.0])
    with pytest.raises(AnalysisError, match="n_ref: got 6; the data have 5 points"):
        effective_sample_size(y, [1.0], n_ref=[5, 6])
    with pytest.raises(AnalysisError, match="n_points: got 0"):
        effective_sample_size(y, [1.0], n_points=0)
