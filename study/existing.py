"""A study file against what its folder already holds."""

from __future__ import annotations

import json

from study.config.changes import FROZEN, compare, rule_of
from study.config.study import StudyConfig, used_origins
from study.config.yaml_source import ConfigError, Source, parse_source
from study.load import read_study
from study.rows.planned import read_plan
from study.rows.records import DamagedFile, write_text

ORIGINS = "plugins.json"
"""What the plug-ins were that the rows of a folder were measured with: by module, what identities hold of it."""


def write_origins(config: StudyConfig) -> None:
    """Keep what the plug-ins of a study are, beside its study.yaml; a study without any has no such file."""
    if used := used_origins(config):
        write_text(config.folder / ORIGINS, json.dumps({o.module: o.identity for o in used}, indent=1) + "\n")


def _check_plugins(source: Source, config: StudyConfig) -> None:
    try:
        old = json.loads((config.folder / ORIGINS).read())
    except FileNotFoundError:
        return
    for origin in used_origins(config):
        was = old.get(origin.module, origin.identity)
        if was != origin.identity:
            told = f"{config.folder} was measured with another {origin.module}, of source {was[2][:8]}, now {origin.hash[:8]}"
            raise source.error(("plugins",), f"{told}: restore it, or give a new name")


def check_against_existing(source: Source, config: StudyConfig) -> None:
    """Refuse a study file that would change what the rows already in its folder mean.

    Raises:
        ConfigError: at the first differing frozen key, with every one's old and new value.
        StorageError: the folder cannot be read.
    """
    stored = config.folder / "study.yaml"
    try:
        text = stored.read()
    except FileNotFoundError:
        return
    try:
        old = read_study(parse_source(text, str(stored))).dump()
    except ConfigError as error:
        cure = f"restore it, or delete it if {source.file} is what the rows there were measured with"
        raise ConfigError(f"{error}: the stored study cannot be read; {cure}") from None
    differences = [(k, a, b) for k, a, b in compare(old, config.dump()) if rule_of(k) == FROZEN]
    if differences:
        (key, was, now), *others = differences
        words = f"was {was!r} in {config.folder}, now {now!r}" + "".join(f"; {k} was {a!r}, now {b!r}" for k, a, b in others)
        raise source.error(
            tuple(key.split(".")), f"{words}: the rows there would change meaning; undo that, or give a new name"
        )
    _check_plugins(source, config)
    try:
        planned = read_plan(config.folder, ["data_hash", "train_id"])
    except (FileNotFoundError, DamagedFile):  # it is written anew
        return
    data, fields = ({x for part in planned for x in part[name].unique().to_pylist()} for name in ("data_hash", "train_id"))
    if data - {config.info.hash}:
        raise source.error(("data",), f"have changed since {config.folder} was measured; restore them, or give a new name")
    if config.field_source.train_id and fields - {config.field_source.train_id}:
        other = f"is another checkpoint than {config.folder} was measured with; restore it, or give a new name"
        raise source.error(("field", "checkpoint"), other)
