"""A field as files: safetensors and JSON with checksums; never pickle. `pfgm.flow.checkpoint` reads them.

A field is two files: ``<hash>.safetensors`` (averaged weights, data mean), and ``field.json`` (configuration, data facts, seed,
version, name, size and SHA-256 of the weights, checksum of itself), which is written last: a field is there when it is. The
weights are named by their content, so that two writers of one field never mix.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, astuple
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save

from pfgm.kinds import ConditionKeys
from pfgm.training.history import TRAINING_VERSION

if TYPE_CHECKING:
    from pfgm.flow.trained import Field

FORMAT = 3
"""1 had no checksum of ``field.json``, and its weights in ``field.safetensors``; 2 has no offset and no scale of the data, and
is still written where there are none."""
OF_CLASSES = ("classes", "class_counts")
"""Data facts that a conditional field alone keeps."""
OF_DATA = ("mean", "offset", "scale")
"""Tensors of the data facts; they are kept beside the weights."""


def pack_field(field: Field) -> dict[str, bytes]:
    """A field as files by name. The last one, ``field.json``, announces the others: write it when they are there."""
    info = field.process.info
    facts = {f"data.{key}": tensor for key in OF_DATA if (tensor := getattr(info, key)) is not None}
    tensors = {**field.network.state_dict(), **facts}
    weights = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    sha256 = hashlib.sha256(weights).hexdigest()
    description = {
        "format": FORMAT if info.rescaled else 2,
        "training_version": TRAINING_VERSION,
        "seed": field.seed,
        "weights": f"{sha256[:16]}.safetensors",
        "size": len(weights),
        "sha256": sha256,
        "history": [astuple(p) for p in field.history],
        "network": field.network_config.stored(),
        "train": _train(field),
        "data": {key: value for key, value in asdict(info).items() if key not in (*OF_DATA, *OF_CLASSES)},
        **({"classes": {key: getattr(info, key) for key in OF_CLASSES}} if field.process.classes else {}),
        **({"together": field.together} if field.together > 1 else {}),
    }
    finite = _finite(description)
    assert isinstance(finite, dict)
    text = json.dumps(finite | {"checksum": checksum(finite)}, indent=1, sort_keys=True)
    return {f"{sha256[:16]}.safetensors": weights, "field.json": text.encode()}


def _train(field: Field) -> dict[str, object]:
    """The training configuration; keys of conditional fields are left out of others, which earlier versions then read."""
    stored = field.process.train.stored() | {"height_ratio": None}  # M says it, as a number
    return {k: v for k, v in stored.items() if field.process.classes or k not in ConditionKeys.model_fields}


def save_field(field: Field, folder: str | Path) -> None:
    """Write a field as a folder; it is complete once its ``field.json`` is there. A complete one is left as it is.

    Raises:
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    if (folder / "field.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in pack_field(field).items():
        temporary = folder / f".{name}.{os.getpid()}.tmp"
        with open(temporary, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, folder / name)


def checksum(description: Mapping[str, object]) -> str:
    """SHA-256 of a description but for its own checksum, written with sorted keys."""
    rest = {key: value for key, value in description.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _finite(value: object) -> object:
    """JSON has no infinity: write it as a string."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return "inf" if value == float("inf") else value
