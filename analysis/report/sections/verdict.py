"""What the report says in words and tables: each function turns the frame into one section."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.power import power_table, sentences
from analysis.report.blocks import Block, Items, Section, TableBlock, Text
from analysis.robustness.gains import improvement_sentences, improvements
from analysis.robustness.interval import ToleranceInterval
from analysis.robustness.noise import seed_variance
from analysis.rows.meta import design_of, is_default, searched_axes, study_of, tolerance_of
from analysis.rows.metrics import anchors, default_metric
from analysis.rows.units import is_given, unit_key
from analysis.rows.words import ANCHORS, format_value, metric_label
from analysis.statistics.comparison import compare, equals
from analysis.statistics.summary import failure_table, sd_interval, seeds_needed, summarize
from analysis.statistics.variance import few
from study.rows.records import STATUSES

EQUIVALENCE_FACTOR = 1.25
Importance = Mapping[tuple[str, str], str]
"""(group, parameter) → the parameter's importance in words."""


def short(frame: pd.DataFrame, intervals: Sequence[ToleranceInterval], glance: Sequence[Block] = ()) -> Section:
    """The question, the verdict in words made from the numbers, and all parameters at a glance."""
    answers = tuple(Text(sentence, lead=True) for sentence in verdict_sentences(frame, intervals))
    return Section("short", "In short", (Text(question(frame)), *answers, *glance, Text(rule(frame))))


def rule(frame: pd.DataFrame) -> str:
    """The rule by which parameters are rated, with its numbers."""
    if design_of(frame) == "tpe":
        return "Nothing is rated: the tpe design moves to good values, so its rows favour them."
    return (
        f"The rule. Robust: the upper 95 % bound of the ratio to the default, simultaneous over the tested values, is at most"
        f" {1 + tolerance_of(frame):.2f} at every one of them. Sensitive: at some value the lower bound is above it, or"
        " cells fail or diverge there. Undetermined: neither; the smallest gap that could have been seen is printed."
    )


def question(frame: pd.DataFrame, plural: bool = False) -> str:
    """What the study asks; ``plural``: what several studies ask, whose metrics and data may differ."""
    study = study_of(frame)
    if plural:
        return (
            "How far can hyperparameters and sampler move in each study before its metric is more than the tolerance above its"
            " own default, and do the studies agree?"
        )
    data, process = study.get("data") or {}, (study.get("train") or {}).get("process", "pfgm")
    if is_given(frame):
        process = ", ".join(frame["train_process"].dropna().unique())
    label = metric_label(frame, default_metric(frame))
    return (
        f"How far can the hyperparameters and the sampler of a Poisson flow model ({process}) on"
        f" {data.get('name', '?')}"
        f" move before {label} is more than {tolerance_of(frame):.0%} above its default?"
    )


def verdict(
    frame: pd.DataFrame, intervals: Sequence[ToleranceInterval], importance: Importance | None = None, why: str = ""
) -> Section:
    """The table of ratings with the printed rule, what was held fixed and what was assumed.

    Args:
        frame: rows of `analysis.load_study`.
        intervals: the verdict on every searched parameter.
        importance: words on the importance of each parameter; None where it is not known.
        why: the sentence that says why it is not.
    """
    limit = tolerance_of(frame)
    blocks: list[Block] = [] if intervals else [Text("Nothing was searched, so there is nothing to rate.")]
    if intervals:
        caption = (
            f"Ratings on {metric_label(frame, default_metric(frame))}, tolerance {limit:.0%}. robust: the"
            " simultaneous 95 % upper"
            " bound is within tolerance at every tested value. sensitive: at some value the lower bound is"
            " beyond it, or cells"
            " fail or diverge. undetermined: neither. The interval is the inner set of tested values; nothing is"
            " claimed between."
        )
        blocks.append(TableBlock("verdict", caption, verdict_table(intervals, importance)))
        blocks += [Text(why)] if why else []
        blocks += _better(frame, intervals)
        held = [f"{t.parameter}: {t.held_fixed}" + (f". Variance: {t.assumed}" if t.assumed else "") for t in intervals]
        blocks += [Text("What each comparison held fixed, and what it assumed:"), Items(tuple(held))]
    return Section("verdict", "Verdict", tuple(blocks))


def _better(frame: pd.DataFrame, intervals: Sequence[ToleranceInterval]) -> list[Block]:
    table = improvements(frame, intervals)
    if table.empty:
        return []
    caption = (
        f"Values that are better than the default by more than {tolerance_of(frame):.0%}, and what else is different there:"
        " change with simultaneous 95 % bounds, a ratio for FID, distances and NFE, a difference for the others."
    )
    text = {column: [format_value(v) for v in table[column].tolist()] for column in table.columns}
    return [TableBlock("better", caption, pd.DataFrame(text))]


def verdict_sentences(frame: pd.DataFrame, intervals: Sequence[ToleranceInterval]) -> list[str]:
    """A few sentences: the default's value, the ratings, the largest change, and what is better than the default."""
    sentences = [_default_sentence(frame)]
    if not intervals:
        return [*sentences, "Nothing was searched, so there is nothing to rate."]
    for rating in ("robust", "sensitive", "undetermined", "not rated"):
        group = [t for t in intervals if t.rating == rating]
        if group:
            sentences.append(f"{rating.capitalize()}: {', '.join(_short(t) for t in group)}.")
    known = [t for t in intervals if math.isfinite(t.worst_ratio) and t.rating != "not rated"]
    if known:
        worst = max(known, key=lambda t: t.worst_ratio)
        value = format_value(worst.worst_value)
        sentences.append(f"The largest change measured is × {worst.worst_ratio:.3g}, at {worst.parameter} = {value}.")
    return sentences + improvement_sentences(improvements(frame, intervals), metric_label(frame, default_metric(frame)))


def _default_sentence(frame: pd.DataFrame) -> str:
    metric = default_metric(frame)
    rows = frame.loc[is_default(frame, "train") & is_default(frame, "sampler")]
    if rows.empty:
        return "The default point is not part of this study."
    table = summarize(frame, metric)  # of all points: their noise says how sure the default's is
    row = table.loc[table["design_role"].eq("default") & table["design_sampler_role"].eq("default")].iloc[0]
    label = metric_label(frame, metric)
    if not math.isfinite(row["mean"]):
        return f"The default point has no complete row with {label} ({row['n_failed']} failed, {row['n_diverged']} diverged)."
    unseen = rows["metric_fid_test"].dropna() if metric == "fid" else rows["metric_fid_test"].iloc[:0]
    apart = ""
    if len(unseen):
        value, n_test = np.exp(np.log(unseen.astype(float)).mean()), rows["metric_n_test"].dropna()
        points = f"{n_test.iloc[0]:.0f} points" if len(n_test) else "points"
        apart = f" Against {points} that were held out: {value:.3g}."
    n = row["n_sample_seeds" if is_given(frame) else "n_train_seeds"]
    if n < 2:
        once = "sampled once" if is_given(frame) else "in one field"
        return f"The default reaches {label} = {row['mean']:.3g} {once}: no interval.{apart}"
    return (
        f"The default reaches {label} = {row['mean']:.3g}, 95 % interval {row['low']:.3g} to {row['high']:.3g}"
        f" over {n} {'samplings of the given field' if is_given(frame) else 'fields'}{_rests(float(row['df']))}.{apart}"
    )


def _rests(df: float) -> str:
    return f" (its variance rests on {df:.2g} {'degree' if df == 1 else 'degrees'} of freedom{few(df)})" if few(df) else ""


def _short(interval: ToleranceInterval) -> str:
    words = []
    if interval.low is not None and interval.high is not None and interval.high > interval.low:
        words.append(f"{format_value(interval.low)} to {format_value(interval.high)} within tolerance")
    if few(interval.df):
        words.append(f"{interval.df:.2g} {'degree' if interval.df == 1 else 'degrees'} of freedom{few(interval.df)}")
    return f"{interval.parameter} ({'; '.join(words)})" if words else interval.parameter


def verdict_table(intervals: Sequence[ToleranceInterval], importance: Importance | None = None) -> pd.DataFrame:
    """The verdict per parameter as text: default, tested values, tolerance interval, rating, rule, importance if known."""
    columns = ["parameter", "default", "tested", "tolerance interval", "width (decades)", "rating", "rule"]
    rows = []
    for t in intervals:
        inside = ", ".join(format_value(v) for v in t.inside) if t.low is None else ""
        span = f"{format_value(t.low)} … {format_value(t.high)}" if t.low is not None else inside
        span = f"{format_value(t.low)} alone" if t.low is not None and t.low == t.high else span
        tested = ", ".join(format_value(v) for v in t.tested)
        width = f"{t.decades:.2f}" if t.decades is not None else "–"
        rows.append([t.parameter, format_value(t.default), tested, span or "none", width, t.rating, t.rule])
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(importance=[importance.get((t.group, t.parameter), "–") for t in intervals]) if importance else table


def noise(frame: pd.DataFrame) -> Section:
    """Seed noise, what this study's seeds can resolve, and the anchors of FID."""
    metric = default_metric(frame)
    blocks: list[Block] = []
    given = is_given(frame)
    unit = "samplings" if given else "fields"
    pooled = seed_variance(frame, metric)
    if pooled is not None and pooled.variance > 0:
        sd, df = math.sqrt(pooled.variance), pooled.df
        low, high = sd_interval(sd, df)
        words = f"{pooled.how}, {df} {'degree' if df == 1 else 'degrees'} of freedom{few(df)}"
        blocks.append(
            Text(
                f"{'Sampling again' if given else 'Retraining'} moves log {metric} with a standard deviation of {sd:.2g},"
                f" 95 % interval {low:.2g} to {high:.2g} ({words})."
            )
        )
        at_default = unit_key(frame).loc[is_default(frame, "train")].nunique()
        table = power_table(frame, (max(at_default, 2),))
        blocks += [Text("What this study can see:"), Items(tuple(sentences(table, tolerance_of(frame))))]
        gaps = sorted({0.03, 0.10, 0.25, tolerance_of(frame)})
        table = pd.DataFrame(
            {
                "gap": [f"{g:.0%}" for g in gaps],
                f"{unit} a side": [str(seeds_needed(sd, g)) for g in gaps],
                "at the interval's upper end": [str(seeds_needed(high, g)) for g in gaps],
            }
        )
        blocks.append(
            TableBlock("power", f"{unit.capitalize()} a side to see a gap at 5 % (two-sided) with 80 % power.", table)
        )
    else:
        blocks.append(
            Text(
                "The default was sampled less than twice: the sampling noise is unknown. Raise seeds.sample to 3."
                if is_given(frame)
                else "Fewer than two complete fields share a configuration: the seed noise is unknown. Raise seeds.train to 3."
            )
        )
    found = anchors(frame)
    if found:
        table = pd.DataFrame({"anchor": [ANCHORS[k] for k in found], "FID": [f"{v:.4g}" for v in found.values()]})
        blocks.append(TableBlock("anchors", f"What a value of {metric_label(frame, 'fid')} means.", table))
    return Section("noise", "Noise floor and power", tuple(blocks))


def equivalence_result(frame: pd.DataFrame) -> str | None:
    """The comparison of an equivalence study in a sentence: seeds disjoint, one training parameter with exactly two values.

    Two one-sided tests at 5 %: equivalent where the 90 % interval of the ratio lies inside 0.80 to 1.25. None when the study is
    not of this kind.
    """
    if not (study_of(frame).get("seeds") or {}).get("disjoint") or design_of(frame) != "one_at_a_time":
        return None
    pairs = []
    for axis in (a for a in searched_axes(frame) if a.group == "train" and a.column in frame.columns):
        values = sorted(frame[axis.column].dropna().unique())
        if len(values) > 1:
            pairs.append((axis, values))
    if len(pairs) != 1 or len(pairs[0][1]) != 2:
        return None
    axis, values = pairs[0]
    a, b = values if equals(pd.Series(values[:1]), axis.default).all() or axis.default is None else values[::-1]
    result = compare(frame, {axis.name: a}, {axis.name: b}, tolerance=EQUIVALENCE_FACTOR - 1, confidence=0.90)
    if math.isnan(result.low):
        return f"{axis.name}: {result.n_a} and {result.n_b} complete fields; at least 2 a side are needed."
    word = "different" if result.verdict in ("worse", "better") else result.verdict
    inside = result.low >= 1 / EQUIVALENCE_FACTOR and result.high <= EQUIVALENCE_FACTOR
    left_out = "; ".join(f"{reason}: {n}" for reason, n in result.skipped.items())
    return (
        f"Equivalence of {axis.name} = {format_value(b)} to {format_value(a)}: ratio of mean"
        f" {metric_label(frame, result.metric)} {result.ratio:.3f}, 90 % interval {result.low:.3f} to {result.high:.3f}"
        f" ({result.n_a} and {result.n_b} fields), {'inside' if inside else 'not inside'} 0.80 to 1.25:"
        f" {word}{f'; left out: {left_out}' if left_out else ''}."
    )


def failures(frame: pd.DataFrame, disturbed: pd.DataFrame | None = None) -> Section:
    """Every failed, diverged or timed-out group of cells, with error and log file; rows of disturbed fields apart."""
    blocks: list[Block] = []
    bad = _bad(frame)
    if bad.empty:
        blocks.append(Text("No cell failed, diverged, met the step limit or timed out."))
    else:
        caption = f"{_statuses(bad)} of {len(frame)} cells. Log files are relative to the study folder."
        blocks.append(TableBlock("failures", caption, _grouped(bad, ["design_role"])))
    for axis in searched_axes(frame) if len(bad) else ():
        counts = failure_table(frame, axis)
        if counts["total"].sum() > counts["complete"].sum() + counts["pending"].sum():
            shown = counts.assign(value=counts["value"].map(format_value))
            blocks.append(TableBlock(f"failures-{axis.name}", f"Outcomes by {axis.label}.", shown))
    if disturbed is not None and len(lost := _bad(disturbed)):
        caption = f"{_statuses(lost)} of {len(disturbed)} rows of disturbed fields, by disturbance and level."
        table = _grouped(lost, ["design_role", "perturb_kind", "perturb_level"])
        blocks.append(TableBlock("failures-disturbed", caption, table))
    return Section("failures", "Failures", tuple(blocks))


def _bad(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.loc[~rows["status"].isin(["complete", "pending"])]


def _statuses(bad: pd.DataFrame) -> str:
    return ", ".join(f"{int(n)} {status}" for status, n in bad["status"].value_counts().sort_index().items())


def _grouped(bad: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """How many cells ended alike, and the first of them."""
    known = bad.assign(error=bad["error"].fillna("–").str.split("\n").str[0], log=bad["error_log"].fillna("–"))
    groups = known.groupby(["status", *by, "error", "log"], dropna=False, sort=True)
    table = groups.agg(cells=("cell_id", "size"), first_cell=("cell_id", "first")).reset_index()
    return table.rename(columns={"design_role": "training point", "perturb_kind": "disturbance", "perturb_level": "level"})


def methods(frame: pd.DataFrame) -> Section:
    """How the numbers were made, and what they cannot say."""
    points = (
        "Unit: one sampling (sample seed) of the field that was given; intervals hold for this field, not for others."
        if is_given(frame)
        else "Unit: the trained field (training point × train seed). Rows of one field depend on each other: averaged first.",
        "Means of FID, distances and NFE are geometric, with Student-t intervals on the log; shares are averaged as they are.",
        "one_at_a_time: training parameters compare fields, the variance of a configuration moderated by the study's; sampler"
        " parameters compare each unit with itself at the default sampler point.",
        "sobol, grid, random: marginal effects in quantile bins; the reference is the bin that holds the"
        " default. tpe is not rated.",
        "Bounds are simultaneous at 95 % over the values of one parameter (Bonferroni), not over parameters.",
        "A failed, diverged, step-limited or timed-out cell counts as outside the tolerance at its value.",
        "Values of FID compare only for equal features and sample count; FID against the training data rewards"
        " memorising, so read"
        " precision, recall and the nearest-neighbour ratio beside it.",
        "Only tested values are rated. Another data set, network or training length may rate differently.",
    )
    statuses = Text(f"Statuses: {', '.join(STATUSES)}, and pending for a planned cell without a row.")
    return Section("methods", "Methods and limits", (Items(points), statuses))
