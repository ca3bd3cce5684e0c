"""What is left to do: trials with missing cells, handed out one by one, and the manifest of everything planned.

No trial is handed out while another with the same ``train_id`` runs: the second finds the field in the store. Under a
design that grows, such as tpe, one point is added whenever the queue is empty, until ``design.trials`` are planned. Under a
design of rounds, such as settle, a round is added when all rows of the one before are there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from study.config.study import StudyConfig
from study.fields.store import FieldStore
from study.plan.bundles import key_of, size_of_next
from study.plan.cell import Cell, planned_table
from study.plan.designs.design import GrowingDesign, Proposals, design_of
from study.plan.own_columns import manifest_schema
from study.plan.reach import Identity, identities, joint_points
from study.plan.trial import Trial
from study.rows.folders import read_evals
from study.rows.measured import Measured
from study.rows.planned import stored_plan, write_plan, write_proposed
from study.rows.records import done_columns, is_done

logger = logging.getLogger(__name__)
POSTPONE_S = 5.0
MANY_PROPOSED = 100
"""Proposed points after which the manifest is written anew."""
AT_ONCE = 2_000
"""Planned cells that are rows in memory at the same time while the manifest is written."""


class Worklist:
    """The plan of a study against the rows it has.

    Attributes:
        planned: the trials of `study.plan.make.make_plan`, made once.
        cells: what is to be measured, in the order planned.
        measured: what the storage holds of measured rows.
        joint: where the design proposes points: every point there is, where they can be counted.
        most: fields that are handed out together at most.
    """

    def __init__(self, config: StudyConfig, planned: Sequence[Trial]) -> None:
        self.config, self.planned, self.most = config, tuple(planned), 1
        design = design_of(config)
        self.growing = design if isinstance(design, GrowingDesign) else None
        self.in_rounds = self.growing is not None and self.growing.asked(config) is None
        self.joint = joint_points(config) if self.growing and not self.in_rounds else None
        self.kept = ["status", "error_log", *(self.growing.columns(config) if self.growing else ())]
        columns = dict.fromkeys([*done_columns(config.evaluate.metrics), *self.kept])
        self.measured = Measured(config.folder, list(columns), self._keep)
        self.restart()

    def _keep(self, row: Mapping[str, object]) -> Mapping[str, object] | None:
        return {name: row.get(name) for name in self.kept} if is_done(row, self.config.evaluate.metrics) else None

    @property
    def rows(self) -> Mapping[str, Mapping[str, object]]:
        """Measured rows by cell_id (terminal statuses only, with every metric asked for); of each a few columns."""
        return self.measured.rows

    def restart(self) -> None:
        """Begin anew with what the storage holds now. Nothing is planned again, but proposed points are read again."""
        self.exhausted = False
        self.trials: list[Trial] = []
        self.cells: list[Cell] = []
        self.waiting: list[Trial] = []
        self.n_proposed = 0
        self.points = set[Identity]()
        self.proposals = self.growing.begin(self.config, self.joint) if self.growing else None
        self.measured.refresh()
        self._plan(self.growing.restored(self.config, self._proposed()) if self.growing else self.planned)
        if self.in_rounds and self.proposals:
            while proposed := self.proposals.next(self.rows):
                self._plan(proposed)
            self.exhausted = proposed is not None
        self.waiting = [t for t in self.trials if self.missing(t)]
        self.busy: dict[str, Trial] = {}
        self.not_before: dict[str, float] = {}
        self.alone = set[str]()
        """Trials whose fields are not trained beside others any more."""
        self.there = set[str]()
        """Fields that are trained, as far as they were looked for, or have been handed out."""

    def _plan(self, trials: Sequence[Trial]) -> None:
        cells = [cell for trial in trials for cell in trial.cells]
        self.trials += trials
        self.cells += cells
        if self.proposals is not None:
            self.points |= identities(cells)
            self.proposals.add(trials)

    def _proposed(self) -> list[dict[str, object]]:
        """Rows of the points that earlier starts proposed."""
        columns = ["design_point", "design_role"]
        if written := [row for table in stored_plan(self.config.folder, columns) for row in table.to_pylist()]:
            return written
        # the manifest is lost: the rows say what was proposed, in the order measured
        rows = read_evals(self.config.folder, [], [*columns, "prov_finished_at"])
        return sorted(rows, key=lambda row: str(row["prov_finished_at"]))

    def missing(self, trial: Trial) -> list[str]:
        """Cells of a trial that have no row."""
        return [c.cell_id for c in trial.cells if c.cell_id not in self.rows]

    @property
    def points_to_ask(self) -> int:
        """Points that the design is still to propose."""
        if self.growing is None or self.exhausted:
            return 0
        wanted = self.growing.asked(self.config)
        if wanted is None:
            return 0
        if self.joint is not None:
            wanted = min(wanted, len(self.joint))
        return max(wanted - len(self.points), 0)

    @property
    def may_grow(self) -> bool:
        """Whether the design may propose something more."""
        return self.points_to_ask > 0 or (self.in_rounds and not self.exhausted)

    @property
    def rows_planned(self) -> int:
        """Rows when all is done, points still to be proposed included."""
        seeds = self.config.seeds
        return len(self.cells) + self.points_to_ask * len(seeds.train_seeds) * seeds.samplings

    @property
    def rows_left(self) -> int:
        return self.rows_planned - sum(c.cell_id in self.rows for c in self.cells)

    @property
    def rows_kept(self) -> int:
        """Rows of an earlier, larger plan, which are not part of this one."""
        return len(self.rows.keys() - {c.cell_id for c in self.cells})

    def published(self) -> set[str]:
        """Look for the fields of waiting trials, and return those that someone has trained; none where nothing is trained."""
        if not self.config.field_source.trains:
            return set()
        found = FieldStore(self.config.place).published({t.train_id for t in self.waiting})
        self.there |= found
        return found

    def steps_left(self, there: Collection[str]) -> int:
        """Training steps of the fields that no one has trained yet; none where the field is given.

        Args:
            there: the fields that are trained.
        """
        if not self.config.field_source.trains:
            return 0
        ahead = (
            self.points_to_ask * len(self.config.seeds.train_seeds) * self.config.training(self.config.default("train")).steps
            if self.growing
            else 0
        )
        return self.steps_of(self.waiting, there) + ahead

    def steps_of(self, trials: Sequence[Trial], there: Collection[str]) -> int:
        """Training steps of the fields of some trials, those left out that are trained or that an earlier trial trains."""
        own = {id(trial) for trial in trials}
        given = {t.train_id for t in self.trials if id(t) not in own} if self.in_rounds else set[str]()
        steps = {t.train_id: t.train.steps for t in trials}
        return sum(n for train_id, n in steps.items() if train_id not in there and train_id not in given)

    @property
    def finished(self) -> bool:
        return not self.waiting and not self.busy and not self.may_grow

    def take(self) -> Trial | None:
        """The next trial to run, or None when all that is left waits for a running one."""
        if not self.waiting and self.proposals and self.may_grow and not (self.in_rounds and self.busy):
            self._ask(self.proposals)
        training, now = {t.train_id for t in self.busy.values()}, time.monotonic()
        for trial in self.waiting:
            if trial.train_id not in training and self.not_before.get(trial.trial_id, now) <= now:
                self.waiting.remove(trial)
                self.busy[trial.trial_id] = trial
                return trial
        return None

    def take_together(self, free: int = 1) -> list[Trial]:
        """The next trials of one worker, whose fields can be trained together; none as `take`.

        A design that grows is not asked for more than the first of them: a proposal rests on all rows that there are.

        Args:
            free: workers that wait for trials, this one included.
        """
        first = self.take()
        if first is None:
            return []
        taken, size = [first], size_of_next(1 + len(self.waiting), self.most, free)
        key = key_of(first) if size > 1 and self._can_join(first) else None
        training, now = {t.train_id for t in self.busy.values()}, time.monotonic()
        for trial in list(self.waiting) if key is not None else []:
            if len(taken) == size:
                break
            ready = trial.train_id not in training and self.not_before.get(trial.trial_id, now) <= now
            if ready and self._can_join(trial) and key_of(trial) == key:
                self.waiting.remove(trial)
                self.busy[trial.trial_id] = trial
                training.add(trial.train_id)
                taken.append(trial)
        return taken

    def number_of_bundle(self) -> int | None:
        """The number of a worker's file of rows; None for a file a row, as a design that grows looks for them."""
        return None if self.growing else self.measured.next_number()

    def _can_join(self, trial: Trial) -> bool:
        return trial.trial_id not in self.alone and trial.train_id not in self.there

    def give_back(self, trial_id: str) -> Trial:
        """A trial is over; what it measured is read by the next refresh."""
        trial = self.busy.pop(trial_id)
        self.there.add(trial.train_id)
        return trial

    @property
    def lines(self) -> list[str]:
        """What the design says of the study as far as it is measured."""
        return self.proposals.lines(self.rows) if self.proposals else []

    def in_use(self) -> set[str]:
        """Cells of the trials that are running."""
        return {cell.cell_id for trial in list(self.busy.values()) for cell in trial.cells}

    def postpone(self, trial: Trial, alone: bool = False, now: float | None = None) -> None:
        """Its worker died, or another study is training its field: come back to it later, after all others.

        Args:
            trial: the trial.
            alone: its field is then trained beside no other.
            now: the moment from which it waits, one for those that are to come back together.
        """
        self.waiting.append(trial)
        self.there.discard(trial.train_id)
        if alone:
            self.alone.add(trial.trial_id)
        self.not_before[trial.trial_id] = (time.monotonic() if now is None else now) + POSTPONE_S

    def _ask(self, proposals: Proposals) -> None:
        self.measured.look(proposals.running_cells())
        proposed = proposals.next(self.rows)
        if proposed is None:  # a row is gone, such as a damaged one
            self.waiting = [t for t in self.trials if self.missing(t)]
            return
        self.exhausted = not proposed
        if not proposed:
            return
        self._plan(proposed)
        self.waiting += proposed
        cells = [cell for trial in proposed for cell in trial.cells]
        write_proposed(self.config.folder, len(self.cells), planned_table(cells, manifest_schema()))
        self.n_proposed += 1
        if self.n_proposed >= MANY_PROPOSED:
            self.write_manifest()

    def write_manifest(self) -> None:
        """Write ``manifest.parquet``; planned rows of an earlier, larger plan are kept."""
        folder, schema = self.config.folder, manifest_schema()
        known, measured = (pa.array(names, pa.string()) for names in ([c.cell_id for c in self.cells], list(self.rows)))
        parts = [
            planned_table(self.cells[start : start + AT_ONCE], schema) for start in range(0, max(len(self.cells), 1), AT_ONCE)
        ]
        if any(_kept(written, known, measured).num_rows for written in stored_plan(folder, ["cell_id"])):
            parts += [_kept(written, known, measured) for written in stored_plan(folder)]
        write_plan(folder, pa.concat_tables(parts, promote_options="default"))
        self.n_proposed = 0

    def fold(self) -> None:
        """Write the manifest where points were proposed since it was written."""
        if self.n_proposed:
            self.write_manifest()


def _kept(written: pa.Table, known: pa.Array, measured: pa.Array) -> pa.Table:
    """Return the planned cells that are not in the plan any more, but have a row."""
    gone = pc.invert(pc.is_in(written["cell_id"], known))
    return written.filter(pc.and_(gone, pc.is_in(written["cell_id"], measured)))
