"""The source of a study's fields: they are trained here, or one is given.

``field: {checkpoint: path}`` or ``field: {exact: empirical}`` in the study file gives it. Nothing is trained then, only sampler
parameters vary, and samplings are the units of replication.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field as Key
from pydantic import model_validator

from pfgm.config import NetworkConfig, TrainConfig
from pfgm.flow.exact import Kind
from pfgm.kinds import Integer, Model
from pfgm.mistakes import Mistake
from pfgm.process.pfgmpp import MIN_N_AUG
from study.config.sections import SeedsConfig


class FieldConfig(Model):
    """The field that is given: that of a checkpoint, or one that is known exactly."""

    checkpoint: str | None = None
    """pfgm: the folder of a field, such as results/fields/<train_id>. poisson_flow: the authors' checkpoint_*.pth. edm, pfgmpp:
    their authors' network-snapshot-*.pkl, training-state-*.pt, a published .pkl, or weights as .safetensors."""
    format: Literal["pfgm", "poisson_flow", "edm", "pfgmpp"] = "pfgm"
    label: Annotated[Integer, Key(ge=0)] | None = None
    """edm, pfgmpp: the class that a network which knows classes is asked for (default: none of them)."""
    exact: Kind | None = None
    """empirical: the field of the data points. gaussian_mixture: of the law of `gaussians`, or a Gaussian like other data."""
    n_aug: Annotated[float, Key(ge=MIN_N_AUG, strict=True)] | None = None
    """exact: extra dimensions, any number from `MIN_N_AUG` or .inf (default 1, PFGM). pfgmpp: D, where the file has none."""

    @model_validator(mode="after")
    def _one(self) -> FieldConfig:
        if (self.checkpoint is None) == (self.exact is None):
            raise Mistake(
                "checkpoint", f"give a checkpoint or exact, one of the two, got {self.checkpoint!r} and {self.exact!r}"
            )
        if self.exact is not None and self.format != "pfgm":
            raise Mistake("format", "belongs to a checkpoint, this field is exact; remove it")
        if self.n_aug is not None and self.exact is None and self.format != "pfgmpp":
            raise Mistake("n_aug", "belongs to exact fields and to format pfgmpp; another checkpoint knows its own, remove it")
        if self.label is not None and self.format not in ("edm", "pfgmpp"):
            raise Mistake("label", "belongs to checkpoints of format edm or pfgmpp; remove it")
        return self

    def __str__(self) -> str:
        if self.exact is None:
            label = "" if self.label is None else f", class {self.label}"
            return f"{self.checkpoint} ({self.format}{label})"
        return f"{self.exact}, known exactly, n_aug = {self.n_aug or 1:g}"


@dataclass(frozen=True)
class FieldSource:
    """The source of a study's fields, and what follows from it; by default they are trained here."""

    declared: FieldConfig | None = None
    """The field that is given."""
    train_id: str | None = None
    """Name of the given field; those that are trained here are named by what they depend on."""
    train: TrainConfig | None = None
    """Configuration of the given field, with every number filled in."""
    network: NetworkConfig | None = None
    """Network of the given field; an exact one has none."""

    @property
    def trains(self) -> bool:
        """Return whether there are training steps to do."""
        return self.declared is None

    @property
    def exact(self) -> bool:
        """Return whether the field is known and nothing is stored."""
        return self.declared is not None and self.declared.exact is not None

    @property
    def unit(self) -> Literal["train", "sample"]:
        """Return whose seeds are the units of replication: those of samplings where the field is given."""
        return "train" if self.trains else "sample"

    def seeds(self, seeds: SeedsConfig) -> list[int]:
        """Return the seeds of the units."""
        return seeds.train_seeds if self.trains else seeds.sample_seeds(0)

    def words(self, n_fields: int, n_there: int) -> str:
        """Return what the plan says of the fields."""
        if self.trains:
            return f"{n_fields} different, {n_there} already trained"
        return f"given: {self.declared}; nothing is trained"
