"""Declared points of a study's space, as its design gives them, each once."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from pfgm.config import SamplerConfig, TrainConfig
from pfgm.mistakes import Mistake
from study.config.group import network_part
from study.config.space import Value
from study.config.study import StudyConfig, reason
from study.config.yaml_source import ConfigError
from study.plan.designs.design import design_of
from study.plan.identity import digest
from study.plan.role import Role

Point = dict[str, Value]
Declared = tuple[str, Point]
"""The role of a point (`study.plan.role`) and its searched values."""


def read_point(declared: str) -> dict[str, Point]:
    """Return the two parts, train and sampler, of a ``design_point`` column."""
    groups: dict[str, Point] = json.loads(declared)
    return {g: {k: math.inf if v == "inf" else v for k, v in point.items()} for g, point in groups.items()}


class PlanError(Mistake, ConfigError):
    """A study that cannot be planned; the key is that of the study file."""


def points(config: StudyConfig, group: str) -> list[tuple[Role, Point]]:
    """Return the points of one group, the default first, no point twice; one on two arms has both roles, joined by a +."""
    made: list[Declared] = [("default", config.default(group))]
    if config.searched(group):
        made += design_of(config).points(config, group)
    kept: dict[str, tuple[Role, Point]] = {}
    for role, point in made:
        declared = resolved_at(config, point) if group == "train" else sampling_at(config, point)
        same = digest(_rounded({**declared.model_dump(exclude={"height_ratio"}), **network_part(point)}))
        first, point = kept.get(same, (Role(role), point))
        kept[same] = (first.joined(Role(role)), point)
    return list(kept.values())


def sampling_at(config: StudyConfig, point: Point) -> SamplerConfig:
    """Return the sampler configuration of a declared point.

    Raises:
        PlanError: it cannot be sampled.
    """
    try:
        return config.sampling(point)
    except ValueError as error:
        text = f"the point {', '.join(shown(point))} cannot be sampled: {reason(error)}"
        raise PlanError(("search", "sampler"), text) from None


def resolved_at(config: StudyConfig, point: Point) -> TrainConfig:
    """Return the training configuration of a declared point, with every number filled in.

    Raises:
        PlanError: it cannot be trained.
    """
    try:
        return config.resolved(point)
    except ValueError as error:
        text = f"the point {', '.join(shown(point))} cannot be trained: {reason(error)}"
        raise PlanError(("search", "train"), text) from None


def _rounded(values: Mapping[str, object]) -> dict[str, object]:
    """Numbers to nine digits: an arm that meets the default by another road is the default."""
    return {k: float(f"{v:.9g}") if isinstance(v, float) else v for k, v in values.items()}


def shown(point: Mapping[str, Value]) -> list[str]:
    """Return the values of a point in words."""
    return [f"{k} = {v:.4g}" if isinstance(v, float) else f"{k} = {v}" for k, v in point.items()]
