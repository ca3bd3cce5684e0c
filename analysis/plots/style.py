"""Shared marks and labels of the plots, learning curves and sample grids.

Every plot takes data first and ``ax=None``, returns its Axes, changes no global style, shows nothing and writes nothing.
Labels carry the unit and, for FID, the feature network and sample count, because values from different ones do not compare.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from analysis.plots.legends import draw_legend
from analysis.rows.load import AnalysisError, Axis, is_default, load_history, load_study, undisturbed
from analysis.statistics.summary import default_metric, summarize
from study.rows.storage import Place

METRIC_LABELS = {
    "precision": "precision (share of samples)",
    "recall": "recall (share of data)",
    "density": "density (balls of the data a sample, over k)",
    "coverage": "coverage (share of the data's balls)",
    "kid": "KID (cubic kernel on features)",
    "energy": "energy distance (√ data units)",
    "nn_gap": "distance to training over held-out data (×)",
    "nn_ratio": "nearest-neighbour ratio (×)",
    "outlier_fraction": "outliers (share of samples)",
    "nonfinite_fraction": "non-finite samples (share)",
    "solver_error": "solver error, median RMS (data units)",
    "solver_error_95": "solver error, 95 % RMS (data units)",
    "solver_switched": "samples with another source (share)",
    "bits_per_dim": "bits a dimension (upper bound)",
    "nats_per_dim": "negative log-likelihood (nats a dimension)",
    "prior_kl": "KL of the law at T to the prior (nats)",
    "sliced_wasserstein": "sliced Wasserstein (data units)",
    "nfe": "NFE (network calls an image)",
}
ANCHORS = {
    "fid_floor": "bootstrap of the data",
    "fid_half": "half of the data against half",
    "fid_gaussian": "one pixel Gaussian",
}
ANCHOR_WORDS = {"fid_floor": "floor", "fid_half": "half", "fid_gaussian": "Gaussian"}
FAILURE_COLOUR = "#c00000"


def palette() -> list[tuple[float, float, float]]:
    """Colours that colour-blind readers tell apart (seaborn "colorblind")."""
    return list(sns.color_palette("colorblind"))


def new_axes() -> Axes:
    """Axes on a new figure, for a plot that was given none."""
    _, ax = plt.subplots(figsize=(5.0, 3.4), layout="constrained")
    return ax


def metric_label(frame: pd.DataFrame, metric: str) -> str:
    """Axis label with unit; FID names its feature network and sample count: ``FID (digits-cnn, n = 1000)``."""
    if metric in ("fid_test", "metric_fid_test"):
        return metric_label(frame, "fid").replace("FID (", "FID against held-out data (")
    if metric not in ("fid", "metric_fid"):
        return METRIC_LABELS.get(metric.removeprefix("metric_"), metric.replace("_", " "))
    known = frame.loc[frame["metric_fid"].notna()]
    names = [_feature_name(str(v)) for v in sorted(known["metric_features"].dropna().unique())]
    counts = [f"{int(v)}" for v in sorted(known["metric_n"].dropna().unique())]
    parts = (["/".join(names)] if names else []) + ([f"n = {'/'.join(counts)}"] if counts else [])
    return f"FID ({', '.join(parts)})" if parts else "FID"


def _feature_name(features: str) -> str:
    return f"{features}-cnn" if features in ("digits", "fashion_mnist") else features.replace("random", "random convolutions")


LABEL_HEIGHT = 0.04
"""Height of an anchor's label, as a fraction of the frame."""


def anchors(frame: pd.DataFrame) -> dict[str, float]:
    """Values of FID with a known meaning: median over rows of the floor, half-against-half and the pixel Gaussian."""
    frame = undisturbed(frame)
    found = {name: frame[f"metric_{name}"].median() for name in ANCHORS if f"metric_{name}" in frame.columns}
    return {name: float(value) for name, value in found.items() if pd.notna(value)}


def draw_anchors(ax: Axes, frame: pd.DataFrame) -> None:
    """Anchors of FID as thin labelled lines; those outside the frame as one line of text."""
    low, high = ax.get_ylim()
    outside = []
    below = 0.0  # height of the label before, as a fraction of the frame: labels closer than a line change sides
    left = True
    for name, value in sorted(anchors(frame).items(), key=lambda item: item[1]):
        if low < value < high:
            ax.axhline(value, color="0.55", lw=0.7, ls=":", zorder=0)
            height = float(ax.transAxes.inverted().transform(ax.transData.transform((1.0, value)))[1])
            at_top = height > 1 - LABEL_HEIGHT  # where the legend often is, and the title above
            left = at_top or (not left if height - below < LABEL_HEIGHT else False)
            below = height
            ax.annotate(f"{ANCHORS[name]} {value:.3g}", (0.005 if left else 0.995, value), xycoords=("axes fraction", "data"),
                        ha="left" if left else "right", va="top" if at_top else "bottom", fontsize=6.5, color="0.35",
                        zorder=0.5)  # fmt: skip
        else:
            outside.append(f"{ANCHOR_WORDS[name]} {value:.3g}")
    if outside:
        ax.set_title("off the frame: " + ", ".join(outside), fontsize=6.5, color="0.35", loc="right")


def draw_curve(ax: Axes, drawn: pd.DataFrame, axis: Axis) -> None:
    """Means with t-intervals and the min–max band, hollow where something failed, and the number of units."""
    colour = palette()[0]
    if not axis.categorical:
        ax.fill_between(drawn["x"], drawn["min"], drawn["max"], color=colour, alpha=0.15, lw=0, label="min–max of units")
        ax.plot(drawn["x"], drawn["mean"], color=colour, lw=1.2)
    has = drawn["low"].notna()
    below, above = (drawn["mean"] - drawn["low"]).where(has, 0), (drawn["high"] - drawn["mean"]).where(has, 0)
    ax.errorbar(drawn["x"], drawn["mean"], yerr=[below, above], fmt="none", ecolor=colour, capsize=3, lw=1)
    for clean, face in ((True, colour), (False, "white")):
        part = drawn.loc[(drawn["n_failed"] + drawn["n_diverged"]).eq(0) == clean]
        ax.plot(part["x"], part["mean"], "o", color=colour, markerfacecolor=face, markersize=5)
    small: dict[str, Any] = {"fontsize": 6.5, "color": "0.4"}
    if len(set(drawn["n_units"])) == 1:
        ax.annotate(f"n={drawn['n_units'].iloc[0]} each", (0.01, 0.01), xycoords="axes fraction", **small)
    else:
        for row in drawn.itertuples():
            ax.annotate(f"n={row.n_units}", (row.x, 0.01), xycoords=("data", "axes fraction"), ha="center", **small)


def pad_log(ax: Axes, values: np.ndarray, log: bool) -> None:
    """Frame the means and extremes; a t-interval of two seeds may run past the frame."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return
    low, high = float(finite.min()), float(finite.max())
    if log:
        ax.set_ylim(low / 1.5, high * 1.7)
        plain_log_ticks(ax, "y")
    else:
        room = max(high - low, 0.05)
        bottom = -0.03 * room if low >= 0 else -math.inf  # a share has no room below nought
        ax.set_ylim(max(low - 0.3 * room, bottom), high + 0.35 * room)


def plain_number(value: float, _: object = None) -> str:
    """Three digits without an exponent below 100,000: 1800, 0.05, 1e-05."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e5 else f"{value:.3g}"


def plain_log_ticks(ax: Axes, which: str) -> None:
    """Ticks of a log axis at 1, 2, 5 × 10^k over less than two decades, with plain numbers."""
    axis = ax.yaxis if which == "y" else ax.xaxis
    low, high = ax.get_ylim() if which == "y" else ax.get_xlim()
    decades = math.log10(high / low) if low > 0 else 3.0
    subs = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if decades < 0.9 else (1.0, 2.0, 5.0) if decades < 2.5 else (1.0,)
    axis.set_major_locator(LogLocator(base=10, subs=subs))
    axis.set_major_formatter(FuncFormatter(plain_number))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def set_parameter_axis(ax: Axes, axis: Axis, values: Sequence[Any]) -> dict[Any, float]:
    """Scale, label and ticks of the x axis for one parameter; returns where each value goes."""
    ax.set_xlabel(axis.label)
    if axis.categorical:
        names = sorted({str(v) for v in values})
        ax.set_xticks(range(len(names)), names)
        ax.set_xlim(-0.5, max(len(names) - 0.5, 0.5))
        return {value: float(names.index(str(value))) for value in values}
    if not all(math.isfinite(float(value)) for value in values):  # extra dimensions up to ∞: places in order, no scale
        ordered = sorted({float(value) for value in values})
        ax.set_xticks(range(len(ordered)), [plain_number(v) if math.isfinite(v) else "∞" for v in ordered])
        ax.set_xlim(-0.5, len(ordered) - 0.5)
        return {value: float(ordered.index(float(value))) for value in values}
    positions = {value: float(value) for value in values}
    low, high = (min(positions.values()), max(positions.values())) if positions else (1.0, 1.0)
    log = axis.log and low > 0
    if log:
        ax.set_xscale("log")
        room = max((high / low) ** 0.08, 1.05)
        ax.set_xlim(low / room, high * room)
        plain_log_ticks(ax, "x")
    else:
        room = 0.08 * (high - low) or 0.5
        ax.set_xlim(low - room, high + room)
    _tick_values(ax, sorted(set(positions.values())), log)
    return positions


def _tick_values(ax: Axes, values: list[float], log: bool) -> None:
    """Ticks at the tested values themselves, where they are few and stand apart."""
    places = np.log(values) if log else np.asarray(values)
    alone = len(values) == 1
    if alone or (2 <= len(values) <= 7 and np.diff(places).min() > 0.14 * (places[-1] - places[0])):
        ax.set_xticks(values, [plain_number(value) for value in values])


def mark_failures(ax: Axes, x: Iterable[float], counts: Iterable[int]) -> None:
    """A red × on the top edge, with the number of cells that failed or diverged there."""
    for position, n in zip(x, counts, strict=True):
        if n:
            ax.annotate(f"×\n{int(n)}", (position, 0.995), xycoords=("data", "axes fraction"), color=FAILURE_COLOUR,
                        ha="center", va="top", fontsize=8, fontweight="bold", annotation_clip=False)  # fmt: skip


def note(ax: Axes, text: str) -> None:
    """A sentence in the middle of empty axes."""
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color="0.35", wrap=True)


def format_value(value: Any) -> str:
    """A parameter value for text: four digits, words as they are, a dash for none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.4g}" if isinstance(value, (int, float, np.number)) and not isinstance(value, bool) else str(value)


def learning_curves(data: str | Path | pd.DataFrame) -> pd.DataFrame:
    """Training histories with the role of each field.

    Args:
        data: a study folder, its rows as `analysis.load_study` gives them, or a frame of `analysis.load_history`.
    Returns:
        train_id, seed_train, step, loss, gradient_norm, learning_rate, elapsed_s, and design_role (None when the
        field is not in the plan or a history was given).
    """
    if isinstance(data, pd.DataFrame) and "loss" in data.columns:
        return data if "design_role" in data.columns else data.assign(design_role=None)
    rows = data if isinstance(data, pd.DataFrame) else load_study(data)
    history = load_history(str(rows.attrs["path"]))
    roles = rows.dropna(subset=["train_id"]).drop_duplicates("train_id").set_index("train_id")["design_role"]
    return history.assign(design_role=history["train_id"].map(roles))


def plot_learning_curves(data: str | Path | pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Training loss against step, one line a field: default fields in colour, all others grey.

    Args:
        data: what `learning_curves` takes or returns.
        ax: axes to draw on; new ones if None.
    """
    history = learning_curves(data)
    ax = ax or new_axes()
    ax.set_xlabel("training step")
    ax.set_ylabel("training loss (mean since the point before)")
    default = history["design_role"].eq("default").fillna(False).astype(bool)
    drawn = ((~default, "other training points", "0.6", 0.7, 2), (default, "default", palette()[1], 1.4, 3))
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


def choose_cell(frame: pd.DataFrame, which: str) -> pd.Series | None:
    """The row shown for "default", "best" or "worst": by mean over seeds among configurations with complete rows.

    Best and worst are raw extremes, biased by selection. Prefers a row whose sample grid exists; None if there is no row.
    """
    frame = undisturbed(frame)
    complete = frame.loc[frame["status"].eq("complete")]
    if which == "default":
        rows = complete.loc[is_default(complete, "train") & is_default(complete, "sampler")]
    else:
        rows = _extreme_rows(frame, complete, which)
    if rows.empty:
        return None
    pictures = set((Place.of(str(frame.attrs.get("path", "."))) / "samples").files())
    has_grid = rows["cell_id"].map(lambda cell: f"{cell}.png" in pictures)
    order = rows.assign(_no=~has_grid).sort_values(["_no", "seed_train", "seed_sample"], kind="stable")
    return order.iloc[0].drop("_no")


def _extreme_rows(frame: pd.DataFrame, complete: pd.DataFrame, which: str) -> pd.DataFrame:
    summary = summarize(frame, default_metric(frame)).dropna(subset=["mean"])
    clean = summary.loc[(summary["n_failed"] + summary["n_diverged"]).eq(0)]
    summary = clean if len(clean) else summary
    if summary.empty:
        return complete.iloc[:0]
    means = summary["mean"].to_numpy(float)
    pick = summary.iloc[int(means.argmin() if which == "best" else means.argmax())]
    return complete.loc[complete["point_id"].eq(pick["point_id"]) & complete["sampler_id"].eq(pick["sampler_id"])]


def plot_samples(path: str | Path | pd.DataFrame, which: str = "default", *, ax: Axes | None = None) -> Axes:
    """The sample grid of one cell.

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
    """``default: FID 0.52, 120 NFE``, leaving out what was not measured."""
    metric = default_metric(frame)
    value, nfe = row[f"metric_{metric}"], row["cost_nfe"]
    name = "FID" if metric == "fid" else "sliced W"
    parts = ([f"{name} {value:.3g}"] if pd.notna(value) else []) + ([f"{nfe:.0f} NFE"] if pd.notna(nfe) else [])
    return f"{which}: {', '.join(parts)}" if parts else which
