"""The marks of the plot of quality against cost: cloud, curves, fronts, published points, legend.

One mark, one meaning: shape and colour say the solver; hollow, that something failed; a star, the default.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from analysis.plots.style import palette

SHAPES = "osD^vP<>"
STAR: dict[str, Any] = {"marker": "*", "ls": "none", "markeredgecolor": "black"}


def nfe_ticks(ax: Axes, nfe: pd.Series) -> None:
    """A log2 axis that frames the calls, ticked at powers of two with plain numbers."""
    ax.set_xlim(float(nfe.min()) / 1.3, float(nfe.max()) * 1.3)
    ax.xaxis.set_major_locator(LogLocator(base=2))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())


def draw_cloud(ax: Axes, drawn: pd.DataFrame, faint: bool) -> list[Line2D]:
    """One mark a configuration with its min–max line; faint where curves are drawn over it. Returns legend handles."""
    handles = []
    alpha = 0.3 if faint else 1.0
    for i, solver in enumerate(sorted(drawn["solver"].dropna().unique())):
        colour, shape = palette()[i % 10], SHAPES[i % 8]
        part = drawn.loc[drawn["solver"].eq(solver)]
        if not faint:
            bars = np.stack([part[["nfe", end]].to_numpy(float) for end in ("min", "max")], axis=1)
            ax.add_collection(
                LineCollection(list(bars), colors=[colour], alpha=0.25, linewidths=2), autolim=False
            )  # limits: slow
        hollow = (part["n_failed"] + part["n_diverged"]).gt(0)
        ax.scatter(part["nfe"], part["mean"], s=14 if faint else 22, marker=shape, edgecolors=[colour], linewidths=0.9,
                   alpha=alpha, zorder=2, facecolors=[("none" if h else colour) for h in hollow])  # fmt: skip
        handles.append(Line2D([], [], marker=shape, color=colour, ls="none", label=str(solver), markersize=5))
    star = drawn.loc[drawn["is_default"]]
    ax.plot(star["nfe"], star["mean"], color=palette()[1], markersize=14, zorder=6, **STAR)
    if len(star):
        handles.append(Line2D([], [], color=palette()[1], label="default", markersize=10, **STAR))
    if (drawn["n_failed"] + drawn["n_diverged"]).gt(0).any():
        handles.append(
            Line2D([], [], marker="o", color="0.3", markerfacecolor="none", ls="none", label="some failed", markersize=5)
        )
    return handles


def draw_curves(ax: Axes, curves: pd.DataFrame, solvers: list[str], dots: bool) -> list[Line2D]:
    """Mean line, t-interval and min–max band of each solver at the default training point; dots: the least over seeds."""
    for solver, part in curves.groupby("solver", sort=True):
        i = solvers.index(str(solver))
        colour, hollow = palette()[i % 10], bool((part["n_failed"] + part["n_diverged"]).gt(0).any())
        ax.fill_between(part["nfe"], part["min"], part["max"], color=colour, alpha=0.12, lw=0, zorder=1)
        has = part["low"].notna()
        errors = [(part["mean"] - part["low"]).where(has, 0), (part["high"] - part["mean"]).where(has, 0)]
        ax.errorbar(part["nfe"], part["mean"], yerr=errors, color=colour, fmt="-" + SHAPES[i % 8], markersize=5, lw=1.2,
                    markerfacecolor="white" if hollow else colour, capsize=2, elinewidth=0.8, zorder=4)  # fmt: skip
        if dots:
            ax.plot(part["nfe"], part["min_of_seeds"], ".", color=colour, markersize=4, zorder=4)
    if curves.empty:
        return []
    line = Line2D([], [], color="0.4", lw=1.2, label="default field, 95 %")
    dot = Line2D([], [], color="0.4", marker=".", ls="none", markersize=4, label="least over seeds (biased low)")
    return [line, dot] if dots else [line]


def draw_front(ax: Axes, drawn: pd.DataFrame, fronts: pd.DataFrame, tolerance: float) -> list[Line2D]:
    """The front of means as dark steps, each train seed's as faint ones; ring: knee; square: cheapest within tolerance."""
    for _, one in fronts.groupby("seed_rank"):
        ax.step(one["nfe"], one["mean"], where="post", color="0.6", lw=0.6, alpha=0.8, zorder=1)
    front = drawn.loc[drawn["on_front"]]
    ax.step(front["nfe"], front["mean"], where="post", color="0.15", lw=1.1, zorder=3)
    handles = [Line2D([], [], color="0.15", lw=1.1, label="front (faint: a seed's)")] if len(front) else []
    for column, shape, label in (
        ("knee", "o", "knee of the front"),
        ("cheapest_within", "s", f"cheapest within {tolerance:.0%}"),
    ):
        mark: dict[str, Any] = {"ls": "none", "markerfacecolor": "none", "markeredgecolor": "black", "markeredgewidth": 1.1}
        chosen = drawn.loc[drawn[column]]
        if len(chosen):
            ax.plot(chosen["nfe"], chosen["mean"], shape, markersize=11, zorder=7, **mark)
            handles.append(Line2D([], [], marker=shape, markersize=7, label=label, **mark))
    return handles


def draw_published(ax: Axes, points: pd.DataFrame) -> list[Line2D]:
    """Published points as numbers that the legend explains, the axes widened for them; nothing for an empty table."""
    if points.empty:
        return []
    handles = []
    style: dict[str, Any] = {"ls": "none", "color": "0.15", "markersize": 6}
    for i, point in enumerate(points.to_dict("records"), start=1):
        ax.plot(point["nfe"], point["fid"], marker=f"${i}$", zorder=8, **style)
        handles.append(Line2D([], [], marker=f"${i}$", label=f"published: {point['model']}", **style))
    low, high = ax.get_xlim()
    ax.set_xlim(min(low, points["nfe"].min() / 1.3), max(high, points["nfe"].max() * 1.3))
    bottom, top = ax.get_ylim()
    ax.set_ylim(min(bottom, points["fid"].min() / 1.3), max(top, points["fid"].max() * 1.3))
    return handles
