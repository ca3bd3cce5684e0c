"""What a study file says: `StudyConfig`, which makes the configuration of any point of the search space.

A key under ``train`` or ``sampler`` is its fixed value; when it is also searched, the fixed value is its *default*. A searched
parameter whose ``when`` does not hold at a point is absent there. `study.load` reads the file into these and checks it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from pfgm.config import DataConfig, NetworkConfig, SamplerConfig, TrainConfig, foreign_train_keys
from pfgm.data.dataset import DataInfo
from pfgm.kinds import ALL
from pfgm.mistakes import Mistake, raised
from pfgm.networks.build import check_network
from pfgm.process.resolve import resolve_train
from pfgm.registry import KINDS
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
from study.config.solver import SEARCHED_DEFAULT
from study.config.source import FieldConfig, FieldSource
from study.config.space import Distribution, Value, same
from study.config.yaml_source import to_yaml
from study.rows.storage import Place

IMPLIED_DEFAULTS: dict[str, Value] = {
    "height_ratio": 1.0, "T_ratio": 1.0, "solver": SEARCHED_DEFAULT, "label": ALL, "guidance": 1.0,
}  # fmt: skip
"""Defaults of searched parameters that have none of their own: the rule itself, the solver of the first studies, every class as
it is."""
NETWORK_SEARCH = frozenset({"width", "depth"})
"""Keys of ``network`` that may be searched, among those of ``train``: a weaker network is another training point."""


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

    def searched(self, group: str) -> Mapping[str, Distribution]:
        """Return the searched parameters of ``train`` or ``sampler``."""
        return self.search_train if group == "train" else self.search_sampler

    def training(self, point: Mapping[str, Value]) -> TrainConfig:
        """The declared training configuration of a point: fixed keys, the point's own, inactive searched ones absent."""
        if self.field_source.train is not None:
            return self.field_source.train
        own = {key: value for key, value in point.items() if key not in NETWORK_SEARCH}
        return TrainConfig.model_validate(active_train(_merge(self.train, self.search_train, own), self.search_train, own))

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
        return SamplerConfig.model_validate(_merge(self.sampler, self.search_sampler, point))

    def default(self, group: str) -> dict[str, Value]:
        """The default point of ``train`` or ``sampler``: the declared value of every searched parameter active there."""
        searched = self.searched(group)
        return activate(searched, {key: self.default_value(group, key) for key in searched})

    def default_value(self, group: str, key: str) -> Value:
        """Declared default of one searched parameter: fixed value, else the model's own."""
        if group == "train" and key in NETWORK_SEARCH:
            size: Value = getattr(self.network, key)
            return size
        declared, model = (self.train, TrainConfig) if group == "train" else (self.sampler, SamplerConfig)
        if declared.get(key) is not None:
            value: Value = declared[key]
            return value
        if key in IMPLIED_DEFAULTS:
            return IMPLIED_DEFAULTS[key]
        searched = self.searched(group)
        when = searched[key].when
        parent = {} if when is None else {when[0]: when[1][0]}
        base = {**{k: v for k, v in declared.items() if k not in searched}, **parent}
        base = active_train(base, searched, parent) if group == "train" else base
        filled: Value = getattr(model.model_validate(base), key)
        return filled

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
            "sampler": self._complete("sampler"),
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
        return {"network": self.network.stored("json"), "train": self._complete("train"), "search": search}

    def _complete(self, group: str) -> dict[str, Any]:
        """Declared keys with every default filled in, unless the search decides which keys there are."""
        declared = dict(self.train if group == "train" else self.sampler)
        searched = self.searched(group)
        if any(key in searched for key in ("process", "objective", "solver")):
            return declared
        model = self.training(self.default(group)) if group == "train" else self.sampling(self.default(group))
        return {**{key: value for key, value in model.model_dump().items() if value is not None}, **declared}

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


def _merge(fixed: Mapping[str, Any], searched: Mapping[str, Distribution], point: Mapping[str, Value]) -> dict[str, Any]:
    return {**{key: value for key, value in fixed.items() if key not in searched}, **point}


def network_part(point: Mapping[str, Value]) -> dict[str, Value]:
    """The keys of a training point that belong to the network."""
    return {key: value for key, value in point.items() if key in NETWORK_SEARCH}


def active_train(values: Mapping[str, Any], searched: Mapping[str, Distribution], point: Mapping[str, Value]) -> dict[str, Any]:
    """``values`` without the fixed keys of other processes and objectives, where process or objective are searched.

    Args:
        values: keys of ``train`` at a point, process and objective among them.
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


def moved(config: StudyConfig, group: str, key: str, value: Value) -> dict[str, Value]:
    """The default point of a group with ``key`` at ``value``; its parents are set so that it is active."""
    searched = config.searched(group)
    values = {k: config.default_value(group, k) for k in searched} | {key: value}
    child = key
    while (when := searched[child].when) is not None:
        parent, allowed = when
        if not any(same(values[parent], v) for v in allowed):
            values[parent] = allowed[0]
        child = parent
    return activate(searched, values)


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
