"""Pictures of single runs: training losses, quality on the way, and grids of samples."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from analysis.plots.style import PALETTE, draw_legend, new_axes, note, pad_log, plain_log_ticks
from analysis.robustness.curves import robustness_curve
from analysis.rows.load import learning_curves, load_study
from analysis.rows.meta import AnalysisError, Axis
from analysis.rows.metrics import default_metric, is_log
from analysis.rows.on_the_way import at_length, lengths, trained_axis
from analysis.rows.words import format_value, metric_label
from analysis.statistics.pick import choose_cell
from study.rows.storage import Place


def plot_learning_curves(
    data: str | Path | pd.DataFrame, *, metric: str | None = None, parameter: str | Axis | None = None, ax: Axes | None = None
) -> Axes:
    """Draw training loss against step, one line a field: default fields in colour, all others grey. Or quality on the way.

    Args:
        data: what `learning_curves` takes or returns.
        metric: draw this metric instead of the loss; for studies with ``evaluate.at_steps``.
        parameter: draw quality, one line a value of this training parameter: means over fields with 95 % intervals.
        ax: axes to draw on; new ones if None.
    Raises:
        AnalysisError: no row on the way, no such metric, or a parameter of the sampler.
    """
    if parameter is not None:
        return _draw_values(
            data if isinstance(data, pd.DataFrame) else load_study(data, on_the_way=True), parameter, metric, ax
        )
    history = learning_curves(data, metric)
    ax = ax or new_axes()
    y = "loss" if metric is None else "value"
    ax.set_xlabel("training step")
    ax.set_ylabel("training loss (mean since the point before)")
    if metric is not None:
        ax.set_ylabel(metric_label(data, metric) if isinstance(data, pd.DataFrame) and "status" in data else metric)
    default = history["design_role"].eq("default").fillna(False).astype(bool)
    drawn = ((~default, "other training points", "0.6", 0.7, 2), (default, "default", PALETTE[1], 1.4, 3))
    labelled = False
    for chosen, name, colour, width, above in drawn:  # thousands of fields: one collection draws far faster than lines
        fields = [part[["step", y]].to_numpy(float) for _, part in history.loc[chosen].groupby("train_id", sort=False)]
        if fields:
            ax.add_collection(LineCollection(fields, colors=[colour], linewidths=width, label=name, zorder=above))
            labelled = True
    ax.autoscale_view()
    losses = history[y].dropna()
    if len(losses) and (losses > 0).all():
        ax.set_yscale("log")
        plain_log_ticks(ax, "y")
    if labelled:
        draw_legend(ax)
    else:
        note(ax, "no training history")
    return ax


def _draw_values(rows: pd.DataFrame, parameter: str | Axis, metric: str | None, ax: Axes | None) -> Axes:
    """Draw quality against the training, one line a value of a parameter; the default's is the widest."""
    axis, metric, ax = trained_axis(rows, parameter), metric or default_metric(rows), ax or new_axes()
    steps = rows["train_steps"].dropna().unique()
    whole = float(steps[0]) if len(steps) == 1 else 1.0
    parts = [(share * whole, robustness_curve(at_length(rows, share), axis, [metric])) for share in lengths(rows)]
    for _, part in parts:
        part.attrs = {}
    curves = pd.concat([part.assign(x=x) for x, part in parts], ignore_index=True)
    ax.set_xlabel("training step" if len(steps) == 1 else "share of the training")
    ax.set_ylabel(metric_label(rows, metric))
    values = sorted(curves["value"].unique(), key=lambda value: (isinstance(value, str), value))
    for value, colour in zip(values, colormaps["viridis"](np.linspace(0, 0.92, len(values))), strict=True):
        part = curves.loc[curves["value"].eq(value) & curves["mean"].notna()]
        own = bool(part["is_default"].any())
        ends = [(part["mean"] - part["low"]).fillna(0), (part["high"] - part["mean"]).fillna(0)]
        label = f"{axis.name} = {format_value(value)}" + (" (default)" if own else "")
        ax.errorbar(part["x"], part["mean"], yerr=ends, fmt="-*" if own else "-o", color=colour, lw=2.2 if own else 1.1,
                    markersize=9 if own else 4, capsize=3, label=label)  # fmt: skip
    if is_log(rows, metric):
        ax.set_yscale("log")
    pad_log(ax, curves["mean"].to_numpy(float), is_log(rows, metric))
    draw_legend(ax)
    return ax


def plot_samples(path: str | Path | pd.DataFrame, which: str = "default", *, ax: Axes | None = None) -> Axes:
    """Draw the sample grid of one cell.

    Args:
        path: a study folder or its frame.
        which: ``default``, ``best``, ``worst`` (by mean over seeds), or a cell_id.
        ax: axes to draw on; new ones if None.
    Raises:
        AnalysisError: no such cell.
    """
    frame = path if isinstance(path, pd.DataFrame) else load_study(path)
    ax = ax or new_axes()
    ax.set_axis_off()
    roles = ("default", "best", "worst")
    match = frame.loc[frame["cell_id"].eq(which)]
    if which not in roles and match.empty:
        raise AnalysisError(f"{which}: no such cell in this study; give a cell_id or one of {', '.join(roles)}")
    row = choose_cell(frame, which) if which in roles else match.iloc[0]
    if row is None:
        note(ax, f"{which}: no complete row")
        return ax
    try:
        content = (Place.of(str(frame.attrs.get("path", "."))) / "samples" / f"{row['cell_id']}.png").read()
    except FileNotFoundError:
        note(ax, f"{which}: no sample grid was stored")
        return ax
    image = plt.imread(io.BytesIO(content))
    ax.imshow(image, cmap="gray" if image.ndim == 2 else None, interpolation="nearest")
    ax.set_title(samples_title(frame, row, which), fontsize=9)
    return ax


def samples_title(frame: pd.DataFrame, row: pd.Series, which: str) -> str:
    """Return ``default: FID 0.52, 120 NFE``, without what was not measured."""
    metric = default_metric(frame)
    value, nfe = row[f"metric_{metric}"], row["cost_nfe"]
    name = "FID" if metric == "fid" else "sliced W"
    parts = ([f"{name} {value:.3g}"] if pd.notna(value) else []) + ([f"{nfe:.0f} NFE"] if pd.notna(nfe) else [])
    return f"{which}: {', '.join(parts)}" if parts else which
