"""A field that is given, not trained: ``field: {checkpoint: path}`` in the study file.

Only sampler parameters vary then. The checkpoint is named by its content and the data it is measured against, and put into the
store of fields under that name before anything runs; from there on it is a field like any other, on whatever machine.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pfgm.config import Model, NetworkConfig, TrainConfig
from pfgm.data import DataInfo

if TYPE_CHECKING:
    from pfgm.checkpoint import Field
    from study.fields import FieldStore


class FieldConfig(Model):
    """Where a given field is."""

    checkpoint: str
    """pfgm: the folder of a field, such as results/fields/<train_id>. poisson_flow: the authors' file, checkpoint_*.pth."""
    format: Literal["pfgm", "poisson_flow"] = "pfgm"


@dataclass(frozen=True)
class Given:
    """What the plan must know of a given field; ``train`` has every number filled in."""

    source: FieldConfig
    train_id: str
    train: TrainConfig
    network: NetworkConfig
    seed: int


def read_given(source: FieldConfig, info: DataInfo) -> Given:
    """Identify a checkpoint that is to be measured against the data of ``info``.

    Raises:
        ValueError: it cannot be read, or it is not of these data; the message starts with the key at fault.
    """
    field = load_given(source, info)
    name = hashlib.sha256(json.dumps([source.format, _content_hash(source), info.hash]).encode()).hexdigest()[:32]
    return Given(source, name, field.process.train, field.network_config, field.seed)


def load_given(source: FieldConfig, info: DataInfo) -> Field:
    """The field itself, on the CPU; errors as `read_given`."""
    from pfgm.checkpoint import load_field

    path = Path(source.checkpoint).expanduser()
    if source.format == "pfgm" and path.is_file():
        raise ValueError(f"field.checkpoint: {path} is a file; for one of the authors' code add format: poisson_flow")
    try:
        if source.format == "poisson_flow":
            from pfgm.poisson_flow import from_poisson_flow

            return from_poisson_flow(path, info)
        field = load_field(path)
    except FileNotFoundError as error:
        what = "the folder of a field, with its field.json" if source.format == "pfgm" else "the authors' file"
        raise ValueError(f"field.checkpoint: nothing at {path}; give {what}") from error
    except (ValueError, OSError) as error:
        text = str(error)
        raise ValueError(text if text.startswith("data.") else f"field.checkpoint: {text}") from error
    own = field.process.info
    if own.hash != info.hash:
        differ = "centred differently" if (own.name, own.n, own.shape) == (info.name, info.n, info.shape) else "others"
        raise ValueError(
            f"data: the field was trained on {own.n} {own.name} of shape {own.shape}, center: {str(own.center).lower()};"
            f" these are {differ} ({info.n} {info.name}, {info.shape}, center: {str(info.center).lower()}); give its own data"
        )
    return field


def _content_hash(source: FieldConfig) -> str:
    """SHA-256 of the checkpoint's weights."""
    path = Path(source.checkpoint).expanduser()
    if source.format == "pfgm":
        return str(json.loads((path / "field.json").read_text())["sha256"])
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def publish_given(given: Given, info: DataInfo, store: FieldStore) -> None:
    """Put the field into the store, unless a good copy is there.

    Raises:
        ValueError: the checkpoint can no longer be read.
        StorageError: the store cannot be written.
    """
    if store.load(given.train_id, "cpu") is None:
        store.publish(given.train_id, load_given(given.source, info))
