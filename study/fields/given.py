"""A field that is given, not trained: ``field: {checkpoint: path}`` or ``field: {exact: empirical}`` in the study file.

Only sampler parameters vary then. A checkpoint is named by its content and the data it is measured against, and put into the
store of fields under that name before anything runs; from there on it is a field like any other, on whatever machine. An exact
field is a function of the data: every worker makes its own.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field as Key
from pydantic import model_validator

from pfgm.config import NetworkConfig, TrainConfig
from pfgm.data.dataset import DataInfo
from pfgm.flow.checkpoint import load_field
from pfgm.flow.exact import Kind, exact_train
from pfgm.flow.poisson_flow import from_poisson_flow
from pfgm.flow.trained import Field
from pfgm.kinds import Model
from pfgm.mistakes import Mistake
from pfgm.process.pfgmpp import MIN_N_AUG
from study.fields.store import FieldStore


class FieldConfig(Model):
    """Which field is given: that of a checkpoint, or one that is known exactly."""

    checkpoint: str | None = None
    """pfgm: the folder of a field, such as results/fields/<train_id>. poisson_flow: the authors' file, checkpoint_*.pth."""
    format: Literal["pfgm", "poisson_flow"] = "pfgm"
    exact: Kind | None = None
    """empirical: the field of the data points. gaussian_mixture: of the law of `gaussians`, or a Gaussian like other data."""
    n_aug: Annotated[float, Key(ge=MIN_N_AUG, strict=True)] | None = None
    """exact: extra dimensions, any number from `MIN_N_AUG` or .inf (default 1, PFGM)."""

    @model_validator(mode="after")
    def _one(self) -> FieldConfig:
        if (self.checkpoint is None) == (self.exact is None):
            raise Mistake(
                "checkpoint", f"give a checkpoint or exact, one of the two, got {self.checkpoint!r} and {self.exact!r}"
            )
        if self.exact is not None and self.format != "pfgm":
            raise Mistake("format", "belongs to a checkpoint, this field is exact; remove it")
        if self.n_aug is not None and self.exact is None:
            raise Mistake("n_aug", "belongs to exact fields; a checkpoint knows its own, remove it")
        return self

    def __str__(self) -> str:
        if self.exact is None:
            return f"{self.checkpoint} ({self.format})"
        return f"{self.exact}, known exactly, n_aug = {self.n_aug or 1:g}"


@dataclass(frozen=True)
class Given:
    """What the plan must know of a given field; ``train`` has every number filled in, an exact field has no network."""

    source: FieldConfig
    train_id: str
    train: TrainConfig
    network: NetworkConfig | None
    seed: int

    @property
    def exact(self) -> bool:
        """Whether the field is known and nothing is stored."""
        return self.source.exact is not None


def read_given(source: FieldConfig, info: DataInfo) -> Given:
    """Identify a checkpoint, or an exact field, that is to be measured against the data of ``info``.

    Raises:
        Mistake: it cannot be read, or it is not of these data.
    """
    if source.exact is not None:
        train = exact_train(source.n_aug or 1.0, info)
        content = json.dumps(["exact", source.exact, str(source.n_aug or 1.0), info.hash])
        return Given(source, hashlib.sha256(content.encode()).hexdigest()[:32], train, None, 0)
    field = load_given(source, info)
    name = hashlib.sha256(json.dumps([source.format, _content_hash(source), info.hash]).encode()).hexdigest()[:32]
    return Given(source, name, field.process.train, field.network_config, field.seed)


def load_given(source: FieldConfig, info: DataInfo) -> Field:
    """The field of a checkpoint, on the CPU; errors as `read_given`."""
    assert source.checkpoint is not None
    path = Path(source.checkpoint).expanduser()
    if source.format == "pfgm" and path.is_file():
        raise Mistake("field.checkpoint", f"{path} is a file; for one of the authors' code add format: poisson_flow")
    try:
        if source.format == "poisson_flow":
            return from_poisson_flow(path, info)
        field = load_field(path)
    except FileNotFoundError as error:
        what = "the folder of a field, with its field.json" if source.format == "pfgm" else "the authors' file"
        raise Mistake("field.checkpoint", f"nothing at {path}; give {what}") from error
    except (ValueError, OSError) as error:
        if isinstance(error, Mistake) and error.path[0] == "data":
            raise
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


def publish_given(given: Given, info: DataInfo, store: FieldStore) -> None:
    """Put the field of a checkpoint into the store, unless a good copy is there.

    Raises:
        ValueError: the checkpoint can no longer be read.
        StorageError: the store cannot be written.
    """
    if not given.exact and store.load(given.train_id, "cpu") is None:
        store.publish(given.train_id, load_given(given.source, info))
