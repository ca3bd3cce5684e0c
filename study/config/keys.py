"""Which keys a study file may hold, and what to say of one that it may not."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import get_args

from pfgm.config import NetworkConfig, SamplerConfig, TrainConfig
from pfgm.kinds import Model
from study.config.group import NETWORK_SEARCH
from study.config.yaml_source import Source

FIXED: dict[str, type[Model]] = {"network": NetworkConfig, "train": TrainConfig, "sampler": SamplerConfig}
"""Sections of a run: a key that stands elsewhere is told its place."""


def searchable() -> dict[str, list[str]]:
    """Return the keys that may be searched, by where they are declared, with those of parts that were registered."""
    train = [key for key in TrainConfig.model_fields if key != "force"]
    return {"search.train": [*train, *sorted(NETWORK_SEARCH)], "search.sampler": list(SamplerConfig.model_fields)}


def is_whole(key: str) -> bool:
    """Return whether the numbers of a key of a run are whole: 1e2 is 100 there."""
    return any(key in model.model_fields and _asks_integer(model.model_fields[key].annotation) for model in FIXED.values())


def _asks_integer(annotation: object) -> bool:
    return annotation is int or any(_asks_integer(part) for part in get_args(annotation) if not isinstance(part, str))


def refuse_unknown(source: Source, path: tuple[str, ...], section: Mapping[str, object], known: Sequence[str]) -> None:
    """Refuse a key that a section does not have.

    Raises:
        ConfigError: the key, its value, and the nearest known key.
    """
    for key, value in section.items():
        if key not in known:
            raise source.error((*path, key), f"unknown key (value {value!r}); {_suggest(path, key, known)}")


def _suggest(path: tuple[str, ...], key: str, known: Sequence[str]) -> str:
    if path == ("search",) and key == "network":
        return f"did you mean {' or '.join(f'`search.train.{size}`' for size in sorted(NETWORK_SEARCH))}?"
    homes = {name: list(model.model_fields) for name, model in FIXED.items()} if "".join(path) in ("", *FIXED) else {}
    homes = searchable() if path[:1] == ("search",) else homes
    found = [f"`{home}.{key}`" for home, keys in homes.items() if key in keys]
    if found:
        return f"did you mean {' or '.join(found)}?"
    lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(key.lower(), list(lower), n=1, cutoff=0.5)
    return f"did you mean `{lower[near[0]]}`?" if near else f"use one of {', '.join(known)}"
