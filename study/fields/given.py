"""The field that a study is given (`study.config.source`), and the way to get it.

A checkpoint is named by its content and the data it is measured against. It is put into the store of fields under that name
before anything runs. From there on it is a field like any other, on whatever machine. An exact field is a function of the data:
every worker makes its own.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import torch

from pfgm.data.dataset import DataInfo, Dataset
from pfgm.flow.checkpoint import load_field
from pfgm.flow.edm.field import from_edm, from_pfgmpp
from pfgm.flow.exact import ExactField, exact_field, exact_train
from pfgm.flow.poisson_flow import from_poisson_flow
from pfgm.flow.trained import Field
from pfgm.mistakes import Mistake
from study.config.source import FieldConfig, FieldSource
from study.fields.store import FieldStore


def read_given(source: FieldConfig, info: DataInfo) -> tuple[FieldSource, int]:
    """Identify a checkpoint, or an exact field, that is to be measured against the data of ``info``; its train seed beside it.

    Raises:
        Mistake: it cannot be read, or it is not of these data.
    """
    if source.exact is not None:
        train = exact_train(source.n_aug or 1.0, info)
        content = json.dumps(["exact", source.exact, str(source.n_aug or 1.0), info.hash])
        return FieldSource(source, hashlib.sha256(content.encode()).hexdigest()[:32], train), 0
    field = load_given(source, info)
    told = [f"{key}={value}" for key, value in (("n_aug", source.n_aug), ("label", source.label)) if value is not None]
    content = json.dumps([source.format, _content_hash(source), info.hash, *told])
    name = hashlib.sha256(content.encode()).hexdigest()[:32]
    return FieldSource(source, name, field.process.train, field.network_config), field.seed


def load_given(source: FieldConfig, info: DataInfo) -> Field:
    """The field of a checkpoint, on the CPU; errors as `read_given`."""
    assert source.checkpoint is not None
    path = Path(source.checkpoint).expanduser()
    if source.format == "pfgm" and path.is_file():
        raise Mistake(
            "field.checkpoint", f"{path} is a file; for one of the authors' code add format: poisson_flow, edm or pfgmpp"
        )
    try:
        match source.format:
            case "poisson_flow":
                return from_poisson_flow(path, info)
            case "edm":
                return from_edm(path, info, label=source.label)
            case "pfgmpp":
                return from_pfgmpp(path, info, n_aug=source.n_aug, label=source.label)
        field = load_field(path)
    except FileNotFoundError as error:
        what = "the folder of a field, with its field.json" if source.format == "pfgm" else "the authors' file"
        raise Mistake("field.checkpoint", f"nothing at {path}; give {what}") from error
    except (ValueError, OSError) as error:
        if isinstance(error, Mistake):
            if error.path[0] == "data":
                raise
            if error.path[0] in ("n_aug", "label"):
                raise Mistake(("field", *error.path), error.text) from error
        raise Mistake("field.checkpoint", str(error)) from error
    own = field.process.info
    if own.hash != info.hash:
        differ = "centred differently" if (own.name, own.n, own.shape) == (info.name, info.n, info.shape) else "others"
        raise Mistake(
            "data",
            f"the field was trained on {own.n} {own.name} of shape {own.shape}, center: {str(own.center).lower()};"
            f" these are {differ} ({info.n} {info.name}, {info.shape}, center: {str(info.center).lower()}); give its own data",
        )
    return field


def _content_hash(source: FieldConfig) -> str:
    """SHA-256 of the checkpoint's weights."""
    assert source.checkpoint is not None
    path = Path(source.checkpoint).expanduser()
    if source.format == "pfgm":
        return str(json.loads((path / "field.json").read_text(encoding="utf-8"))["sha256"])
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def given_field(source: FieldSource, data: Dataset, device: torch.device) -> Field | ExactField:
    """Return the field that is given, on a device."""
    assert source.declared is not None and source.train is not None
    if source.declared.exact is not None:
        return exact_field(source.declared.exact, data, source.train, device)
    field = load_given(source.declared, data.info)
    return replace(field, network=field.network.to(device))


def publish_given(source: FieldSource, info: DataInfo, store: FieldStore) -> None:
    """Put the field of a checkpoint into the store, unless a good copy is there; there is nothing to put of other sources.

    Raises:
        ValueError: the checkpoint can no longer be read.
        StorageError: the store cannot be written.
    """
    if source.declared is None or source.train_id is None or source.exact:
        return
    if store.load(source.train_id, "cpu") is None:
        store.publish(source.train_id, load_given(source.declared, info))
