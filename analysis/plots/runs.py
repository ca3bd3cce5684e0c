"""Pictures of single runs: training losses, and grids of samples."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from analysis.plots.style import PALETTE, draw_legend, new_axes, note, plain_log_ticks
from analysis.rows.load import learning_curves, load_study
from analysis.rows.meta import AnalysisError
from analysis.rows.metrics import default_metric
from analysis.statistics.pick import choose_cell
from study.rows.storage import Place


def plot_learning_curves(data: str | Path | pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw training loss against step, one line a field: default fields in colour, all others grey.

    Args:
        data: what `learning_curves` takes or returns.
        ax: axes to draw on; new ones if None.
    """
    history = learning_curves(data)
    ax = ax or new_axes()
    ax.set_xlabel("training step")
    ax.set_ylabel("training loss (mean since the point before)")
    default = history["design_role"].eq("default").fillna(False).astype(bool)
    drawn = ((~default, "other training points", "0.6", 0.7, 2), (default, "default", PALETTE[1], 1.4, 3))
    labelled = False
    for chosen, name, colour, width, above in drawn:  # thousands of fields: one collection draws far faster than lines
        fields = [part[["step", "loss"]].to_numpy(float) for _, part in history.loc[chosen].groupby("train_id", sort=False)]
        if fields:
            ax.add_collection(LineCollection(fields, colors=[colour], linewidths=width, label=name, zorder=above))
            labelled = True
    ax.autoscale_view()
    losses = history["loss"].dropna()
    if len(losses) and (losses > 0).all():
        ax.set_yscale("log")
        plain_log_ticks(ax, "y")
    if labelled:
        draw_legend(ax)
    else:
        note(ax, "no training history")
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
