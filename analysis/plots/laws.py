"""Pictures of the laws around a Poisson field: where samples start, where it is trained, how much its targets scatter.

Every function takes numpy arrays in data units and ``ax=None``, and returns its Axes. Radii and heights are logarithmic: the
prior is heavy-tailed, and training heights are spread over decades.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from analysis.plots.style import PALETTE, draw_legend, new_axes
from analysis.rows.words import plain_number

BINS = 60
"""Bars of a histogram."""


def plot_radius_law(
    radii: np.ndarray, r: np.ndarray, density: np.ndarray, *, covered: tuple[float, float] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw a histogram of radii on a log axis against their density, and the part of them that training reached.

    Args:
        radii: drawn radii, shape (n,), data units.
        r: where the density is known, shape (K,).
        density: p(r), shape (K,), per data unit; drawn per unit of ln r, in which areas are shares.
        covered: (largest trained radius, share of the law inside), shaded, or None.
        ax: axes to draw on; new ones if None.
    """
    ax = ax or new_axes()
    edges = np.linspace(np.log(r[0]), np.log(r[-1]), BINS + 1)
    counts, _ = np.histogram(np.log(radii), edges)
    ax.stairs(counts / len(radii) / np.diff(edges), np.exp(edges), fill=True, color=PALETTE[0], alpha=0.4,
              label=f"{len(radii):,} draws")  # fmt: skip
    ax.plot(r, density * r, color="0.2", lw=1.3, label="the law")
    if covered is not None:
        ax.axvspan(r[0], covered[0], color=PALETTE[1], alpha=0.12, lw=0, zorder=0,
                   label=f"inside R_max = {plain_number(covered[0])}: {covered[1]:.1%}")  # fmt: skip
    ax.set_xscale("log")
    ax.set_xlim(r[0], r[-1])
    ax.set_ylim(bottom=0)
    ax.set_xlabel("radius ‖x‖ at the start (data units)")
    ax.set_ylabel("density per unit of ln ‖x‖")
    draw_legend(ax)
    return ax


def plot_radius_tail(radii: np.ndarray, r: np.ndarray, tails: Mapping[str, np.ndarray], *, ax: Axes | None = None) -> Axes:
    """Draw the share of draws beyond a radius, on two log axes where a power law is straight.

    Args:
        radii: drawn radii, shape (n,), data units.
        r: where the tails are known, shape (K,).
        tails: {law: P(R > r), shape (K,)}.
        ax: axes to draw on; new ones if None.
    """
    ax = ax or new_axes()
    ordered = np.sort(radii)
    ax.plot(ordered, 1.0 - np.arange(len(ordered)) / len(ordered), ".", color=PALETTE[0], markersize=3,
            label=f"{len(radii):,} draws")  # fmt: skip
    for style, (label, tail) in zip(("-", "--", "-.", ":"), tails.items(), strict=False):
        ax.plot(r, tail, style, color="0.2", lw=1.2, label=label)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(r[0], r[-1])
    ax.set_ylim(0.5 / len(radii), 1.5)
    ax.set_xlabel("radius r (data units)")
    ax.set_ylabel("share of starts beyond r")
    draw_legend(ax)
    return ax


def plot_training_points(
    distance: np.ndarray, t: np.ndarray, *, heights: Mapping[str, float] | None = None, slope: float | None = None,
    ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Draw how often training looks from where: distance from the data point against height, both logarithmic.

    Args:
        distance: ‖x − y‖, shape (n,), data units.
        t: heights, shape (n,), data units.
        heights: {name: height} drawn as lines, or None.
        slope: draws ‖x − y‖ = slope · t, for instance √d, around which the points of a height lie; None: not.
        ax: axes to draw on; new ones if None.
    """
    ax = ax or new_axes()
    shown = (distance > 0) & (t > 0)
    cells = ax.hexbin(distance[shown], t[shown], xscale="log", yscale="log", bins="log", gridsize=50, cmap="Blues", mincnt=1,
                      linewidths=0.1)  # fmt: skip
    ax.figure.colorbar(cells, ax=ax).set_label(f"points a cell, of {len(t):,}", fontsize=8)
    for colour, style, (name, height) in zip(PALETTE[1:], ("--", "-.", ":", "-"), (heights or {}).items(), strict=False):
        ax.axhline(height, color=colour, ls=style, lw=1.3, label=f"{name} = {height:.3g}")
    if slope is not None:
        left, right = ax.get_xlim()
        ax.plot([left, right], [left / slope, right / slope], color="0.3", lw=1, label=f"‖x − y‖ = {slope:.3g} t", scalex=False,
                scaley=False)  # fmt: skip
    ax.set_xlabel("distance ‖x − y‖ from the data point (data units)")
    ax.set_ylabel("height t (data units)")
    draw_legend(ax)
    return ax


def plot_target_variance(
    dims: Sequence[int], variances: Sequence[np.ndarray], *, n_sources: int | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the variance of the raw target, in squared means, against the dimension: median and 10 to 90 % of points.

    Args:
        dims: dimensions, K of them.
        variances: one array a dimension, a value a point.
        n_sources: number of sources N, whose N − 1 (one source decides) is drawn; None: not.
        ax: axes to draw on; new ones if None.
    """
    ax = ax or new_axes()
    low, middle, high = np.array([np.quantile(values, (0.1, 0.5, 0.9)) for values in variances]).T
    ax.fill_between(dims, low, high, color=PALETTE[0], alpha=0.15, lw=0, label="10 to 90 % of training points")
    ax.plot(dims, middle, "o-", color=PALETTE[0], lw=1.3, markersize=4, label="median")
    if n_sources is not None:
        ax.axhline(n_sources - 1, color="0.4", lw=0.9, ls=":", label=f"one of {n_sources:,} sources decides")
    ax.axhline(1, color="0.4", lw=0.9, ls="--", label="as large as the squared mean")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(dims, [plain_number(float(d)) for d in dims])
    ax.minorticks_off()
    ax.set_xlabel("dimension d of the data")
    ax.set_ylabel("variance of the target ÷ squared mean")
    draw_legend(ax)
    return ax
