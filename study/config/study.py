"""What a study file says: `StudyConfig`, which makes the configuration of any point of the search space.

A key under ``train`` or ``sampler`` is its fixed value; when it is also searched, the fixed value is its *default*. A searched
parameter whose ``when`` does not hold at a point is absent there. `study.load` reads the file into these and checks it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from pfgm.config import DataConfig, NetworkConfig, SamplerConfig, TrainConfig
from pfgm.data.dataset import DataInfo
from pfgm.mistakes import Mistake, raised
from pfgm.networks.build import check_network
from pfgm.process.resolve import resolve_train
from pfgm.registry import KINDS
from study.config.group import NETWORK_SEARCH, Group, network_part
from study.config.plugins import Origin
from study.config.sections import (
    AnalysisConfig,
    DesignConfig,
    EvaluationConfig,
    LimitsConfig,
    PerturbConfig,
    ResourcesConfig,
    SeedsConfig,
)
from study.config.source import FieldConfig, FieldSource
from study.config.space import Distribution, Value
from study.config.yaml_source import to_yaml
from study.rows.storage import Place


@dataclass(frozen=True)
class StudyConfig:
    """A whole study. ``train`` and ``sampler`` hold the keys as declared; points are made by `training` and `sampling`."""

    name: str
    storage: str
    data: DataConfig
    network: NetworkConfig
    train: Mapping[str, Any]
    sampler: Mapping[str, Any]
    evaluate: EvaluationConfig
    search_train: Mapping[str, Distribution]
    search_sampler: Mapping[str, Distribution]
    design: DesignConfig
    seeds: SeedsConfig
    resources: ResourcesConfig
    limits: LimitsConfig
    analysis: AnalysisConfig
    perturb: PerturbConfig
    retries: int = 2
    """How often a trial whose process died (killed, lost with its node) is started again."""
    plugins: tuple[str, ...] = ()
    """Modules that register parts of one's own."""
    trackers: tuple[str, ...] | None = None
    """Where curves and metrics are kept too; None: in TensorBoard's files where it is installed and the storage is local."""
    allow_extreme: bool = False
    field: FieldConfig | None = None
    """A field that is given: nothing is trained."""
    field_source: FieldSource = dataclasses.field(repr=False, compare=False, default_factory=FieldSource)
    """Where the fields come from."""
    info: DataInfo = dataclasses.field(repr=False, compare=False, default=None)  # type: ignore[assignment]
    origins: Mapping[str, Origin] = dataclasses.field(repr=False, compare=False, default_factory=dict)
    """By its name, what is known of every module outside this package that registered a part."""
    data_notes: tuple[str, ...] = dataclasses.field(repr=False, compare=False, default=())
    """What the plan says of the data, a sentence each."""

    @property
    def place(self) -> Place:
        """The storage: the studies' folders, and the store of fields."""
        return Place.of(self.storage)

    @property
    def folder(self) -> Place:
        return self.place / self.name

    @property
    def untruncated_metrics(self) -> list[str]:
        """Metrics of the study that are of the whole prior, where its samples start from a truncated one."""
        truncated = "max_radius_ratio" in self.search_sampler or self.sampler.get("max_radius_ratio") is not None
        return [name for name in ("likelihood", "prior_error") if truncated and name in self.evaluate.metrics]

    @cached_property
    def train_group(self) -> Group[TrainConfig]:
        """The keys of ``train``; the network's size may be searched among them."""
        sizes = {key: getattr(self.network, key) for key in NETWORK_SEARCH}
        return Group("train", self.train, self.search_train, TrainConfig, sizes)

    @cached_property
    def sampler_group(self) -> Group[SamplerConfig]:
        """The keys of ``sampler``."""
        return Group("sampler", self.sampler, self.search_sampler, SamplerConfig, {})

    def group(self, name: str) -> Group[TrainConfig] | Group[SamplerConfig]:
        """Return the keys of ``train`` or ``sampler``."""
        return self.train_group if name == "train" else self.sampler_group

    def searched(self, group: str) -> Mapping[str, Distribution]:
        """Return the searched parameters of ``train`` or ``sampler``."""
        return self.group(group).searched

    def default(self, group: str) -> dict[str, Value]:
        """Return the default point of ``train`` or ``sampler``."""
        return self.group(group).default()

    def training(self, point: Mapping[str, Value]) -> TrainConfig:
        """The declared training configuration of a point: fixed keys, the point's own, inactive searched ones absent."""
        if self.field_source.train is not None:
            return self.field_source.train
        return self.train_group.make(point)

    def network_at(self, point: Mapping[str, Value]) -> NetworkConfig | None:
        """The network of a training point; None where the field is known exactly."""
        if self.field_source.train is not None:
            return self.field_source.network
        own = network_part(point)
        if not self.network.skip and point.get("process", self.train.get("process", "pfgm")) != "pfgm":
            own |= {"skip": True, "root_below": None}  # the one head of these processes
        if not own:
            return self.network
        return NetworkConfig.model_validate({**self.network.model_dump(exclude_none=True), **own})

    def resolved(self, point: Mapping[str, Value]) -> TrainConfig:
        """The training configuration of a point with every number filled in; ValueError where that is impossible."""
        if self.field_source.train is not None:
            return self.field_source.train
        if network_part(point):
            network = self.network_at(point)
            assert network is not None
            train = self.training(point)
            check_network(network, self.info.shape, train.process, train.conditional)
        return resolve_train(self.training(point), self.info)

    def sampling(self, point: Mapping[str, Value]) -> SamplerConfig:
        """The declared sampler configuration of a point."""
        return self.sampler_group.make(point)

    def dump(self) -> dict[str, Any]:
        """The complete study file as plain values; `load_study_config` reads it back to an equal study."""
        whole = {
            "name": self.name,
            "storage": self.storage,
            **({"plugins": list(self.plugins)} if self.plugins else {}),
            **({"trackers": list(self.trackers)} if self.trackers is not None else {}),
            "allow_extreme": self.allow_extreme,
            "retries": self.retries,
            "data": self.data.model_dump(),
            **self._dump_training(),
            "sampler": self.sampler_group.complete(),
            "evaluate": {**self.evaluate.model_dump(), "metrics": list(self.evaluate.metrics)},
            "perturb": self.perturb.model_dump(mode="json"),
            "design": self.design.model_dump(),
            "seeds": self.seeds.model_dump(include={"sample"} if self.field is not None else None),
            "resources": self.resources.model_dump(),
            "limits": self.limits.model_dump(),
            "analysis": self.analysis.model_dump(),
        }
        whole["search"]["sampler"] = {key: d.dump() for key, d in self.search_sampler.items()}
        return whole

    def _dump_training(self) -> dict[str, Any]:
        """Return what is trained, or the field that is given in its place."""
        if self.field is not None:
            return {"field": self.field.model_dump(), "search": {}}
        search = {"train": {key: d.dump() for key, d in self.search_train.items()}}
        return {"network": self.network.stored("json"), "train": self.train_group.complete(), "search": search}

    def to_yaml(self) -> str:
        """The text of `dump`."""
        return to_yaml(self.dump())


def used_origins(config: StudyConfig) -> list[Origin]:
    """Return what is known of the modules whose parts a study names, metrics too."""
    named, waiting = set[str](), list[object]([config.dump(), config.default("sampler"), config.train])
    for value in waiting:
        waiting += [*value.values()] if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else []
        named |= {value} if isinstance(value, str) else set()
    homes = {home for kind in KINDS.values() for name in kind if name in named and (home := kind.home(name))}
    return [config.origins[home] for home in sorted(homes & config.origins.keys())]


def explain(error: ValueError, declared: Mapping[str, object]) -> tuple[str, str]:
    """(key at fault or "", what is wrong) of a configuration that was refused, in words that name the value."""
    if isinstance(error, ValidationError):
        errors = error.errors(include_url=False)
        at = errors[0]["loc"][:1]
        if at:
            message = "; or ".join(dict.fromkeys(_words(raised(e)) for e in errors if e["loc"][:1] == at))
            got = f", got {declared.get(str(at[0]), errors[0]['input'])!r}"
            cure = quoted(errors[0]["input"]) if errors[0]["type"] == "string_type" else ""
            return str(at[0]), (message if ", got " in message else message + got) + cure
        error = raised(errors[0])
    if not isinstance(error, Mistake) or len(error.path) > 1:
        return "", _words(error)
    (key,), text = error.path, error.text
    value = declared.get(key)
    return key, text if value is None or str(value) in text else f"{text} (got {value!r})"


def quoted(value: object) -> str:
    """Say what to type where YAML reads a word as a number or a truth."""
    is_other = isinstance(value, bool | int | float)
    return f'; write it in quotes, such as "{str(value).lower() if isinstance(value, bool) else value}"' if is_other else ""


def _words(error: ValueError) -> str:
    message = str(error).replace("Input should be", "must be")
    return message[0].lower() + message[1:] if message[:4] == "Must" else message


def reason(error: ValueError) -> str:
    """Say in one line what is wrong with a refused configuration."""
    key, text = explain(error, {})
    return f"{key}: {text}" if key else text
