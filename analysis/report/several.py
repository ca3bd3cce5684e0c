"""Report several studies side by side: verdicts in one table, shared parameters in one figure, then the sections of each.

A value of FID compares only within one data set, feature network and sample count. So the curves show the ratio to each
study's own default; where data, network and count agree, FID itself stands beside the ratio.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from analysis.report.blocks import Block, Items, Links, Section, TableBlock, Text, within_study
from analysis.report.build import build_sections
from analysis.report.figure import Draw, figure
from analysis.report.overlay import overlay_curves, overlay_values, plot_overlay, plot_values, shared_parameters
from analysis.report.sections.answers import short, verdict
from analysis.report.sections.record import design
from analysis.report.study import Study
from analysis.rows.meta import AnalysisError, design_of, find_axis, study_of, tolerance_of
from analysis.rows.metrics import default_metric
from analysis.rows.words import format_value, metric_label
from study.rows.storage import Place


def labels(frames: Sequence[pd.DataFrame]) -> list[str]:
    """Return a name a study: its own; where two have the same, with its folder's or a number.

    Raises:
        AnalysisError: a folder is named twice.
    """
    paths = [str(frame.attrs["path"]) for frame in frames]
    twice = next((path for path in paths if paths.count(path) > 1), None)
    if twice is not None:
        raise AnalysisError(f"{twice}: named twice; name every study once")
    own = [str(study_of(frame).get("name", "study")) for frame in frames]
    names: list[str] = []
    for name, path in zip(own, paths, strict=True):
        longer = name if own.count(name) == 1 else f"{name}-{Place.of(path).name}"
        n = sum(other == longer or other.startswith(f"{longer}-") for other in names)
        names.append(f"{longer}-{n + 1}" if longer in names else longer)
    return names


def default_output(places: Sequence[Place], names: Sequence[str]) -> Place:
    """Return ``report-<name>-<name>`` in the folder that holds all the studies.

    Raises:
        AnalysisError: no folder holds them all.
    """
    first = places[0]
    alike = len({(place.remote, place.options) for place in places}) == 1
    parents = [os.path.dirname(place.absolute().path) for place in places]
    common = os.path.commonpath(parents) if alike and all(parents) else ""
    if not common:
        raise AnalysisError(f"no folder holds {' and '.join(str(place) for place in places)}; name one with --output")
    if not first.remote and not os.path.isabs(first.path):
        common = os.path.relpath(common)
    return Place(common, first.remote, first.options) / f"report-{'-'.join(names)}"


def sections(studies: Sequence[Study], figures: Path) -> list[Section]:
    """Return the comparison, then the sections of each study; figures are written to ``figures`` on the way."""
    found = [_short(studies), _counts(studies), _verdicts(studies), _shared(studies, figures)]
    methods = []
    for study in studies:
        own = build_sections(replace(study, figures=figures / study.name))
        methods = [section for section in own if section.key == "methods"]  # the same words for every study
        own = [within_study(section, study.name) for section in own if section.key != "methods"]
        found += [Section(study.name, f"Study {study.name}", (Text("The report of this study:"), Links(tuple(own)))), *own]
    return found + methods


def _short(studies: Sequence[Study]) -> Section:
    blocks: list[Block] = [Text(short.question(studies[0].frame, plural=True))]
    for study in studies:
        sentences = short.verdict_sentences(study)
        blocks.append(Text(f"{study.name}: {' '.join(sentences)}", lead=True))
    rules: dict[str, list[str]] = {}
    for study in studies:
        rules.setdefault(short.rule(study.frame), []).append(study.name)
    blocks += [Text(rule if len(rules) == 1 else f"{', '.join(names)}: {rule}") for rule, names in rules.items()]
    return Section("short", "In short", tuple(blocks))


def _counts(studies: Sequence[Study]) -> Section:
    rows = []
    for study in studies:
        frame, disturbed = study.frame, study.disturbed
        counts = frame["status"].value_counts()
        bad = sum(int(n) for status, n in counts.items() if status not in ("complete", "pending"))
        cost = design.cost(study.every)
        rows.append(
            {
                "study": study.name, "data": study_of(frame).get("data", {}).get("name", "?"),
                "metric": metric_label(frame, default_metric(frame)), "design": design_of(frame), "planned": len(frame),
                "complete": int(counts.get("complete", 0)), "failed or diverged": bad,
                "pending": int(counts.get("pending", 0)),
                "of disturbed fields": "none" if disturbed is None else design.outcome_words(disturbed),
                "core-hours": f"{cost.core_hours:.2f}",
                "GPU-hours": f"{cost.gpu_hours:.2f}", "tolerance": f"{tolerance_of(frame):.0%}",
            }
        )  # fmt: skip
    caption = "Cells by outcome, and what they cost, training included where a field came from the store."
    return Section("studies", "Studies", (TableBlock("studies", caption, pd.DataFrame(rows)),))


def _verdicts(studies: Sequence[Study]) -> Section:
    tables = [verdict.verdict_table(study.intervals).assign(study=study.name) for study in studies]
    table = pd.concat(tables, ignore_index=True)
    if table.empty:
        return Section(
            "verdict", "Verdict", (Text("Nothing was searched in any of the studies, so there is nothing to rate."),)
        )
    order = {name: i for i, name in enumerate(dict.fromkeys(table["parameter"]))}
    table = table.sort_values("parameter", key=lambda names: names.map(order), kind="stable")
    table = table[["parameter", "study", *[c for c in table.columns if c not in ("parameter", "study")]]]
    caption = "Ratings of each study against its own default, on its own metric and tolerance, by the rule above."
    return Section("verdict", "Verdict", (TableBlock("verdict", caption, table),))


def comparable(studies: Sequence[Study]) -> bool:
    """Return whether FID compares between the studies: the same data, feature network and sample count."""
    columns = ("data_name", "data_hash", "data_n", "metric_features", "metric_n")
    kinds = {tuple(frozenset(s.frame[c].dropna()) for c in columns) for s in studies}
    return len(kinds) == 1 and all(default_metric(s.frame) == "fid" and s.frame["metric_fid"].notna().any() for s in studies)


def _shared(studies: Sequence[Study], folder: Path) -> Section:
    blocks: list[Block] = []
    for (group, name), members in shared_parameters(studies).items():
        curves = overlay_curves(members, group, name)
        axis = find_axis(members[0].frame, f"{group}.{name}")
        absolute = comparable(members)
        words = "; ".join(
            f"{study.name}: " + (", ".join(f"{format_value(r.value)} × {r.ratio:.2f}" for r in part.itertuples()) or "none")
            for study in members
            for part in [curves.loc[curves["study"].eq(study.name)].dropna(subset=["ratio"]).head(12)]
        )
        caption = (
            f"{axis.label}: ratio of each study's metric to its own default, bars simultaneous 95 % bounds, dashed the"
            " tolerance; hollow: cells failed or diverged there. "
            + ("At the right the values themselves: data, features and sample count agree." if absolute
               else "The values themselves do not compare: data, features or sample count differ.")
        )  # fmt: skip
        draws: list[Draw] = [partial(plot_overlay, members, axis, curves)]
        draws += [partial(plot_values, members, axis, overlay_values(members, axis))] if absolute else []
        blocks.append(figure(folder, f"shared-{group}-{name}", caption, f"Ratio to the default by value. {words}.", draws))
    if not blocks:
        blocks.append(
            Text("No parameter was searched in more than one of the studies, so there is no curve to lay over another.")
        )
    measured = [f"{s.name}: {metric_label(s.frame, default_metric(s.frame))}" for s in studies]
    return Section("shared", "Shared parameters", (Items(tuple(measured)), *blocks))
