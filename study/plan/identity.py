"""Identities: short hashes of what a field, a sampler point or a measurement depends on, and of nothing else.

Threads, devices, paths and versions of libraries are provenance, never identity; numbers count to twelve digits, because the
last ones depend on the machine's exp and summation order. A key that a later version adds, with a default of null or false,
changes no identity.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path

from pfgm.config import EvaluateConfig, NetworkConfig, SamplerConfig, TrainConfig
from pfgm.metrics.features.networks import default_features, default_space
from pfgm.training.history import FIELD_VERSION
from study.config.space import Value
from study.config.study import StudyConfig
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
    """Identity of a field: resolved training configuration, network, data hash, train seed, `FIELD_VERSION`.

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
    return digest([FIELD_VERSION, config.info.hash, architecture, numbers, seed], 32)


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
    return measured


def reading(train: TrainConfig, network: NetworkConfig | None) -> list[str]:
    """Return what a measurement depends on beside its field: how the output of a plain head is read."""
    plain_head = network is not None and not network.skip and train.objective == "normalized"
    return ["plain_length"] if plain_head else []


@functools.lru_cache(maxsize=4)
def _hash_of_file(path: str) -> str:
    with open(Path(path).expanduser(), "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sampler_id(sampler: SamplerConfig) -> str:
    """Identity of a sampler point as declared (`T: rule` or `T_ratio: 2`, not the number it becomes)."""
    return digest({k: v for k, v in sampler.model_dump().items() if v is not None})
