"""Shares with their intervals: variance components, importance, regional sensitivity."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.plots.style import PALETTE, new_axes, note
from analysis.rows.metrics import is_log
from analysis.rows.question import MAIN, statistic
from analysis.rows.words import metric_label
from analysis.statistics.components import variance_components
from analysis.statistics.importance import parameter_importance
from analysis.statistics.regional import regional_sensitivity


@statistic()
def plot_variance_components(frame: pd.DataFrame, *, metric: str = MAIN, ax: Axes | None = None) -> Axes:
    """Draw the share of variance of each component, with its interval.

    Args:
        frame: rows of `analysis.load_study`.
        metric: default ``fid``.
        ax: axes to draw on; new ones if None.
    """
    table = variance_components(frame, metric)
    ax = ax or new_axes()
    known = table.dropna(subset=["share"]).reset_index(drop=True)
    ax.set_xlim(0, 1)
    ax.set_xlabel(f"share of the variance of {'log ' * is_log(frame, metric)}{metric_label(frame, metric)}")
    if known.empty:
        note(ax, "one field and one sample seed: no variance to divide")
        return ax
    places = np.arange(len(known))
    ax.barh(places, known["share"], color=PALETTE[0], alpha=0.5)
    ax.hlines(places, known["low"], known["high"], color="0.2", lw=1.2)
    ax.plot(known["low"], places, "|", known["high"], places, "|", color="0.2", markersize=8)
    ax.set_yticks(places, [f"{name} (n = {n})" for name, n in zip(known["component"], known["n"], strict=True)])
    ax.invert_yaxis()
    return ax


def plot_parameter_importance(
    frame: pd.DataFrame, *, ax: Axes | None = None, table: pd.DataFrame | None = None, **options: Any
) -> Axes:
    """Draw the importance of each parameter with its interval, hollow where the permutation p-value is above 5 %.

    Args:
        frame: rows of `analysis.load_study`.
        ax: axes to draw on; new ones if None.
        table: what `parameter_importance` returned, where it is at hand.
        options: passed to `parameter_importance`.
    """
    shown = parameter_importance(frame, **options) if table is None else table
    return _dots(shown, "importance", f"importance ({shown.attrs['method'].replace('_', '-')})", ax)


def plot_regional_sensitivity(frame: pd.DataFrame, *, ax: Axes | None = None, **options: Any) -> Axes:
    """Draw the distance between values inside and outside the tolerance, hollow where the p-value is above 5 %.

    Args:
        frame: rows of `analysis.load_study`.
        ax: axes to draw on; new ones if None.
        options: passed to `regional_sensitivity`.
    """
    return _dots(regional_sensitivity(frame, **options), "statistic", "distance inside – outside (KS)", ax)


def _dots(table: pd.DataFrame, column: str, label: str, ax: Axes | None) -> Axes:
    ax = ax or new_axes()
    ax.set_xlabel(label)
    if table.empty:
        note(ax, "; ".join(table.attrs["skipped"]) or "no parameter to compare")
        return ax
    places = np.arange(len(table))
    colour = PALETTE[0]
    if "low" in table:
        ax.hlines(places, table["low"], table["high"], color=colour, lw=1.2)
    for real, face in ((True, colour), (False, "white")):
        chosen = table["p_value"].le(0.05).to_numpy() == real
        ax.plot(table[column][chosen], places[chosen], "o", color=colour, markerfacecolor=face, ls="none")
    for place, p in zip(places, table["p_value"], strict=True):
        ax.annotate(f"p = {p:.3f}", (1.0, place), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points",
                    fontsize=7, va="center", color="0.35")  # fmt: skip
    ax.set_yticks(places, list(table["parameter"]))
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.set_xlim(left=0)
    return ax
