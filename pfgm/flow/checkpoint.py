"""Fields on disk: safetensors and JSON with checksums; never pickle.

A field is two files: ``<hash>.safetensors`` (averaged weights, data mean), and ``field.json`` (configuration, data facts, seed,
version, name, size and SHA-256 of the weights, checksum of itself), which is written last: a field is there when it is. The
weights are named by their content, so that two writers of one field never mix. A training in progress is the tensors of
`pfgm.training.trainer.Trainer.state` behind their SHA-256. Checkpoints of the PFGM authors' code: `pfgm.flow.poisson_flow`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

from pfgm.config import NetworkConfig, TrainConfig
from pfgm.data.dataset import DataInfo
from pfgm.flow.packed import Damaged
from pfgm.flow.trained import Field
from pfgm.networks.build import build_network
from pfgm.process.make import make_process
from pfgm.training.history import TRAINING_VERSION, Progress

FORMAT = 3
"""1 had no checksum of ``field.json``, and its weights in ``field.safetensors``; 2 has no offset and no scale of the data, and
is still written where there are none."""
CURE = "delete the folder to train it again"
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
        "network": field.network_config.model_dump(),
        "train": field.process.train.model_dump() | {"height_ratio": None},  # M says it, as a number
        "data": {key: value for key, value in asdict(info).items() if key not in OF_DATA},
        **({"together": field.together} if field.together > 1 else {}),
    }
    finite = _finite(description)
    assert isinstance(finite, dict)
    text = json.dumps(finite | {"checksum": _checksum(finite)}, indent=1, sort_keys=True)
    return {f"{sha256[:16]}.safetensors": weights, "field.json": text.encode()}


def _checksum(description: Mapping[str, object]) -> str:
    """SHA-256 of a description but for its own checksum, written with sorted keys."""
    rest = {key: value for key, value in description.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read_description(content: bytes, where: object) -> dict[str, Any]:
    """The content of ``field.json``: configuration, data facts, seed, history, name and hash of the weights.

    Raises:
        Damaged: not the text that `pack_field` wrote.
        ValueError: a format newer than this library.
    """
    try:
        description: dict[str, Any] = json.loads(content)
        number = int(description["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{where}: field.json is damaged ({error!r})", CURE) from error
    if number > FORMAT:
        raise ValueError(f"{where}: format {number} is newer than this library reads ({FORMAT}); upgrade it")
    if number == 1:
        return description | {"weights": "field.safetensors", "size": None}
    if description.get("checksum") != _checksum(description):
        raise Damaged(f"{where}: field.json does not match its checksum", CURE)
    return dict(description)


def unpack_field(read: Callable[[str], bytes], where: object, device: torch.device | str = "cpu") -> Field:
    """Make a field from its files.

    Args:
        read: content of a file by name.
        where: what to call the place in errors.
        device: where the network shall live.
    Raises:
        Damaged: a file is missing, truncated or changed.
        ValueError: a format newer than this library.
    """
    description = read_description(read("field.json"), where)
    try:
        content = read(description["weights"])
    except FileNotFoundError as error:
        raise Damaged(f"{where}: {description['weights']} is missing", CURE) from error
    if hashlib.sha256(content).hexdigest() != description["sha256"]:
        raise Damaged(f"{where}: the weights do not match their hash in field.json", CURE)
    tensors = load(content)
    facts = description["data"]
    bounds = None if facts["bounds"] is None else (float(facts["bounds"][0]), float(facts["bounds"][1]))
    kept = {key: tensors.pop(f"data.{key}", None) for key in OF_DATA}
    info = DataInfo(**{**facts, **kept, "shape": tuple(facts["shape"]), "bounds": bounds})
    config = NetworkConfig.model_validate(description["network"])
    declared = {k: math.inf if v == "inf" else v for k, v in description["train"].items()}
    sources = declared.pop("reference_batch_size")  # resolved: `all` of few points may be less than a batch
    train = TrainConfig.model_validate(declared).model_copy(update={"reference_batch_size": sources})
    process = make_process(train, info)
    network = build_network(config, info.shape, info.sd, process.noise_ratio)
    network.load_state_dict(tensors, strict=True)
    network = network.to(device).eval().requires_grad_(False)
    history = tuple(Progress(*values) for values in description["history"])
    return Field(network, process, config, int(description["seed"]), history, int(description.get("together", 1)))


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


def load_field(folder: str | Path, device: torch.device | str = "cpu") -> Field:
    """Read a field written by `save_field`.

    Raises:
        FileNotFoundError: the folder holds no field.
        ValueError: the field's format is newer than this library, or its files do not match their checksums.
    """
    folder = Path(folder)
    if not (folder / "field.json").is_file():
        raise FileNotFoundError(f"no field at {folder}: expected field.json there")
    return unpack_field(lambda name: (folder / name).read_bytes(), folder, device)


def _finite(value: object) -> object:
    """JSON has no infinity: write it as a string."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return "inf" if value == float("inf") else value
