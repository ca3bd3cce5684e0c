"""Several studies side by side: verdicts in one table, shared parameters in one figure, then the sections of each.

A value of FID compares only within one data set, feature network and sample count, so the curves show the ratio to each
study's own default; where all of that agrees, FID itself stands beside it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes

from analysis.plots.style import draw_legend, note, palette, plain_log_ticks, set_parameter_axis
from analysis.report.blocks import Block, Items, Links, Section, TableBlock, Text, within_study
from analysis.report.build import build_sections
from analysis.report.figures import figure
from analysis.report.sections import design, verdict
from analysis.robustness.curves import robustness_curve
from analysis.robustness.interval import ToleranceInterval
from analysis.rows.meta import AnalysisError, Axis, design_of, find_axis, searched_axes, study_of, tolerance_of
from analysis.rows.metrics import default_metric
from analysis.rows.words import format_value, metric_label
from study.rows.storage import Place


class Study(NamedTuple):
    """One of several studies."""

    name: str
    """Unique among them; it names anchors and folders too."""
    frame: pd.DataFrame
    intervals: list[ToleranceInterval]
    disturbed: pd.DataFrame | None = None
    """The rows of its disturbed fields, from `analysis.report.sections.design.disturbed_rows`."""

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Every row, by the name of its CSV."""
        return {"rows": self.frame} if self.disturbed is None else {"rows": self.frame, "disturbed": self.disturbed}


def labels(frames: Sequence[pd.DataFrame]) -> list[str]:
    """A name a study: its own, with its folder's (then a number) where two have the same.

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
    """``report-<name>-<name>`` in the folder that holds all the studies.

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
    """The comparison, then the sections of each study; figures are written to ``figures`` on the way."""
    found = [_short(studies), _counts(studies), _verdicts(studies), _shared(studies, figures)]
    methods = []
    for study in studies:
        own = build_sections(study.frame, study.intervals, figures / study.name, study.disturbed)
        methods = [section for section in own if section.key == "methods"]  # the same words for every study
        own = [within_study(section, study.name) for section in own if section.key != "methods"]
        found += [Section(study.name, f"Study {study.name}", (Text("The report of this study:"), Links(tuple(own)))), *own]
    return found + methods


def _short(studies: Sequence[Study]) -> Section:
    blocks: list[Block] = [Text(verdict.question(studies[0].frame, plural=True))]
    for study in studies:
        sentences = verdict.verdict_sentences(study.frame, study.intervals)
        blocks.append(Text(f"{study.name}: {' '.join(sentences)}", lead=True))
    rules: dict[str, list[str]] = {}
    for study in studies:
        rules.setdefault(verdict.rule(study.frame), []).append(study.name)
    blocks += [Text(rule if len(rules) == 1 else f"{', '.join(names)}: {rule}") for rule, names in rules.items()]
    return Section("short", "In short", tuple(blocks))


def _counts(studies: Sequence[Study]) -> Section:
    rows = []
    for name, frame, _, disturbed in studies:
        counts = frame["status"].value_counts()
        bad = sum(int(n) for status, n in counts.items() if status not in ("complete", "pending"))
        cost = design.cost(design.with_disturbed(frame, disturbed))
        rows.append(
            {
                "study": name, "data": study_of(frame).get("data", {}).get("name", "?"),
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


def shared_parameters(studies: Sequence[Study]) -> dict[tuple[str, str], list[Study]]:
    """(group, parameter) → the studies that searched it, where two or more did, in the order first met."""
    found: dict[tuple[str, str], list[Study]] = {}
    for study in studies:
        for axis in searched_axes(study.frame):
            if axis.column in study.frame.columns:
                found.setdefault((axis.group, axis.name), []).append(study)
    return {key: members for key, members in found.items() if len(members) > 1}


def overlay_curves(studies: Sequence[Study], group: str, parameter: str) -> pd.DataFrame:
    """The metric of each study against one parameter, as a ratio to the study's own default.

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


def comparable(studies: Sequence[Study]) -> bool:
    """Whether FID compares between the studies: the same data, feature network and sample count."""
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
        draws: list[Callable[[Axes], object]] = [_ratios(members, axis, curves)]
        draws += [_values(members, axis)] if absolute else []
        blocks.append(figure(folder, f"shared-{group}-{name}", caption, f"Ratio to the default by value. {words}.", draws))
    if not blocks:
        blocks.append(
            Text("No parameter was searched in more than one of the studies, so there is no curve to lay over another.")
        )
    measured = [f"{s.name}: {metric_label(s.frame, default_metric(s.frame))}" for s in studies]
    return Section("shared", "Shared parameters", (Items(tuple(measured)), *blocks))


def _ratios(studies: Sequence[Study], axis: Axis, curves: pd.DataFrame) -> Callable[[Axes], object]:
    return lambda ax: plot_overlay(studies, axis, curves, ax=ax)


def _values(studies: Sequence[Study], axis: Axis) -> Callable[[Axes], object]:
    parts = []
    for study in studies:
        curve = robustness_curve(study.frame, f"{axis.group}.{axis.name}", ["fid"])
        bad = curve["n_failed"] + curve["n_diverged"]
        parts.append(
            curve.rename(columns={"mean": "y"}).assign(study=study.name, n_bad=bad)[
                ["study", "value", "y", "low", "high", "n_bad"]
            ]
        )
    table = pd.concat(parts, ignore_index=True)

    def draw(ax: Axes) -> None:
        _draw(ax, axis, table, [s.name for s in studies])
        ax.set_ylabel(metric_label(studies[0].frame, "fid"))

    return draw


def plot_overlay(studies: Sequence[Study], axis: Axis, curves: pd.DataFrame, *, ax: Axes) -> Axes:
    """`overlay_curves` with one colour and marker a study, the tolerance dashed, hollow where cells failed.

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
        colour, shape = palette()[i % 10], "osD^vP<>"[i % 8]
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
