"""Identities: short hashes of what a field, a sampler point or a measurement depends on, and of nothing else.

Threads, devices, paths and versions of libraries are provenance, never identity; numbers count to twelve digits, because the
last ones depend on the machine's exp and summation order. A key that a later version adds, with a default of null or false,
changes no identity.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pfgm.config import EvaluateConfig, NetworkConfig, SamplerConfig, TrainConfig
from pfgm.metrics.features.networks import default_features, default_space
from pfgm.registry import FEATURES, GRIDS, HEADS, NETWORKS, OBJECTIVES, PROCESSES, READERS, SOLVERS, Registry
from pfgm.training.history import FIELD_VERSION
from study.config.space import Value
from study.config.study import StudyConfig
from study.config.yaml_source import ConfigError
from study.rows.records import canonical_json


def digest(value: object, length: int = 16) -> str:
    """The first ``length`` hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(plain(value)).encode()).hexdigest()[:length]


def plain(value: object) -> object:
    """A value as JSON can hold it: infinities as text, other floats to twelve digits."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return str(value) if value in (float("inf"), float("-inf")) else float(f"{value:.12g}")
    return value


def train_id(config: StudyConfig, train: TrainConfig, network: NetworkConfig | None, seed: int) -> str:
    """Identity of a field: resolved training configuration, network, data hash, train seed, `FIELD_VERSION`, plug-ins it needs.

    A given field is named by its content. Keys that are null or false are left out, so that a key added later (with such a
    default) moves no identity.
    """
    if config.field_source.train_id is not None:
        return config.field_source.train_id
    assert network is not None
    numbers = {k: v for k, v in train.model_dump(exclude={"height_ratio", "force"}).items() if v is not None and v is not False}
    architecture = {k: v for k, v in network.model_dump().items() if v is not None}
    if train.process != "pfgm":
        architecture.pop("skip")  # they have one head
    return digest([FIELD_VERSION, config.info.hash, architecture, numbers, seed, *trained_by(config, train, network)], 32)


def trained_by(config: StudyConfig, train: TrainConfig, network: NetworkConfig | None) -> list[object]:
    """Return the sources of the plug-ins that a field depends on; nothing where all its parts are of this package."""
    parts: list[tuple[Registry[Any], str | None]] = [(READERS, config.data.name), (PROCESSES, train.process)]
    parts += [(OBJECTIVES, train.objective)]
    if network is not None:
        parts += [(NETWORKS, network.name), (HEADS, network.head)]
    return _sources(config, parts)


def solved_by(config: StudyConfig, sampler: SamplerConfig) -> list[object]:
    """Return the sources of the plug-ins that a sampler point depends on."""
    return _sources(config, [(SOLVERS, sampler.solver), (GRIDS, sampler.grid)])


def _sources(config: StudyConfig, parts: Sequence[tuple[Registry[Any], str | None]]) -> list[object]:
    """Name, version and hash of the source of every module that brought one of these parts.

    Raises:
        ConfigError: a part that was registered in a session, without a file.
    """
    found: dict[str, object] = {}
    for kind, name in parts:
        home = kind.home(name)
        if home is not None and home not in config.origins:
            text = f"the {kind.kind} {name} was registered in {home}, which is no file"
            raise ConfigError(f"{config.name}: {text}; put it into a module, and name that one under plugins")
        if home is not None:
            found[home] = config.origins[home].identity
    return [found] if found else []


def point_id(declared: TrainConfig, network: Mapping[str, Value]) -> str:
    """Identity of a training point as declared, ``network`` its searched keys of the network.

    A key that the first studies did not have counts only where it is used.
    """
    unused = {key for key, value in declared if key not in ALWAYS_NAMED and value in (None, False)}
    return digest({**declared.model_dump(exclude=unused), **network})


ALWAYS_NAMED = frozenset({
    "process", "objective", "gamma", "sigma", "tau", "M", "height_ratio", "restrict_M", "n_aug", "P_mean", "P_std",
    "reference_batch_size", "steps", "batch_size", "learning_rate", "warmup_steps", "gradient_clip", "ema_decay", "bf16",
    "force",
})  # fmt: skip
"""Keys of ``train`` that the first studies had: their identities name each of these, also where it is null."""


def evaluation(config: StudyConfig) -> dict[str, object]:
    """Return what a measurement depends on beside field, sampler and seed; metrics and shares aside, which can be added.

    Features and space that are not declared are named only where they are others than `digits` and `pixels`, which they once
    always were; the weights count by content. How many points likelihood takes counts where it is not the default.
    """
    evaluate, info = config.evaluate, config.info
    measured = evaluate.model_dump(exclude={"metrics", "weights", "pr_space", "at_steps"})
    if evaluate.likelihood_samples == EvaluateConfig.model_fields["likelihood_samples"].default:
        del measured["likelihood_samples"]
    default, space = default_features(info.name, info.shape), evaluate.pr_space or default_space(info.dim)
    if evaluate.features is None and default not in ("digits", "pixels"):
        measured["features"] = default
    if evaluate.pr_space is not None or space != "pixels":
        measured["pr_space"] = space
    if evaluate.weights is not None:
        measured["weights"] = _hash_of_file(evaluate.weights)
    if sources := _sources(config, [(FEATURES, evaluate.features or default)]):
        measured["plugins"] = sources
    return measured


def reading(train: TrainConfig, network: NetworkConfig | None) -> list[str]:
    """Return what a measurement depends on beside its field: how the output of a plain head is read."""
    plain_head = network is not None and not network.skip and train.objective == "normalized"
    return ["plain_length"] if plain_head else []


@functools.lru_cache(maxsize=4)
def _hash_of_file(path: str) -> str:
    with open(Path(path).expanduser(), "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sampler_id(sampler: SamplerConfig, sources: Sequence[object] = ()) -> str:
    """Identity of a sampler point as declared (`T: rule` or `T_ratio: 2`, not the number it becomes).

    Args:
        sampler: the point.
        sources: what `solved_by` returns, where the name is to change with the source of a plug-in.
    """
    named = {k: v for k, v in sampler.model_dump().items() if v is not None}
    return digest([named, *sources] if sources else named)
