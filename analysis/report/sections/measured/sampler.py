"""The sampler: quality against cost, what rtol buys, outliers, and a panel for each sampler parameter."""

from __future__ import annotations

from functools import partial

from analysis.plots.curves import plot_robustness
from analysis.plots.front import plot_quality_cost, plot_solver_tolerance
from analysis.plots.theory import plot_outlier_map
from analysis.report.ask import left_out
from analysis.report.blocks import Block, Section, Text
from analysis.report.sections.measured.parameters import parameter_panels
from analysis.report.study import Study
from analysis.rows.meta import find_axis, searched_axes
from analysis.rows.metrics import measured
from analysis.rows.words import format_value
from analysis.statistics.pareto import outlier_axis, pareto_front, solver_tolerance
from analysis.theory.outliers import outlier_map


def section(study: Study) -> Section:
    """Draw the front, the solver tolerance and the outliers, then a panel for each sampler parameter."""
    blocks: list[Block] = []
    if not any(axis.group == "sampler" for axis in searched_axes(study.frame)):
        blocks.append(Text("No sampler parameter was searched: every field was sampled one way, the default."))
    blocks += [*_front(study), *_tolerance(study), *_outlier_share(study)]
    return Section("sampler", "Sampler", (*blocks, *parameter_panels(study, "sampler"), *_outlier_map(study)))


def _front(study: Study) -> list[Block]:
    frame = study.frame
    shown = list(dict.fromkeys([study.metric, *measured(frame, "precision", "recall")]))
    front = pareto_front(frame)
    cheapest = front.loc[front["cheapest_within"]]
    text = (
        f"Cheapest configuration within tolerance of the default: {cheapest['nfe'].iloc[0]:.0f} NFE at"
        f" {study.label} {cheapest['mean'].iloc[0]:.3g} ({cheapest['solver'].iloc[0]})."
        if len(cheapest)
        else "No configuration is known to be within tolerance of the default."
    )
    caption = (
        "Quality against cost. A mark a configuration; coloured lines: the default field under each solver's budget, with 95 %"
        f" intervals over fields; dark steps: what nothing beats on both. All panels share the legend. {text}"
    )
    draws = [partial(plot_quality_cost, frame, metric=metric) for metric in shown]
    return [study.draw("quality-cost", caption, f"{study.label} against NFE. {text}", draws)]


def _outlier_share(study: Study) -> list[Block]:
    outlier = outlier_axis(study.frame)
    if outlier is None:
        return []
    caption = f"Outlier fraction against {outlier}: FID hardly sees samples that stay noise, this share does."
    draw = partial(plot_robustness, study.frame, find_axis(study.frame, outlier), metric="outlier_fraction")
    return [study.draw("outliers", caption, caption, [draw])]


def _tolerance(study: Study) -> list[Block]:
    table = solver_tolerance(study.frame)
    if table["rtol"].nunique() < 2:
        return []
    quantities = [q for q in ("solver_error", "quality", "nfe") if table[q].notna().any()]
    if not quantities:
        return [Text("No cell with a solver tolerance is complete.")]
    share = table["diverged_share"].max()
    held = table.attrs["held_fixed"]
    caption = (
        "What the tolerance buys: solver error, quality and NFE against rtol, means over fields with"
        " t-intervals. Largest share of"
        f" diverged or step-limited cells: {share:.0%}. Held fixed: {held}. Left out: {left_out(table)}."
    )
    draws = [partial(plot_solver_tolerance, study.frame, quantity=quantity) for quantity in quantities]
    return [study.draw("solver-tolerance", caption, "Solver error, quality and NFE against relative tolerance.", draws)]


def _outlier_map(study: Study) -> list[Block]:
    """Draw outliers against the truncation of the prior, where two or more truncations were measured."""
    table = outlier_map(study.frame)
    known = table.dropna(subset=["outlier_fraction"])
    if known["max_radius_ratio"].nunique() < 2:
        return []
    caption = (
        f"Share of outliers against the radius at which the prior is cut. Held fixed: {table.attrs['held_fixed']}."
        f" Left out: {left_out(table)}."
    )
    alt = "; ".join(f"R/T {format_value(r.max_radius_ratio)}: {r.outlier_fraction:.3f}" for r in known.head(12).itertuples())
    return [study.draw("outlier-map", caption, f"Share of outliers: {alt}.", [partial(plot_outlier_map, study.frame)])]
