"""The plan: which cells a study measures, a pure function of the study file and its data.

A *cell* is (training point, train seed, sampler point, sample seed). A *trial* is one field — a training point and a train
seed — with all its sampler points and sample seeds. ``train_id`` names a field by what its weights depend on and nothing else,
so that every study on the same storage finds it; ``sampler_id`` names a sampler point as declared, so that it recurs across
fields; ``cell_id`` names a measurement.

The design `tpe` cannot be planned ahead: `study.plan.designs.tpe` asks Optuna for one point after another and plans each as it
comes.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pfgm.config import NetworkConfig, SamplerConfig, TrainConfig
from pfgm.process.base import HEIGHT_MARGIN, T_EXTREME
from pfgm.process.make import make_process
from pfgm.process.resolve import resolve_sampler
from pfgm.registry import PROCESSES
from study.config.space import Distribution, Value
from study.config.study import StudyConfig, activate, moved, network_part, reason
from study.config.yaml_source import ConfigError
from study.plan.identity import digest, evaluation, plain, point_id, reading, sampler_id, train_id
from study.rows.records import SCHEMA_VERSION, canonical_json

Point = dict[str, Value]
DISJOINT_STRIDE = 10_000  # with seeds.disjoint, training point i has train seeds from i times this on


def read_point(declared: str) -> dict[str, Point]:
    """The two parts, train and sampler, of a ``design_point`` column."""
    groups: dict[str, Point] = json.loads(declared)
    return {g: {k: math.inf if v == "inf" else v for k, v in point.items()} for g, point in groups.items()}


class PlanError(ConfigError):
    """A study that cannot be planned; ``path`` is the key of the study file at fault."""

    def __init__(self, path: tuple[str, ...], message: str) -> None:
        super().__init__(f"{'.'.join(path)}: {message}")
        self.path, self.message = path, message


@dataclass(frozen=True)
class SamplerPoint:
    """One sampler point as declared."""

    sampler_id: str
    role: str
    point: Point
    config: SamplerConfig


@dataclass(frozen=True)
class Trial:
    """One field and everything that is measured on it. ``train`` is resolved: every number filled in."""

    trial_id: str
    point_id: str
    train_id: str
    role: str
    point: Point
    seed: int
    train: TrainConfig
    network: NetworkConfig | None
    """None where the field is known exactly."""
    sampler_points: tuple[SamplerPoint, ...]
    sample_seeds: tuple[int, ...]

    @property
    def shown(self) -> str:
        """Its training point in words."""
        return ", ".join(_shown(self.point))

    def handout(self) -> dict[str, object]:
        """What a worker needs to rebuild this trial with `make_trial`, as plain values."""
        sampling = [[p.role, p.point] for p in self.sampler_points]
        return {"role": self.role, "point": self.point, "seed": self.seed, "sampling": sampling}

    def cells(self, config: StudyConfig) -> list[dict[str, object]]:
        """The manifest rows of this trial, in the order they are measured: disturbed ones after those that they belong to."""
        disturbed = [point for point in self.sampler_points if point.role == "default"]
        return [
            _cell(config, self, point, seed, disturbance)
            for seed in self.sample_seeds
            for disturbance in (None, *config.perturb.levels)
            for point in (self.sampler_points if disturbance is None else disturbed)
        ]


def make_plan(config: StudyConfig) -> list[Trial]:
    """All trials of a one_at_a_time, sobol, grid or random study; for tpe, none.

    Raises:
        ConfigError: a point implies absurd heights, or is invalid on these data.
    """
    if config.design.name == "tpe":
        check_extremes(config, [config.default("train")], corners=True)
        return []
    training, sampling = points(config, "train"), points(config, "sampler")
    check_extremes(config, [p for _, p in training], corners=config.design.name in ("sobol", "random"))
    return [
        make_trial(config, role, point, seed, sampling)
        for index, (role, point) in enumerate(training)
        for seed in train_seeds(config, role, index)
    ]


def train_seeds(config: StudyConfig, role: str, index: int) -> list[int]:
    """The train seeds of training point number ``index``."""
    seeds = config.seeds.train_seeds
    if config.seeds.disjoint:
        return [index * DISJOINT_STRIDE + s for s in seeds]  # a fixed stride: more seeds later move none
    if role.startswith("arm:") and config.design.arm_seeds is not None:
        return seeds[: config.design.arm_seeds]
    return seeds


def make_trial(config: StudyConfig, role: str, point: Point, seed: int, sampling: Iterable[tuple[str, Point]]) -> Trial:
    """One trial of the plan."""
    sampler_point: Point = {}
    try:
        declared = config.training(point)
        train = config.resolved(point)
        samplers: dict[str, SamplerPoint] = {}
        for sampler_role, sampler_point in sampling:
            sampler = config.sampling(sampler_point)
            resolve_sampler(sampler, make_process(train, config.info))
            name = sampler_id(sampler)
            samplers.setdefault(name, SamplerPoint(name, sampler_role, sampler_point, sampler))
    except ValueError as error:
        where = ", ".join(_shown(point) + _shown(sampler_point)) or "the default"
        raise PlanError(("search",), f"the {role} point {where} cannot be measured: {reason(error)}") from None
    name = point_id(declared, network_part(point))
    network = config.network_at(point)
    return Trial(
        trial_id=f"{name[:8]}-{seed}",
        point_id=name,
        train_id=train_id(config, train, network, seed),
        role=role,
        point=point,
        seed=seed,
        train=train,
        network=network,
        sampler_points=tuple(samplers.values()),
        sample_seeds=tuple(config.seeds.sample_seeds),
    )


def _shown(point: Mapping[str, Value]) -> list[str]:
    return [f"{k} = {v:.4g}" if isinstance(v, float) else f"{k} = {v}" for k, v in point.items()]


def points(config: StudyConfig, group: str) -> list[tuple[str, Point]]:
    """(role, point) of one group, the default first, no point twice; a point on two arms has both roles, joined by a +."""
    searched = config.search_train if group == "train" else config.search_sampler
    made: list[tuple[str, Point]] = [("default", config.default(group))]
    if searched:
        design = config.design
        if design.name == "one_at_a_time":
            for key, distribution in searched.items():
                made += [(f"arm:{key}", moved(config, group, key, v)) for v in distribution.grid()]
        elif design.name == "grid":
            grids = [d.grid() for d in searched.values()]
            made += [("grid", activate(searched, dict(zip(searched, c, strict=True)))) for c in itertools.product(*grids)]
        else:
            count = (design.trials or 32) if group == "train" else (design.sampler_points or 8)
            made += [(design.name, _draw(searched, u)) for u in _sequence(config, group, len(searched), count - 1)]
    kept: dict[str, tuple[str, Point]] = {}
    for role, point in made:
        declared = _resolved(config, point) if group == "train" else _sampling(config, point)
        same = digest(_rounded({**declared.model_dump(exclude={"height_ratio"}), **network_part(point)}))
        first, point = kept.get(same, (role, point))
        kept[same] = (first if first == "default" else "+".join(dict.fromkeys([*first.split("+"), role])), point)
    return list(kept.values())


def _sampling(config: StudyConfig, point: Point) -> SamplerConfig:
    try:
        return config.sampling(point)
    except ValueError as error:
        text = f"the point {', '.join(_shown(point))} cannot be sampled: {reason(error)}"
        raise PlanError(("search", "sampler"), text) from None


def _resolved(config: StudyConfig, point: Point) -> TrainConfig:
    try:
        return config.resolved(point)
    except ValueError as error:
        text = f"the point {', '.join(_shown(point))} cannot be trained: {reason(error)}"
        raise PlanError(("search", "train"), text) from None


def _rounded(values: Mapping[str, object]) -> dict[str, object]:
    """Numbers to nine digits: an arm that meets the default by another road is the default."""
    return {k: float(f"{v:.9g}") if isinstance(v, float) else v for k, v in values.items()}


def _draw(searched: Mapping[str, Distribution], u: Iterable[float]) -> Point:
    return activate(searched, {key: d.value(x) for (key, d), x in zip(searched.items(), u, strict=True)})


def _sequence(config: StudyConfig, group: str, dim: int, n: int) -> list[list[float]]:
    """The first n points of the group's sequence in [0, 1)^dim; a longer one begins with the same points."""
    seed = int(digest([config.design.seed, group], 8), 16)
    if n == 0:
        return []
    if config.design.name == "random":
        import numpy as np

        uniform: list[list[float]] = np.random.Generator(np.random.Philox(seed)).random((n, dim)).tolist()
        return uniform
    from scipy.stats import qmc  # half a second that other designs need not wait

    engine = qmc.Sobol(dim, scramble=True, rng=seed)
    power = max(n - 1, 1).bit_length()
    sequence: list[list[float]] = engine.random_base2(power)[:n].tolist()
    return sequence


def check_extremes(config: StudyConfig, training: list[Point], corners: bool) -> dict[str, tuple[float, float]]:
    """The ranges of T, t_max and R_max that the space implies.

    Args:
        training: training points of the plan.
        corners: check every combination of the ends of the height's parameters too, for designs that may come near any.
    Raises:
        PlanError: T above 10^6 or t_max below 10 t_min, unless the study says ``allow_extreme: true``.
    """
    training = list(training) + (_height_corners(config) if corners else [])
    samplers = _sampler_ends(config, corners)
    found: dict[str, list[float]] = {"T": [], "t_max": [], "R_max": []}
    for point in training:
        process = make_process(_resolved(config, point), config.info)
        found["t_max"].append(process.height_max)
        found["R_max"].append(process.R_max)
        for sampler in samplers:
            try:
                found["T"].append(resolve_sampler(sampler, process).T)
            except ValueError as error:
                key, _, text = reason(error).partition(": ")
                raise PlanError(_blame(config, *BLAMED[key]), text) from None
    ranges = {k: (min(v), max(v)) for k, v in found.items()}
    if not config.allow_extreme:
        _refuse_extremes(config, ranges, max(s.t_min for s in samplers))
    return ranges


BLAMED = {"T": ("T", "T_ratio", "t_min"), "T_ratio": ("T_ratio",), "max_radius_ratio": ("max_radius_ratio",)}
"""Keys that may be the reason for what `resolve_sampler` refuses, by the one it names."""
HEIGHT_KEYS = tuple(key for _, process in PROCESSES.items() for key in process.height_keys)


def _height_corners(config: StudyConfig) -> list[Point]:
    default = config.default("train")
    ends = {k: _ends(config.search_train[k]) for k in HEIGHT_KEYS if k in config.search_train and k in default}
    return [{**default, **dict(zip(ends, corner, strict=True))} for corner in itertools.product(*ends.values())]


def _sampler_ends(config: StudyConfig, corners: bool) -> list[SamplerConfig]:
    ends = {k: _ends(config.search_sampler[k]) for k in ("T", "T_ratio", "t_min") if k in config.search_sampler}
    made = [config.default("sampler")]
    if corners:
        active = {k: v for k, v in ends.items() if k in made[0]}
        made += [{**made[0], **dict(zip(active, corner, strict=True))} for corner in itertools.product(*active.values())]
    if "max_radius_ratio" in config.search_sampler:
        ends["max_radius_ratio"] = _ends(config.search_sampler["max_radius_ratio"])
    made += [moved(config, "sampler", key, value) for key, values in ends.items() for value in values]
    return [_sampling(config, p) for p in made]


def _ends(distribution: Distribution) -> list[Value]:
    return list(distribution.choices) if distribution.kind == "choice" else [distribution.low, distribution.high]


def _refuse_extremes(config: StudyConfig, ranges: Mapping[str, tuple[float, float]], t_min: float) -> None:
    if ranges["T"][1] > T_EXTREME:
        raise PlanError(
            _blame(config, "T", *HEIGHT_KEYS, "T_ratio"),
            f"implies T up to {ranges['T'][1]:.3g} (sigma, tau and M together set the height), above {T_EXTREME:g};"
            " search height_ratio instead of M, narrow the ranges, or set allow_extreme: true",
        )
    if ranges["t_max"][0] < HEIGHT_MARGIN * t_min:
        raise PlanError(
            _blame(config, *HEIGHT_KEYS, "t_min"),
            f"implies trained heights down to {ranges['t_max'][0]:.3g}, less than {HEIGHT_MARGIN:g} times t_min = {t_min:g};"
            " raise M or height_ratio, lower t_min, or set allow_extreme: true",
        )


def _blame(config: StudyConfig, *keys: str) -> tuple[str, ...]:
    """The first of some keys that the study searches, else the first it fixes."""
    groups = (("train", config.search_train, config.train), ("sampler", config.search_sampler, config.sampler))
    for key in keys:
        for group, searched, _ in groups:
            if key in searched:
                return ("search", group, key)
    return next(((group, key) for key in keys for group, _, fixed in groups if key in fixed), ("search",))


KNOWN = {"process", "n_aug"}
"""Keys of ``train`` that an exact field has: nothing is trained."""


def _cell(
    config: StudyConfig, trial: Trial, point: SamplerPoint, seed: int, disturbance: tuple[str, float] | None
) -> dict[str, object]:
    train, sampler, info = trial.train, point.config, config.info
    process = make_process(train, info)
    numbers = resolve_sampler(sampler, process)
    of_cell = [trial.train_id, trial.point_id, point.sampler_id, seed, evaluation(config), *reading(trial.train, trial.network)]
    kind, level = disturbance or (None, None)
    exact = trial.network is None
    how = [disturbance, config.perturb.exempt if kind != "noise" else []] if disturbance else []
    row: dict[str, object] = {
        "study_id": config.name,
        "cell_id": digest([*of_cell, *how], 20),
        "trial_id": trial.trial_id,
        "point_id": trial.point_id,
        "train_id": trial.train_id,
        "sampler_id": point.sampler_id,
        "seed_train": trial.seed,
        "seed_sample": seed,
        "step": 0 if exact else train.steps,
        "is_final": True,
        "design_role": trial.role,
        "design_sampler_role": point.role,
        "design_point": canonical_json(plain({"train": trial.point, "sampler": point.point})),
        "data_name": info.name,
        "data_hash": info.hash,
        "data_n": info.n,
        "data_dim": info.dim,
        "data_center": info.center,
        **{f"network_{k}": ",".join(map(str, v)) if k == "channel_mult" and v else v for k, v in trial.network or ()},
        **{f"train_{k}": v for k, v in train.model_dump(include=KNOWN if exact else None, exclude={"force"}).items()},
        "train_height_max": None if exact else process.height_max,
        "train_R_max": None if exact else process.R_max,
        **{f"sampler_{k}": v for k, v in sampler.model_dump().items()},
        "sampler_T": numbers.T,
        "sampler_T_ratio": numbers.T_ratio,
        "sampler_atol": numbers.atol,
        "perturb_kind": kind,
        "perturb_level": level,
        "prov_design": config.design.name,
        "schema_version": SCHEMA_VERSION,
    }
    return row
