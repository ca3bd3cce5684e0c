"""Searched parameters as the rule of `study.rows.settle` knows them: values as numbers where they have an order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

from pfgm.process.make import make_process
from study.config.space import Distribution, Value, same
from study.config.study import StudyConfig
from study.rows.settle.judge import SettleAxis

EDGE_FACTOR = 1.5
"""``design.edge_factor`` where the study file does not say."""


@dataclass(frozen=True)
class SearchedAxis:
    """One searched parameter."""

    group: str
    key: str
    rule: SettleAxis
    declared: dict[Value, Value]
    """What the study file calls a number, where that is a word: 1797 is `all`."""

    @property
    def label(self) -> str:
        """Its path under ``search``."""
        return f"search.{self.group}.{self.key}"

    def value(self, number: Value) -> Value:
        """Return a value as the study file would write it."""
        return self.declared.get(number, number)


def number_of(config: StudyConfig, group: str, key: str, value: Value) -> Value:
    """Return what `rule`, `all` or `same` becomes at the default point; other values as they are."""
    if value not in ("rule", "all", "same"):
        return value
    train = config.resolved(config.default("train"))
    if group == "train":
        resolved: Value = getattr(train, key)
        return resolved
    return config.sampling(config.default("sampler")).rtol if key == "atol" else make_process(train, config.info).rule_T


def searched_axes(config: StudyConfig) -> list[SearchedAxis]:
    """Return every searched parameter, training first, in the order of their keys."""
    rank = {name: i for i, name in enumerate(config.design.priority or ())}
    last = len(rank)
    return [
        _axis(config, group, key, distribution, min(rank.get(key, last), rank.get(f"{group}.{key}", last)))
        for group in ("train", "sampler")
        for key, distribution in config.searched(group).items()
    ]


def _axis(config: StudyConfig, group: str, key: str, distribution: Distribution, rank: int) -> SearchedAxis:
    declared = distribution.grid()
    active, default = key in config.default(group), config.default(group).get(key)
    numbers = [number_of(config, group, key, value) for value in declared]
    own = number_of(config, group, key, default)
    ordered = all(_is_number(value) for value in [*numbers, own])
    name, paired = f"{group}.{key}", group == "sampler"
    if not ordered:
        first = tuple(value for value in declared if not active or not same(value, default))
        return SearchedAxis(group, key, SettleAxis(name, first, paired=paired, rank=rank), {})
    origin = float(cast("float", own))
    away = [v for v in numbers if not math.isclose(float(cast("float", v)), origin, rel_tol=1e-9)]
    rule = SettleAxis(
        name, tuple(away), origin, distribution.log, _width(config, distribution), distribution.integer, paired, rank,
    )  # fmt: skip
    words = {n: v for n, v in zip(numbers, declared, strict=True) if n != v}
    return SearchedAxis(group, key, rule, words)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _width(config: StudyConfig, distribution: Distribution) -> float | None:
    """Return the widest bracket of an edge on the scale of a range; None for a choice, whose values are as they are."""
    if distribution.kind == "choice":
        return None
    factor = config.design.edge_factor or EDGE_FACTOR
    return math.log(factor) if distribution.log else (factor - 1) / 4 * (distribution.high - distribution.low)
