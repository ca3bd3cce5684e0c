"""Two configurations against each other: a ratio with its interval, a verdict, and what this many seeds could have seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.rows.meta import (
    AnalysisError,
    Axis,
    Value,
    as_number,
    find_axis,
    has_role,
    is_default,
    is_given,
    searched_axes,
    tolerance_of,
)
from analysis.rows.metrics import BAD, metric_values
from analysis.rows.question import MAIN, statistic
from analysis.rows.units import unit_key
from analysis.rows.words import percent
from analysis.statistics.variance import Moderated, detectable, half_width, moderate, of_means, pool

TWO_TESTS = 0.90
"""Coverage of the interval whose ends are two one-sided tests at 5 % (Schuirmann 1987): *equal* where it is inside."""
Configuration = Mapping[str, Value | None] | tuple[str, str] | str
"""A configuration: values of searched parameters (others at their defaults), (point_id, sampler_id), or "default"."""


class Comparison(NamedTuple):
    """Ratio of geometric means b / a."""

    ratio: float
    low: float
    high: float
    verdict: str
    """better, worse, equal (within the tolerance) or undecided; of b, lower being better."""
    detectable_gap: float
    """Smallest relative gap that these seeds find with 80 % power (NaN without an interval)."""
    n_a: int
    n_b: int
    """Fields a side."""
    n_bad_a: int
    n_bad_b: int
    """Cells a side that failed, diverged, timed out or met the step limit."""
    paired: bool
    """Whether the two are samplings of the same fields."""
    df: float
    variance: float
    """Of the log ratio."""
    confidence: float
    tolerance: float
    metric: str
    skipped: dict[str, int]
    unit: str
    """The unit that ``n_a`` and ``n_b`` count: fields, or samplings of one given field."""

    @property
    def sentence(self) -> str:
        """Return the comparison in words."""
        sides = f"{self.n_a} {self.unit}, paired" if self.paired else f"{self.n_a} and {self.n_b} {self.unit}"
        if self.n_bad_a or self.n_bad_b:
            sides += f"; {self.n_bad_a} and {self.n_bad_b} cells failed or diverged"
        if math.isnan(self.low):
            seeds = "train" if self.unit == "fields" else "sample"
            why = "no common sample seed" if "sample seed not on both sides" in self.skipped else f"raise seeds.{seeds}"
            return f"{self.metric} ratio {self.ratio:.3f}, no interval ({sides}): {self.verdict}; {why}."
        return (
            f"{self.metric} ratio {self.ratio:.3f}, {self.confidence:.0%} interval {self.low:.3f} to {self.high:.3f} ({sides}):"
            f" {self.words}; a gap of {percent(self.detectable_gap)} would be seen with 80 % power."
        )

    @property
    def words(self) -> str:
        """Return the verdict with its tolerance."""
        within = "within" if self.verdict == "equal" else "at a tolerance of"
        return f"{self.verdict} {within} {self.tolerance:.0%}"


@statistic(ratio=True)
def compare(
    frame: pd.DataFrame, a: Configuration, b: Configuration, *, metric: str = MAIN, tolerance: float | None = None,
    confidence: float = 0.95,
) -> Comparison:  # fmt: skip
    """Estimate the ratio of the geometric mean metric of ``b`` to that of ``a``, with an interval and a verdict.

    The same fields sampled in two ways: d_f = mean over common sample seeds of y_b − y_a, interval d̄ ± t √(ν_d/n). Different
    training points: difference of means over fields at common sample seeds, ± t √(ν_a/n_a + ν_b/n_b) with Satterthwaite's
    degrees of freedom. Equal sample seeds cancel what they share. Variances are moderated by those of the study's other
    training points (`analysis.statistics.variance`).

    *equal*: both one-sided tests at 5 % refuse a gap as large as the tolerance, so the 90 % interval lies inside
    ± log(1 + tolerance); else *better* or *worse* where the interval excludes 1; else *undecided*. Failures are outcomes: the
    side with more of them is never called equal or better.

    Args:
        frame: rows of `analysis.load_study`.
        a: the reference: {"sigma": 0.1, "rtol": 1e-3} (parameters not named stay at their defaults), "default", or
            (point_id, sampler_id).
        b: what is compared with it.
        metric: one averaged on the log; default ``fid``.
        tolerance: default: the study's.
        confidence: coverage of the interval; *equal* does not depend on it.
    Raises:
        AnalysisError: no such configuration, or a metric that is not averaged on the log.
    """
    limit = tolerance_of(frame) if tolerance is None else tolerance
    keys = [configuration(frame, a), configuration(frame, b)]
    used = [frame["point_id"].eq(point) & frame["sampler_id"].eq(sampler) for point, sampler in keys]
    _, skipped = metric_values(frame.loc[used[0] | used[1]], metric)
    sides = [_cells(frame, metric, sampler) for _, sampler in keys]
    bad = [int(frame.loc[here, "status"].isin(BAD).sum()) for here in used]
    seeds = [set(cells.loc[cells["point"].eq(key[0]), "seed"]) for cells, key in zip(sides, keys, strict=True)]
    if alone := len(seeds[0] ^ seeds[1]):
        skipped["sample seed not on both sides"] = alone
    paired = keys[0][0] == keys[1][0]
    measure = _paired if paired else _unpaired
    difference, parts, sizes = measure(sides[0], sides[1], keys[0][0], keys[1][0])
    variance, df = of_means(parts)
    half = half_width(variance, df, confidence)
    low, high = difference - half, difference + half
    bounds = [math.exp(min(v, 700.0)) if math.isfinite(v) else math.nan for v in (difference, low, high)]
    margin = math.log1p(limit) - half_width(variance, df, TWO_TESTS)
    verdict = _verdict(low, high, bool(abs(difference) <= margin), bad)
    return Comparison(
        bounds[0], bounds[1], bounds[2], verdict, detectable(variance, df), sizes[0], sizes[1], bad[0], bad[1], paired, df,
        variance, confidence, limit, metric, skipped, "samplings" if is_given(frame) else "fields",
    )  # fmt: skip


def _verdict(low: float, high: float, equal: bool, bad: list[int]) -> str:
    if math.isnan(low):
        return "undecided"
    word = "equal" if equal else "worse" if low > 0 else "better" if high < 0 else "undecided"
    spoilt = {"worse", "equal"} if bad[0] > bad[1] else {"better", "equal"} if bad[1] > bad[0] else set()
    return "undecided" if word in spoilt else word


def _cells(frame: pd.DataFrame, metric: str, sampler: str) -> pd.DataFrame:
    """Return y by point, field and sample seed at one sampler point, for every training point."""
    rows = frame.loc[frame["sampler_id"].eq(sampler)]
    values, _ = metric_values(rows, metric)
    known = pd.DataFrame({"point": rows["point_id"], "field": unit_key(rows), "seed": rows["seed_sample"], "y": values})
    cells: pd.DataFrame = known.dropna(subset=["y"]).groupby(["point", "field", "seed"], sort=False)["y"].mean().reset_index()
    return cells


_Measured = tuple[float, list[tuple[Moderated, int]], list[int]]


def _paired(a: pd.DataFrame, b: pd.DataFrame, point: str, _: str) -> _Measured:
    both = a.merge(b, on=["point", "field", "seed"], suffixes=("_a", "_b"))
    d = (both["y_b"] - both["y_a"]).groupby([both["point"], both["field"]]).mean()
    groups = {name: group.to_numpy() for name, group in d.groupby(level="point")}
    own = groups.get(point, np.array([]))
    if not len(own):
        return math.nan, [], [0, 0]
    return float(own.mean()), [(moderate(own, pool(list(groups.values()))), len(own))], [len(own), len(own)]


def _unpaired(a: pd.DataFrame, b: pd.DataFrame, point_a: str, point_b: str) -> _Measured:
    seeds = set(a.loc[a["point"].eq(point_a), "seed"]) & set(b.loc[b["point"].eq(point_b), "seed"])
    means, parts, sizes = [], [], []
    for cells, point in ((a, point_a), (b, point_b)):
        of_field = cells.loc[cells["seed"].isin(seeds)].groupby(["point", "field"])["y"].mean()
        groups = {name: group.to_numpy() for name, group in of_field.groupby(level="point")}
        own = groups.get(point, np.array([]))
        means.append(float(own.mean()) if len(own) else math.nan)
        parts.append((moderate(own, pool(list(groups.values()))), len(own)))
        sizes.append(len(own))
    return means[1] - means[0], parts, sizes


def configuration(frame: pd.DataFrame, wanted: Configuration) -> tuple[str, str]:
    """Return (point_id, sampler_id) of a configuration given as parameter values, ids, or "default".

    Raises:
        AnalysisError: none, or several, match; the message lists the values there are.
    """
    if isinstance(wanted, tuple):
        known = frame["point_id"].eq(wanted[0]) & frame["sampler_id"].eq(wanted[1])
        if not known.any():
            raise AnalysisError(f"{wanted}: no such point_id and sampler_id in this study")
        return wanted
    if isinstance(wanted, str) and wanted != "default":
        raise AnalysisError(f'{wanted}: say "default", a dictionary of parameter values, or (point_id, sampler_id)')
    values = {} if isinstance(wanted, str) else dict(wanted)
    axes = {name: find_axis(frame, name) for name in values}
    values = {name: _as_measured(frame, axes[name], value) for name, value in values.items()}
    ids = []
    for group, column in (("train", "point_id"), ("sampler", "sampler_id")):
        chosen = {axes[name]: value for name, value in values.items() if axes[name].group == group}
        ids.append(_one_point(frame, group, column, chosen))
    return ids[0], ids[1]


def _as_measured(frame: pd.DataFrame, axis: Axis, value: Value | None) -> Value | None:
    """Return a value as the rows hold it: numbers for ``1e-3`` and ``all``, which YAML hands over as words."""
    if axis.name == "reference_batch_size" and value == "all":
        return float(frame["data_n"].iloc[0])
    number = as_number(value)
    return value if axis.categorical or number is None else number


def _one_point(frame: pd.DataFrame, group: str, column: str, chosen: dict[Axis, Value | None]) -> str:
    role = frame["design_role" if group == "train" else "design_sampler_role"]
    moved = {axis: value for axis, value in chosen.items() if not equals(pd.Series([axis.default]), value).all()}
    keep = is_default(frame, group) if not moved else pd.Series(True, index=frame.index)
    for axis, value in moved.items():
        keep &= equals(frame[axis.column], value)
    if moved:
        keep &= has_role(role, *(f"arm:{axis.name}" for axis in moved)) | ~role.astype(str).str.startswith(("arm:", "default"))
        rest = [a for a in searched_axes(frame) if a.group == group and a not in moved]
        if len(frame.loc[keep, column].unique()) > 1:
            for axis in rest:
                keep &= equals(frame[axis.column], axis.default) | frame[axis.column].isna()
    found = frame.loc[keep, column].dropna().unique()
    if len(found) == 1:
        return str(found[0])
    words = ", ".join(f"{axis.name} = {value}" for axis, value in moved.items()) or "the default"
    tested = "; ".join(f"{axis.name}: {', '.join(map(str, sorted(frame[axis.column].dropna().unique())))}" for axis in moved)
    many = f"{len(found)} {group} points have" if len(found) else f"no {group} point has"
    raise AnalysisError(f"{words}: {many} it" + (f"; tested {tested}" if tested else "") + "; or give (point_id, sampler_id)")


def equals(values: pd.Series, value: object) -> pd.Series:
    """Return whether values are a given one: None where null, numbers to nine digits, all else as text."""
    if value is None:
        return values.isna()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return pd.Series(np.isclose(pd.to_numeric(values, errors="coerce"), float(value), rtol=1e-9), index=values.index)
    return values.astype(str).eq(str(value)) & values.notna()
