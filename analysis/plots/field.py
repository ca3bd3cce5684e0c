"""Pictures of a Poisson field: its lines, directions and strength, and the trajectories that follow it down to the data.

What is drawn is computed elsewhere, by `pfgm.field.lines` or anything else: every function takes numpy arrays in data units and
``ax=None``, and returns its Axes. Both axes of a plane have equal scales wherever directions are to be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import MaxNLocator

from analysis.plots.style import PALETTE, draw_legend, new_axes
from analysis.rows.meta import AnalysisError

Extent = tuple[float, float, float, float]
"""(left, right, bottom, top) of what is shown, data units."""
PLANE = ("x₁ (data units)", "x₂ (data units)")


def plot_field_lines(
    lines: np.ndarray, charges: np.ndarray, *, weights: np.ndarray | None = None, extent: Extent | None = None,
    ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Draw field lines in the plane, an arrow in the direction in which each was followed, and the charges.

    Args:
        lines: shape (K, B, 2), K points on each of B lines.
        charges: shape (N, 2).
        weights: of the charges, shape (N,): the area of their marks and a number beside them; None: not shown.
        extent: what is shown; None: all lines.
        ax: axes to draw on; new ones if None.
    """
    paths = _of_shape(lines, "lines", 3, 2)
    ax = _plane(ax, PLANE)
    ax.add_collection(LineCollection(list(paths.swapaxes(0, 1)), colors=[PALETTE[0]], linewidths=0.8, zorder=2))
    _show(ax, extent, paths.reshape(-1, 2))
    for line in paths.swapaxes(0, 1):
        _arrow(ax, line)
    _draw_charges(ax, _of_shape(charges, "charges", 2, 2), weights)
    draw_legend(ax)
    return ax


def plot_directions(
    points: np.ndarray, vectors: np.ndarray, *, charges: np.ndarray | None = None, limits: tuple[float, float] | None = None,
    labels: tuple[str, str] = PLANE, extent: Extent | None = None, ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Draw a field on a grid: arrows of one length for its direction, their colour for its strength, dots where it is too weak.

    Args:
        points: shape (B, 2).
        vectors: the field there, shape (B, 2).
        charges: shape (N, 2), or None.
        limits: strength of the weakest arrow and of the brightest colour; equal limits make two pictures comparable. None: all.
        labels: of the two axes.
        extent: what is shown; None: all points.
        ax: axes to draw on; new ones if None.
    """
    places, field = _of_shape(points, "points", 2, 2), _of_shape(vectors, "vectors", 2, 2)
    strength = np.linalg.norm(field, axis=1)
    low, high = limits or (strength[strength > 0].min(), strength.max())
    ax = _plane(ax, labels)
    weak = strength < low
    unit = field[~weak] / strength[~weak, None]
    arrows = ax.quiver(*places[~weak].T, *unit.T, np.minimum(strength[~weak], high), norm="log", cmap="viridis", pivot="mid",
                       width=0.004, scale=34, zorder=2)  # fmt: skip
    arrows.set_clim(low, high)
    bar = ax.figure.colorbar(arrows, ax=ax, shrink=0.85)
    bar.set_label("field strength (all charges together: 1)", fontsize=8)
    if weak.any():
        ax.plot(*places[weak].T, "o", color="0.6", markersize=2.5, ls="none", label=f"weaker than {low:.3g}")
    if charges is not None:
        _draw_charges(ax, _of_shape(charges, "charges", 2, 2), None)
    if charges is not None or weak.any():
        draw_legend(ax)
    _show(ax, extent, places)
    return ax


def plot_field_strength(
    radii: np.ndarray, strengths: Mapping[str, np.ndarray], *, shell: float = 1.0, ax: Axes | None = None
) -> Axes:
    """Draw the strength of fields against the distance from the middle of a shell of charges.

    Args:
        radii: shape (K,).
        strengths: {what it is: shape (K,)}, positive.
        shell: radius of the shell, marked.
        ax: axes to draw on; new ones if None.
    """
    ax = ax or new_axes()
    for colour, (label, strength) in zip(PALETTE, strengths.items(), strict=False):
        ax.plot(radii, strength, color=colour, lw=1.4, label=label)
    ax.axvline(shell, color="0.55", lw=0.8, ls=":", label="the shell")
    ax.set_yscale("log")
    ax.set_xlabel("distance from the middle (data units)")
    ax.set_ylabel("field strength (all charges together: 1)")
    draw_legend(ax)
    return ax


def plot_far_field(distance: np.ndarray, angles: Mapping[str, np.ndarray], *, ax: Axes | None = None) -> Axes:
    """Draw the angle between a field far away and the directions from some points, on log axes where slopes are orders.

    Args:
        distance: shape (K,), data units.
        angles: {from where: shape (K,)}, radians.
        ax: axes to draw on; new ones if None.
    """
    ax = ax or new_axes()
    for colour, mark, (label, angle) in zip(PALETTE, "osD^v" * 2, angles.items(), strict=False):
        ax.plot(distance, angle, mark + "-", color=colour, lw=1.2, markersize=4, label=label)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("distance from the charges (data units)")
    ax.set_ylabel("angle to the field (radians)")
    draw_legend(ax)
    return ax


def plot_trajectories(
    heights: np.ndarray, paths: np.ndarray, charges: np.ndarray, *, extent: Extent | None = None, ax: Axes | None = None
) -> Axes:
    """Draw trajectories from the plane t = T down to the charges, each in the colour of the charge where it ends.

    Args:
        heights: shape (K,), falling.
        paths: shape (K, B, d): d = 1 is drawn as x against t, d = 2 in space.
        charges: shape (N, d), on the plane t = 0.
        extent: for d = 1 what is shown of x and t, for d = 2 of x₁ and x₂; None: all.
        ax: axes to draw on, for d = 2 with ``projection="3d"``; new ones if None.
    Raises:
        AnalysisError: if d is neither 1 nor 2, or shapes disagree.
    """
    places = np.asarray(charges, dtype=float)
    if places.ndim != 2 or places.shape[1] not in (1, 2):
        raise AnalysisError(f"charges: got shape {places.shape}; a picture needs (N, 1) or (N, 2)")
    seen = _of_shape(paths, "paths", 3, places.shape[1])
    t = np.broadcast_to(np.asarray(heights, dtype=float)[:, None], seen.shape[:2])
    end = np.linalg.norm(seen[-1][:, None] - places, axis=2).argmin(axis=1)
    colours = [PALETTE[k % len(PALETTE)] for k in end]
    if places.shape[1] == 1:
        return _trajectories_on_a_line(np.stack([seen[..., 0], t], axis=2), places, colours, extent, ax)
    return _trajectories_in_space(np.concatenate([seen, t[..., None]], axis=2), places, colours, extent, ax)


def _trajectories_on_a_line(
    lines: np.ndarray, charges: np.ndarray, colours: list[Any], extent: Extent | None, ax: Axes | None
) -> Axes:
    """Draw lines (K, B, 2) of (x, t)."""
    ax = ax or new_axes()
    ax.add_collection(LineCollection(list(lines.swapaxes(0, 1)), colors=colours, linewidths=0.8, zorder=2))
    _show(ax, extent, lines.reshape(-1, 2))
    _draw_charges(ax, np.column_stack([charges, np.zeros(len(charges))]), None)
    ax.set_xlabel("x (data units)")
    ax.set_ylabel("height t (data units)")
    draw_legend(ax)
    return ax


def _trajectories_in_space(
    lines: np.ndarray, charges: np.ndarray, colours: list[Any], extent: Extent | None, ax: Axes | None
) -> Axes:
    """Draw lines (K, B, 3) of (x₁, x₂, t); what leaves the extent is cut off, because three axes clip nothing."""
    space: Any = ax if ax is not None else plt.figure(figsize=(6.4, 5.4)).add_subplot(projection="3d")
    box = extent or (*_range(lines[..., 0]), *_range(lines[..., 1]))
    inside = (lines[..., 0] >= box[0]) & (lines[..., 0] <= box[1]) & (lines[..., 1] >= box[2]) & (lines[..., 1] <= box[3])
    drawn = np.where(inside[..., None], lines, np.nan)
    for line, colour in zip(drawn.swapaxes(0, 1), colours, strict=True):
        space.plot(*line.T, color=colour, lw=0.8)
    space.scatter(*drawn[0].T, color=colours, s=6, depthshade=False)
    space.scatter(charges[:, 0], charges[:, 1], 0.0, color="black", s=25, depthshade=False, label="charges (data)")
    space.set(xlim=box[:2], ylim=box[2:], zlim=(0.0, lines[..., 2].max()))
    for axis, label in zip((space.xaxis, space.yaxis, space.zaxis), (*PLANE, "height t (data units)"), strict=True):
        axis.set_label_text(label, fontsize=8)
        axis.set_tick_params(labelsize=7)
        axis.set_major_locator(MaxNLocator(5))
    space.view_init(elev=18, azim=-60)
    space.set_box_aspect((1.0, 1.0, 0.8), zoom=0.95)
    draw_legend(space)
    axes: Axes = space
    return axes


def _of_shape(array: np.ndarray, name: str, ndim: int, last: int) -> np.ndarray:
    """Return the array in float64, or refuse it with the shape that is meant."""
    values = np.asarray(array, dtype=float)
    if values.ndim != ndim or values.shape[-1] != last:
        raise AnalysisError(f"{name}: got shape {values.shape}; give {ndim} axes, the last of length {last}")
    return values


def _plane(ax: Axes | None, labels: tuple[str, str]) -> Axes:
    """Return axes with equal scales."""
    ax = ax or new_axes()
    ax.set_aspect("equal")
    ax.set_xlabel(labels[0])
    ax.set_ylabel(labels[1])
    return ax


def _range(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _show(ax: Axes, extent: Extent | None, points: np.ndarray) -> None:
    left, right, bottom, top = extent or (*_range(points[:, 0]), *_range(points[:, 1]))
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)


def _arrow(ax: Axes, line: np.ndarray) -> None:
    """Draw an arrow head halfway along the part of a line that is shown."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    x, y = line[:-1].T
    moving = np.linalg.norm(np.diff(line, axis=0), axis=1) > 1e-3 * (right - left) / len(line)
    shown = np.flatnonzero((x > left) & (x < right) & (y > bottom) & (y < top) & moving)
    if len(shown):
        k = shown[len(shown) // 2]
        ax.annotate("", line[k + 1], line[k], arrowprops={"arrowstyle": "-|>", "color": PALETTE[0], "lw": 0.8}, zorder=2)


def _draw_charges(ax: Axes, charges: np.ndarray, weights: np.ndarray | None) -> None:
    share = None if weights is None else np.asarray(weights, dtype=float) / np.sum(weights)
    size = 22.0 if share is None else 20.0 + 260.0 * share
    ax.scatter(charges[:, 0], charges[:, 1], s=size, color="black", zorder=4, label="charges (data)", clip_on=False)
    if share is not None:
        for (x, y), p in zip(charges, share, strict=True):
            ax.annotate(f"{p:.0%}", (x, y), xytext=(7, 7), textcoords="offset points", fontsize=8, zorder=5,
                        bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.75})  # fmt: skip
