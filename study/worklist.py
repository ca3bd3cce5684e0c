"""What is left to do: trials with missing cells, handed out one by one, and the manifest of everything planned.

No trial is handed out while another with the same ``train_id`` runs: the second finds the field in the store. For the tpe
design the queue grows by one point whenever it runs empty, until ``design.trials`` points are planned.
"""

from __future__ import annotations

from collections.abc import Mapping

from study import tpe
from study.config import StudyConfig
from study.fields import FieldStore
from study.plan import Trial, make_plan, read_point
from study.records import MANIFEST, STATUSES, read_evals, read_table, write_table

TPE_TRIALS = 32


class Worklist:
    """The plan of a study against the rows it has.

    Attributes:
        cells: manifest rows, in the order planned.
        rows: measured rows by cell_id (terminal statuses only).
    """

    def __init__(self, config: StudyConfig) -> None:
        self.config = config
        self.tpe, self.exhausted = config.design.name == "tpe", False
        self.trials = _planned_tpe(config) if self.tpe else make_plan(config)
        self.cells = [cell for trial in self.trials for cell in trial.cells(config)]
        self.rows: dict[str, Mapping[str, object]] = {}
        self.refresh()
        self.waiting = [t for t in self.trials if self.missing(t)]
        self.busy: dict[str, Trial] = {}

    def refresh(self) -> None:
        """Read the rows again."""
        self.rows = {str(r["cell_id"]): r for r in read_evals(self.config.folder) if r["status"] in STATUSES}

    def missing(self, trial: Trial) -> list[str]:
        """Cells of a trial that have no row."""
        return [str(c["cell_id"]) for c in trial.cells(self.config) if c["cell_id"] not in self.rows]

    @property
    def points_to_ask(self) -> int:
        """Points that Optuna is still to propose."""
        if not self.tpe or self.exhausted:
            return 0
        return max((self.config.design.trials or TPE_TRIALS) - len(tpe.by_point(self.cells)), 0)

    @property
    def rows_planned(self) -> int:
        """Rows when all is done, points still to be proposed included."""
        seeds = self.config.seeds
        return len(self.cells) + self.points_to_ask * len(seeds.train_seeds) * len(seeds.sample_seeds)

    @property
    def rows_left(self) -> int:
        return self.rows_planned - sum(c["cell_id"] in self.rows for c in self.cells)

    @property
    def rows_kept(self) -> int:
        """Rows of an earlier, larger plan, which are not part of this one."""
        return len(self.rows.keys() - {str(c["cell_id"]) for c in self.cells})

    def steps_left(self, store: FieldStore) -> int:
        """Training steps of the fields that no one has trained yet."""
        new = {t.train_id: t.train.steps for t in self.waiting if t.train_id not in store}
        ahead = (
            self.points_to_ask * len(self.config.seeds.train_seeds) * self.config.training(self.config.default("train")).steps
            if self.tpe
            else 0
        )
        return sum(new.values()) + ahead

    @property
    def finished(self) -> bool:
        return not self.waiting and not self.busy and self.points_to_ask == 0

    def take(self) -> Trial | None:
        """The next trial to run, or None when all that is left waits for a running one."""
        if not self.waiting and self.points_to_ask:
            self._ask()
        training = {t.train_id for t in self.busy.values()}
        for trial in self.waiting:
            if trial.train_id not in training:
                self.waiting.remove(trial)
                self.busy[trial.trial_id] = trial
                return trial
        return None

    def give_back(self, trial_id: str) -> Trial:
        """A trial is over; what it measured is read again by `refresh`."""
        return self.busy.pop(trial_id)

    def _ask(self) -> None:
        self.refresh()
        proposed = tpe.propose(self.config, self.cells, self.rows)
        self.exhausted = not proposed
        for trial in proposed:
            self.trials.append(trial)
            self.cells += trial.cells(self.config)
            self.waiting.append(trial)
        self.write_manifest()

    def write_manifest(self) -> None:
        """Write ``manifest.parquet``; planned rows of an earlier, larger plan are kept."""
        path = self.config.folder / "manifest.parquet"
        known = {c["cell_id"] for c in self.cells}
        kept = (
            [r for r in read_table(path) if r["cell_id"] not in known and r["cell_id"] in self.rows] if path.is_file() else []
        )
        write_table(path, [*self.cells, *kept], MANIFEST)


def _planned_tpe(config: StudyConfig) -> list[Trial]:
    """Points that earlier starts proposed, rebuilt from the manifest."""
    make_plan(config)  # refuses absurd spaces
    path = config.folder / "manifest.parquet"
    cells = read_table(path) if path.is_file() else []
    trials = []
    for index, (declared, members) in enumerate(tpe.by_point(cells).items()):
        point = read_point(declared)
        role = str(members[0]["design_role"])
        trials += tpe.trials_of(config, role, index, point["train"], point["sampler"])
    return trials
