"""search.yaml → `StudyConfig`: strict, complete, frozen; what makes sense only together is checked by `study.checks`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from pfgm.config import DataConfig, NetworkConfig, SamplerConfig, TrainConfig
from pfgm.data.dataset import Dataset, load_data
from pfgm.data.errors import DataError
from pfgm.kinds import Model, whole
from pfgm.mistakes import Mistake
from pfgm.registry import PROCESSES
from study.checks import check_study
from study.config.group import activate, active_keys
from study.config.keys import is_whole, refuse_unknown, searchable
from study.config.plugins import declared_plugins, folder_of, known_origins, load_plugins
from study.config.sections import (
    AnalysisConfig,
    DesignConfig,
    EvaluationConfig,
    LimitsConfig,
    PerturbConfig,
    ResourcesConfig,
    SeedsConfig,
)
from study.config.solver import continued, with_solver
from study.config.source import FieldConfig
from study.config.space import Distribution, SpaceError, parse
from study.config.study import StudyConfig, explain, quoted
from study.config.yaml_source import ConfigError, Source, read_source
from study.fields.given import read_given
from study.measure.trackers.names import declared_trackers
from study.plan.designs.design import grows
from study.plan.trial import Trial
from study.rows.storage import Place

__all__ = ["ConfigError", "StudyConfig", "activate", "load_study_config", "read_study"]

EXCLUSIVE = (("train", "M", "height_ratio"), ("sampler", "T", "T_ratio"))
SECTIONS = (
    "name", "storage", "plugins", "allow_extreme", "data", "field", "network", "train", "sampler", "evaluate", "perturb",
    "search", "design", "seeds", "resources", "limits", "retries", "trackers", "analysis",
)  # fmt: skip
M_ = TypeVar("M_", bound=Model)


def load_study_config(path: str | Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read, complete and check a study file against its data; ``overrides`` are ``key.path=value`` texts.

    Raises:
        ConfigError: one line with file, line, key, value and what to type instead.
    """
    return load_source(read_source(Path(path), tuple(overrides))).config


class Planned(NamedTuple):
    """A study that is complete and checked, and its plan: none of it is planned again."""

    config: StudyConfig
    trials: list[Trial]


def load_source(source: Source) -> Planned:
    """Complete, check and plan a study file that has been read.

    Raises:
        ConfigError: as `load_study_config`.
    """
    load_plugins(source)
    declared = read_study(source)
    solver = continued(source, declared.search_sampler, declared.folder)
    data = _data(source, declared.data)
    config = replace(declared, sampler={**declared.sampler, **solver}, info=data.info, data_notes=data.notes)
    config = replace(config, origins=known_origins(folder_of(source)))
    if config.field is not None:
        config = _with_given_field(source, config, config.field)
    return Planned(config, check_study(source, config))


def read_study(source: Source) -> StudyConfig:
    """A study as declared: every section checked by itself, the data not yet read.

    Raises:
        ConfigError: as `load_study_config`.
    """
    values = source.values
    refuse_unknown(source, (), values, SECTIONS)
    search = source.section("search")
    refuse_unknown(source, ("search",), search, ("train", "sampler"))
    search_train = _distributions(source, "train")
    search_sampler = _distributions(source, "sampler")
    allow_extreme = values.get("allow_extreme", False)
    if not isinstance(allow_extreme, bool):
        raise source.error(("allow_extreme",), f"must be true or false, got {allow_extreme!r}")
    return StudyConfig(
        name=_name(source),
        storage=_storage(source),
        data=_data_section(source),
        network=_model(source, "network", NetworkConfig),
        train=_declared(source, "train", TrainConfig, _train_variants(source, search_train)),
        sampler=with_solver(_declared(source, "sampler", SamplerConfig, [source.section("sampler")]), search_sampler),
        evaluate=_model(source, "evaluate", EvaluationConfig),
        search_train=search_train,
        search_sampler=search_sampler,
        design=_model(source, "design", DesignConfig),
        seeds=_model(source, "seeds", SeedsConfig),
        resources=_model(source, "resources", ResourcesConfig),
        limits=_model(source, "limits", LimitsConfig),
        analysis=_model(source, "analysis", AnalysisConfig),
        perturb=_model(source, "perturb", PerturbConfig),
        retries=_retries(source),
        plugins=declared_plugins(source),
        trackers=declared_trackers(source, _storage(source)),
        allow_extreme=allow_extreme,
        field=_field(source),
    )


NOTHING_TRAINED = (
    ("network",), ("train",), ("search", "train"), ("seeds", "train"), ("seeds", "disjoint"), ("design", "trials"),
    ("design", "arm_seeds"), ("evaluate", "at_steps"),
)  # fmt: skip
"""What has no meaning where the field is given."""


def _field(source: Source) -> FieldConfig | None:
    if source.values.get("field") is None:
        return None
    for path in NOTHING_TRAINED:
        value = source.section(*path[:-1]).get(path[-1]) if path[:-1] else source.values.get(path[-1])
        counts_points = path == ("design", "trials") and grows(source.section("design").get("name"))
        if value and not counts_points:
            told = "exact" if "exact" in source.section("field") else "checkpoint"
            text = f"the field is given by field.{told} and nothing is trained; remove this, or remove field"
            raise source.error(path, text)
    return _model(source, "field", FieldConfig)


def _with_given_field(source: Source, config: StudyConfig, field: FieldConfig) -> StudyConfig:
    try:
        given, seed = read_given(field, config.info)
    except Mistake as error:
        raise source.error(error.path, error.text) from None
    assert given.train is not None
    train = {"process": given.train.process}
    seeds = config.seeds.model_copy(update={"train": [seed]})
    return replace(config, field_source=given, network=given.network or config.network, train=train, seeds=seeds)


def _name(source: Source) -> str:
    if "name" not in source.values:
        raise source.error(("name",), "missing; every study has one, such as `name: my-study`")
    name = source.values["name"]
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise source.error(
            ("name",), f"must be a word of letters, digits, dots, dashes and underscores, got {name!r}{quoted(name)}"
        )
    if name in ("fields", "references"):
        raise source.error(("name",), f"'{name}' is a folder of the storage that every study uses; choose another name")
    return name


def _data_section(source: Source) -> DataConfig:
    """The data are the study's subject: they have no default."""
    examples = "`data: {name: digits}`, or `data: {name: images, path: my_pictures, size: 32}`"
    if source.values.get("data") is None:
        raise source.error(("data",), f"missing; say what is studied, such as {examples}")
    section = source.section("data")
    refuse_unknown(source, ("data",), section, list(DataConfig.model_fields))
    if section.get("name") is None:
        raise source.error(("data",), f"name is missing; say which data set, such as {examples}")
    return _model(source, "data", DataConfig)


def _storage(source: Source) -> str:
    storage = source.values.get("storage", "results")
    if not isinstance(storage, str) or not storage:
        raise source.error(
            ("storage",), f"must be a directory such as `results`, or s3://bucket/prefix, got {storage!r}{quoted(storage)}"
        )
    try:
        Place.of(storage)
    except ValueError as error:
        shown = "" if "credentials" in str(error) else f", got {storage!r}"
        raise source.error(("storage",), f"{error}{shown}") from None
    return storage


def _retries(source: Source) -> int:
    retries = whole(source.values.get("retries", 2))
    if isinstance(retries, bool) or not isinstance(retries, int) or not 0 <= retries <= 100:
        raise source.error(("retries",), f"must be an integer from 0 to 100, got {retries!r}")
    return retries


def _model(source: Source, name: str, model: type[M_], section: Mapping[str, Any] | None = None) -> M_:
    """A section of the file, or a part of it, as a model."""
    section = source.section(name) if section is None else section
    refuse_unknown(source, (name,), section, list(model.model_fields))
    try:
        return model.model_validate(section)
    except ValidationError as error:
        key, text = explain(error, section)
        raise source.error((name, key) if key else (name,), text) from None


def _train_variants(source: Source, searched: Mapping[str, Distribution]) -> list[dict[str, Any]]:
    """The fixed keys of ``train`` that have a meaning, for every process and objective of the study.

    Raises:
        ConfigError: a key that has none under any of them.
    """
    section = source.section("train")
    found = {key: searched[key] for key in ("process", "objective") if key in searched and searched[key].choices}
    if not found:
        return [dict(section)]
    choices = [[(key, value) for value in d.choices] for key, d in found.items()]
    points = [dict(pairs) for pairs in itertools.product(*choices)]
    points = [point for point in points if point.get("process", "pfgm") in PROCESSES]  # others are refused where they stand
    variants = [active_keys({**section, **point}, searched, {}) for point in points]
    for key in section:
        if not any(key in variant for variant in variants):
            told = " or ".join(str(v) for d in found.values() for v in d.choices)
            raise source.error(("train", key), f"has no meaning under {told}; remove {section[key]!r}")
    return variants


def _declared(source: Source, group: str, model: type[Model], variants: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The keys given under ``train`` or ``sampler``, each variant of them checked as one fixed configuration."""
    for key, value in source.section(group).items():
        if isinstance(value, list | dict):
            raise source.error((group, key), f"must be one value, got {value!r}; several go under search.{group}.{key}")
    for variant in variants:
        _model(source, group, model, variant)
    given = {key: value for key, value in source.section(group).items() if value is not None}
    return {key: whole(value) if is_whole(key) else value for key, value in given.items()}


def _data(source: Source, data: DataConfig) -> Dataset:
    try:
        return load_data(data)
    except DataError as error:
        got = "".join(f" (got {getattr(data, key)!r})" for key in error.path[1:])  # none, where the points are the matter
        raise source.error(error.path, error.text + got) from None


def _distributions(source: Source, group: str) -> dict[str, Distribution]:
    section = source.section("search", group)
    refuse_unknown(source, ("search", group), section, searchable()[f"search.{group}"])
    out: dict[str, Distribution] = {}
    for key in sorted(section):
        try:
            out[key] = parse(section[key], is_whole(key))
        except SpaceError as error:
            raise source.error(("search", group, key, *([error.key] if error.key else [])), str(error)) from None
    for key, distribution in out.items():
        _check_when(source, ("search", group, key, "when"), key, distribution, out)
    for g, a, b in EXCLUSIVE:
        if g == group and a in out and b in out:
            raise source.error(
                ("search", group, b), f"{a} and {b} set the same thing, got {out[a]} and {out[b]}; search one of them"
            )
    return out


def _check_when(
    source: Source, path: tuple[str, ...], key: str, distribution: Distribution, searched: Mapping[str, Distribution]
) -> None:
    if distribution.when is None:
        return
    parent, values = distribution.when
    if parent == key or _ancestor(key, parent, searched):
        raise source.error(path, f"{key} depends on itself through {parent}; remove one `when`")
    if parent not in searched:
        raise source.error(path, f"parent {parent!r} is not searched; search it in the same group, or remove `when`")
    for value in values:
        if not searched[parent].contains(value):
            raise source.error(path, f"{parent} is never {value!r}; use a value of its search, {searched[parent]}")


def _ancestor(key: str, of: str, searched: Mapping[str, Distribution]) -> bool:
    seen: set[str] = set()
    while of not in seen and of in searched and (when := searched[of].when) is not None:
        seen.add(of)
        of = when[0]
        if of == key:
            return True
    return False
