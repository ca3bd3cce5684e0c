"""The keys of a run by where they are declared, and what to say of one that stands elsewhere."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import get_args

from pfgm.config import NetworkConfig, SamplerConfig, TrainConfig
from study.config.study import NETWORK_SEARCH
from study.config.yaml_source import Source

FIXED = {"network": NetworkConfig.model_fields, "train": TrainConfig.model_fields, "sampler": SamplerConfig.model_fields}
SEARCHABLE = {
    "search.train": [*(key for key in TrainConfig.model_fields if key != "force"), *sorted(NETWORK_SEARCH)],
    "search.sampler": list(SamplerConfig.model_fields),
}
"""Keys of a run by where they are declared: one that stands elsewhere is told its place."""


def _asks_integer(annotation: object) -> bool:
    return annotation is int or any(_asks_integer(part) for part in get_args(annotation) if not isinstance(part, str))


INTEGERS = frozenset(
    key for model in (TrainConfig, SamplerConfig, NetworkConfig) for key, field in model.model_fields.items()
    if _asks_integer(field.annotation)
)  # fmt: skip
"""Keys of a run whose numbers are whole: 1e2 is 100 there."""


def check_known(source: Source, path: tuple[str, ...], section: Mapping[str, object], known: Sequence[str]) -> None:
    """Refuse a key that a section does not have.

    Raises:
        ConfigError: names the key that may be meant.
    """
    for key, value in section.items():
        if key not in known:
            raise source.error((*path, key), f"unknown key (value {value!r}); {_suggest(path, key, known)}")


def _suggest(path: tuple[str, ...], key: str, known: Sequence[str]) -> str:
    if path == ("search",) and key == "network":
        return f"did you mean {' or '.join(f'`search.train.{size}`' for size in sorted(NETWORK_SEARCH))}?"
    homes = SEARCHABLE if path[:1] == ("search",) else FIXED if "".join(path) in ("", *FIXED) else {}
    found = [f"`{home}.{key}`" for home, keys in homes.items() if key in keys]
    if found:
        return f"did you mean {' or '.join(found)}?"
    lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(key.lower(), list(lower), n=1, cutoff=0.5)
    return f"did you mean `{lower[near[0]]}`?" if near else f"use one of {', '.join(known)}"
