"""What is left to do: trials with missing cells, handed out one by one, and the manifest of everything planned.

No trial is handed out while another with the same ``train_id`` runs: the second finds the field in the store. Under a
design that grows, such as tpe, one point is added whenever the queue is empty, until ``design.trials`` are planned.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

from study.config.study import StudyConfig
from study.fields.store import FieldStore
from study.plan.designs.design import GrowingDesign, design_of
from study.plan.own_columns import manifest_schema
from study.plan.reach import identities, joint_points
from study.plan.trial import Trial
from study.rows.records import DamagedFile, is_done, read_evals, read_table, write_table
from study.rows.storage import Place

logger = logging.getLogger(__name__)
POSTPONE_S = 5.0


class Worklist:
    """The plan of a study against the rows it has.

    Attributes:
        planned: the trials of `study.plan.make.make_plan`, made once.
        cells: what is to be measured, in the order planned.
        rows: measured rows by cell_id (terminal statuses only, with every metric asked for).
        joint: where the design proposes points: every point there is, where they can be counted.
    """

    def __init__(self, config: StudyConfig, planned: Sequence[Trial]) -> None:
        self.config, self.planned = config, tuple(planned)
        design = design_of(config)
        self.growing = design if isinstance(design, GrowingDesign) else None
        self.joint = joint_points(config) if self.growing else None
        self.restart()

    def restart(self) -> None:
        """Begin anew with what the storage holds now. Nothing is planned again, but proposed points are read again."""
        self.exhausted = False
        self.trials = self.growing.restored(self.config, self._proposed()) if self.growing else list(self.planned)
        self.cells = [cell for trial in self.trials for cell in trial.cells]
        self.rows: dict[str, Mapping[str, object]] = {}
        self.refresh()
        self.waiting = [t for t in self.trials if self.missing(t)]
        self.busy: dict[str, Trial] = {}
        self.not_before: dict[str, float] = {}

    def _proposed(self) -> list[dict[str, object]]:
        """Rows of the points that earlier starts proposed."""
        written = read_manifest(self.config.folder / "manifest.parquet")
        if written:
            return written
        # the manifest is lost: the rows say what was proposed, in the order measured
        return sorted(read_evals(self.config.folder, []), key=lambda row: str(row["prov_finished_at"]))

    def refresh(self) -> None:
        """Read the rows again. Damaged files are set aside: what they held is measured again."""
        damaged: list[Place] = []
        rows = read_evals(self.config.folder, damaged)
        for place in damaged:
            logger.warning("%s cannot be read; it is set aside and measured again", place)
            place.set_aside()
        self.rows = {str(r["cell_id"]): r for r in rows if is_done(r, self.config.evaluate.metrics)}

    def missing(self, trial: Trial) -> list[str]:
        """Cells of a trial that have no row."""
        return [c.cell_id for c in trial.cells if c.cell_id not in self.rows]

    @property
    def points_to_ask(self) -> int:
        """Points that the design is still to propose."""
        if self.growing is None or self.exhausted:
            return 0
        wanted = self.growing.asked(self.config)
        if self.joint is not None:
            wanted = min(wanted, len(self.joint))
        return max(wanted - len(identities(self.cells)), 0)

    @property
    def rows_planned(self) -> int:
        """Rows when all is done, points still to be proposed included."""
        seeds = self.config.seeds
        return len(self.cells) + self.points_to_ask * len(seeds.train_seeds) * len(seeds.sample_seeds)

    @property
    def rows_left(self) -> int:
        return self.rows_planned - sum(c.cell_id in self.rows for c in self.cells)

    @property
    def rows_kept(self) -> int:
        """Rows of an earlier, larger plan, which are not part of this one."""
        return len(self.rows.keys() - {c.cell_id for c in self.cells})

    def steps_left(self, store: FieldStore) -> int:
        """Training steps of the fields that no one has trained yet; none where the field is given."""
        if not self.config.field_source.trains:
            return 0
        steps = {t.train_id: t.train.steps for t in self.waiting}
        there = store.published(steps.keys())
        new = {train_id: n for train_id, n in steps.items() if train_id not in there}
        ahead = (
            self.points_to_ask * len(self.config.seeds.train_seeds) * self.config.training(self.config.default("train")).steps
            if self.growing
            else 0
        )
        return sum(new.values()) + ahead

    @property
    def finished(self) -> bool:
        return not self.waiting and not self.busy and self.points_to_ask == 0

    def take(self) -> Trial | None:
        """The next trial to run, or None when all that is left waits for a running one."""
        if not self.waiting and self.growing and self.points_to_ask:
            self._ask(self.growing)
        training, now = {t.train_id for t in self.busy.values()}, time.monotonic()
        for trial in self.waiting:
            if trial.train_id not in training and self.not_before.get(trial.trial_id, now) <= now:
                self.waiting.remove(trial)
                self.busy[trial.trial_id] = trial
                return trial
        return None

    def give_back(self, trial_id: str) -> Trial:
        """A trial is over; what it measured is read again by `refresh`."""
        return self.busy.pop(trial_id)

    def postpone(self, trial: Trial) -> None:
        """Its worker died, or another study is training its field: come back to it later, after all others."""
        self.waiting.append(trial)
        self.not_before[trial.trial_id] = time.monotonic() + POSTPONE_S

    def _ask(self, design: GrowingDesign) -> None:
        self.refresh()
        proposed = design.propose(self.config, self.cells, self.rows, self.joint)
        self.exhausted = not proposed
        for trial in proposed:
            self.trials.append(trial)
            self.cells += trial.cells
            self.waiting.append(trial)
        self.write_manifest()

    def write_manifest(self) -> None:
        """Write ``manifest.parquet``; planned rows of an earlier, larger plan are kept."""
        path = self.config.folder / "manifest.parquet"
        known = {c.cell_id for c in self.cells}
        kept = [r for r in read_manifest(path) if r["cell_id"] not in known and r["cell_id"] in self.rows]
        write_table(path, [*(c.to_row() for c in self.cells), *kept], manifest_schema())


def read_manifest(path: Place) -> list[dict[str, object]]:
    """The planned cells that were written down; none where there is no file. A damaged one is set aside: it is made anew."""
    try:
        return read_table(path)
    except FileNotFoundError:
        return []
    except DamagedFile as error:
        logger.warning("%s; it is set aside", error)
        path.set_aside()
        return []
