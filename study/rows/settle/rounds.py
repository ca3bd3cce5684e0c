"""What a study measures next: for each parameter that is not settled, the values and the fields that are likely to settle it.

A round is a pure function of the rows of the rounds before it. It knows no budget, so a larger budget goes on where a smaller
one ended. It has three kinds of work:

* more fields at a value without a verdict, where that is *resolvable*: as many as its estimate and its noise ask for, at most
  twice as many as it has;
* inside a bracket that is too wide, the two values, as near to each other as was asked, that need the fewest fields: one on
  each side of the estimated crossing, or one alone where an end of the bracket is near enough;
* more fields of the default, √(Σ n²) of those at the values in work, which makes the sum of all fields least; of values that
  are compared seed by seed the largest n alone.

Parameters with priority come first, then those that need least to be settled. Those that need more wait for a later round: a
round trains at most half as many fields as there are (or `ROUND`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from study.rows.settle.edges import OPEN, OUTSIDE, Bracket, rising
from study.rows.settle.judge import Judged, Level, SettleAxis, Table, Value, judge
from study.rows.settle.variance import pool

ROUND = 8
"""Fields that a round may always train."""
MOST = 64
"""Fields of one value above which its verdict is given up: it is too near the tolerance for its noise."""
GRID = 24
"""Places inside a bracket that a new value may have."""
PAIRS, PAIR_COST = 6, 0.02
"""Pairs that a new value of the sampler begins with, and the cost of one relative to a training."""
FAILED = 1.0
"""The log ratio that a value counts as where its fields fail."""
Z_INSIDE, Z_OUTSIDE = 2.2, 2.5
"""Standard errors between an estimate and the tolerance at which a verdict is likely."""


@dataclass
class Task:
    """One value to work on."""

    axis: SettleAxis
    value: Value
    have: int
    want: int
    """Fields that the next round is to have there."""
    need: float
    """Fields that are expected to be needed in all."""
    by_seed: bool = False
    """Whether the value is compared with the default seed by seed."""


@dataclass
class Round:
    """The work of one round."""

    default: int
    """Fields that the default is to have."""
    tasks: list[Task] = field(default_factory=list)


def first_round(axes: Sequence[SettleAxis], seeds: int) -> Round:
    """Return round 0: the default and the first values of every axis.

    Args:
        seeds: fields of each value.
    """
    n_trained = sum(len(axis.first) for axis in axes if not axis.paired)
    default = max(seeds, math.ceil(seeds * math.sqrt(n_trained) / 2))
    n_pairs = max(seeds, min(PAIRS, default + n_trained * seeds))
    tasks = [Task(axis, value, 0, n, n) for axis in axes for n in [n_pairs if axis.paired else seeds] for value in axis.first]
    return Round(default, tasks)


def next_round(axes: Sequence[SettleAxis], table: Table, limit: float, seeds: int) -> Round:
    """Return the work of the next round; none where all is settled, or nothing that is open can be resolved.

    Args:
        table: the rows of all rounds so far.
        limit: log(1 + tolerance).
        seeds: fields that a new value begins with.
    """
    found = [(axis, _tasks(judge(axis, table, limit), limit, seeds, table)) for axis in axes]
    waiting = sorted(
        ((axis, tasks) for axis, tasks in found if tasks), key=lambda item: (item[0].rank, sum(_left(task) for task in item[1]))
    )
    room, chosen = max(ROUND, table.stored // 2), list[Task]()
    for axis, tasks in waiting:
        cost = 0.0 if axis.paired else axis.cost * sum(task.want - task.have for task in tasks)
        if cost <= room or not chosen:
            room -= math.ceil(cost)
            chosen += tasks
    n0 = table.default.asked
    trained = [task for task in chosen if not task.axis.paired]
    by_mean = math.ceil(math.sqrt(sum(task.want**2 for task in trained if not task.by_seed)))
    ideal = max(by_mean, *(task.want for task in trained), 0)  # seed by seed, each field of a value needs one of the default
    pairs = max((task.want for task in chosen if task.axis.paired), default=0)
    ideal = max(ideal, n0 + max(pairs - table.stored, 0))  # where every field is in use, another one makes another pair
    return Round(max(n0, min(ideal, 2 * n0)), chosen)


def _left(task: Task) -> float:
    """Return what a task is expected to cost yet, in fields of the default; a pair is a sampling of a field that is there."""
    return max(task.need - task.have, 0.0) * (PAIR_COST if task.axis.paired else task.axis.cost)


def _tasks(judged: Judged, limit: float, seeds: int, table: Table) -> list[Task]:
    """Return the work on one axis."""
    if not judged.sides:
        waiting = [level for level in judged.levels if level.verdict == OPEN]
        return [task for level in waiting if (task := _more(judged, level, limit))]
    tasks: list[Task] = []
    for side, found in judged.sides:
        if judged.side_settled(found) or found.inside is None:
            continue
        if found.outside is None or judged.axis.width is None:
            waiting = [judged.levels[i] for i in found.open]
            tasks += [task for level in waiting if (task := _more(judged, level, limit))]
        else:
            tasks += _narrower(judged, side, found, limit, seeds, table)
    return tasks


def _more(judged: Judged, level: Level, limit: float) -> Task | None:
    """Return the task of more fields at a value; None where its verdict is given up."""
    axis = judged.axis
    if level.n_bad or level.n >= MOST:  # where fields failed, no more of them make it good
        return None
    if level.n < 2 or not math.isfinite(level.se):
        return Task(axis, level.value, level.asked, level.asked + max(level.n, 2), 2.0 * level.asked + 2, judged.by_seed)
    gap = abs(limit - level.d)
    scale = level.n * ((Z_INSIDE if level.d < limit else Z_OUTSIDE) * level.se) ** 2
    if scale / (gap + level.se) ** 2 > MOST:
        return None
    need = scale / (gap + 0.3 * level.se) ** 2
    more = min(max(math.ceil(need) - level.n, 1), level.n, MOST - level.n)
    return Task(axis, level.value, level.asked, level.asked + more, max(need, level.asked + more), judged.by_seed)


def _narrower(judged: Judged, side: Sequence[int], found: Bracket, limit: float, seeds: int, table: Table) -> list[Task]:
    """Return the work inside a bracket that is too wide: the two values, as near as asked, that need the fewest fields."""
    axis, levels = judged.axis, judged.levels
    assert found.inside is not None and found.outside is not None
    near, far = levels[found.inside].value, levels[found.outside].value
    work = {level.value: task for i in found.open for level in [levels[i]] if (task := _more(judged, level, limit))}
    places = np.linspace(axis.place(near), axis.place(far), GRID + 2)[1:-1]
    known = [level.value for level in levels]
    grid = [value for value in dict.fromkeys(axis.at(u) for u in places) if value not in known]
    least, spread = _first(axis, seeds, table), _spread(judged, table)
    fit = _fit(judged, side, [*grid, *work])
    need = {v: spread * (Z_INSIDE / max(abs(fit[v] - limit), 1e-6)) ** 2 for v in grid}
    # of equal ones the surest; before anything was tried here the fit is a guess, and what looks hopeless may not be
    new: dict[Value, float] = {
        v: max(min(n, MOST), least) + 0.01 * min(n, MOST) for v, n in need.items() if n <= MOST or not found.open
    }
    costs = {v: _left(task) for v, task in work.items()}, new
    inner, outer = ([{v: c for v, c in of.items() if (fit[v] <= limit) == within} for of in costs] for within in (True, False))
    best = _pair(axis, {near: 0.0, **(inner[0] or inner[1])}, {far: 0.0, **(outer[0] or outer[1])})
    if math.isinf(best[0]):  # what is in work is too far from the other end
        best = _pair(axis, {near: 0.0, **inner[0], **inner[1]}, {far: 0.0, **outer[0], **outer[1]})
    if math.isinf(best[0]):
        return []
    chosen = [value for value in best[1:] if value not in (near, far)]
    return [work[v] if v in work else Task(axis, v, 0, least, new[v], judged.by_seed) for v in chosen]


def _first(axis: SettleAxis, seeds: int, table: Table) -> int:
    """Return the fields that a new value begins with; pairs cost little, and two or three say next to nothing."""
    return max(seeds, min(PAIRS, table.stored)) if axis.paired else seeds


def _spread(judged: Judged, table: Table) -> float:
    """Return the variance that one more field has in a comparison."""
    if not judged.axis.paired and not judged.by_seed:
        pooled = pool(table.lenders)
        return (pooled.variance if pooled is not None else 0.0) * (1 + 1 / max(len(table.default.y), 1))
    known = [level.n * level.se**2 for level in judged.levels if level.se > 0]
    return float(np.median(known)) if known else 0.0  # far outside, a value may be many times as noisy as near the edge


def _pair(axis: SettleAxis, inner: Mapping[Value, float], outer: Mapping[Value, float]) -> tuple[float, Value, Value]:
    """Return the cheapest two values that are near enough, after their cost; infinite where there are none."""
    best: tuple[float, Value, Value] = (math.inf, None, None)
    for p, cost in inner.items():
        for q, more in outer.items():
            if cost + more < best[0] and p != q and axis.close(p, q):
                best = cost + more, p, q
    return best


def _fit(judged: Judged, side: Sequence[int], values: Sequence[Value]) -> dict[Value, float]:
    """Return the fit of the log ratio (see `study.rows.settle.edges`) at some values of one side."""
    axis, levels = judged.axis, judged.levels
    origin = axis.place(axis.default)
    place = np.array([0.0, *(abs(axis.place(levels[i].value) - origin) for i in side)])
    fails = [levels[i].verdict == OUTSIDE and not levels[i].low > 0 for i in side]
    d = np.array([0.0, *(FAILED if bad else levels[i].d for i, bad in zip(side, fails, strict=True))])
    error = np.array([levels[i].se if levels[i].se > 0 else math.nan for i in side])
    middle = float(np.nanmean(error)) if np.isfinite(error).any() else 1.0
    weight = 1 / np.array([middle, *np.where(np.isfinite(error), error, middle)]) ** 2
    known = np.isfinite(d)
    root = np.sqrt(np.maximum(rising(d[known], weight[known]), 0.0))
    found = np.interp([abs(axis.place(value) - origin) for value in values], place[known], root) ** 2
    return dict(zip(values, found.tolist(), strict=True))
