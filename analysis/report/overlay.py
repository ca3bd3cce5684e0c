"""One parameter in several studies: their curves laid over one another."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from analysis.plots.style import PALETTE, draw_legend, note, plain_log_ticks, set_parameter_axis
from analysis.report.study import Study
from analysis.robustness.curves import robustness_curve
from analysis.rows.meta import Axis, searched_axes, tolerance_of
from analysis.rows.words import metric_label


def shared_parameters(studies: Sequence[Study]) -> dict[tuple[str, str], list[Study]]:
    """Return (group, parameter) → the studies that searched it, where two or more did, in the order first met."""
    found: dict[tuple[str, str], list[Study]] = {}
    for study in studies:
        for axis in searched_axes(study.frame):
            if axis.column in study.frame.columns:
                found.setdefault((axis.group, axis.name), []).append(study)
    return {key: members for key, members in found.items() if len(members) > 1}


def overlay_curves(studies: Sequence[Study], group: str, parameter: str) -> pd.DataFrame:
    """Return the metric of each study against one parameter, as a ratio to the study's own default.

    ratio = exp(d), bounds exp(d ± simultaneous half-width) of `analysis.robustness.ratios.level_ratios`.

    Returns:
        study, value, ratio, low, high (NaN without an interval), n, n_bad (failed or diverged cells), is_reference.
    """
    parts = []
    for study in studies:
        interval = next(t for t in study.intervals if (t.group, t.parameter) == (group, parameter))
        levels = interval.levels
        part = pd.DataFrame({"study": study.name, "value": levels["level"].astype(object), "n": levels["n"]})
        for name, column in (("ratio", "d"), ("low", "low"), ("high", "high")):
            part[name] = [math.exp(min(float(v), 700.0)) if pd.notna(v) else math.nan for v in levels[column]]
        part["n_bad"] = levels[["n_failed", "n_diverged"]].fillna(0).sum(axis=1).astype(int)
        part["is_reference"] = levels["is_reference"].astype(bool)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def overlay_values(studies: Sequence[Study], axis: Axis) -> pd.DataFrame:
    """Return the FID of each study against one parameter: study, value, y, low, high, n_bad."""
    parts = []
    for study in studies:
        curve = robustness_curve(study.frame, f"{axis.group}.{axis.name}", ["fid"])
        bad = curve["n_failed"] + curve["n_diverged"]
        parts.append(
            curve.rename(columns={"mean": "y"}).assign(study=study.name, n_bad=bad)[
                ["study", "value", "y", "low", "high", "n_bad"]
            ]
        )
    return pd.concat(parts, ignore_index=True)


def plot_values(studies: Sequence[Study], axis: Axis, table: pd.DataFrame, *, ax: Axes) -> Axes:
    """Draw `overlay_values` with the colours and markers of `plot_overlay`."""
    _draw(ax, axis, table, [study.name for study in studies])
    ax.set_ylabel(metric_label(studies[0].frame, "fid"))
    return ax


def plot_overlay(studies: Sequence[Study], axis: Axis, curves: pd.DataFrame, *, ax: Axes) -> Axes:
    """Draw `overlay_curves` with one colour and marker a study, the tolerance dashed, hollow where cells failed.

    Args:
        studies: those in ``curves``, in the order of their colours.
        axis: the parameter.
        curves: from `overlay_curves`.
        ax: axes to draw on.
    """
    _draw(ax, axis, curves.rename(columns={"ratio": "y"}), [study.name for study in studies])
    for limit in sorted({tolerance_of(study.frame) for study in studies}):
        ax.axhline(1 + limit, color="0.3", ls="--", lw=0.8)
    ax.axhline(1.0, color="0.6", lw=0.6, zorder=0)
    ax.set_ylabel("metric (× the study's own default)")
    return ax


def _draw(ax: Axes, axis: Axis, table: pd.DataFrame, names: Sequence[str]) -> None:
    positions = set_parameter_axis(ax, axis, table["value"].tolist())
    known = table.dropna(subset=["y"])
    if known.empty:
        note(ax, "no complete row")
        return
    ax.set_yscale("log")
    for i, name in enumerate(names):
        part = known.loc[known["study"].eq(name)]
        shift = 0.12 * (i - (len(names) - 1) / 2) if axis.categorical else 0.0
        x = [positions[value] + shift for value in part["value"]]
        colour, shape = PALETTE[i % 10], "osD^vP<>"[i % 8]
        has = part["low"].notna() & part["high"].notna()
        below, above = (part["y"] - part["low"]).where(has, 0), (part["high"] - part["y"]).where(has, 0)
        ax.errorbar(x, part["y"], yerr=[below, above], fmt="none", ecolor=colour, capsize=3, lw=1, alpha=0.8)
        ax.plot(x, part["y"], ls="none" if axis.categorical else "-", color=colour, lw=1.1)
        for filled in (True, False):
            chosen = [(p, y) for p, y, bad in zip(x, part["y"], part["n_bad"], strict=True) if (bad == 0) == filled]
            ax.plot([p for p, _ in chosen], [y for _, y in chosen], shape, color=colour, markersize=5,
                    markerfacecolor=colour if filled else "white", label=name if filled else None)  # fmt: skip
    low, high = float(known["y"].min()), float(known["y"].max())
    bottom, top = max(float(known["low"].min()), low / 2), min(float(known["high"].max()), high * 2)  # NaN leaves the means
    ax.set_ylim(min(low, bottom, 0.95 * high) / 1.1, max(high, top, 1.05 * low) * 1.25)
    plain_log_ticks(ax, "y")
    draw_legend(ax)
