"""The rating of one parameter: which tested values are inside, the word, the printed rule, and what would settle it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pandas as pd

from analysis.rows.meta import Setting, Value
from analysis.rows.words import format_value, percent
from analysis.statistics.summary import seeds_needed
from analysis.statistics.variance import detectable, few

MIN_BINS = 3
"""Fewer bins of a range are never rated robust."""
MORE_UNITS = {
    "fields": "seeds.train",
    "samplings": "seeds.sample",
    "training points": "design.trials",
    "sampler points": "design.sampler_points",
}
"""The key that makes more units of a kind."""


class Rating(NamedTuple):
    """The rating of one parameter."""

    word: str
    """robust, sensitive, undetermined or not rated."""
    rule: str
    """The rating in words, with its numbers."""
    gap: float
    """Smallest relative gap that the widest comparison finds with 80 % power (simultaneous 5 %); NaN without an interval."""
    needed: int | None
    """Units a side that would settle the tolerance with 80 % power."""
    df: float
    """Fewest degrees of freedom that the variance of a comparison rests on; NaN where none has an interval."""


def verdicts(setting: Setting, levels: pd.DataFrame, failed: pd.Series, bound: float) -> pd.Series:
    """Return inside, outside or undetermined for every level."""
    usable = levels["n"].fillna(0) > 0
    verdict = pd.Series("undetermined", index=levels.index)
    verdict[usable & (levels["high"] <= bound)] = "inside"
    verdict[usable & levels["is_reference"]] = "inside"
    # marginal designs: every training point lies in a bin of every parameter, so one failure blames none of them
    own = failed[levels["is_reference"]]
    blamed = failed.gt(own.max() if len(own) else 0) & (levels["failure_p"].lt(0.05 / max(len(levels), 1)) | (setting.one))
    verdict[(levels["low"] > bound) | blamed] = "outside"
    unsure = failed.gt(0) | levels["n_pending"].fillna(0).gt(0) | (_too_coarse(setting, levels) & ~levels["is_reference"])
    verdict[unsure & verdict.eq("inside")] = "undetermined"
    return verdict


def inner_run(levels: pd.DataFrame) -> tuple[Value, ...]:
    """Return the run of inside levels that holds the reference (no reference: the longest run); categories need no order."""
    good = levels["verdict"].eq("inside").tolist()
    values = levels["level"].tolist()
    if not pd.api.types.is_numeric_dtype(levels["level"]):
        return tuple(value for value, ok in zip(values, good, strict=True) if ok)
    runs: list[list[int]] = []
    for i, ok in enumerate(good):
        if ok and runs and runs[-1][-1] == i - 1:
            runs[-1].append(i)
        elif ok:
            runs.append([i])
    if levels["is_reference"].any():
        at = levels.index[levels["is_reference"]][0]
        runs = [run for run in runs if at in run]
    return tuple(values[i] for i in max(runs, key=len)) if runs else ()


def rate(setting: Setting, levels: pd.DataFrame, limit: float) -> Rating:
    """Rate a parameter from the verdicts on its levels."""
    others = levels.loc[~levels["is_reference"]]
    known = others.loc[others["se"].notna() & others["n"].fillna(0).gt(0)]
    pairs = zip(known["se"].astype(float), known["df"].astype(float), strict=True)
    gaps = [detectable(se**2, df, comparisons=len(others)) for se, df in pairs]
    gap = max((g for g in gaps if math.isfinite(g)), default=math.nan)
    needed = _needed(setting, levels, limit)
    word, rule = _word_and_rule(setting, levels, limit, gap, needed)
    df = float(known["df"].min())
    rule += f"; variance from {df:.2g} {'degree' if df == 1 else 'degrees'} of freedom{few(df)}" if few(df) else ""
    return Rating(word, rule, gap, needed, df)


def _word_and_rule(setting: Setting, levels: pd.DataFrame, limit: float, gap: float, needed: int | None) -> tuple[str, str]:
    others = levels.loc[~levels["is_reference"]]
    if not setting.rated:
        return "not rated", "tpe moves to good values, so its rows favour them; use one_at_a_time or sobol"
    if not levels["n_reference"].fillna(0).gt(0).any():
        why = (
            f"{setting.axis.name} is not active at the default"
            if setting.axis.default is None
            else "the default has no complete row here"
        )
        return "undetermined", f"{why}, so there is no reference"
    if others.empty:
        return "undetermined", "no other value was measured"
    bad = others.loc[others["verdict"].eq("outside")]
    if len(bad):
        return "sensitive", "; ".join(_why(row, limit) for row in bad.to_dict("records"))
    own = levels.loc[levels["is_reference"]]
    if not own["verdict"].eq("inside").all():
        count = int(own[["n_failed", "n_diverged", "n_pending"]].fillna(0).to_numpy().sum())
        return "undetermined", f"{count} cells failed, diverged or are pending at the default itself"
    if others["verdict"].eq("inside").all():
        worst = math.expm1(float(others["high"].max()))
        return "robust", f"upper bound {worst:+.0%} ≤ {limit:.0%} at every tested value"
    coarse = _too_coarse(setting, levels)
    return "undetermined", _undetermined(others, gap, needed, limit, _unit(setting), coarse)


def _too_coarse(setting: Setting, levels: pd.DataFrame) -> bool:
    """Return whether a range has two bins: being no worse than the default's own half says nothing."""
    return not setting.one and not setting.axis.categorical and len(levels) < MIN_BINS


def _why(row: dict[Any, Any], limit: float) -> str:
    value = format_value(row["level"])
    n_failed, n_diverged = int(row["n_failed"]), int(row["n_diverged"])
    if n_failed or n_diverged:
        words = ([f"{n_failed} failed"] if n_failed else []) + ([f"{n_diverged} diverged"] if n_diverged else [])
        return f"at {value}: {' and '.join(words)}"
    return f"at {value}: lower bound {math.expm1(row['low']):+.0%} > {limit:.0%}"


def _unit(setting: Setting) -> str:
    if setting.one:
        return "samplings" if setting.given else "fields"
    return "training points" if setting.axis.group == "train" else "sampler points"


def _undetermined(others: pd.DataFrame, gap: float, needed: int | None, limit: float, unit: str, coarse: bool) -> str:
    n_pending, n_bad = (int(others[c].fillna(0).to_numpy().sum()) for c in ("n_pending", ["n_failed", "n_diverged"]))
    parts = [f"{n_pending} cells pending"] if n_pending else []
    parts += [f"{n_bad} cells failed or diverged, no more here than elsewhere"] if n_bad else []
    if coarse:
        parts.append(f"{len(others) + 1} wide bins, too few to say where the default's lies; raise {MORE_UNITS[unit]}")
    elif len(empty := others.loc[others["n"].fillna(0).eq(0), "level"]):
        parts.append(f"no complete value at {', '.join(format_value(v) for v in empty)}")
    elif math.isnan(gap):
        seeds = {"fields": "one train seed", "samplings": "one sample seed"}
        one, enough = seeds.get(unit, f"one {unit.removesuffix('s')} a value"), " to 3 or more" if unit in seeds else ""
        parts.append(f"{one}: no variance, so no interval; raise {MORE_UNITS[unit]}{enough}")
    else:
        parts.append(f"smallest detectable gap {percent(gap)}")
        parts.append(f"about {needed} {unit} a value would settle {limit:.0%}" if needed else "")
    return "; ".join(part for part in parts if part)


def _needed(setting: Setting, levels: pd.DataFrame, limit: float) -> int | None:
    """Return the fields that would settle the tolerance, from the seed sd (pooled, else the largest along the axis)."""
    paired = setting.axis.group == "sampler" and setting.one
    pooled = levels.attrs["pooled"]
    known = levels.loc[~levels["is_reference"], "sd"].dropna() if paired else levels["sd"].dropna()
    if pooled is None and known.empty:
        return None
    sd = math.sqrt(pooled.variance) if pooled is not None else float(known.max())
    return seeds_needed(sd, limit, comparisons=int(levels.attrs["comparisons"]), paired=paired)
