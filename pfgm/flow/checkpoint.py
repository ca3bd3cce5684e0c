"""Fields read from disk, with every checksum compared; never pickle. They are written by `pfgm.flow.written`.

A training in progress is the tensors of `pfgm.training.trainer.Trainer.state` behind their SHA-256. Checkpoints of the PFGM
authors' code: `pfgm.flow.poisson_flow`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load

from pfgm.config import NetworkConfig, TrainConfig
from pfgm.data.dataset import DataInfo
from pfgm.flow.packed import Damaged
from pfgm.flow.trained import Field
from pfgm.flow.written import FORMAT, OF_DATA, checksum
from pfgm.networks.build import build_network
from pfgm.process.make import make_process
from pfgm.registry import HEADS, NETWORKS, OBJECTIVES, PROCESSES
from pfgm.training.history import Progress

CURE = "delete the folder to train it again"


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
    if description.get("checksum") != checksum(description):
        raise Damaged(f"{where}: field.json does not match its checksum", CURE)
    return dict(description)


def _check_known(description: dict[str, Any], where: object) -> None:
    """Refuse a field of parts that nobody has registered.

    Raises:
        ValueError: names the part.
    """
    network, train = description["network"], description["train"]
    named = (
        (NETWORKS, network, "name"),
        (HEADS, network, "head"),
        (PROCESSES, train, "process"),
        (OBJECTIVES, train, "objective"),
    )
    for kinds, section, key in named:
        if section.get(key) is not None and section[key] not in kinds:
            raise ValueError(f"{where}: no {kinds.kind} '{section[key]}' here; import the module that registers it")


def unpack_field(read: Callable[[str], bytes], where: object, device: torch.device | str = "cpu") -> Field:
    """Make a field from its files.

    Args:
        read: content of a file by name.
        where: what to call the place in errors.
        device: where the network shall live.
    Raises:
        Damaged: a file is missing, truncated or changed.
        ValueError: a format newer than this library, or a part that is not registered.
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
    classes = {key: tuple(values) for key, values in description.get("classes", {}).items()}
    info = DataInfo(**{**facts, **kept, "shape": tuple(facts["shape"]), "bounds": bounds, **classes})
    _check_known(description, where)
    config = NetworkConfig.model_validate(description["network"])
    declared = {k: math.inf if v == "inf" else v for k, v in description["train"].items()}
    sources = declared.pop("reference_batch_size")  # resolved: `all` of few points may be less than a batch
    train = TrainConfig.model_validate(declared).model_copy(update={"reference_batch_size": sources})
    process = make_process(train, info)
    network = build_network(config, info.shape, info.sd, process.noise_ratio, process.classes)
    network.load_state_dict(tensors, strict=True)
    network = network.to(device).eval().requires_grad_(False)
    history = tuple(Progress(*values) for values in description["history"])
    return Field(network, process, config, int(description["seed"]), history, int(description.get("together", 1)))


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
