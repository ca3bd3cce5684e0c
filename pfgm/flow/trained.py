"""A trained network with its process and the facts of its data.

A call of the network is made in tiles of the batch where the memory would not hold it whole (`pfgm.memory`). What a row takes
is counted once (`pfgm.networks.cost`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pfgm.config import NetworkConfig, SamplerConfig
from pfgm.flow.base import Flow
from pfgm.flow.exported import export_field
from pfgm.flow.written import save_field
from pfgm.memory import fitting_rows, in_tiles
from pfgm.networks.base import FieldNetwork
from pfgm.networks.cost import row_bytes
from pfgm.process.base import Process
from pfgm.process.resolve import class_of, sampler_point
from pfgm.sampling.asked import Asked, asked
from pfgm.sampling.solvers import MeanSource
from pfgm.training.history import Progress
from pfgm.training.trainer import Trainer

if TYPE_CHECKING:
    from pfgm.flow.poisson_flow import from_poisson_flow as from_poisson_flow

AROUND = 6
"""Vectors of d numbers that a process takes a row to read D from the network's output."""


@dataclass(frozen=True)
class Field(Flow):
    """A trained field: network, process and data facts; ready to sample."""

    network: FieldNetwork
    process: Process
    network_config: NetworkConfig
    seed: int
    history: tuple[Progress, ...] = ()
    together: int = 1
    """The most fields that it was trained together with, itself included; 1: alone."""
    told: tuple[int, float] | None = None
    """Of a conditional field: the class and the guidance with which ``mean_source`` answers; None: the field of all classes."""

    @classmethod
    def from_trainer(cls, trainer: Trainer, average: Sequence[Tensor] | None = None) -> Field:
        """The field with a trainer's averaged weights, or with those that it kept on the way."""
        history = tuple(trainer.history)
        whose = (trainer.process, trainer.network_config, trainer.seed)
        return cls(trainer.averaged_network(average), *whose, history, trainer.together)

    def save(self, folder: str | Path) -> None:
        """Write the field into a new folder; `pfgm.load_field` reads it.

        Raises:
            FileExistsError: the folder holds a field already.
            OSError: it cannot be written.
        """
        if (Path(folder) / "field.json").exists():
            raise FileExistsError(f"{folder} holds a field already; name another folder, or remove it")
        save_field(self, folder)

    def export(self, folder: str | Path, **sampler: object) -> None:
        """Write the field as plain torch, for a project without pfgm: ``field.py`` and ``weights.safetensors`` in a new folder.

        ``field.py`` is one file to read and to carry: D(x, t) as a torch module (its forward pass traced by torch.export and
        written as Python, which torch.export takes again) and ``sample(field, n)``, Heun's method with fixed steps. It needs
        torch alone, and unpickles nothing. From the points where ``field.sample(n, solver="heun2", …)`` starts it makes the
        same samples. `pfgm.load_field` does not read it; `save` writes what it reads.

        Args:
            folder: where the files go; the name by which they are imported, ``from my_export.field import Field, sample``.
            sampler: ``steps`` (default 16), ``grid``, ``T``, ``T_ratio`` and ``t_min`` of `pfgm.config.SamplerConfig`.
        Raises:
            FileExistsError: the folder holds an exported field already.
            Mistake: another key, a value that is refused, or a network that cannot be traced.
            OSError: it cannot be written.
        """
        export_field(self, folder, sampler)

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return self.network.dtype

    def double(self) -> Field:
        """Return a copy of this field, computed in float64."""
        return replace(self, network=copy.deepcopy(self.network).double())

    @torch.no_grad()
    def mean_source(self, x: Tensor, t: Tensor) -> Tensor:
        """D(x, t), shape (B, d), in the units of training."""
        return self._told_of(self._in_tiles, x, t)

    @cached_property
    def _row_bytes(self) -> int:
        """Bytes that a call takes for a row: the network's, and x, D and what they are made of."""
        info = self.process.info
        return row_bytes(self.network, info.shape) + AROUND * info.dim * self.dtype.itemsize

    def source_with_gradient(self, x: Tensor, t: Tensor) -> Tensor:
        """D(x, t) through which gradients flow to x."""
        return self._told_of(self._source_of, x, t)

    def _told_of(self, source: Callable[[Tensor, Tensor, Tensor | None], Tensor], x: Tensor, t: Tensor) -> Tensor:
        """D of the classes that this field was told."""
        if self.told is None:
            return source(x, t, None)
        label, guidance = self.told
        return Asked(source, self.process.info.class_counts, label, guidance).of_rows(0, len(x))(x, t)

    def asked(self, sampler: SamplerConfig) -> MeanSource | Asked:
        """Return D as a sampler point asks for it; what it leaves open is that of `of_class`."""
        if not self.process.classes:
            return super().asked(sampler)
        if self.told is not None:
            given = {
                key: value for key, value in (("label", sampler.label), ("guidance", sampler.guidance)) if value is not None
            }
            sampler = sampler.model_copy(update={"label": self.told[0], "guidance": self.told[1]} | given)
        return asked(sampler, self.process, torch.no_grad()(self._in_tiles))

    def of_class(self, label: object, guidance: object = None) -> Field:
        """Return a conditional field as that of one class, by number or name, at some strength of guidance.

        Raises:
            Mistake: the field is not conditional, or has no such class.
        """
        super().of_class(label, guidance)
        before, weight = self.told or (None, 1.0)
        number = before if label is None else class_of(sampler_point({"label": label}), self.process)
        weight = weight if guidance is None else float(str(guidance))
        return replace(self, told=None if number is None or weight == 0 else (number, weight))

    @property
    def knows_class(self) -> bool:
        return self.told is not None or not self.process.classes

    def _source_of(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """D of rows of some classes (B,), or of all classes."""
        network = self.network if labels is None else self.network.told(labels)
        return self.process.mean_source(network, x, t)

    def _in_tiles(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """`_source_of` on as many rows at a time as the memory holds."""
        size = len(x) if len(x) < 2 else fitting_rows(len(x), self._row_bytes, x.device)
        if labels is None:
            return in_tiles(lambda x, t: self._source_of(x, t, None), (x, t), size)
        return in_tiles(self._source_of, (x, t, labels), size)
