"""Partial dependence by a Gaussian process: formulas against brute force, coverage, ratings, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.stats import qmc

from analysis import AnalysisError, load_study, partial_curves, partial_ratings, plot_partial_curve, tolerance_interval
from analysis.robustness import gaussian
from analysis.robustness.gaussian import FAR, distances, partial_dependence
from analysis.testing.studies import synthetic_frame, write_study
from analysis.testing.truth import Truth

GRID = np.linspace(0, 1, 9)
SOBOL = Truth(
    design="sobol", trials=64, train_seeds=1, samples=False, effects={"sigma": lambda s: 0.2 * math.log(s / 0.1) ** 2}
)


def test_distances_of_categories_and_inactive_values() -> None:
    a, b = np.array([0.0, 1.0, math.nan]), np.array([1.0, math.nan])
    np.testing.assert_array_equal(distances(a, b, False), [[1, FAR], [0, FAR], [FAR, 0]])
    np.testing.assert_array_equal(distances(a, b, True), [[FAR, FAR], [0, FAR], [FAR, 0]])


def test_the_gradient_is_that_of_the_objective() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((20, 3)), rng.standard_normal(20)
    data = gaussian._Data(np.stack([distances(c, c, k == 2) for k, c in enumerate(x.T)]), y)
    theta, mean, sd = rng.standard_normal(8), np.zeros(8), np.full(8, 2.0)
    gradient = gaussian._objective(theta, data, mean, sd)[1]
    for k, step in enumerate(1e-6 * np.eye(8)):
        up, down = (gaussian._objective(theta + sign * step, data, mean, sd)[0] for sign in (1, -1))
        assert gradient[k] == pytest.approx((up - down) / 2e-6, rel=1e-5, abs=1e-6)


def test_the_formula_is_the_mean_over_the_others() -> None:
    """Mean and covariance for given amplitudes, against the posterior of f itself at 33 values of the other parameter."""
    rng = np.random.default_rng(0)
    x, theta = rng.random((15, 2)), np.array([0.2, -3.0, -0.5, 0.4, -0.3, -1.0])
    y = np.sin(4 * x[:, 0]) + x[:, 1] * x[:, 0]
    apart = np.stack([distances(c, c, False) for c in x.T])
    inner, places = gaussian._INNER, np.array([0.0, 0.4, 1.0])
    draw = gaussian._Draw(theta, apart, y)
    mean, covariance = gaussian._partial(draw, x, [False, False], [inner, inner], 0, places)
    scale, noise, a, lengths = *np.exp(theta[:2]), np.exp(theta[2:4]), np.exp(theta[4:])

    def kernel(p: np.ndarray, q: np.ndarray) -> np.ndarray:
        m = [gaussian._matern(np.abs(p[:, None, j] - q[None, :, j]) / lengths[j]) for j in (0, 1)]
        return np.asarray(gaussian._CONSTANT + scale * (a[0] * m[0] + a[1] * m[1] + a[0] * a[1] * m[0] * m[1]))

    every = np.array([[v, u] for v in places for u in inner])
    inverse = np.linalg.inv(kernel(x, x) + noise * np.eye(15))
    f, c = kernel(every, x) @ inverse @ y, kernel(every, every) - kernel(every, x) @ inverse @ kernel(x, every)
    average = np.kron(np.eye(3), np.full(33, 1 / 33))
    less = np.array([[1, 0, -1], [0, 1, -1]]) @ average
    np.testing.assert_allclose(mean, less @ f, atol=1e-8)
    np.testing.assert_allclose(covariance, less @ c @ less.T, atol=1e-8)


def test_bands_hold_the_curve() -> None:
    """Twelve studies of three parameters, 48 points: flat, monotone, U-shaped; two of them interact."""
    held = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x = qmc.Sobol(3, rng=rng).random(64)[:48]
        effects = [np.zeros_like, lambda v: 0.4 * v, lambda v: 1.2 * (v - 0.4) ** 2]
        y = sum(f(c) for f, c in zip(effects, x.T, strict=True)) + 0.15 * rng.standard_normal(48)
        y = y + 0.8 * (x[:, 0] - 0.5) * (x[:, 1] - 0.5)
        for f, curve in zip(effects, partial_dependence(x, y, [False] * 3, [GRID] * 3, [0.5] * 3), strict=True):
            error = np.abs(curve.mean - f(GRID) + f(np.array([0.5])))
            held.append((error <= 1.96 * np.sqrt(np.diag(curve.covariance)) + 1e-9)[GRID != 0.5].mean())
    assert np.mean(held) >= 0.9


def test_curves_rate_what_bins_leave_open() -> None:
    frame = synthetic_frame(SOBOL)
    curves = partial_curves(frame)
    table = partial_ratings(curves).set_index("parameter")
    assert table["rating"].to_dict() == {
        "sigma": "sensitive", "M": "robust", "tau": "robust", "reference_batch_size": "robust",
    }  # fmt: skip
    assert [tolerance_interval(frame, name).rating for name in ("M", "tau")] == ["undetermined"] * 2
    sigma = curves.loc[curves["parameter"].eq("sigma")]
    true = np.exp(0.2 * np.log(sigma["value"].astype(float) / 0.1) ** 2)
    assert (sigma["low_all"] <= true).all() and (true <= sigma["high_all"]).all()
    assert sigma.loc[sigma["is_default"], ["ratio", "low_all", "high_all"]].to_numpy() == pytest.approx(1.0)
    inside = 0.1 * math.exp(math.sqrt(math.log(1.1) / 0.2))
    assert 0.1 / inside * 0.1 <= table.loc["sigma", "low"] <= 0.1 <= table.loc["sigma", "high"] <= inside
    assert (table["n_points"] == 64).all() and (table["n_failed"] == 0).all()
    assert partial_ratings(curves, tolerance=1.0)["rating"].eq("robust").all()


def test_failed_points_are_left_out_and_counted(tmp_path: Path) -> None:
    truth = SOBOL.changed(status=lambda row: "diverged" if row["train_sigma"] > 0.2 else "complete")
    frame = load_study(write_study(tmp_path / "study", truth))
    curves = partial_curves(frame)
    n = curves.attrs["n_failed"]["train"]
    assert n > 3 and curves.attrs["skipped"]["failed train points"] == n
    assert curves.attrs["n_points"]["train"] == 64 - n
    assert curves.loc[curves["parameter"].eq("sigma"), "value"].max() <= 0.2


@pytest.mark.parametrize(
    ("truth", "words"),
    [
        (Truth(), "needs an iid or Sobol' design"),
        (SOBOL.changed(trials=9), r"needs 16 training points .*this study has [89]\."),
    ],
)
def test_what_has_no_curve_is_refused(truth: Truth, words: str) -> None:
    with pytest.raises(AnalysisError, match=words):
        partial_curves(synthetic_frame(truth))


def test_the_curve_is_drawn_with_its_band_and_the_default(clean_figures: None) -> None:
    frame = synthetic_frame(SOBOL)
    curves = partial_curves(frame)
    ax = plot_partial_curve(frame, "sigma", curves=curves, ax=plt.figure().subplots())
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log") and len(ax.collections) == 2
    (star,) = [line for line in ax.lines if line.get_marker() == "*"]
    assert [list(star.get_xdata()), list(star.get_ydata())] == [[0.1], [1.0]]
    assert any(np.allclose(line.get_ydata(), 1.1) for line in ax.lines), "the tolerance"
