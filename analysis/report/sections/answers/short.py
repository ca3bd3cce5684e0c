"""In short: the question, the verdict in words, all parameters at a glance, and the rule."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from analysis.report.blocks import Section, Text
from analysis.report.sections.measured.parameters import overview_panel
from analysis.report.study import Study
from analysis.robustness.gains import improvement_sentences, improvements
from analysis.robustness.interval import ToleranceInterval
from analysis.robustness.partial import partial_ratings
from analysis.rows.meta import is_default, is_given, seeks_best, settles, study_of, tolerance_of
from analysis.rows.metrics import default_metric
from analysis.rows.words import format_value, metric_label
from analysis.statistics.summary import summarize
from analysis.statistics.variance import few

RATINGS = ("robust", "sensitive", "undetermined")


def section(study: Study) -> Section:
    """Print the question, the verdict in words made from the numbers, all parameters at a glance, and the rule."""
    answers = tuple(Text(sentence, lead=True) for sentence in verdict_sentences(study))
    blocks = (Text(question(study.frame)), *answers, *overview_panel(study), Text(rule(study.frame)))
    return Section("short", "In short", blocks)


def rule(frame: pd.DataFrame) -> str:
    """Return the rule by which parameters are rated, with its numbers."""
    if seeks_best(frame):
        return "Nothing is rated: the tpe design moves to good values, so its rows favour them."
    if settles(frame):
        return (
            f"The rule. Robust: the upper bound of the ratio to the default is at most {1 + tolerance_of(frame):.2f} at every"
            " tested value. Sensitive: at some value the lower bound is above it, or cells fail or diverge there. Undetermined:"
            " neither. Fields were added until verdicts stood, so the bounds are wider than those of one look: a parameter is"
            " wrongly robust, and wrongly sensitive, in at most 5 % of such studies each."
        )
    return (
        f"The rule. Robust: the upper 95 % bound of the ratio to the default, simultaneous over the tested values, is at most"
        f" {1 + tolerance_of(frame):.2f} at every one of them. Sensitive: at some value the lower bound is above it, or"
        " cells fail or diverge there. Undetermined: neither; the smallest gap that could have been seen is printed."
    )


def question(frame: pd.DataFrame, plural: bool = False) -> str:
    """Return what the study asks; ``plural``: what several studies ask, whose metrics and data may differ."""
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


def verdict_sentences(study: Study) -> list[str]:
    """Return a few sentences: the default's value, the ratings, the largest change, and what is better than the default.

    Where a design fills the box, the ratings by curves come first: they know what the other parameters do.
    """
    frame, intervals = study.frame, study.intervals
    sentences = [_default_sentence(frame)]
    if not intervals:
        return [*sentences, "Nothing was searched, so there is nothing to rate."]
    sentences += _by_curves(study.curves) if isinstance(study.curves, pd.DataFrame) else []
    for rating in (*RATINGS, "not rated"):
        group = [t for t in intervals if t.rating == rating]
        if group:
            sentences.append(f"{rating.capitalize()}: {', '.join(_short(t) for t in group)}.")
    known = [t for t in intervals if math.isfinite(t.worst_ratio) and t.rating != "not rated"]
    if known:
        worst = max(known, key=lambda t: t.worst_ratio)
        value = format_value(worst.worst_value)
        sentences.append(f"The largest change measured is × {worst.worst_ratio:.3g}, at {worst.parameter} = {value}.")
    return sentences + improvement_sentences(improvements(frame, intervals), metric_label(frame, default_metric(frame)))


def _by_curves(curves: pd.DataFrame) -> list[str]:
    """Return the ratings by curves as a sentence, and one that leads to those by bins; nothing where there is no curve."""
    ratings = partial_ratings(curves)
    groups = {rating: ratings.loc[ratings["rating"].eq(rating), "parameter"] for rating in RATINGS}
    words = "; ".join(f"{rating}: {', '.join(names)}" for rating, names in groups.items() if len(names))
    if not words:
        return []
    bins = "By bins of the tested values, each parameter for itself:"
    return [f"By curves, which allow for what the other parameters do: {words}.", bins]


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
