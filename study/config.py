"""search.yaml → `StudyConfig`: strict, complete, frozen.

A key under ``train`` or ``sampler`` is its fixed value; when it is also searched, the fixed value is its *default*, and must
lie inside its range. A searched parameter whose ``when`` does not hold at a point is absent there.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import Field, StrictBool, ValidationError

from pfgm.config import (
    ADAPTIVE_SOLVERS,
    DataConfig,
    EvaluateConfig,
    Model,
    NetworkConfig,
    Positive,
    PositiveInt,
    SamplerConfig,
    TrainConfig,
)
from pfgm.data import DataError, DataInfo, load_data
from pfgm.metrics.features import default_features
from pfgm.process import Process, resolve_sampler, resolve_train
from study.space import Distribution, SpaceError, Value, parse, same
from study.yaml_source import ConfigError, Source, read_source

__all__ = ["ConfigError", "StudyConfig", "load_study_config"]

Seeds = PositiveInt | Annotated[list[Annotated[int, Field(ge=0, strict=True)]], Field(min_length=1)]
DESIGNS = ("one_at_a_time", "sobol", "grid", "random", "tpe")
IMPLIED_DEFAULTS: dict[str, Value] = {"height_ratio": 1.0, "T_ratio": 1.0}
"""Defaults of searched parameters that have none of their own: the rule itself."""
EXCLUSIVE = (("train", "M", "height_ratio"), ("sampler", "T", "T_ratio"))
OPTIMIZABLE = ("fid", "nfe", "sliced_wasserstein")


class DesignConfig(Model):
    """Which points of the search space are measured."""

    name: Literal[DESIGNS] = "one_at_a_time"  # type: ignore[valid-type]
    trials: PositiveInt | None = None
    """Training points of sobol, random and tpe, the default included (default 32)."""
    sampler_points: PositiveInt | None = None
    """Sampler points of sobol and random, the default included (default 8)."""
    seed: Annotated[int, Field(ge=0, strict=True)] = 0
    arm_seeds: PositiveInt | None = None
    """one_at_a_time: train seeds of each arm (default: as many as the default point)."""
    optimize: dict[Literal[OPTIMIZABLE], Literal["minimize", "maximize"]] | None = None  # type: ignore[valid-type]
    """tpe: metrics and directions (default {fid: minimize})."""


class SeedsConfig(Model):
    """How often everything is repeated: a number k means seeds 0 … k − 1, a list names them."""

    train: Seeds = 1
    sample: Seeds = 1
    disjoint: StrictBool = False
    """Give training point i the train seeds shifted by i·k: for null controls, whose points must not share seeds."""

    @property
    def train_seeds(self) -> list[int]:
        return list(range(self.train)) if isinstance(self.train, int) else list(self.train)

    @property
    def sample_seeds(self) -> list[int]:
        return list(range(self.sample)) if isinstance(self.sample, int) else list(self.sample)


class ResourcesConfig(Model):
    """What one trial takes, and how many run at once."""

    cpus: PositiveInt = 1
    gpus: Annotated[float, Field(ge=0, strict=True)] | Literal["auto"] = "auto"
    """GPUs a trial, fractions allowed; auto: one each where CUDA is present, else none."""
    concurrent: PositiveInt | Literal["auto"] = "auto"
    """Trials at once; auto: as many as the machine has room for."""


class AnalysisConfig(Model):
    """What the report rates by."""

    tolerance: Positive = 0.10
    """Change of a metric, relative to the default's, that still counts as robust."""


@dataclass(frozen=True)
class StudyConfig:
    """A whole study. ``train`` and ``sampler`` hold the keys as declared; points are made by `training` and `sampling`."""

    name: str
    storage: str
    data: DataConfig
    network: NetworkConfig
    train: Mapping[str, Any]
    sampler: Mapping[str, Any]
    evaluate: EvaluateConfig
    search_train: Mapping[str, Distribution]
    search_sampler: Mapping[str, Distribution]
    design: DesignConfig
    seeds: SeedsConfig
    resources: ResourcesConfig
    analysis: AnalysisConfig
    allow_extreme: bool = False
    info: DataInfo = field(repr=False, compare=False, default=None)  # type: ignore[assignment]

    @property
    def folder(self) -> Path:
        return Path(self.storage) / self.name

    def training(self, point: Mapping[str, Value]) -> TrainConfig:
        """The declared training configuration of a point: fixed keys, the point's own, inactive searched ones absent."""
        return TrainConfig.model_validate(_merge(self.train, self.search_train, point))

    def sampling(self, point: Mapping[str, Value]) -> SamplerConfig:
        """The declared sampler configuration of a point."""
        return SamplerConfig.model_validate(_merge(self.sampler, self.search_sampler, point))

    def default(self, group: str) -> dict[str, Value]:
        """The default point of ``train`` or ``sampler``: the declared value of every searched parameter active there."""
        searched = self.search_train if group == "train" else self.search_sampler
        return activate(searched, {key: self.default_value(group, key) for key in searched})

    def default_value(self, group: str, key: str) -> Value:
        """Declared default of one searched parameter: fixed value, else the model's own."""
        declared, model = (self.train, TrainConfig) if group == "train" else (self.sampler, SamplerConfig)
        if declared.get(key) is not None:
            value: Value = declared[key]
            return value
        if key in IMPLIED_DEFAULTS:
            return IMPLIED_DEFAULTS[key]
        searched = self.search_train if group == "train" else self.search_sampler
        when = searched[key].when
        parent = {} if when is None else {when[0]: when[1][0]}
        base = {k: v for k, v in declared.items() if k not in searched}
        filled: Value = getattr(model.model_validate({**base, **parent}), key)
        return filled

    def dump(self) -> dict[str, Any]:
        """The complete study file as plain values; `load_study_config` reads it back to an equal study."""
        return {
            "name": self.name,
            "storage": self.storage,
            "allow_extreme": self.allow_extreme,
            "data": self.data.model_dump(),
            "network": self.network.model_dump(),
            "train": self._complete("train"),
            "sampler": self._complete("sampler"),
            "evaluate": {**self.evaluate.model_dump(), "metrics": list(self.evaluate.metrics)},
            "search": {
                "train": {key: d.dump() for key, d in self.search_train.items()},
                "sampler": {key: d.dump() for key, d in self.search_sampler.items()},
            },
            "design": self.design.model_dump(),
            "seeds": self.seeds.model_dump(),
            "resources": self.resources.model_dump(),
            "analysis": self.analysis.model_dump(),
        }

    def _complete(self, group: str) -> dict[str, Any]:
        """Declared keys with every default filled in, unless the search decides which keys there are."""
        declared = dict(self.train if group == "train" else self.sampler)
        searched = self.search_train if group == "train" else self.search_sampler
        if any(key in searched for key in ("process", "objective", "solver")):
            return declared
        model = self.training(self.default(group)) if group == "train" else self.sampling(self.default(group))
        return {**{key: value for key, value in model.model_dump().items() if value is not None}, **declared}

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.dump(), sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)


def _merge(fixed: Mapping[str, Any], searched: Mapping[str, Distribution], point: Mapping[str, Value]) -> dict[str, Any]:
    return {**{key: value for key, value in fixed.items() if key not in searched}, **point}


def activate(searched: Mapping[str, Distribution], values: Mapping[str, Value]) -> dict[str, Value]:
    """The part of ``values`` whose conditions hold, parents before children."""
    active: dict[str, Value] = {}
    waiting = dict(values)
    while waiting:
        ready = [k for k in waiting if searched[k].when is None or searched[k].when[0] not in waiting]  # type: ignore[index]
        for key in ready:
            when, value = searched[key].when, waiting.pop(key)
            if when is None or (when[0] in active and any(same(active[when[0]], v) for v in when[1])):
                active[key] = value
    return {key: active[key] for key in sorted(active)}


SECTIONS = (
    "name", "storage", "allow_extreme", "data", "network", "train", "sampler", "evaluate", "search", "design", "seeds",
    "resources", "analysis",
)  # fmt: skip
M_ = TypeVar("M_", bound=Model)


def load_study_config(path: str | Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read, complete and check a study file against its data; ``overrides`` are ``key.path=value`` texts.

    Raises:
        ConfigError: one line with file, line, key, value and what to type instead.
    """
    source = read_source(Path(path), tuple(overrides))
    values = source.values
    _known(source, (), values, SECTIONS)
    if "name" not in values:
        raise source.error((), "name: missing; every study has one, such as `name: my-study`")
    name, storage = values["name"], values.get("storage", "results")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise source.error(("name",), f"must be letters, digits, dots, dashes and underscores, got {name!r}")
    if name == "fields":
        raise source.error(("name",), "'fields' is the folder of trained fields; choose another name")
    if not isinstance(storage, str) or not storage:
        raise source.error(("storage",), f"must be a directory, got {storage!r}")
    if "://" in storage:
        raise source.error(("storage",), f"must be a local or shared directory, got {storage!r}")
    allow_extreme = values.get("allow_extreme", False)
    if not isinstance(allow_extreme, bool):
        raise source.error(("allow_extreme",), f"must be true or false, got {allow_extreme!r}")
    search = _section(source, "search")
    _known(source, ("search",), search, ("train", "sampler"))
    search_train, search_sampler = (
        _distributions(source, "train", TrainConfig),
        _distributions(source, "sampler", SamplerConfig),
    )
    data = _model(source, "data", DataConfig)
    config = StudyConfig(
        name=name,
        storage=storage,
        data=data,
        network=_model(source, "network", NetworkConfig),
        train=_declared(source, "train", TrainConfig, search_train),
        sampler=_declared(source, "sampler", SamplerConfig, search_sampler),
        evaluate=_model(source, "evaluate", EvaluateConfig),
        search_train=search_train,
        search_sampler=search_sampler,
        design=_model(source, "design", DesignConfig),
        seeds=_model(source, "seeds", SeedsConfig),
        resources=_model(source, "resources", ResourcesConfig),
        analysis=_model(source, "analysis", AnalysisConfig),
        allow_extreme=allow_extreme,
        info=_data_info(source, data),
    )
    _check_design(source, config)
    _check_solver_keys(source, config)
    _check_defaults(source, config)
    _check_data(source, config)
    return config


def _section(source: Source, *path: str) -> dict[str, Any]:
    section: object = source.values
    for part in path:
        section = section.get(part) if isinstance(section, dict) else None
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise source.error(path, f"must be a section of keys, got {section!r}")
    return section


def _known(source: Source, path: tuple[str, ...], section: Mapping[str, object], known: Sequence[str]) -> None:
    for key, value in section.items():
        if key not in known:
            raise source.error((*path, key), f"unknown key (value {value!r}); {_suggest(key, known)}")


def _suggest(key: str, known: Sequence[str]) -> str:
    lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(key.lower(), list(lower), n=1, cutoff=0.5)
    return f"did you mean `{lower[near[0]]}`?" if near else f"use one of {', '.join(known)}"


def _model(source: Source, name: str, model: type[M_]) -> M_:
    return _validate(source, (name,), model, _section(source, name))


def _validate(source: Source, path: tuple[str, ...], model: type[M_], section: Mapping[str, Any]) -> M_:
    _known(source, path, section, list(model.model_fields))
    try:
        return model.model_validate(dict(section))
    except ValidationError as error:
        raise _translate(source, path, model, error) from None


def _translate(source: Source, path: tuple[str, ...], model: type[Model], error: ValidationError) -> ConfigError:
    """The first of pydantic's errors, at its key, in words that name the value."""
    errors = error.errors(include_url=False)
    key = errors[0]["loc"][:1]
    message = "; or ".join(dict.fromkeys(_words(e["msg"]) for e in errors if e["loc"][:1] == key))
    if not key:
        named, colon, rest = message.partition(": ")
        if colon and named in model.model_fields:
            return source.error((*path, named), rest)
        return source.error(path, message)
    value = errors[0]["input"]
    if key[0] in source_keys(source, path) and len(errors[0]["loc"]) > 1:
        value = source_keys(source, path)[str(key[0])]
    return source.error((*path, str(key[0])), f"{message}, got {value!r}")


def source_keys(source: Source, path: tuple[str, ...]) -> dict[str, Any]:
    """The declared keys of a section."""
    return _section(source, *path)


def _words(message: str) -> str:
    message = message.removeprefix("Value error, ").replace("Input should be", "must be")
    return message[0].lower() + message[1:] if message[:4] == "Must" else message


def _distributions(source: Source, group: str, model: type[Model]) -> dict[str, Distribution]:
    section = _section(source, "search", group)
    _known(source, ("search", group), section, [k for k in model.model_fields if k != "force"])
    out: dict[str, Distribution] = {}
    for key in sorted(section):
        try:
            out[key] = parse(section[key])
        except SpaceError as error:
            raise source.error(("search", group, key, *([error.key] if error.key else [])), str(error)) from None
    for key, distribution in out.items():
        _check_when(source, ("search", group, key, "when"), key, distribution, out)
    for g, a, b in EXCLUSIVE:
        if g == group and a in out and b in out:
            raise source.error(("search", group, b), f"{a} and {b} set the same thing; search one of them")
    return out


def _check_when(
    source: Source, path: tuple[str, ...], key: str, distribution: Distribution, searched: Mapping[str, Distribution]
) -> None:
    if distribution.when is None:
        return
    parent, values = distribution.when
    if parent not in searched:
        hint = f"search {parent} in the same group" if parent != key else "a parameter cannot be its own parent"
        raise source.error(path, f"parent {parent} is not searched; {hint}, or remove `when`")
    if parent == key or _ancestor(key, parent, searched):
        raise source.error(path, f"{key} and {parent} depend on each other; remove one `when`")
    for value in values:
        if not searched[parent].contains(value):
            raise source.error(path, f"{parent} is never {value!r}; it is searched over {searched[parent]}")


def _ancestor(key: str, of: str, searched: Mapping[str, Distribution]) -> bool:
    seen: set[str] = set()
    while of not in seen and of in searched and searched[of].when is not None:
        seen.add(of)
        of = searched[of].when[0]  # type: ignore[index]
        if of == key:
            return True
    return False


def _declared(source: Source, group: str, model: type[M_], searched: Mapping[str, Distribution]) -> dict[str, Any]:
    """The group's fixed keys, checked alone: types first, then together at the values the search leaves fixed."""
    section = _section(source, group)
    _known(source, (group,), section, list(model.model_fields))
    _validate(source, (group,), model, section)
    return {key: value for key, value in section.items() if value is not None}


def _data_info(source: Source, data: DataConfig) -> DataInfo:
    try:
        return load_data(data).info
    except DataError as error:
        key, _, rest = str(error).partition(": ")
        raise source.error(tuple(key.split(".")), f"{rest} (got {getattr(data, key.split('.')[-1], None)!r})") from None


def _check_design(source: Source, config: StudyConfig) -> None:
    design = config.design
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
    n_seeds = len(config.seeds.train_seeds)
    if design.arm_seeds is not None and design.arm_seeds > n_seeds:
        raise source.error(("design", "arm_seeds"), f"must be at most seeds.train = {n_seeds}, got {design.arm_seeds}")
    for key in ("train_seeds", "sample_seeds"):
        seeds = getattr(config.seeds, key)
        if len(set(seeds)) != len(seeds):
            raise source.error(("seeds", key[:-6]), f"names a seed twice: {seeds}")
    if config.seeds.disjoint and not isinstance(config.seeds.train, int):
        raise source.error(("seeds", "disjoint"), f"needs a number of train seeds, got the list {config.seeds.train}")
    if design.name == "tpe":
        if not (config.search_train or config.search_sampler):
            raise source.error(("design", "name"), "tpe needs something to search; add a parameter under `search`")
        wanted = design.optimize or {"fid": "minimize"}
        for metric in wanted:
            if metric != "nfe" and metric not in config.evaluate.metrics:
                raise source.error(("design", "optimize"), f"{metric} is not measured; add it to evaluate.metrics")


def _check_solver_keys(source: Source, config: StudyConfig) -> None:
    """A fixed sampler key that no solver of the study reads is a mistake."""
    searched = config.search_sampler.get("solver")
    solvers = list(searched.choices) if searched else [config.sampling(config.default("sampler")).solver]
    adaptive = any(s in ADAPTIVE_SOLVERS for s in solvers)
    fixed = any(s not in ADAPTIVE_SOLVERS for s in solvers)
    for keys, used, kind in ((("rtol", "atol"), adaptive, "adaptive"), (("steps", "grid"), fixed, "fixed-step")):
        for key in keys:
            for path in (("sampler", key), ("search", "sampler", key)):
                declared = _section(source, *path[:-1]).get(key)
                if declared is not None and not used:
                    raise source.error(
                        path, f"belongs to {kind} solvers, this study uses {', '.join(map(str, solvers))}; remove {declared!r}"
                    )


def _check_defaults(source: Source, config: StudyConfig) -> None:
    for group, searched in (("train", config.search_train), ("sampler", config.search_sampler)):
        for key, value in config.default(group).items():
            if value in ("rule", "all", "same"):
                if not searched[key].contains(value):
                    _check_resolved_default(source, config, group, key)
            elif not searched[key].contains(value):
                place = (group, key) if config.train.get(key, config.sampler.get(key)) is not None else ("search", group, key)
                raise source.error(
                    place,
                    f"default {value!r} is outside the range {searched[key]} of search.{group}.{key}; widen it or move it",
                )


def _check_resolved_default(source: Source, config: StudyConfig, group: str, key: str) -> None:
    distribution = (config.search_train if group == "train" else config.search_sampler)[key]
    try:
        train = resolve_train(config.training(config.default("train")), config.info)
    except ValueError as error:
        raise _point_error(source, error, "train") from None
    number: object = getattr(train, key) if group == "train" else Process(train, config.info).rule_T
    if group == "sampler" and key == "atol":
        number = config.sampling(config.default("sampler")).rtol
    if not distribution.contains(number):
        declared = config.default_value(group, key)
        raise source.error(
            ("search", group, key),
            f"default `{declared}` is {number:g} for these data, outside the range {distribution}; widen it",
        )


def _point_error(source: Source, error: Exception, group: str) -> ConfigError:
    key, _, rest = str(error).partition(": ")
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        key, _, rest = _words(first["msg"]).partition(": ")
        if first["loc"]:
            key, rest = str(first["loc"][0]), f"{_words(first['msg'])}, got {first['input']!r}"
    for path in ((group, key), ("search", group, key)):
        if key in _section(source, *path[:-1]):
            return source.error(path, rest)
    return source.error((group,), f"{key}: {rest}" if rest else key)


def _check_data(source: Source, config: StudyConfig) -> None:
    """Every value of every searched choice must make a valid configuration on these data."""
    features = config.evaluate.features or default_features(config.data.name)
    if features == "digits" and config.info.dim != 64:
        raise source.error(
            ("evaluate", "features"), f"digits needs 8 × 8 images, the data have d = {config.info.dim}; use pixels"
        )
    if config.network.name == "unet":
        factor = 2 ** (config.network.depth - 1)
        shape = config.info.shape
        if len(shape) != 3 or shape[1] % factor or shape[2] % factor:
            raise source.error(
                ("network", "name"), f"unet of depth {config.network.depth} cannot take items of shape {shape}; use mlp"
            )
    for group in ("train", "sampler"):
        searched = config.search_train if group == "train" else config.search_sampler
        for point in [config.default(group), *_end_points(config, group, searched)]:
            try:
                if group == "train":
                    resolve_train(config.training(point), config.info)
                else:
                    train = resolve_train(config.training(config.default("train")), config.info)
                    resolve_sampler(config.sampling(point), Process(train, config.info))
            except (ValueError, ValidationError) as error:
                raise _point_error(source, error, group) from None


def _end_points(config: StudyConfig, group: str, searched: Mapping[str, Distribution]) -> list[dict[str, Value]]:
    """The default with one parameter moved to each of its values or ends, its own conditions met."""
    points = []
    for key, distribution in searched.items():
        for value in distribution.grid() if distribution.kind == "choice" else (distribution.value(0), distribution.high):
            points.append(moved(config, group, key, value))
    return points


def moved(config: StudyConfig, group: str, key: str, value: Value) -> dict[str, Value]:
    """The default point of a group with ``key`` at ``value``; its parents are set so that it is active."""
    searched = config.search_train if group == "train" else config.search_sampler
    values = {k: config.default_value(group, k) for k in searched} | {key: value}
    child = key
    while (when := searched[child].when) is not None:
        parent, allowed = when
        if not any(same(values[parent], v) for v in allowed):
            values[parent] = allowed[0]
        child = parent
    return activate(searched, values)
