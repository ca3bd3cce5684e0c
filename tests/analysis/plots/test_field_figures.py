"""Figures of fields and laws show the arrays that they are given, in place, with units and legends: seen by their marks."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.quiver import Quiver
from mpl_toolkits.mplot3d import Axes3D
from scipy import stats

import analysis
from analysis import (
    AnalysisError,
    plot_directions,
    plot_far_field,
    plot_field_lines,
    plot_field_strength,
    plot_radius_law,
    plot_radius_tail,
    plot_target_variance,
    plot_training_points,
    plot_trajectories,
)

mpl.use("Agg")

pytestmark = pytest.mark.usefixtures("clean_figures")

CHARGES = np.array([[-1.0, 0.0], [1.0, 0.5]])


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def legend(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def only(ax: Axes, kind: type) -> list:
    return [mark for mark in ax.collections if isinstance(mark, kind)]


def test_field_lines_and_their_arrows() -> None:
    """All lines, an arrow on each that points along it, charges with their weights, equal scales."""
    s = np.linspace(0, 3, 20)
    lines = np.stack([np.stack([s, 0 * s], 1), np.stack([0 * s, -s], 1)], axis=1)  # to the right, and down
    ax = plot_field_lines(lines, CHARGES, weights=np.array([3.0, 1.0]), extent=(-2, 4, -4, 2))
    segments = only(ax, LineCollection)[0].get_segments()
    np.testing.assert_allclose(segments, lines.swapaxes(0, 1))
    arrows = [text for text in ax.texts if text.get_text() == ""]
    moves = np.array([np.subtract(arrow.xy, arrow.xyann) for arrow in arrows])
    np.testing.assert_allclose(moves / np.linalg.norm(moves, axis=1, keepdims=True), [[1, 0], [0, -1]], atol=1e-12)
    assert [text.get_text() for text in ax.texts if text.get_text()] == ["75%", "25%"]
    assert ax.get_aspect() == 1 and ax.get_xlim() == (-2, 4) and "data units" in ax.get_xlabel()
    np.testing.assert_allclose(ax.collections[-1].get_offsets(), CHARGES)


def test_lines_at_rest_or_out_of_sight_have_no_arrow() -> None:
    still = np.tile([0.5, 0.5], (20, 1))
    outside = np.stack([np.linspace(8, 9, 20), np.zeros(20)], 1)
    ax = plot_field_lines(np.stack([still, outside], 1), CHARGES, extent=(-2, 2, -2, 2))
    assert not ax.texts


def test_directions_are_units_and_colours_are_strengths() -> None:
    """Arrows of one length; what is weaker than the limit, zero included, is a dot."""
    points = normal(5, 2)
    vectors = np.array([[3.0, 4.0], [0.0, -0.5], [1e-9, 0.0], [0.0, 0.0], [0.02, 0.0]])
    ax = plot_directions(points, vectors, charges=CHARGES, limits=(0.01, 1.0))
    arrows = only(ax, Quiver)[0]
    np.testing.assert_allclose(np.column_stack([arrows.U, arrows.V]), [[0.6, 0.8], [0, -1], [1, 0]])
    np.testing.assert_allclose(arrows.get_array(), [1.0, 0.5, 0.02])
    np.testing.assert_allclose(arrows.get_offsets(), points[[0, 1, 4]])
    np.testing.assert_allclose(np.column_stack(ax.lines[0].get_data()), points[[2, 3]])
    assert arrows.get_clim() == (0.01, 1.0) and legend(ax) == ["weaker than 0.01", "charges (data)"]
    assert "field strength" in ax.figure.axes[1].get_ylabel()


def test_directions_without_limits_show_all() -> None:
    vectors = np.array([[3.0, 4.0], [0.0, -0.5]])
    ax = plot_directions(normal(2, 2), vectors, labels=("x₁", "height t"))
    assert only(ax, Quiver)[0].get_clim() == (0.5, 5.0)
    assert ax.get_legend() is None and (ax.get_xlabel(), ax.get_ylabel()) == ("x₁", "height t")


def test_strength_and_far_field_draw_every_curve() -> None:
    r = np.geomspace(1, 100, 9)
    ax = plot_field_strength(r, {"without": r**-1.0, "with": r**-2.0}, shell=2.0)
    np.testing.assert_allclose([line.get_ydata() for line in ax.lines[:2]], [r**-1.0, r**-2.0])
    assert legend(ax) == ["without", "with", "the shell"] and ax.get_yscale() == "log"
    ax = plot_far_field(r, {"centroid": r**-2.0, "other": r**-1.0})
    np.testing.assert_allclose([line.get_ydata() for line in ax.lines], [r**-2.0, r**-1.0])
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log") and "radians" in ax.get_ylabel()


def test_trajectories_on_a_line_have_the_colour_of_their_end() -> None:
    heights = np.array([4.0, 1.0, 0.01])
    paths = np.array([[-5.0, 0.5, 6.0], [-2.0, 0.9, 3.0], [-1.0, 1.01, 0.99]])[..., None]
    ax = plot_trajectories(heights, paths, np.array([[-1.0], [1.0]]), extent=(-3, 3, 0, 4))
    lines = only(ax, LineCollection)[0]
    np.testing.assert_allclose(lines.get_segments()[2], np.column_stack([[6.0, 3.0, 0.99], heights]))
    left, middle, right = lines.get_colors()
    assert not np.array_equal(left, middle) and np.array_equal(middle, right)
    np.testing.assert_allclose(ax.collections[-1].get_offsets(), [[-1, 0], [1, 0]])
    assert "height t" in ax.get_ylabel() and ax.get_xlim() == (-3, 3)


def test_trajectories_in_space_are_cut_at_the_box() -> None:
    heights, paths = np.array([4.0, 1.0, 0.01]), np.zeros((3, 2, 2))
    paths[0] = [[9.0, 0.0], [1.0, 1.0]]
    ax = plot_trajectories(heights, paths, CHARGES, extent=(-2, 2, -3, 3))
    assert isinstance(ax, Axes3D)
    first, second = (np.array(line.get_data_3d()) for line in ax.lines)
    assert np.isnan(first[:, 0]).all() and np.isfinite(first[:, 1:]).all()
    np.testing.assert_allclose(second, [[1, 0, 0], [1, 0, 0], heights])
    assert ax.get_xlim() == (-2, 2) and ax.get_ylim() == (-3, 3) and "height t" in ax.get_zlabel()
    given = plt.figure().add_subplot(projection="3d")
    assert plot_trajectories(heights, paths, CHARGES, ax=given) is given


def test_a_histogram_and_its_law_have_equal_areas() -> None:
    """Bars of 200,000 lognormal radii lie within 5 % of r p(r) where it is large: one standard error is 1 %."""
    radii, r = np.exp(normal(200_000)), np.geomspace(np.exp(-3), np.exp(3), 301)
    ax = plot_radius_law(radii, r, stats.lognorm.pdf(r, 1.0), covered=(2.0, 0.756))
    bars, law = ax.patches[0].get_data(), ax.lines[0].get_ydata()
    middle = np.sqrt(bars.edges[1:] * bars.edges[:-1])
    wanted = np.interp(np.log(middle), np.log(r), law)
    large = wanted > 0.2
    assert large.sum() > 20
    np.testing.assert_allclose(bars.values[large], wanted[large], rtol=0.05)
    assert float((bars.values * np.diff(np.log(bars.edges))).sum()) == pytest.approx(0.9973, abs=5e-4)
    assert legend(ax) == ["200,000 draws", "the law", "inside R_max = 2: 75.6%"]


def test_the_empirical_tail_is_the_share_at_or_beyond() -> None:
    r = np.geomspace(1, 10, 5)
    ax = plot_radius_tail(np.array([4.0, 1.0, 2.0, 8.0]), r, {"law": 1 / r, "other": 1 / r**2})
    np.testing.assert_allclose(ax.lines[0].get_data(), [[1, 2, 4, 8], [1.0, 0.75, 0.5, 0.25]])
    np.testing.assert_allclose(ax.lines[2].get_ydata(), 1 / r**2)
    assert legend(ax) == ["4 draws", "law", "other"]


def test_training_points_are_counted() -> None:
    """Cells hold every point with a logarithm; lines lie at their heights and at slope · t."""
    rng = np.random.default_rng(0)
    t, distance = rng.lognormal(size=500), rng.lognormal(size=500)
    distance[0] = 0.0
    ax = plot_training_points(distance, t, heights={"σ": 0.1, "T": 3.0}, slope=8.0)
    assert ax.collections[0].get_array().sum() == 499
    assert [line.get_ydata()[0] for line in ax.lines[:2]] == [0.1, 3.0]
    x, y = ax.lines[2].get_data()
    np.testing.assert_allclose(x / y, 8.0)
    assert legend(ax) == ["σ = 0.1", "T = 3", "‖x − y‖ = 8 t"] and "500" in ax.figure.axes[1].get_ylabel()


def test_target_variance_is_the_median() -> None:
    dims, values = [1, 4, 16], [np.linspace(0, 2, 101) * k for k in (1.0, 10.0, 100.0)]
    ax = plot_target_variance(dims, values, n_sources=1000)
    np.testing.assert_allclose(ax.lines[0].get_data(), [dims, [1, 10, 100]])
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(0.2) and band[:, 1].max() == pytest.approx(180)
    assert ax.lines[1].get_ydata()[0] == 999 and "one of 1,000 sources decides" in legend(ax)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "4", "16"]


def test_axes_that_are_given_are_used() -> None:
    _, ax = plt.subplots()
    r = np.geomspace(1, 10, 5)
    assert plot_far_field(r, {"a": r}, ax=ax) is ax and plot_target_variance([1, 2], [r, r], ax=ax) is ax
    assert len(plt.get_fignums()) == 1
    assert {name for name in analysis.__all__ if name.startswith("plot_")} >= {"plot_directions", "plot_effective_sample_size"}


def test_mistakes_are_named() -> None:
    with pytest.raises(AnalysisError, match=r"lines: got shape \(3, 2\); give 3 axes, the last of length 2"):
        plot_field_lines(np.zeros((3, 2)), CHARGES)
    with pytest.raises(AnalysisError, match="vectors: got shape"):
        plot_directions(np.zeros((3, 2)), np.zeros((3, 3)))
    with pytest.raises(AnalysisError, match=r"a picture needs \(N, 1\) or \(N, 2\)"):
        plot_trajectories(np.ones(2), np.zeros((2, 4, 3)), np.zeros((5, 3)))
