"""Importance, the whole box, variance components, theory and degradation as sections of the report.

Each function asks one statistic of `analysis` and prints its table, its figure and what it left out; a statistic that
refuses the study is quoted, because the refusal names the cure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from analysis.plots.disturbances import MOST_INSIDE, plot_perturbation_robustness
from analysis.plots.shares import plot_parameter_importance, plot_regional_sensitivity, plot_variance_components
from analysis.plots.theory import plot_outlier_map, plot_theory_curves
from analysis.report.blocks import Block, Section, TableBlock, Text
from analysis.report.figures import ALONE, ASIDE, figure
from analysis.report.sections.design import with_disturbed
from analysis.rows.meta import AnalysisError, design_of, tolerance_of
from analysis.rows.metrics import default_metric
from analysis.rows.units import is_given
from analysis.rows.words import format_value, metric_label
from analysis.statistics.components import variance_components
from analysis.statistics.disturbances import perturbation_robustness
from analysis.statistics.importance import parameter_importance
from analysis.statistics.regional import regional_sensitivity
from analysis.statistics.variance import FEW_DF, few
from analysis.statistics.volume import tolerance_volume, worst_case
from analysis.theory.outliers import outlier_map
from analysis.theory.predictions import theory_curves

Result = pd.DataFrame | str
"""A table, or the sentence that says why there is none."""


def ask(statistic: Callable[..., pd.DataFrame], frame: pd.DataFrame, **options: Any) -> Result:
    """A statistic's table, or the refusal it raised."""
    try:
        return statistic(frame, **options)
    except AnalysisError as error:
        return str(error)


def importances(frame: pd.DataFrame) -> Result:
    """`analysis.parameter_importance`, or why it is refused."""
    return ask(parameter_importance, frame)


def importance_section(frame: pd.DataFrame, folder: Path, importance: Result) -> Section:
    """Importance by fANOVA with interval, p-value and surrogate R², then the regional sensitivity."""
    blocks: list[Block] = []
    if isinstance(importance, str):
        blocks.append(Text(f"Importance: {importance}"))
    elif importance.empty:
        blocks.append(Text(f"No importance could be computed. Left out: {left_out(importance)}."))
    else:
        r2 = ", ".join(f"{value:.2f} ({group})" for group, value in importance.attrs["surrogate_r2"].items())
        caption = (
            f"Share of the variance of log {metric_label(frame, default_metric(frame))} by fANOVA, 95 % interval over resampled"
            " points; p: permutation of whole points, hollow above 5 %. Out-of-sample R² of the surrogate:"
            f" {r2}. Where it is near 0 or below, the shares describe noise. Left out: {left_out(importance)}."
        )
        top = importance.iloc[0]
        alt = f"Importance by parameter; the largest is {top['parameter']}, {top['importance']:.2f}, p = {top['p_value']:.3f}."
        draw: Callable[[Axes], object] = lambda ax: plot_parameter_importance(frame, table=importance, ax=ax)  # noqa: E731
        blocks += [figure(folder, "importance", caption, alt, [draw]), _table("importance", "Importance.", importance)]
    return Section("importance", "Importance", (*blocks, *_regional(frame, folder)))


def _regional(frame: pd.DataFrame, folder: Path) -> list[Block]:
    table = ask(regional_sensitivity, frame)
    if isinstance(table, str):
        return [Text(f"Regional sensitivity: {table}")]
    if table.empty:
        return [Text(f"Regional sensitivity: no parameter to compare. Left out: {left_out(table)}.")]
    caption = (
        f"Do points within {tolerance_of(frame):.0%} of the default take other values than points outside? Distance of the two"
        f" distributions, p by permutation of whole points, hollow above 5 %; failed points are outside. Left out:"
        f" {left_out(table)}."
    )
    alt = "Distance between values inside and outside the tolerance by parameter."
    draws: list[Callable[[Axes], object]] = [lambda ax: plot_regional_sensitivity(frame, ax=ax)]
    return [figure(folder, "regional", caption, alt, draws), _table("regional", "Regional sensitivity.", table)]


def box_section(frame: pd.DataFrame) -> Section:
    """Share of the declared box within tolerance, and the worst that was met in it."""
    volume, worst = ask(tolerance_volume, frame), ask(worst_case, frame)
    blocks: list[Block] = []
    for name, found, caption in (
        ("volume", volume, f"Share of the declared box within {tolerance_of(frame):.0%} of the default, 95 % interval over"
         " whole points; failed ones are outside."),
        ("worst", worst, "The largest ratio to the default that was met, with bounds that know it was picked. The box may hold"
         " worse points between those sampled."),
    ):  # fmt: skip
        if isinstance(found, str):
            blocks.append(Text(found))
        elif found.empty:
            blocks.append(Text(f"{caption} Nothing to print: {left_out(found)}."))
        else:
            blocks.append(_table(name, f"{caption} Left out: {left_out(found)}.", found))
    return Section("box", "The whole searched box", tuple(blocks))


def components_blocks(frame: pd.DataFrame, folder: Path) -> list[Block]:
    """Shares of configuration, train seed, sample seed and residual in the variance of the log metric."""
    table = ask(variance_components, frame)
    if isinstance(table, str):
        return [Text(f"Variance components: {table}")]
    if table["share"].notna().sum() == 0:
        return [Text("Variance components: too few complete cells share a training point or a field to tell them apart.")]
    caption = (
        f"Where the variance of log {metric_label(frame, default_metric(frame))} comes from ({table.attrs['held_fixed']}):"
        " standard deviations and shares with 95 % intervals; a dash: not separable here."
    )
    known = table.dropna(subset=["sd"]).to_dict("records")
    rough = [f"{row['component']} ({row['df']:.2g})" for row in known if few(row["df"])]
    caption += f" Degrees of freedom, fewer than {FEW_DF:g}, so it may be luck: {', '.join(rough)}." if rough else ""
    alt = "Share of variance: " + ", ".join(f"{r.component} {format_value(r.share)}" for r in table.itertuples()) + "."
    draw: list[Callable[[Axes], object]] = [lambda ax: plot_variance_components(frame, ax=ax)]
    return [figure(folder, "variance-components", caption, alt, draw), _table("components", "Variance components.", table)]


def theory_section(frame: pd.DataFrame, folder: Path) -> Section:
    """What the theory predicts for T, the heights and τ, over the points that were measured."""
    every = theory_curves(frame)
    kl = theory_curves(frame, "prior_kl") if _has_kl(frame) else every
    blocks: list[Block] = []
    for which, title in _THEORIES.items():
        table = kl if which == "prior_error" else every
        notes: Mapping[str, str] = table.attrs["notes"]
        part = table.loc[table["theory"].eq(which)]
        if part.empty:
            blocks.append(Text(f"{title}: not shown, {notes[which]}."))
            continue
        n = int(part["kind"].eq("measured").sum())
        dashed = "dashed the prediction, " if part["kind"].eq("curve").any() else ""
        unit = "samplings" if is_given(frame) else "fields"
        caption = f"{title}: {dashed}points measured, bars 95 % over {unit}. {notes[which]}."
        blocks.append(figure(folder, f"theory-{which}", caption, f"{title}, {n} measured points.", [_theory(frame, which)]))
    return Section("theory", "Theory beside measurement", tuple(blocks))


_THEORIES = {
    "prior_error": "Error of starting at a finite height T",
    "coverage": "Share of latents that training covered",
    "tau_null": "No effect of τ at a fixed height",
}


def _theory(frame: pd.DataFrame, which: str) -> Callable[[Axes], object]:
    known = which == "prior_error" and _has_kl(frame)
    return lambda ax: plot_theory_curves(frame, which, metric="prior_kl" if known else None, ax=ax)


def _has_kl(frame: pd.DataFrame) -> bool:
    """Whether the error of the prior was measured itself, as it is for exact fields."""
    return "metric_prior_kl" in frame and bool(frame["metric_prior_kl"].notna().any())


def outlier_blocks(frame: pd.DataFrame, folder: Path) -> list[Block]:
    """Outliers against the truncation of the prior, where two or more truncations were measured."""
    table = outlier_map(frame)
    known = table.dropna(subset=["outlier_fraction"])
    if known["max_radius_ratio"].nunique() < 2:
        return []
    caption = (
        f"Share of outliers against the radius at which the prior is cut. Held fixed: {table.attrs['held_fixed']}."
        f" Left out: {left_out(table)}."
    )
    alt = "; ".join(f"R/T {format_value(r.max_radius_ratio)}: {r.outlier_fraction:.3f}" for r in known.head(12).itertuples())
    return [figure(folder, "outlier-map", caption, f"Share of outliers: {alt}.", [lambda ax: plot_outlier_map(frame, ax=ax)])]


def degradation_section(frame: pd.DataFrame, folder: Path, disturbed: pd.DataFrame | None = None) -> Section | None:
    """Degradation under injected noise, rounded weights and fewer steps; None where nothing of the kind was measured."""
    rows = with_disturbed(frame, disturbed)
    table = ask(perturbation_robustness, rows)
    if isinstance(table, str) or table.empty:
        return None
    blocks: list[Block] = []
    for kind in table["perturb_kind"].unique():
        caption = f"Degradation by {kind.replace('_', ' ')}: ratio to the same field and latents undisturbed, 95 % over fields."
        many = table.loc[table["perturb_kind"].eq(kind), "series"].nunique() > MOST_INSIDE
        draw = _degradation(rows, kind)
        blocks.append(figure(folder, f"degradation-{kind}", caption, caption, [draw], ASIDE if many else ALONE))
    blocks.append(_table("degradation", f"Degradation. Left out: {left_out(table)}.", table))
    return Section("degradation", "Degradation", tuple(blocks))


def _degradation(rows: pd.DataFrame, kind: str) -> Callable[[Axes], object]:
    return lambda ax: plot_perturbation_robustness(rows, kind, ax=ax)


def left_out(table: pd.DataFrame) -> str:
    """``reason: count`` of what a statistic skipped, or "nothing"."""
    return "; ".join(f"{reason}: {n}" for reason, n in table.attrs.get("skipped", {}).items()) or "nothing"


def _table(name: str, caption: str, table: pd.DataFrame) -> TableBlock:
    text = {column: [format_value(v) for v in table[column].tolist()] for column in table.columns}
    return TableBlock(name, caption, pd.DataFrame(text))


def importance_words(importance: Result) -> dict[tuple[str, str], str]:
    """(group, parameter) → importance with interval and p-value, for the verdict table; empty where it was refused."""
    if isinstance(importance, str):
        return {}
    return {
        (str(row["group"]), str(row["parameter"])): (
            f"{row['importance']:.2f} ({row['low']:.2f} to {row['high']:.2f}), p = {row['p_value']:.3f}"
        )
        for row in importance.to_dict("records")
        if math.isfinite(row["importance"])
    }


def why_no_importance(frame: pd.DataFrame, importance: Result) -> str:
    """The sentence below a verdict table whose importance column is empty."""
    if isinstance(importance, str):
        return f"Importance is not given: {importance}"
    return "" if len(importance) else f"Importance is not given for the {design_of(frame)} design: {left_out(importance)}."
