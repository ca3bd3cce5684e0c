"""Seed noise, what this study can see, the anchors of FID, and the variance components."""

from __future__ import annotations

import math
from functools import partial

import pandas as pd

from analysis.plots.shares import plot_variance_components
from analysis.power import power_table, sentences
from analysis.report.ask import ask, text_table
from analysis.report.blocks import Block, Items, Section, TableBlock, Text
from analysis.report.study import Study
from analysis.robustness.noise import seed_variance
from analysis.rows.meta import is_default, is_given, tolerance_of
from analysis.rows.metrics import anchors
from analysis.rows.units import unit_key
from analysis.rows.words import ANCHORS, format_value, metric_label
from analysis.statistics.components import variance_components
from analysis.statistics.summary import sd_interval, seeds_needed
from analysis.statistics.variance import FEW_DF, few


def section(study: Study) -> Section:
    """Say how large the seed noise is, what this study's seeds can resolve, what FID means, and where variance comes from."""
    blocks = [*_resolution(study.frame, study.metric), *_anchors(study.frame), *_components(study)]
    return Section("noise", "Noise floor and power", tuple(blocks))


def _resolution(frame: pd.DataFrame, metric: str) -> list[Block]:
    given = is_given(frame)
    pooled = seed_variance(frame, metric)
    if pooled is None or not pooled.variance > 0:
        unknown = "The default was sampled less than twice: the sampling noise is unknown. Raise seeds.sample to 3."
        few_fields = "Fewer than two complete fields share a configuration: the seed noise is unknown. Raise seeds.train to 3."
        return [Text(unknown if given else few_fields)]
    sd, df = math.sqrt(pooled.variance), pooled.df
    low, high = sd_interval(sd, df)
    words = f"{pooled.how}, {df} {'degree' if df == 1 else 'degrees'} of freedom{few(df)}"
    again = (
        f"{'Sampling again' if given else 'Retraining'} moves log {metric} with a standard deviation of {sd:.2g},"
        f" 95 % interval {low:.2g} to {high:.2g} ({words})."
    )
    at_default = unit_key(frame).loc[is_default(frame, "train")].nunique()
    seen = sentences(power_table(frame, (max(at_default, 2),)), tolerance_of(frame))
    return [Text(again), Text("What this study can see:"), Items(tuple(seen)), _gaps(frame, sd, high)]


def _gaps(frame: pd.DataFrame, sd: float, high: float) -> TableBlock:
    unit = "samplings" if is_given(frame) else "fields"
    gaps = sorted({0.03, 0.10, 0.25, tolerance_of(frame)})
    table = pd.DataFrame(
        {
            "gap": [f"{g:.0%}" for g in gaps],
            f"{unit} a side": [str(seeds_needed(sd, g)) for g in gaps],
            "at the interval's upper end": [str(seeds_needed(high, g)) for g in gaps],
        }
    )
    return TableBlock("power", f"{unit.capitalize()} a side to see a gap at 5 % (two-sided) with 80 % power.", table)


def _anchors(frame: pd.DataFrame) -> list[Block]:
    found = anchors(frame)
    if not found:
        return []
    table = pd.DataFrame({"anchor": [ANCHORS[k] for k in found], "FID": [f"{v:.4g}" for v in found.values()]})
    return [TableBlock("anchors", f"What a value of {metric_label(frame, 'fid')} means.", table)]


def _components(study: Study) -> list[Block]:
    """Show the shares of configuration, train seed, sample seed and residual in the variance of the log metric."""
    table = ask(variance_components, study.frame)
    if isinstance(table, str):
        return [Text(f"Variance components: {table}")]
    if table["share"].notna().sum() == 0:
        return [Text("Variance components: too few complete cells share a training point or a field to tell them apart.")]
    caption = (
        f"Where the variance of log {study.label} comes from ({table.attrs['held_fixed']}):"
        " standard deviations and shares with 95 % intervals; a dash: not separable here."
    )
    known = table.dropna(subset=["sd"]).to_dict("records")
    rough = [f"{row['component']} ({row['df']:.2g})" for row in known if few(row["df"])]
    caption += f" Degrees of freedom, fewer than {FEW_DF:g}, so it may be luck: {', '.join(rough)}." if rough else ""
    alt = "Share of variance: " + ", ".join(f"{r.component} {format_value(r.share)}" for r in table.itertuples()) + "."
    draw = partial(plot_variance_components, study.frame)
    return [study.draw("variance-components", caption, alt, [draw]), text_table("components", "Variance components.", table)]
