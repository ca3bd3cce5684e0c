"""Checks of a whole study: what each section allows by itself may still be wrong together, or for these data.

Every check raises the one line that names file, line, key, value and what to type instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from pfgm.config import ADAPTIVE_SOLVERS
from pfgm.metrics.features import check_features, default_features
from pfgm.metrics.inception import check_inception
from pfgm.networks import build_network, check_network
from pfgm.perturbations import check_exempt
from pfgm.process import make_process
from pfgm.resolve import resolve_sampler
from study.model import StudyConfig, explain, moved
from study.plan import PlanError, make_plan
from study.space import Distribution, Value
from study.yaml_source import Source

MAX_GRID = 10_000
"""Most training or sampler points of a grid design."""


def check_study(source: Source, config: StudyConfig) -> None:
    """All checks, the simplest first.

    Raises:
        ConfigError: at the first mistake.
    """
    _check_design(source, config)
    _check_features(source, config)
    _check_solver_keys(source, config)
    for group in ("train", "sampler"):
        _check_values(source, config, group)
        _check_defaults(source, config, group)
    _check_grid(source, config)
    try:
        make_plan(config)
    except PlanError as error:
        raise source.error(error.path, error.message) from None


def _check_design(source: Source, config: StudyConfig) -> None:
    design, seeds = config.design, config.seeds
    owners = {
        "trials": ("sobol", "random", "tpe"),
        "sampler_points": ("sobol", "random"),
        "arm_seeds": ("one_at_a_time",),
        "optimize": ("tpe",),
    }
    for key, names in owners.items():
        value = getattr(design, key)
        if value is not None and design.name not in names:
            raise source.error(("design", key), f"belongs to {', '.join(names)}, the design is {design.name}; remove {value!r}")
    if design.arm_seeds is not None and design.arm_seeds > len(seeds.train_seeds):
        raise source.error(
            ("design", "arm_seeds"), f"must be at most the {len(seeds.train_seeds)} of seeds.train, got {design.arm_seeds}"
        )
    for key, chosen in (("train", seeds.train_seeds), ("sample", seeds.sample_seeds)):
        if len(set(chosen)) != len(chosen):
            raise source.error(("seeds", key), f"names a seed twice: {chosen}; remove one")
    if seeds.disjoint and not isinstance(seeds.train, int):
        raise source.error(("seeds", "disjoint"), f"needs a number as seeds.train, got the list {seeds.train}; write how many")
    _check_exact(source, config)
    _check_perturb(source, config)
    if design.name == "tpe":
        if not (config.search_train or config.search_sampler):
            raise source.error(("design", "name"), "'tpe' needs something to search; add a parameter under `search`")
        for metric in design.optimize or {"fid": "minimize"}:
            if metric != "nfe" and metric not in config.evaluate.metrics:
                raise source.error(("design", "optimize"), f"{metric} is not measured; add it to evaluate.metrics")


def _check_exact(source: Source, config: StudyConfig) -> None:
    """The error of the prior is known where the field is."""
    if "prior_error" in config.evaluate.metrics and (config.given is None or not config.given.exact):
        text = "'prior_error' is known for exact fields only; remove it, or give field: {exact: empirical}"
        raise source.error(("evaluate", "metrics"), text)


def _check_perturb(source: Source, config: StudyConfig) -> None:
    """Disturbances go with designs that have a default point, noise with a solver that has steps of its own."""
    levels = config.perturb.levels
    if levels and config.design.name == "tpe":
        raise source.error(("perturb",), "design tpe looks for the best, it measures no robustness; use one_at_a_time or sobol")
    if config.perturb.exempt and not (config.perturb.weight_bits or config.perturb.weight_noise):
        raise source.error(("perturb", "exempt"), "belongs to weight_bits and weight_noise; remove it, or give one of them")
    if not levels:
        return
    solver = config.sampling(config.default("sampler")).solver
    exact = config.given is not None and config.given.exact
    if exact and (config.perturb.weight_bits or config.perturb.weight_noise):
        raise source.error(("perturb",), "an exact field has no weights; remove weight_bits and weight_noise")
    if config.perturb.noise and solver in ADAPTIVE_SOLVERS:
        text = f"is added before every step, which needs a fixed-step solver; sampler.solver is {solver}, use heun2"
        raise source.error(("perturb", "noise"), text)
    if config.perturb.exempt:
        with torch.device("meta"):
            network = build_network(config.network, config.info.shape, 1.0, 1.0)
        try:
            check_exempt(network, config.perturb.exempt)
        except ValueError as error:
            raise source.error(("perturb", "exempt"), str(error).removeprefix("exempt: ")) from None


def _check_features(source: Source, config: StudyConfig) -> None:
    """The feature network and the architecture must take the data."""
    features = config.evaluate.features or default_features(config.data.name, config.info.shape)
    try:
        check_features(features, config.info.shape, config.evaluate.weights)
        if features == "inception":
            check_inception(config.info.shape, config.evaluate.weights)
    except ValueError as error:
        key, _, text = str(error).partition(": ")
        raise source.error(("evaluate", key), text) from None
    searched = config.search_train.get("process")
    processes = searched.choices if searched else [config.train.get("process", "pfgm")]
    for process in processes:
        try:
            check_network(config.network, config.info.shape, str(process))
        except ValueError as error:
            path, _, text = str(error).partition(": ")
            raise source.error(tuple(path.split(".")), text) from None


def _check_solver_keys(source: Source, config: StudyConfig) -> None:
    """A fixed sampler key that no solver of the study reads is a mistake."""
    searched = config.search_sampler.get("solver")
    solvers = list(searched.choices) if searched else [config.sampler.get("solver", "dopri5")]
    adaptive = any(s in ADAPTIVE_SOLVERS for s in solvers)
    fixed = any(s not in ADAPTIVE_SOLVERS for s in solvers)
    for keys, used, kind in ((("rtol", "atol"), adaptive, "adaptive"), (("steps", "grid"), fixed, "fixed-step")):
        for key in keys:
            for path in (("sampler", key), ("search", "sampler", key)):
                declared = source.section(*path[:-1]).get(key)
                if declared is not None and not used:
                    raise source.error(
                        path, f"belongs to {kind} solvers, this study uses {', '.join(map(str, solvers))}; remove {declared!r}"
                    )


def _check_values(source: Source, config: StudyConfig, group: str) -> None:
    """The default point, and every value or end of every searched parameter, must make a valid configuration on these data."""
    searched = _searched(config, group)
    try:
        default = config.default(group)
        _resolve(config, group, default)
    except ValueError as error:
        key, text = explain(error, source.section(group))
        raise source.error(_place(source, group, key), text) from None
    for key, distribution in searched.items():
        values = distribution.choices if distribution.kind == "choice" else (*_ends(distribution), distribution.value(0.37))
        for value in values:
            try:
                _resolve(config, group, moved(config, group, key, value))
            except ValueError as error:
                named, text = explain(error, {key: value})
                if "integer" in text and not distribution.integer:
                    text += f"; use {distribution.kind.replace('uniform', 'int_uniform')}"
                text = text if named in (key, "") else f"{named}: {text}"
                shown = "" if str(value) in text else f"at {value!r}: "
                raise source.error(("search", group, key), f"{shown}{text}") from None


def _ends(distribution: Distribution) -> tuple[Value, Value]:
    low, high = distribution.low, distribution.high
    return (int(low), int(high)) if distribution.integer else (low, high)


def _resolve(config: StudyConfig, group: str, point: Mapping[str, Value]) -> None:
    if group == "train":
        config.resolved(point)
    else:
        train = config.resolved(config.default("train"))
        resolve_sampler(config.sampling(point), make_process(train, config.info))


def _check_defaults(source: Source, config: StudyConfig, group: str) -> None:
    """A searched parameter's default lies inside its range; `rule`, `all` and `same` count as the number they become."""
    declared = source.section(group)
    for key, value in config.default(group).items():
        distribution = _searched(config, group)[key]
        number = value if distribution.kind == "choice" else _number(config, group, key, value)
        if distribution.contains(value) or distribution.contains(number):
            continue
        shown = f"default {value!r}" if number is value else f"default {value!r} is {number:.6g} for these data, which"
        verb = "is" if number is value else "lies"
        if declared.get(key) is not None:
            cure = "widen it, or move the default"
            raise source.error((group, key), f"{shown} {verb} outside the range {distribution} of search.{group}.{key}; {cure}")
        cure = f"widen it, or set {group}.{key} inside it"
        raise source.error(("search", group, key), f"{shown} {verb} outside the range {distribution}; {cure}")


def _number(config: StudyConfig, group: str, key: str, value: Value) -> Value:
    """What `rule`, `all` or `same` becomes at the default point."""
    if value not in ("rule", "all", "same"):
        return value
    train = config.resolved(config.default("train"))
    if group == "train":
        resolved: Value = getattr(train, key)
        return resolved
    return config.sampling(config.default("sampler")).rtol if key == "atol" else make_process(train, config.info).rule_T


def _check_grid(source: Source, config: StudyConfig) -> None:
    for group in ("train", "sampler") if config.design.name == "grid" else ():
        n = math.prod(len(d.grid()) for d in _searched(config, group).values())
        if n > MAX_GRID:
            raise source.error(
                ("search", group), f"the grid has {n} points, at most {MAX_GRID}; lower `levels`, or use design sobol"
            )


def _searched(config: StudyConfig, group: str) -> Mapping[str, Distribution]:
    return config.search_train if group == "train" else config.search_sampler


def _place(source: Source, group: str, key: str) -> tuple[str, ...]:
    """Where a key of a group is written: as a fixed value, else as a searched one, else its group."""
    for path in ((group, key), ("search", group, key)):
        if key in source.section(*path[:-1]):
            return path
    return (group, key) if key else (group,)
