"""Curves of a Gaussian process: they hold the truth, say what is flat and what is not, and refuse what cannot be asked."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis import AnalysisError, parameter_curves, plot_parameter_curve
from analysis.testing.studies import synthetic_frame
from analysis.testing.truth import Truth

pytestmark = pytest.mark.usefixtures("clean_figures")
BOX = Truth(design="sobol", trials=48, train_seeds=2, seed_noise=0.06, sampler_points=2)


def test_bands_hold_the_truth_and_ratings_say_it() -> None:
    """Six studies, σ acts as a parabola on the log axis, the others do not: bands cover 90 %, and σ alone is sensitive."""
    covered, ratings = [], []
    for seed in range(6):
        truth = BOX.changed(effects={"sigma": lambda s: 0.5 * math.log(s / 0.1) ** 2}, seed=seed)
        for curve in parameter_curves(synthetic_frame(truth)):
            true = [0.5 * math.log(float(v) / 0.1) ** 2 if curve.parameter == "sigma" else 0.0 for v in curve.grid]
            covered.append(np.mean((np.log(curve.low) <= true) & (true <= np.log(curve.high))))
            ratings.append((curve.parameter, curve.rating))
            if curve.parameter == "sigma":
                edge = math.exp(math.sqrt(math.log(1.1) / 0.5))
                assert (
                    curve.inside and 0.1 / edge / 1.1 <= float(curve.inside[0]) and float(curve.inside[-1]) <= 0.1 * edge * 1.1
                )
    assert np.mean(covered) >= 0.9
    assert sum(rating == ("sigma", "sensitive") for rating in ratings) == 6
    assert sum(word == "sensitive" for name, word in ratings if name != "sigma") <= 1
    assert sum(word == "robust" for name, word in ratings if name != "sigma") >= 9, "of 18: 48 points say something of each"


def test_a_curve_is_one_at_the_default_and_is_drawn() -> None:
    frame = synthetic_frame(BOX.changed(effects={"M": lambda m: 0.004 * (m - 121.0)}, status=lambda row: "complete"))
    curves = {curve.parameter: curve for curve in parameter_curves(frame)}
    assert set(curves) == {"sigma", "M", "tau", "reference_batch_size"} and curves["M"].n_points == 48
    m = curves["M"]
    at = int(np.argmin(np.abs(np.asarray(m.grid, dtype=float) - 121.0)))
    assert m.ratio[at] == pytest.approx(1.0, abs=0.03) and m.ratio[0] < 0.9 < 1.1 < m.ratio[-1]
    ax = plot_parameter_curve(frame, m)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), m.ratio)


def test_what_has_no_curves_is_told() -> None:
    with pytest.raises(AnalysisError, match=r"parameter_curves needs an iid or Sobol' design; this study used one_at_a_time"):
        parameter_curves(synthetic_frame(Truth()))
    with pytest.raises(AnalysisError, match=r"9 complete training points, 16 at least; raise design.trials"):
        parameter_curves(synthetic_frame(BOX.changed(trials=9)))
