"""The heights that a search space implies: σ, τ and M together set t_max, and a choice of them may make it absurd."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from pfgm.config import SamplerConfig
from pfgm.mistakes import Mistake
from pfgm.process.base import HEIGHT_MARGIN, T_EXTREME
from pfgm.process.make import make_process
from pfgm.process.resolve import resolve_sampler
from pfgm.registry import PROCESSES
from study.config.study import StudyConfig
from study.plan.points import PlanError, Point, resolved_at, sampling_at


def check_extremes(config: StudyConfig, training: Sequence[Point], corners: bool) -> dict[str, tuple[float, float]]:
    """Return the ranges of T, t_max and R_max that the space implies.

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
        process = make_process(resolved_at(config, point), config.info)
        found["t_max"].append(process.height_max)
        found["R_max"].append(process.R_max)
        for sampler in samplers:
            try:
                found["T"].append(resolve_sampler(sampler, process).T)
            except Mistake as error:
                raise PlanError(_blame(config, *BLAMED[error.path[0]]), error.text) from None
    ranges = {k: (min(v), max(v)) for k, v in found.items()}
    if not config.allow_extreme:
        _refuse_extremes(config, ranges, max(s.t_min for s in samplers))
    return ranges


BLAMED = {"T": ("T", "T_ratio", "t_min"), "T_ratio": ("T_ratio",), "max_radius_ratio": ("max_radius_ratio",)}
"""Keys that may be the reason for what `resolve_sampler` refuses, by the one it names."""
HEIGHT_KEYS = tuple(key for _, process in PROCESSES.items() for key in process.height_keys)


def _height_corners(config: StudyConfig) -> list[Point]:
    default = config.default("train")
    ends = {k: config.search_train[k].ends for k in HEIGHT_KEYS if k in config.search_train and k in default}
    return [{**default, **dict(zip(ends, corner, strict=True))} for corner in itertools.product(*ends.values())]


def _sampler_ends(config: StudyConfig, corners: bool) -> list[SamplerConfig]:
    ends = {k: config.search_sampler[k].ends for k in ("T", "T_ratio", "t_min") if k in config.search_sampler}
    made = [config.default("sampler")]
    if corners:
        active = {k: v for k, v in ends.items() if k in made[0]}
        made += [{**made[0], **dict(zip(active, corner, strict=True))} for corner in itertools.product(*active.values())]
    if "max_radius_ratio" in config.search_sampler:
        ends["max_radius_ratio"] = config.search_sampler["max_radius_ratio"].ends
    made += [config.sampler_group.moved(key, value) for key, values in ends.items() for value in values]
    return [sampling_at(config, p) for p in made]


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
