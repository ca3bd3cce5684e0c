"""Fields on disk: safetensors and JSON, written under a temporary name and renamed; never pickle.

A field's folder holds ``field.safetensors`` (averaged weights, data mean) and ``field.json`` (configuration, data facts,
seed, version). A training in progress is one ``training.safetensors`` (`pfgm.training.Trainer.state`).
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load, save_file
from torch import Tensor

from pfgm.config import NetworkConfig, SamplerConfig, TrainConfig
from pfgm.data import DataInfo
from pfgm.networks import FieldNetwork, build_network
from pfgm.process import Process
from pfgm.sampling import sample
from pfgm.training import TRAINING_VERSION, Progress, Trainer

FORMAT = 1


@dataclass(frozen=True)
class Field:
    """A trained field: network, process and data facts; ready to sample."""

    network: FieldNetwork
    process: Process
    network_config: NetworkConfig
    seed: int
    history: tuple[Progress, ...] = ()

    @classmethod
    def from_trainer(cls, trainer: Trainer) -> Field:
        """The field with a trainer's averaged weights."""
        history = tuple(trainer.history)
        return cls(trainer.averaged_network(), trainer.process, trainer.network_config, trainer.seed, history)

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def double(self) -> Field:
        """The same field computed in float64."""
        return replace(self, network=copy.deepcopy(self.network).double())

    @torch.no_grad()
    def mean_source(self, x: Tensor, t: Tensor) -> Tensor:
        """D(x, t), shape (B, d), in the units of training."""
        return self.process.mean_source(self.network, x, t)

    def sample(self, n: int, seed: int = 0, **sampler: object) -> Tensor:
        """``n`` samples in data units, shape (n, *item shape); keywords are those of `pfgm.config.SamplerConfig`.

        Raises:
            ValueError: an unknown keyword, a value out of range, or a keyword that the solver does not read.
            RuntimeError: the solve diverged or ran into its step limit.
        """
        config = SamplerConfig.model_validate(sampler)
        for key, value in sampler.items():
            if value is not None and getattr(config, key) is None:
                raise ValueError(f"{key}: not read by solver {config.solver}; remove it, or choose another solver")
        samples = sample(self.mean_source, self.process, config, n, seed, device=self.device)
        if samples.status != "complete":
            raise RuntimeError(f"sampling ended as {samples.status} after {samples.nfe:g} calls; try another solver or rtol")
        return self.process.info.to_data_units(samples.x).reshape(n, *self.process.info.shape)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """One safetensors file, whole: temporary name, fsync, rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary)
    with open(temporary, "rb") as handle:
        os.fsync(handle.fileno())
    os.replace(temporary, path)


def save_field(field: Field, folder: Path) -> None:
    """Write a field as a folder, atomically; an existing folder is left as it is.

    Raises:
        OSError: the folder cannot be written.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    info = field.process.info
    weights = temporary / "field.safetensors"
    save_tensors(weights, {**field.network.state_dict(), "data.mean": info.mean})
    facts = {key: value for key, value in asdict(info).items() if key != "mean"}
    description = {
        "format": FORMAT,
        "training_version": TRAINING_VERSION,
        "seed": field.seed,
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "history": [astuple(p) for p in field.history],
        "network": field.network_config.model_dump(),
        "train": field.process.train.model_dump() | {"height_ratio": None},  # M says it, as a number
        "data": facts,
    }
    (temporary / "field.json").write_text(json.dumps(_finite(description), indent=1, sort_keys=True) + "\n")
    try:
        os.rename(temporary, folder)
    except OSError:
        if not (folder / "field.json").is_file():  # someone else published the same field: keep theirs
            raise
        shutil.rmtree(temporary)


def load_field(folder: str | Path, device: torch.device | str = "cpu") -> Field:
    """Read a field written by `save_field`.

    Raises:
        FileNotFoundError: the folder holds no field.
        ValueError: the field's format is newer than this library, or its weights do not match their hash.
    """
    folder = Path(folder)
    if not (folder / "field.json").is_file():
        raise FileNotFoundError(f"no field at {folder}: expected field.json and field.safetensors there")
    description = json.loads((folder / "field.json").read_text())
    if description["format"] > FORMAT:
        raise ValueError(f"{folder}: format {description['format']} is newer than this library reads ({FORMAT}); upgrade it")
    content = (folder / "field.safetensors").read_bytes()
    if hashlib.sha256(content).hexdigest() != description["sha256"]:
        raise ValueError(
            f"{folder}: field.safetensors does not match its hash in field.json; delete the folder to train it again"
        )
    tensors = load(content)
    facts = description["data"]
    bounds = None if facts["bounds"] is None else (float(facts["bounds"][0]), float(facts["bounds"][1]))
    info = DataInfo(**{**facts, "shape": tuple(facts["shape"]), "bounds": bounds, "mean": tensors.pop("data.mean")})
    config = NetworkConfig.model_validate(description["network"])
    declared = {k: math.inf if v == "inf" else v for k, v in description["train"].items()}
    sources = declared.pop("reference_batch_size")  # resolved: `all` of few points may be less than a batch
    train = TrainConfig.model_validate(declared).model_copy(update={"reference_batch_size": sources})
    process = Process(train, info)
    network = build_network(config, info.shape, info.sd, process.noise_ratio)
    network.load_state_dict(tensors, strict=True)
    network = network.to(device).eval().requires_grad_(False)
    history = tuple(Progress(*values) for values in description["history"])
    return Field(network, process, config, int(description["seed"]), history)


def _finite(value: object) -> object:
    """JSON has no infinity: write it as a string."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return "inf" if value == float("inf") else value
