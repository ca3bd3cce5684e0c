"""Training and the sampler, the two groups of keys of a study: what is fixed, what is searched, and the points between.

    config.train_group.default()                    {"sigma": 0.1, "tau": 0.03}
    config.train_group.moved("sigma", 0.3)          {"sigma": 0.3, "tau": 0.03}
    config.sampler_group.make({"rtol": 1e-3})       a SamplerConfig

A point holds the searched keys that are active there. Imports the words of a study, never the study.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from pfgm.config import TrainConfig, foreign_train_keys
from pfgm.kinds import ALL
from study.config.solver import SEARCHED_DEFAULT
from study.config.space import Distribution, Value, same

IMPLIED_DEFAULTS: dict[str, Value] = {
    "height_ratio": 1.0, "T_ratio": 1.0, "solver": SEARCHED_DEFAULT, "label": ALL, "guidance": 1.0,
}  # fmt: skip
"""Defaults of searched parameters that have none of their own: the rule itself, the solver of the first studies, every class as
it is."""
NETWORK_SEARCH = frozenset({"width", "depth"})
"""Keys of ``network`` that may be searched, among those of ``train``: a weaker network is another training point."""
KINDS_OF_KEYS = frozenset({"process", "objective", "solver"})
"""Where these are searched, the search decides which other keys there are."""

C = TypeVar("C", bound=BaseModel)


@dataclass(frozen=True)
class Group(Generic[C]):
    """The keys of ``train``, or of ``sampler``."""

    name: str
    fixed: Mapping[str, Any]
    """Keys as declared; one that is searched too is its default."""
    searched: Mapping[str, Distribution]
    model: type[C]
    """What a point becomes."""
    elsewhere: Mapping[str, Value]
    """Defaults of the keys that may be searched here and are declared in another section: the network's size."""

    def make(self, point: Mapping[str, Value]) -> C:
        """The configuration of a point: fixed keys, the point's own, inactive searched ones absent."""
        own = {key: value for key, value in point.items() if key not in self.elsewhere}
        merged = {**{key: value for key, value in self.fixed.items() if key not in self.searched}, **own}
        return self.model.model_validate(active_keys(merged, self.searched, own))

    def default(self) -> dict[str, Value]:
        """The default point: the declared value of every searched parameter active there."""
        return activate(self.searched, {key: self.default_value(key) for key in self.searched})

    def default_value(self, key: str) -> Value:
        """Declared default of one searched parameter: fixed value, else the model's own."""
        if key in self.elsewhere:
            return self.elsewhere[key]
        for given in (self.fixed, IMPLIED_DEFAULTS):
            if given.get(key) is not None:
                value: Value = given[key]
                return value
        when = self.searched[key].when
        parent = {} if when is None else {when[0]: when[1][0]}
        base = {**{k: v for k, v in self.fixed.items() if k not in self.searched}, **parent}
        filled: Value = getattr(self.model.model_validate(active_keys(base, self.searched, parent)), key)
        return filled

    def moved(self, key: str, value: Value) -> dict[str, Value]:
        """The default point with ``key`` at ``value``; its parents are set so that it is active."""
        values = {k: self.default_value(k) for k in self.searched} | {key: value}
        child = key
        while (when := self.searched[child].when) is not None:
            parent, allowed = when
            if not any(same(values[parent], v) for v in allowed):
                values[parent] = allowed[0]
            child = parent
        return activate(self.searched, values)

    def complete(self) -> dict[str, Any]:
        """Declared keys with every default filled in, unless the search decides which keys there are."""
        if KINDS_OF_KEYS & self.searched.keys():
            return dict(self.fixed)
        filled = self.make(self.default()).model_dump()
        return {**{key: value for key, value in filled.items() if value is not None}, **self.fixed}


def network_part(point: Mapping[str, Value]) -> dict[str, Value]:
    """The keys of a training point that belong to the network."""
    return {key: value for key, value in point.items() if key in NETWORK_SEARCH}


def active_keys(values: Mapping[str, Any], searched: Mapping[str, Distribution], point: Mapping[str, Value]) -> dict[str, Any]:
    """``values`` without the fixed keys of other processes and objectives, where process or objective are searched.

    Args:
        values: keys of a group at a point, process and objective among those of ``train``.
        point: the keys that the point itself gives, which stay.
    """
    if not {"process", "objective"} & searched.keys():
        return dict(values)
    foreign = foreign_train_keys(values.get("process", TrainConfig.model_fields["process"].default), values.get("objective"))
    return {key: value for key, value in values.items() if key in point or key not in foreign}


def activate(searched: Mapping[str, Distribution], values: Mapping[str, Value]) -> dict[str, Value]:
    """The part of ``values`` whose conditions hold, parents before children."""
    active: dict[str, Value] = {}
    waiting = dict(values)
    while waiting:
        ready = [k for k in waiting if (when := searched[k].when) is None or when[0] not in waiting]
        for key in ready:
            when, value = searched[key].when, waiting.pop(key)
            if when is None or (when[0] in active and any(same(active[when[0]], v) for v in when[1])):
                active[key] = value
    return {key: active[key] for key in sorted(active)}
