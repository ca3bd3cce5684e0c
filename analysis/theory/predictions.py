r"""What the theory of the Poisson flow predicts for a study, beside what the study measured.

*Starting from the prior at a finite height T.* Seen from the plane t = T the data are one charge only to leading order. With
h_y(x) the kernel of a source y divided by the prior, the true law is p_T = p · E_y[h_y], and KL(p_T‖p) ≈ ½ E_p[(E_y h_y − 1)²]
to leading order in y/T. The first order in y is the score of a shifted kernel, whose Fisher information is
(d+1)/((d+3) T²) · I, so a mean μ ≠ 0 costs (d+1)/(2(d+3)) ‖μ‖²/T². Centred data leave the second order, a quadratic form in
the covariance C:  3(d+1)/(8 T⁴ (d+3)) · [2(d+3)² tr C² − 2(d−1)(tr C)²]/((d+5)(d+7)). The expansion is used for
T ≥ 3 √λ_max(C) and ‖μ‖ ≤ T/3 only. It concerns the exact field without truncation, in nats; FID has another scale.

*Coverage.* Training reaches R_max = √d t_hi at the top, so the share of latents that start inside,
P(R ≤ R_max) = I_{d/(d+(T/t_hi)²)}(d/2, 1/2), is a function of T over the height and of d alone. It is drawn and never rated.

*τ at a fixed height.* Training points depend on τ and M through M·ln(1+τ) alone, so at a fixed σ and a fixed largest height
t_hi = σ(1+τ)^M the ratio to the default is 1 for every τ.

Source: PFGM (arXiv 2209.11178) for the kernel, the prior and the training law; the expansions are derived here.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.plots.legends import draw_legend
from analysis.plots.style import metric_label, new_axes, note, pad_log, palette, plain_log_ticks
from analysis.rows.load import AnalysisError, design_of, has_role, is_default, undisturbed
from analysis.rows.units import is_given, unit_key
from analysis.statistics.summary import default_metric, is_log, metric_values, t_interval
from analysis.statistics.variance import half_width, moderate, of_means, pool
from analysis.theory.outliers import prior_tail

THEORIES = ("prior_error", "coverage", "tau_null")
VALID_SD, VALID_MEAN = 3.0, 1 / 3
"""The expansion in y/T holds for T ≥ 3 √λ_max(C) and ‖μ‖ ≤ T/3."""
HEIGHT_SLACK = 0.10
"""Largest relative difference between heights that count as equal: the rule rounds M to a whole number."""
_COLUMNS = ["theory", "kind", "quantity", "x", "y", "low", "high", "n_fields"]


class DataMoments(NamedTuple):
    """What the prior's error depends on: moments of the data as trained (centred or not)."""

    dim: int
    mean_norm: float
    """‖μ‖ in data units."""
    trace: float
    """tr C."""
    trace_square: float
    """tr C²."""
    top: float
    """λ_max(C), the variance of the first principal component."""


def data_moments(x: np.ndarray) -> DataMoments:
    """Moments of a data set as it is trained on.

    Args:
        x: data points, shape (N, …), in data units, flattened to (N, d).
    """
    flat = np.asarray(x, dtype=float).reshape(len(x), -1)
    mean = flat.mean(axis=0)
    values = np.linalg.eigvalsh(np.cov(flat, rowvar=False, bias=True).reshape(flat.shape[1], -1))
    norm, trace, square = float(np.linalg.norm(mean)), float(values.sum()), float(np.square(values).sum())
    return DataMoments(flat.shape[1], norm, trace, square, float(values[-1]))


def known_moments(frame: pd.DataFrame) -> DataMoments | None:
    """Moments of the study's data where this package can have them: scikit-learn's digits, in [−1, 1], centred or raw."""
    names, centred = frame["data_name"].dropna().unique(), frame["data_center"].dropna().unique()
    if list(names) != ["digits"] or len(centred) != 1:
        return None
    from sklearn.datasets import load_digits

    x = load_digits().images / 8.0 - 1.0
    return data_moments(x - x.mean(axis=0) if centred[0] else x)


def prior_error(T: np.ndarray | float, moments: DataMoments) -> np.ndarray:
    r"""KL(p_T‖prior) in nats to leading order, NaN below the heights where the expansion holds.

    (d+1)/(2(d+3)) ‖μ‖²/T² + 3(d+1)/(8 T⁴ (d+3)) · [2(d+3)² tr C² − 2(d−1)(tr C)²]/((d+5)(d+7)): the first term leads when
    ‖μ‖ is not small against tr C / T, the second when the data are centred.

    Args:
        T: starting heights, data units.
        moments: of the data as trained.
    """
    heights = np.asarray(T, dtype=float)
    d = moments.dim
    form = 2 * (d + 3) ** 2 * moments.trace_square - 2 * (d - 1) * moments.trace**2
    second = 3 * (d + 1) / (8 * heights**4 * (d + 3)) * form / ((d + 5) * (d + 7))
    first = (d + 1) / (2 * (d + 3)) * moments.mean_norm**2 / heights**2
    valid = (heights >= VALID_SD * math.sqrt(moments.top)) & (moments.mean_norm <= VALID_MEAN * heights)
    return np.where(valid, first + second, np.nan)


def coverage(ratio: np.ndarray | float, dim: int) -> np.ndarray:
    """P(R ≤ √d t_hi) for a start at T = ratio · t_hi: what training reached of the prior, in [0, 1]."""
    return np.asarray(1.0 - prior_tail(math.sqrt(dim) / np.asarray(ratio, dtype=float), dim))


def theory_curves(frame: pd.DataFrame, metric: str | None = None, moments: DataMoments | None = None) -> pd.DataFrame:
    """Predicted curves and measured points of the three statements above.

    Args:
        frame: rows of `analysis.load_study`.
        metric: what was measured against T and τ (default ``fid``). ``prior_kl`` is measured for other processes too, whose
            points come without a curve.
        moments: of the data (default: known for digits; without them no curve of the prior's error).
    Returns:
        theory (prior_error, coverage, tau_null), kind (curve, measured), quantity, x (T in data units, T/t_hi, τ), y, low,
        high (t-interval over fields), n_fields; ``attrs``: skipped, notes ({theory: what was held fixed, or why it is
        empty}), valid_from (T above which the expansion holds, or None).
    """
    frame = undisturbed(frame)
    metric = metric or default_metric(frame)
    moments = moments or known_moments(frame)
    pfgm = frame["train_process"].eq("pfgm")
    values, skipped = metric_values(frame, metric)
    every = frame.assign(_y=values, _field=unit_key(frame))
    every.attrs = {}
    rows, one = every.loc[pfgm], design_of(frame) == "one_at_a_time"
    none: tuple[list[Row], str] = ([], "no row of process pfgm")
    elsewhere = rows.empty and metric == "prior_kl" and bool(values.notna().any())
    if rows.empty:
        found, moments = dict.fromkeys(THEORIES, none), None
        if elsewhere:
            measured, held = _measured_error(every, one, metric)
            found["prior_error"] = (measured, f"{held}; {_NO_CURVE}")
    else:
        found = {
            "prior_error": _prior_error(rows, one, metric, moments),
            "coverage": _coverage(rows),
            "tau_null": _tau_null(rows, metric),
        }
    if not pfgm.all() and not elsewhere:
        skipped["another process than pfgm"] = int((~pfgm).sum())
    parts, notes = [], {}
    for name, (table, words) in found.items():
        parts += [{"theory": name, **row} for row in table]
        notes[name] = words
    result = pd.DataFrame(parts, columns=_COLUMNS).astype(dict.fromkeys(("x", "y", "low", "high"), float))
    valid = max(VALID_SD * math.sqrt(moments.top), moments.mean_norm / VALID_MEAN) if moments else None
    result.attrs = {**frame.attrs, "skipped": skipped, "notes": notes, "valid_from": valid, "metric": metric}
    return result


Row = dict[str, Any]


def _point(kind: str, quantity: str, x: float, y: float, low: float = math.nan, high: float = math.nan, n: int = 0) -> Row:
    return {"kind": kind, "quantity": quantity, "x": x, "y": y, "low": low, "high": high, "n_fields": n}


_NO_CURVE = "without a curve, because the expansion is that of process pfgm, one extra dimension"


def _measured_error(rows: pd.DataFrame, one: bool, metric: str) -> tuple[list[Row], str]:
    """The metric by T, and what was held fixed."""
    if one:
        rows = rows.loc[is_default(rows, "train") & has_role(rows["design_sampler_role"], "default", "arm:T_ratio", "arm:T")]
    back = np.exp if is_log(metric) else np.asarray
    table = []
    keys = rows["sampler_T"].map(lambda T: float(f"{T:.6g}")) if len(rows) else rows["sampler_T"]
    for T, group in rows.dropna(subset=["_y"]).groupby(keys):
        interval = t_interval(group.groupby("_field")["_y"].mean().to_numpy())
        mean, low, high = (float(back(v)) for v in interval[:3])
        table.append(_point("measured", metric, float(T), mean, low, high, interval.n))
    return table, "default training point, other sampler parameters at their defaults" if one else "the other parameters vary"


def _prior_error(rows: pd.DataFrame, one: bool, metric: str, moments: DataMoments | None) -> tuple[list[Row], str]:
    table, held = _measured_error(rows, one, metric)
    if moments is None:
        return table, f"{held}; the moments of these data are not known here: give moments=data_moments(x)"
    if table:
        xs = [row["x"] for row in table]
        grid = np.geomspace(min(xs), max(max(xs), 3 * VALID_SD * math.sqrt(moments.top)), 200)
        curve = prior_error(grid, moments)
        table += [_point("curve", "KL (nats)", float(x), float(y)) for x, y in zip(grid, curve, strict=True) if np.isfinite(y)]
    return table, held


def _coverage(rows: pd.DataFrame) -> tuple[list[Row], str]:
    known = rows.dropna(subset=["diag_coverage", "train_height_max", "sampler_T"])
    dims = known["data_dim"].dropna().unique()
    if known.empty or len(dims) != 1:
        return [], "no coverage was measured" if known.empty else "data of several dimensions"
    ratio = (known["sampler_T"] / known["train_height_max"]).map(lambda v: float(f"{v:.6g}"))
    table = []
    for x, group in known.groupby(ratio):
        table.append(
            _point("measured", "coverage", float(x), float(group["diag_coverage"].mean()), n=group["_field"].nunique())
        )
    grid = np.geomspace(ratio.min() / 1.5, ratio.max() * 1.5, 200)
    table += [_point("curve", "coverage", float(x), float(y)) for x, y in zip(grid, coverage(grid, int(dims[0])), strict=True)]
    return table, f"d = {int(dims[0])}; every height of the study"


def _tau_null(rows: pd.DataFrame, metric: str) -> tuple[list[Row], str]:
    """Fields that differ from the default training point in τ and M only, at (nearly) its height."""
    base = rows.loc[is_default(rows, "train")]
    if base.empty or not is_log(metric):
        return [], "no default training point" if base.empty else f"{metric} is not compared as a ratio"
    varying = {f"train_{name}" for name in ("id", "tau", "M", "height_ratio", "height_max", "R_max")}
    default: Any = base.iloc[0]
    same = pd.Series(True, index=rows.index)
    for column in (str(c) for c in rows.columns if str(c).startswith("train_") and c not in varying):
        same &= rows[column].isna() if pd.isna(default[column]) else rows[column].eq(default[column]).fillna(False)
    heights = rows["train_height_max"].astype(float) / float(default["train_height_max"])
    gap = heights.map(math.log, na_action="ignore").abs()
    keep = same & gap.le(math.log1p(HEIGHT_SLACK))
    if is_default(rows, "sampler").any():
        keep &= is_default(rows, "sampler")
    groups = {
        float(str(tau)): group.groupby("_field")["_y"].mean().to_numpy()
        for tau, group in rows.loc[keep].dropna(subset=["_y"]).groupby("train_tau")
    }
    reference = groups.get(float(default["train_tau"]))
    if reference is None or len(groups) < 2:
        return [], f"no two τ at one height (within {HEIGHT_SLACK:.0%}) with all else equal"
    table = [_tau_point(tau, reference, y, tau == float(default["train_tau"])) for tau, y in groups.items()]
    kept = rows.loc[keep, "train_height_max"]
    table += [_point("curve", "ratio", tau, 1.0) for tau in (min(groups), max(groups))]
    return table, f"height {kept.min():.3g} … {kept.max():.3g} data units; all else as the default"


def _tau_point(tau: float, reference: np.ndarray, y: np.ndarray, itself: bool) -> Row:
    if itself:
        return _point("measured", "ratio", tau, 1.0, n=len(y))
    difference = float(y.mean() - reference.mean())
    half = math.nan
    if min(len(y), len(reference)) >= 2:
        pooled = pool([reference, y])
        half = half_width(*of_means([(moderate(side, pooled), len(side)) for side in (reference, y)]))
    low, high = math.exp(difference - half), math.exp(difference + half)
    return _point("measured", "ratio", tau, math.exp(difference), low, high, len(y))


_LABELS = {
    "prior_error": "starting height T (data units)",
    "coverage": "T over the largest trained height t_hi",
    "tau_null": "τ at a fixed height",
}


def plot_theory_curves(
    frame: pd.DataFrame, which: str = "coverage", *, metric: str | None = None, moments: DataMoments | None = None,
    ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """One prediction as a line, the measured points over it; what was held fixed as a line of text.

    ``prior_error`` has two scales: the metric at the left, the predicted KL at the right, only where it is valid. Where the
    metric is the KL itself (``prior_kl``, of an exact field), both are on one.

    Args:
        frame: rows of `analysis.load_study`.
        which: ``prior_error``, ``coverage`` or ``tau_null``.
        metric: default ``fid``.
        moments: of the data, as in `theory_curves`.
        ax: axes to draw on; new ones if None.
    Raises:
        AnalysisError: another prediction.
    """
    if which not in THEORIES:
        raise AnalysisError(f"which: got {which}; use {', '.join(THEORIES)}")
    every = theory_curves(frame, metric, moments)
    table = every.loc[every["theory"].eq(which)]
    ax = ax or new_axes()
    ax.set_xlabel(_LABELS[which])
    label = metric_label(frame, every.attrs["metric"])
    ax.set_ylabel({"coverage": "share of latents inside R_max", "tau_null": f"{label} ÷ default's"}.get(which, label))
    ax.set_title(every.attrs["notes"][which], fontsize=6.5, color="0.35", loc="left", wrap=True)
    if table.empty:
        note(ax, "nothing to compare")
        return ax
    ax.set_xscale("log")
    curve, measured = (table.loc[table["kind"].eq(kind)] for kind in ("curve", "measured"))
    _draw_measured(ax, measured, "samplings" if is_given(frame) else "fields")
    if which == "prior_error":
        _draw_prior_error(ax, curve, measured, every.attrs["valid_from"], every.attrs["metric"])
    else:
        ax.plot(curve["x"], curve["y"], "--", color="0.25", lw=1.1, label="theory", zorder=1)
    if which == "tau_null":
        ax.set_yscale("log")
        pad_log(ax, table[["y", "low", "high"]].to_numpy(float), True)
    elif which == "coverage":
        ax.set_ylim(-0.03, 1.03)
    plain_log_ticks(ax, "x")
    if which != "prior_error" or every.attrs["metric"] == "prior_kl":  # whose two axes say it, and whose curve it would cover
        draw_legend(ax)
    return ax


def _draw_measured(ax: Axes, measured: pd.DataFrame, unit: str) -> None:
    has = measured["low"].notna()
    errors = [(measured["y"] - measured["low"]).where(has, 0), (measured["high"] - measured["y"]).where(has, 0)]
    ax.errorbar(measured["x"], measured["y"], yerr=errors, fmt="o", color=palette()[0], capsize=3, lw=1, markersize=5,
                label=f"measured, 95 % over {unit}" if has.any() else "measured")  # fmt: skip


def _draw_prior_error(ax: Axes, curve: pd.DataFrame, measured: pd.DataFrame, valid: float | None, metric: str) -> None:
    log = is_log(metric)
    if log:
        ax.set_yscale("log")
    pad_log(ax, measured[["y"]].to_numpy(float), log)
    if valid is None or curve.empty:
        return
    ax.axvspan(ax.get_xlim()[0], valid, color="0.92", lw=0, zorder=0)
    ax.text(0.02, 0.03, "grey: T too low for the expansion", transform=ax.transAxes, fontsize=6.5, color="0.35")
    if metric == "prior_kl":
        ax.plot(curve["x"], curve["y"], "--", color="0.25", lw=1.1, label="theory", zorder=1)
        return
    right = ax.twinx()
    right.set_yscale("log")
    right.plot(curve["x"], curve["y"], "--", color="0.25", lw=1.1)
    right.set_ylabel("theory: KL to the true law (nats), dashed", color="0.25")
