"""Edges: brackets made of verdicts, the isotonic fit, and intervals of the crossing that hold it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from analysis import (
    AnalysisError,
    parameter_overview,
    plot_parameter_overview,
    plot_robustness,
    tolerance_edges,
    tolerance_interval,
)
from analysis.testing.studies import synthetic_frame
from analysis.testing.truth import Draw, Truth, draw_noise, synthetic_plan
from study.rows.settle.edges import bracket, crossings, outward, rising

pytestmark = pytest.mark.usefixtures("clean_figures")
STEEP = Truth(train_axes=("sigma",), sampler_axes=("T_ratio",), seed_noise=0.02,
              effects={"sigma": lambda s: 0.5 if s == 0.3 else 0.0, "T_ratio": lambda v: 0.4 * math.log(v) ** 2})  # fmt: skip


def test_the_fit_is_isotonic_regression() -> None:
    """Against scikit-learn's, on 200 random weighted rows; rows that rise already come back."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        d, weight = rng.normal(size=6), rng.uniform(0.1, 3.0, 6)
        expected = IsotonicRegression().fit(np.arange(6), d, sample_weight=weight).predict(np.arange(6))
        np.testing.assert_allclose(rising(d, weight), expected, atol=1e-12)
    assert rising(np.array([0.0, 0.1, 0.5]), np.ones(3)).tolist() == [0.0, 0.1, 0.5]


def test_a_parabola_is_crossed_where_it_is() -> None:
    place = np.array([0.0, 0.5, 2.0])
    found = crossings(place, np.array([0.3 * place**2, 0.01 * place**2]), 0.1)
    assert found.estimate[0] == pytest.approx(math.sqrt(0.1 / 0.3)) and (found.before[0], found.after[0]) == (0.5, 2.0)
    assert math.isinf(found.estimate[1]) and math.isinf(found.after[1]) and found.before[1] == 2.0


def test_a_bracket_ends_at_the_first_value_that_is_outside() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    below, above = outward(values, 2)
    assert (below, above) == ([1, 0], [3, 4, 5])
    words = ["outside", "inside", "inside", "inside", "undetermined", "outside"]
    assert bracket(below, words, 2) == (1, 0, ())
    assert bracket(above, words, 2) == (3, 5, (4,))
    assert bracket(above, ["outside"] * 2 + ["inside", "undetermined", "inside", "inside"], 2) == (5, None, (3,))
    assert bracket(above, ["outside"] * 2 + ["inside", "undetermined", "inside", "outside"], 2) == (4, 5, ())
    assert bracket(above, ["undetermined"] * 6, 2).inside is None


def test_edges_of_a_study_whose_truth_is_known() -> None:
    """σ is left between 0.1 and 0.3, above alone; T on both sides, with the crossing of 0.4 ln² T = ln 1.1 inside."""
    frame = synthetic_frame(STEEP)
    sigma = tolerance_edges(frame, "sigma")
    assert sigma.upper is not None and (sigma.upper.inside, sigma.upper.outside) == (0.1, 0.3) and sigma.upper.bracketed
    assert sigma.lower is not None and (sigma.lower.inside, sigma.lower.outside, sigma.lower.crossing) == (0.03, None, None)
    assert sigma.lower.words == "lower edge: none; surely inside to 0.03" and "improve" in sigma.assumption
    edges = tolerance_edges(frame, "T", interval=tolerance_interval(frame, "T"))
    true = math.exp(math.sqrt(math.log(1.1) / 0.4))
    for edge, truth in ((edges.lower, 1 / true), (edges.upper, true)):
        assert edge is not None and edge.low is not None and edge.high is not None and edge.crossing is not None
        assert edge.low <= truth <= edge.high and edge.crossing == pytest.approx(truth, rel=0.1)
    assert edges.lower is not None and (edges.lower.inside, edges.lower.outside) == (1.0, 0.5)
    assert edges.upper is not None and (edges.upper.inside, edges.upper.outside) == (1.0, 2.0)


def test_the_interval_of_the_crossing_holds_it() -> None:
    """60 noisy studies (sd 0.15, three fields): the 95 % interval holds the true crossing in at least 54 of them."""
    truth = STEEP.changed(seed_noise=0.15, effects={"sigma": lambda s: 0.15 * math.log(s / 0.1) ** 2}, sampler_axes=())
    plan, frame = synthetic_plan(truth), synthetic_frame(truth)
    crossing = 0.1 * math.exp(math.sqrt(math.log(1.1) / 0.15))
    held = 0
    for seed in range(60):
        noise: Draw = draw_noise(plan, truth, np.random.default_rng(seed))
        edge = tolerance_edges(frame.assign(metric_fid=np.exp(noise.log_fid)), "sigma").upper
        held += edge is not None and edge.low is not None and edge.high is not None and edge.low <= crossing <= edge.high
    assert held >= 54


def test_what_has_no_edges_is_told() -> None:
    frame = synthetic_frame(Truth())
    with pytest.raises(AnalysisError, match="solver: its values have no order, so it has no edges; tolerance_interval says"):
        tolerance_edges(frame, "solver")
    with pytest.raises(AnalysisError, match="steps: the default has no complete row on it"):
        tolerance_edges(frame, "steps")
    box = synthetic_frame(Truth(design="sobol", trials=40))
    with pytest.raises(AnalysisError, match="sigma: design sobol has bins, not values, so it has no edges; use one_at_a_time"):
        tolerance_edges(box, "sigma")


def test_brackets_are_drawn_in_the_panel_and_at_a_glance() -> None:
    frame = synthetic_frame(STEEP)
    panel = plot_robustness(frame, "T", edges=tolerance_edges(frame, "T"))
    ends = sorted(panel.containers[-2 + k].get_children()[-1].get_segments()[0][:, 0].tolist() for k in (0, 1))
    np.testing.assert_allclose(ends, [[0.5, 1.0], [1.0, 2.0]])
    precision = plot_robustness(frame, "T", metric="precision", edges=tolerance_edges(frame, "T"))
    assert len(precision.containers) == 1, "the tolerance is one of the rated metric"
    table = parameter_overview(frame)
    (sigma,) = table.attrs["brackets"]["train", "sigma"]
    assert (
        sigma == (pytest.approx(math.log(0.1 / 0.03) / math.log(10)), 1.0)
        and len(table.attrs["brackets"]["sampler", "T_ratio"]) == 2
    )
    words = [t.get_text() for t in plot_parameter_overview(frame, table=table).get_legend().get_texts()]
    assert "bracket of an edge" in words
