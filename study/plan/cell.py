"""A cell: one planned measurement, and the row of the manifest that says so.

It is a training point, a train seed, a sampler point and a sample seed, undisturbed or under one disturbance, at the end of the
training or at a step on the way.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from pfgm.config import SamplerConfig
from pfgm.process.resolve import resolve_sampler
from study.plan.identity import plain
from study.plan.points import Point
from study.plan.role import Role
from study.rows.records import SCHEMA_VERSION, canonical_json, check_columns

if TYPE_CHECKING:
    from study.plan.trial import Trial

KNOWN = {"process", "n_aug"}
"""Keys of ``train`` that an exact field has: nothing is trained."""


@dataclass(frozen=True)
class SamplerPoint:
    """One sampler point as declared."""

    sampler_id: str
    role: Role
    point: Point
    config: SamplerConfig


class Disturbance(NamedTuple):
    """The disturbance that a field is measured under: ``noise``, ``weight_bits`` or ``weight_noise``, and how much of it."""

    kind: str
    level: float


@dataclass(frozen=True)
class Cell:
    """One planned measurement on the field of a trial."""

    cell_id: str
    trial: Trial
    sampler: SamplerPoint
    seed_sample: int
    disturbance: Disturbance | None
    """None where the field is measured as it is."""
    step: int | None = None
    """The step of its training that the field is measured at; None for the end."""

    @property
    def is_outcome(self) -> bool:
        """Return whether its row says how good its configuration is: of the field as it is, at the end of its training."""
        return self.disturbance is None and self.step is None

    @property
    def point_id(self) -> str:
        """Identity of its training point."""
        return self.trial.point_id

    @property
    def sampler_id(self) -> str:
        """Identity of its sampler point."""
        return self.sampler.sampler_id

    @functools.cached_property
    def declared(self) -> str:
        """The searched values of its training and sampler point, as the column ``design_point`` holds them."""
        return canonical_json(plain({"train": self.trial.point, "sampler": self.sampler.point}))

    def to_row(self) -> Mapping[str, object]:
        """Return its row of the manifest, made anew: kept, the rows of 100,000 cells would take 700 MB."""
        return {**columns_of_trial(self.trial), **_of_sampler(self), **_of_cell(self)}


def planned_table(cells: Sequence[Cell], schema: pa.Schema) -> pa.Table:
    """Cells as rows of the manifest, column by column; what cells share is made once, and no row of its own for each.

    Raises:
        KeyError: a column that the schema lacks.
    """
    trials: dict[int, Mapping[str, object]] = {}
    samplers: dict[tuple[int, str], Mapping[str, object]] = {}
    parts = []
    for cell in cells:
        trial = id(cell.trial)  # trials with equal fields are others
        if trial not in trials:
            trials[trial] = columns_of_trial(cell.trial)
        if (trial, cell.sampler_id) not in samplers:
            samplers[trial, cell.sampler_id] = _of_sampler(cell)
        parts.append((_of_cell(cell), samplers[trial, cell.sampler_id], trials[trial]))
    check_columns({name for part in parts for columns in part for name in columns}, schema)
    columns = {name: [next((p[name] for p in part if name in p), None) for part in parts] for name in schema.names}
    return pa.Table.from_pydict(columns, schema=schema)


def columns_of_trial(trial: Trial) -> dict[str, object]:
    """Return the columns that all cells of a trial share."""
    info, exact = trial.config.info, trial.network is None
    trained = trial.train.model_dump(include=KNOWN if exact else None, exclude={"force"})
    return {
        "study_id": trial.config.name,
        "trial_id": trial.trial_id,
        "point_id": trial.point_id,
        "train_id": trial.train_id,
        "seed_train": trial.seed,
        "design_role": str(trial.role),
        "data_name": info.name,
        "data_hash": info.hash,
        "data_n": info.n,
        "data_dim": info.dim,
        "data_center": info.center,
        **{f"network_{k}": ",".join(map(str, v)) if isinstance(v, tuple) else v for k, v in trial.network or ()},
        **{f"train_{k}": v for k, v in trained.items()},
        "train_height_max": None if exact else trial.process.height_max,
        "train_R_max": None if exact else trial.process.R_max,
        "prov_design": trial.config.design.name,
        "schema_version": SCHEMA_VERSION,
    }


def _of_sampler(cell: Cell) -> dict[str, object]:
    """Return the columns that all cells of a trial at one sampler point share."""
    numbers = resolve_sampler(cell.sampler.config, cell.trial.process)
    return {
        "sampler_id": cell.sampler_id,
        "design_sampler_role": str(cell.sampler.role),
        "design_point": cell.declared,
        **{f"sampler_{k}": v for k, v in cell.sampler.config.model_dump().items()},
        "sampler_label": None if cell.sampler.config.label is None else str(cell.sampler.config.label),
        "sampler_T": numbers.T,
        "sampler_T_ratio": numbers.T_ratio,
        "sampler_atol": numbers.atol,
    }


def _of_cell(cell: Cell) -> dict[str, object]:
    """Return the columns of one cell alone."""
    kind, level = cell.disturbance or (None, None)
    last = 0 if cell.trial.network is None else cell.trial.train.steps
    return {
        "cell_id": cell.cell_id,
        "seed_sample": cell.seed_sample,
        "step": last if cell.step is None else cell.step,
        "is_final": cell.step is None,
        "perturb_kind": kind,
        "perturb_level": level,
    }
