"""The fields of a study that settles: which there are, what is measured on each, and what the rows say of them together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from study.config.space import Value
from study.config.study import StudyConfig
from study.plan.axes import SearchedAxis
from study.plan.identity import sampler_id
from study.plan.points import Declared, Point
from study.plan.role import Role
from study.plan.trial import DISJOINT_STRIDE, Trial, make_trial
from study.rows.settle.judge import Sample, Table
from study.rows.settle.rounds import Round

Spot = tuple[str, Value]
"""An axis and a value of it; ("", None) is the default."""
Field = tuple[Spot, int]
"""A training point and the number of its seed."""
DEFAULT: Spot = ("", None)
EDGE = "edge"
"""What the role of a value has beside its arm where it was added to narrow a bracket."""
Rows = Mapping[str, Mapping[str, object]]


class Bench:
    """All fields that were planned, by training point and number of the seed, and the cells at each sampler point.

    Attributes:
        fields: in the order planned, each with its cells at each sampler point.
        cells: every cell that was planned.
        last: the cells of the last round.
    """

    def __init__(self, config: StudyConfig, axes: Sequence[SearchedAxis]) -> None:
        self.config, self.axes = config, {axis.rule.name: axis for axis in axes}
        self.fields: dict[Field, dict[Spot, list[str]]] = {}
        self.points: dict[Spot, int] = {}
        """Number of each training point, in the order planned."""
        self.cells, self.last = list[str](), list[str]()
        self._made: list[tuple[Trial, Field, Sequence[Spot]]] = []

    def work(self, work: Round, most: float = math.inf) -> list[Trial]:
        """Return the trials of a round: new fields, and new sampler points on fields that are there.

        Args:
            work: the fields that each value is to have.
            most: new fields at most; the first ones of the round are kept.
        """
        wanted: dict[Field, list[Spot]] = {(DEFAULT, i): [DEFAULT] for i in range(work.default)}
        for task in (t for t in work.tasks if not t.axis.paired):
            wanted |= {((task.axis.name, task.value), i): [DEFAULT] for i in range(task.want)}
        new = [field for field in wanted if field not in self.fields]
        kept = new if len(new) <= most else new[: int(most)]
        planned = {field: [DEFAULT] for field in kept}
        pool = [field for field in dict.fromkeys([*self.fields, *kept]) if field[0] == DEFAULT]
        pool += [field for field in dict.fromkeys([*self.fields, *kept]) if field[0] != DEFAULT]
        for task in (t for t in work.tasks if t.axis.paired):
            spot = (task.axis.name, task.value)
            there = [field for field in pool if spot in self.fields.get(field, ())]
            more = [field for field in pool if field not in there][: max(task.want - len(there), 0)]
            for field in more:
                planned.setdefault(field, []).append(spot)
        self._made = [(self._trial(field, spots), field, spots) for field, spots in planned.items()]
        return [trial for trial, _, _ in self._made]

    def take(self) -> None:
        """Take in the trials of the last `work`."""
        self.last = []
        for trial, field, spots in self._made:
            there = self.fields.setdefault(field, {})
            names: dict[str, list[Spot]] = {}  # two axes may meet in one point, such as a solver and its steps
            for spot in spots:
                names.setdefault(sampler_id(self.config.sampling(self._declared("sampler", spot)[1])), []).append(spot)
            for cell in trial.cells:
                self.last.append(cell.cell_id)
                for spot in names[cell.sampler_id] if cell.is_outcome else ():
                    there.setdefault(spot, []).append(cell.cell_id)
        self.cells += self.last
        self._made = []

    def seconds(self, rows: Rows) -> float:
        """Return what the rows took: training once a field, sampling and metrics once a row."""
        total = 0.0
        for there in self.fields.values():
            own = [rows[cell] for cells in there.values() for cell in cells if cell in rows]
            total += max((_number(row, "cost_train_s") for row in own), default=0.0)
            total += sum(_number(row, "cost_sample_s") + _number(row, "cost_metric_s") for row in own)
        return total

    def table(self, rows: Rows, column: str) -> Table:
        """Return what the rows say, as the rule takes it.

        Args:
            rows: measured rows by cell.
            column: the rated metric.
        """
        values: dict[str, dict[Value, Sample]] = {name: {} for name in self.axes}
        default = _none()
        logs = {
            field: {spot: _logs(rows, cells, column) for spot, cells in there.items()} for field, there in self.fields.items()
        }
        for (spot, number), there in logs.items():
            seed = self._seed(self.points[spot], number)
            sample = default if spot == DEFAULT else values[spot[0]].setdefault(spot[1], _none())
            _add(sample, seed, there[DEFAULT], {})
            sound = any(math.isfinite(y) for measured in there.values() for y in measured.values())
            for name, value in (s for s in there if s != DEFAULT and sound):  # a field without any row blames no sampler
                _add(values[name].setdefault(value, _none()), seed, there[name, value], there[DEFAULT])
        trained = [sample.y for name, of in values.items() if not self.axes[name].rule.paired for sample in of.values()]
        return Table(default, values, len(self.fields), [default.y, *trained])

    def _trial(self, field: Field, spots: Sequence[Spot]) -> Trial:
        spot, number = field
        index = self.points.setdefault(spot, len(self.points))
        sampling = [self._declared("sampler", s) for s in spots]
        role, point = self._declared("train", spot)
        return make_trial(self.config, role, point, self._seed(index, number), sampling)

    def _declared(self, group: str, spot: Spot) -> Declared:
        """Return role and point of a spot in one group."""
        if spot == DEFAULT:
            return "default", self.config.default(group)
        axis = self.axes[spot[0]]
        role = Role.arm(axis.key)
        point: Point = self.config.group(group).moved(axis.key, axis.value(spot[1]))
        return role if spot[1] in axis.rule.first else role.joined(Role(EDGE)), point

    def _seed(self, index: int, number: int) -> int:
        """Return a train seed: those of the study file, then the whole numbers after its largest."""
        seeds = self.config.seeds.train_seeds
        seed = seeds[number] if number < len(seeds) else max(seeds) + 1 + number - len(seeds)
        return index * DISJOINT_STRIDE + seed if self.config.seeds.disjoint else seed


def _logs(rows: Rows, cells: Sequence[str], column: str) -> dict[int, float]:
    """Return the log metric by place of the sample seed; NaN where a row is not complete or has no number."""
    found = {}
    for i, cell in enumerate(cells):
        value = _number(rows[cell], column) if rows[cell]["status"] == "complete" else 0.0
        found[i] = math.log(value) if 0 < value < math.inf else math.nan
    return found


def _none() -> Sample:
    return Sample(np.zeros(0), np.zeros(0, dtype=int))


def _add(sample: Sample, seed: int, logs: Mapping[int, float], base: Mapping[int, float]) -> None:
    """Add a field to a value: the mean over sample seeds, of ratios to the default sampler point where ``base`` is given."""
    known = [y - base.get(i, 0.0) for i, y in logs.items()]
    usable = [y for y in known if math.isfinite(y)]
    sample.asked += 1
    sample.n_bad += any(not math.isfinite(y) for y in logs.values())
    if usable:
        sample.y = np.append(sample.y, sum(usable) / len(usable))
        sample.seeds = np.append(sample.seeds, seed)


def _number(row: Mapping[str, object], column: str) -> float:
    value = row.get(column)
    return float(value) if isinstance(value, int | float) else 0.0
