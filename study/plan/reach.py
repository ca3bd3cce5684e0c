"""How many different points a search space has, where they can be counted, and what that means for a design that asks for more.

Choices and whole numbers are counted, with what `when` leaves of them; one real range, and there is no end. Two points are one
where their configurations are equal: a default that is written `all`, and the number that it stands for, are two as declared.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from study.config.group import activate, network_part
from study.config.space import Distribution, Value
from study.config.study import StudyConfig
from study.plan.designs.design import design_of
from study.plan.identity import point_id, sampler_id
from study.plan.points import Point

if TYPE_CHECKING:
    from study.plan.cell import Cell
    from study.plan.trial import Trial

MAX_COUNTED = 5000
"""Combinations above which a space is taken for endless: no study asks for so many points."""
Identity = tuple[str, str]


class Joint(NamedTuple):
    """A training and a sampler point together."""

    train: Point
    sampler: Point


def identities(cells: Iterable[Cell]) -> set[Identity]:
    """Return the different points among some cells."""
    return {(cell.point_id, cell.sampler_id) for cell in cells}


def count(searched: Mapping[str, Distribution]) -> int | None:
    """Combinations of the values of a space, those of inactive parameters included; None: without end."""
    numbers = [len(values) if (values := _values(d)) is not None else None for d in searched.values()]
    return None if None in numbers else math.prod(n for n in numbers if n is not None)


def _values(distribution: Distribution) -> list[Value] | None:
    if distribution.kind == "choice":
        return list(distribution.choices)
    if not distribution.integer or distribution.high - distribution.low >= MAX_COUNTED:
        return None
    return list(range(int(distribution.low), int(distribution.high) + 1))


def _points(searched: Mapping[str, Distribution]) -> list[Point]:
    values = [_values(d) or [] for d in searched.values()]
    return [activate(searched, dict(zip(searched, chosen, strict=True))) for chosen in itertools.product(*values)]


def joint_points(config: StudyConfig) -> dict[Identity, Joint] | None:
    """Every different point of training and sampler together, the default first; None where there is no end of them."""
    n_train, n_sampler = count(config.search_train), count(config.search_sampler)
    if n_train is None or n_sampler is None or n_train * n_sampler > MAX_COUNTED:
        return None
    default = Joint(config.default("train"), config.default("sampler"))
    trains = _named(config, "train", [default.train, *_points(config.search_train)])
    samplers = _named(config, "sampler", [default.sampler, *_points(config.search_sampler)])
    if not trains or not samplers:
        return {}
    first = (next(iter(trains)), next(iter(samplers)))
    names = [first, *itertools.product(_inside(trains, config.search_train), _inside(samplers, config.search_sampler))]
    return {(a, b): Joint(trains[a], samplers[b]) for a, b in names}


def _inside(points: Mapping[str, Point], searched: Mapping[str, Distribution]) -> list[str]:
    """Points that can be drawn: a default outside the values of its search is a point with the whole default alone."""
    return [name for name, point in points.items() if all(searched[key].contains(value) for key, value in point.items())]


def _named(config: StudyConfig, group: str, points: list[Point]) -> dict[str, Point]:
    found: dict[str, Point] = {}
    for point in points:
        try:
            if group == "train":
                config.resolved(point)
                name = point_id(config.training(point), network_part(point))
            else:
                name = sampler_id(config.sampling(point))
        except ValueError:  # a combination that cannot be measured
            continue
        found.setdefault(name, point)
    return found


def reach_lines(config: StudyConfig, trials: Sequence[Trial], joint: Mapping[Identity, Joint] | None) -> list[str]:
    """Return what the plan says where a design cannot reach the number of points that it asks for."""
    return design_of(config).reach_lines(config, trials, joint)


def level_lines(config: StudyConfig) -> list[str]:
    """Return a line for every range of whole numbers that has fewer of them than levels."""
    return [
        f"search.{group}.{key} has {len(distribution.grid())} whole numbers, not {distribution.levels} levels; all are measured"
        for group in ("train", "sampler")
        for key, distribution in config.searched(group).items()
        if distribution.kind != "choice" and len(distribution.grid()) < distribution.levels
    ]


def drawn_lines(group: str, key: str, found: int, asked: int, searched: Mapping[str, Distribution]) -> list[str]:
    """Return a line for a group whose draws gave fewer different points than ``design.<key>`` asks for."""
    if not searched or found >= asked:
        return []
    total = count(searched)
    few = f"search.{group} gives {found} different points, not the {asked} of design.{key}"
    if total is not None and found >= len({repr(point) for point in _points(searched)}):
        return [f"{few}: there are no more, and all are measured"]
    return [f"{few}: draws repeat; design grid measures every combination"]
