"""A trial: one field, a training point and a train seed, with all that is measured on it.

``train_id`` names a field by what its weights depend on and nothing else, so that every study on the same storage finds it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pfgm.config import NetworkConfig, TrainConfig
from pfgm.process.base import Process
from pfgm.process.make import make_process
from pfgm.process.resolve import resolve_sampler
from study.config.group import network_part
from study.config.plugins import load_shipped
from study.config.study import StudyConfig, reason
from study.plan.cell import Cell, Disturbance, SamplerPoint
from study.plan.identity import digest, evaluation, point_id, reading, sampler_id, solved_by, train_id, trained_by
from study.plan.points import Declared, PlanError, Point, shown
from study.plan.role import Role
from study.rows.on_the_way import steps_on_the_way

DISJOINT_STRIDE = 10_000  # with seeds.disjoint, training point i has train seeds from i times this on


@dataclass(frozen=True)
class Trial:
    """One field and everything that is measured on it. ``train`` is resolved: every number filled in."""

    trial_id: str
    point_id: str
    train_id: str
    role: Role
    point: Point
    seed: int
    train: TrainConfig
    network: NetworkConfig | None
    """None where the field is known exactly."""
    sampler_points: tuple[SamplerPoint, ...]
    sample_seeds: tuple[int, ...]
    config: StudyConfig = field(repr=False, compare=False)
    """The study that it is part of."""

    @property
    def shown(self) -> str:
        """Its training point in words."""
        return ", ".join(shown(self.point))

    @functools.cached_property
    def process(self) -> Process:
        """The process of its field, on the study's data."""
        return make_process(self.train, self.config.info)

    @functools.cached_property
    def stem(self) -> str | None:
        """The name that trainings of its field of any length share, where a shorter one is the beginning of a longer one."""
        if not self.train.constant_rate:  # the rate of each step depends on how many there are
            return None
        return train_id(self.config, self.train.model_copy(update={"steps": 0}), self.network, self.seed)

    def handout(self) -> dict[str, object]:
        """Return what a worker needs to rebuild this trial with `rebuilt`, as plain values."""
        sampling = [[str(p.role), p.point] for p in self.sampler_points]
        return {"role": str(self.role), "point": self.point, "seed": self.seed, "sampling": sampling}

    @functools.cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Return what is measured, in this order: disturbed cells after those that they belong to, cells on the way last."""
        measured = evaluation(self.config)
        default = [point for point in self.sampler_points if point.role.is_default]
        levels = [Disturbance(kind, level) for kind, level in self.config.perturb.levels]
        final = [
            Cell(self._cell_id(point, seed, disturbance, measured), self, point, seed, disturbance)
            for seed in self.sample_seeds
            for disturbance in (None, *levels)
            for point in (self.sampler_points if disturbance is None else default)
        ]
        on_the_way = [
            Cell(self._cell_id(point, seed, None, measured, step), self, point, seed, None, step)
            for step in self.steps_on_the_way
            for seed in self.sample_seeds
            for point in default
        ]
        return (*final, *on_the_way)

    @property
    def steps_on_the_way(self) -> tuple[int, ...]:
        """Return the steps before the last at which its default sampler point is measured; none where it has no such point."""
        shares = self.config.evaluate.at_steps
        if shares is None or not any(point.role.is_default for point in self.sampler_points):
            return ()
        return steps_on_the_way(shares, self.train.steps)

    def _cell_id(
        self, point: SamplerPoint, seed: int, disturbance: Disturbance | None, measured: dict[str, object],
        step: int | None = None,
    ) -> str:  # fmt: skip
        depends: list[object] = [self.train_id, self.point_id, point.sampler_id, seed, measured]
        depends += [*reading(self.train, self.network), *solved_by(self.config, point.config)]
        if self.config.field_source.train_id is not None:  # a field that is given is named by its content alone
            depends += trained_by(self.config, self.train, self.network)
        if disturbance is not None:
            depends += [disturbance, self.config.perturb.exempt if disturbance.kind != "noise" else []]
        if step is not None:
            depends.append({"step": step})
        return digest(depends, 20)


def train_seeds(config: StudyConfig, role: Role, index: int) -> list[int]:
    """Return the train seeds of training point number ``index``."""
    seeds = config.seeds.train_seeds
    if config.seeds.disjoint:
        return [index * DISJOINT_STRIDE + s for s in seeds]  # a fixed stride: more seeds later move none
    if role.arms and config.design.arm_seeds is not None:
        return seeds[: config.design.arm_seeds]
    return seeds


def make_trial(config: StudyConfig, role: str, point: Point, seed: int, sampling: Iterable[Declared]) -> Trial:
    """Return one trial of the plan.

    Raises:
        PlanError: its points cannot be measured on these data.
    """
    sampler_point: Point = {}
    try:
        declared = config.training(point)
        train = config.resolved(point)
        samplers: dict[str, SamplerPoint] = {}
        for sampler_role, sampler_point in sampling:
            sampler = config.sampling(sampler_point)
            resolve_sampler(sampler, make_process(train, config.info))  # refuses what this field cannot do
            name = sampler_id(sampler)
            samplers.setdefault(name, SamplerPoint(name, Role(sampler_role), sampler_point, sampler))
    except ValueError as error:
        where = ", ".join(shown(point) + shown(sampler_point)) or "the default"
        raise PlanError(("search",), f"the {role} point {where} cannot be measured: {reason(error)}") from None
    name = point_id(declared, network_part(point))
    network = config.network_at(point)
    return Trial(
        trial_id=f"{name[:8]}-{seed}",
        point_id=name,
        train_id=train_id(config, train, network, seed),
        role=Role(role),
        point=point,
        seed=seed,
        train=train,
        network=network,
        sampler_points=tuple(samplers.values()),
        sample_seeds=tuple(config.seeds.sample_seeds(seed)),
        config=config,
    )


def rebuilt(config: StudyConfig, handout: Mapping[str, Any]) -> Trial:
    """Return the trial that was handed out, in a process that may not have the study's plug-ins yet.

    Raises:
        RuntimeError: a plug-in changed since the trial was planned.
    """
    load_shipped(config.plugins, config.origins)
    sampling = [(role, point) for role, point in handout["sampling"]]
    return make_trial(config, handout["role"], handout["point"], handout["seed"], sampling)
