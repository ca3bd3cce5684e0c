"""Checks of a whole study: what each section allows by itself may still be wrong together, or for these data.

Every check raises the one line that names file, line, key, value and what to type instead.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pfgm.config import OWN_GRIDS, foreign_train_keys, objectives_of
from pfgm.metrics.classes import OF_CLASSES
from pfgm.metrics.features.networks import check_ready, default_features
from pfgm.mistakes import Mistake
from pfgm.networks.build import build_network, check_labels, check_network
from pfgm.process.make import make_process
from pfgm.process.resolve import resolve_sampler
from pfgm.registry import PROCESSES, SOLVERS
from pfgm.sampling.disturbances import check_exempt
from study.config.group import NETWORK_SEARCH, network_part
from study.config.sections import SETTLE_KEYS
from study.config.space import Distribution, Value
from study.config.study import StudyConfig, explain
from study.config.yaml_source import Source
from study.plan.axes import number_of
from study.plan.designs.design import design_of, owners
from study.plan.make import make_plan
from study.plan.points import PlanError
from study.plan.trial import Trial


def check_study(source: Source, config: StudyConfig) -> list[Trial]:
    """Make all checks, the simplest first, and return the plan, which is the last of them.

    Raises:
        ConfigError: at the first mistake.
    """
    _check_design(source, config)
    _check_features(source, config)
    _check_solver_keys(source, config)
    _check_owners(source, config)
    _check_resources(source, config)
    for group in ("train", "sampler"):
        _check_values(source, config, group)
        _check_defaults(source, config, group)
    _check_perturb(source, config)
    _check_at_steps(source, config)
    try:
        design_of(config).check(config)
        return make_plan(config)
    except PlanError as error:
        raise source.error(error.path, error.text) from None


def _check_design(source: Source, config: StudyConfig) -> None:
    design, seeds = config.design, config.seeds
    for key in ("trials", "sampler_points", "arm_seeds", "optimize", *SETTLE_KEYS):
        value = getattr(design, key)
        if value is not None and key not in design_of(config).owns:
            text = f"belongs to {', '.join(owners(key))}, the design is {design.name}; remove {value!r}"
            raise source.error(("design", key), text)
    if design.arm_seeds is not None and design.arm_seeds > len(seeds.train_seeds):
        raise source.error(
            ("design", "arm_seeds"), f"must be at most the {len(seeds.train_seeds)} of seeds.train, got {design.arm_seeds}"
        )
    for key, chosen in (("train", seeds.train_seeds), ("sample", seeds.sample_seeds(0))):
        if len(set(chosen)) != len(chosen):
            raise source.error(("seeds", key), f"names a seed twice: {chosen}; remove one")
    if seeds.sample == "own" and not config.field_source.trains:
        raise source.error(("seeds", "sample"), "is own, which is the train seed, and this field is given; write how many")
    if seeds.disjoint and not isinstance(seeds.train, int):
        raise source.error(("seeds", "disjoint"), f"needs a number as seeds.train, got the list {seeds.train}; write how many")
    _check_exact(source, config)


def _check_exact(source: Source, config: StudyConfig) -> None:
    """The error of the prior is known where the field is, and such a field has no network whose precision could be less."""
    if config.field_source.exact and (config.sampler.get("precision") or "precision" in config.search_sampler):
        where = ("sampler",) if config.sampler.get("precision") else ("search", "sampler")
        raise source.error((*where, "precision"), "is of a network, and an exact field is computed in float64; remove it")
    if "prior_error" in config.evaluate.metrics and not config.field_source.exact:
        text = "'prior_error' is known for exact fields only; remove it, or give field: {exact: empirical}"
        raise source.error(("evaluate", "metrics"), text)


def _check_perturb(source: Source, config: StudyConfig) -> None:
    """Disturbances go with designs that have a default point, noise with a solver that has steps of its own."""
    levels = config.perturb.levels
    if levels and not design_of(config).rated:
        text = f"design {config.design.name} looks for the best, it measures no robustness; use one_at_a_time or sobol"
        raise source.error(("perturb",), text)
    if config.perturb.exempt and not (config.perturb.weight_bits or config.perturb.weight_noise):
        raise source.error(("perturb", "exempt"), "belongs to weight_bits and weight_noise; remove it, or give one of them")
    if not levels:
        return
    sampler = config.sampling(config.default("sampler"))
    if config.field_source.exact and (config.perturb.weight_bits or config.perturb.weight_noise):
        raise source.error(("perturb",), "an exact field has no weights; remove weight_bits and weight_noise")
    if config.perturb.noise and SOLVERS[sampler.solver].adaptive:
        text = f"is added before every step, which needs a fixed-step solver; sampler.solver is {sampler.solver}, use heun2"
        raise source.error(("perturb", "noise"), text)
    if config.perturb.noise and sampler.grid in OWN_GRIDS:
        text = f"needs steps that all samples take together; sampler.grid is {sampler.grid}, use rho"
        raise source.error(("perturb", "noise"), text)
    if config.perturb.exempt:
        _check_exempt(source, config)


def _check_at_steps(source: Source, config: StudyConfig) -> None:
    """Rows on the way tell how ratings change with the training, so they go with designs that have ratings."""
    if config.evaluate.at_steps is not None and not design_of(config).rated:
        text = f"design {config.design.name} looks for the best, it rates nothing at any step; use one_at_a_time or sobol"
        raise source.error(("evaluate", "at_steps"), text)


def _check_exempt(source: Source, config: StudyConfig) -> None:
    """Refuse exempt names that are no weights of the network in one of its searched sizes."""
    sizes = {key: d for key, d in config.search_train.items() if key in NETWORK_SEARCH}
    moves = [config.train_group.moved(key, value) for key, d in sizes.items() for value in d.ends]
    for point in (config.default("train"), *moves):
        network = config.network_at(point)
        assert network is not None  # exact fields have no weights to disturb
        with torch.device("meta"):
            built = build_network(network, config.info.shape, 1.0, 1.0)
        try:
            check_exempt(built, config.perturb.exempt)
        except Mistake as error:
            size = ", ".join(f"{key} = {value}" for key, value in network_part(point).items())
            raise source.error(("perturb", *error.path), f"at {size}: {error.text}" if size else error.text) from None


def _check_features(source: Source, config: StudyConfig) -> None:
    """The feature network and the architecture must take the data."""
    features = config.evaluate.features or default_features(config.data.name, config.info.shape)
    try:
        check_ready(features, config.info.shape, config.evaluate.weights)
    except Mistake as error:
        raise source.error(("evaluate", *error.path), error.text) from None
    _check_classes(source, config)
    searched = config.search_train.get("process")
    processes = searched.choices if searched else [config.train.get("process", "pfgm")]
    for process in processes:
        try:
            check_network(config.network, config.info.shape, str(process))
        except Mistake as error:
            raise source.error(error.path, error.text) from None
    if source.section("network").get("skip") is False and "pfgm" not in processes:
        text = f"false has a meaning under process pfgm alone, this study uses {' or '.join(map(str, processes))}; remove it"
        raise source.error(("network", "skip"), text)


def _check_classes(source: Source, config: StudyConfig) -> None:
    """Metrics of classes need conditional fields, and those a network that can be told classes."""
    told = config.search_train["conditional"].choices if "conditional" in config.search_train else None
    train = config.field_source.train
    conditional = config.train.get("conditional", False) if train is None else train.conditional
    named = [name for name in config.evaluate.metrics if name in OF_CLASSES]
    if named and (not conditional if told is None else False in told):
        text = f"'{named[0]}' is of conditional fields; write train: {{conditional: true}}, or remove it"
        raise source.error(("evaluate", "metrics"), text)
    if conditional or (told is not None and True in told):
        try:
            check_labels(config.network)
        except Mistake as error:
            raise source.error(error.path, error.text) from None


def _check_solver_keys(source: Source, config: StudyConfig) -> None:
    """A fixed sampler key that no solver of the study reads is a mistake."""
    searched = config.search_sampler.get("solver")
    solvers = list(searched.choices) if searched else [config.sampler["solver"]]
    by_tolerance = [
        str(s) in SOLVERS and SOLVERS[str(s)].adaptive for s in solvers
    ]  # an unknown one is refused where it stands
    adaptive, fixed = any(by_tolerance), not all(by_tolerance)
    for keys, used, kind in ((("rtol", "atol"), adaptive, "adaptive"), (("steps", "grid"), fixed, "fixed-step")):
        for key in keys:
            for path in (("sampler", key), ("search", "sampler", key)):
                declared = source.section(*path[:-1]).get(key)
                if declared is not None and not used:
                    raise source.error(
                        path, f"belongs to {kind} solvers, this study uses {', '.join(map(str, solvers))}; remove {declared!r}"
                    )


def _check_owners(source: Source, config: StudyConfig) -> None:
    """Refuse a searched key without ``when`` that some of the searched processes do not have."""
    searched = config.search_train
    processes = [str(p) for p in searched["process"].choices if p in PROCESSES] if "process" in searched else []
    foreign = {process: _foreign(config, process) for process in processes}
    for key in sorted(searched, key=lambda key: searched[key].when is not None):  # parents first
        owners = [process for process in processes if key not in foreign[process]]
        others = [process for process in processes if key in foreign[process] and _reaches(searched, key, process)]
        if not others:
            continue
        if not owners:
            text = f"has no meaning under {' or '.join(processes)}, got {searched[key]}; remove it"
            raise source.error(("search", "train", key), text)
        when = f"`when: {{process: {owners[0] if len(owners) == 1 else '[' + ', '.join(owners) + ']'}}}`"
        text = f"belongs to process {' and '.join(owners)}, this study searches {', '.join(others)} too, got {searched[key]}"
        raise source.error(("search", "train", key), f"{text}; write {when} beside it, or remove it")


def _check_resources(source: Source, config: StudyConfig) -> None:
    """A bundle of fields has no compiled network."""
    resources = config.resources
    if resources.bundle != 1 and resources.compile:
        text = f"{resources.bundle!r} fields together have no compiled network; write compile: false, or bundle: 1"
        raise source.error(("resources", "bundle"), text)


def _foreign(config: StudyConfig, process: str) -> set[str]:
    """Keys of ``train`` that have no meaning under a process, whichever objective of the study it has."""
    searched = config.search_train.get("objective")
    told = searched.choices if searched else (config.train.get("objective"),)
    own = [str(objective) for objective in told if objective in objectives_of(process)]
    if not own:
        return foreign_train_keys(process) | {"objective"}
    return set.intersection(*(foreign_train_keys(process, objective) for objective in own))


def _reaches(searched: Mapping[str, Distribution], key: str, process: str) -> bool:
    """Return whether a searched key may be active under a process, by its ``when`` and those that this hangs on."""
    while (when := searched[key].when) is not None:
        if when[0] == "process":
            return process in when[1]
        key = when[0]
    return True


def _check_values(source: Source, config: StudyConfig, group: str) -> None:
    """The default point, and every value or end of every searched parameter, must make a valid configuration on these data."""
    searched = config.searched(group)
    try:
        default = config.default(group)
        _resolve(config, group, default)
    except ValueError as error:
        key, text = explain(error, source.section(group))
        raise source.error(_place(source, group, key), text) from None
    for key, distribution in searched.items():
        values = distribution.ends if distribution.kind == "choice" else [*distribution.ends, distribution.value(0.37)]
        for value in values:
            try:
                _resolve(config, group, config.group(group).moved(key, value))
            except ValueError as error:
                named, text = explain(error, {key: value})
                if "integer" in text and not distribution.integer:
                    kind = distribution.kind
                    text += "; write whole numbers" if kind == "choice" else f"; use {kind.replace('uniform', 'int_uniform')}"
                text = text if named in (key, "") else f"{named}: {text}"
                shown = "" if str(value) in text else f"at {value!r}: "
                raise source.error(("search", group, key), f"{shown}{text}") from None


def _resolve(config: StudyConfig, group: str, point: Mapping[str, Value]) -> None:
    if group == "train":
        config.resolved(point)
    else:
        train = config.resolved(config.default("train"))
        resolve_sampler(config.sampling(point), make_process(train, config.info))


def _check_defaults(source: Source, config: StudyConfig, group: str) -> None:
    """A searched parameter's default lies inside its range; `rule`, `all` and `same` count as the number they become."""
    for key, value in config.default(group).items():
        home = "network" if group == "train" and key in NETWORK_SEARCH else group
        distribution = config.searched(group)[key]
        number = value if distribution.kind == "choice" else number_of(config, group, key, value)
        if distribution.contains(value) or distribution.contains(number):
            continue
        shown = f"default {value!r}" if number is value else f"default {value!r} is {number:.6g} for these data, which"
        verb = "is" if number is value else "lies"
        if source.section(home).get(key) is not None:
            cure = "widen it, or move the default"
            raise source.error((home, key), f"{shown} {verb} outside the range {distribution} of search.{group}.{key}; {cure}")
        cure = f"widen it, or set {home}.{key} inside it"
        raise source.error(("search", group, key), f"{shown} {verb} outside the range {distribution}; {cure}")


def _place(source: Source, group: str, key: str) -> tuple[str, ...]:
    """Return where a key of a group is written: as a fixed value, else as a searched one, else its group."""
    for path in ((group, key), ("search", group, key)):
        if key in source.section(*path[:-1]):
            return path
    return (group, key) if key else (group,)
