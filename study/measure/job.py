"""One try of a trial, and where its field comes from: known exactly, given, in the store, or trained here."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pfgm.config import DataConfig
from pfgm.data.dataset import Dataset, load_data
from pfgm.flow.exact import ExactField
from pfgm.flow.trained import Field
from pfgm.training.history import Progress
from pfgm.training.trainer import Trainer
from study.config.study import StudyConfig
from study.fields.given import given_field
from study.fields.store import FieldStore
from study.measure.limits import Deadline
from study.measure.trackers.tracker import CURVE, Trackers
from study.measure.writing import RowWriter
from study.plan.trial import Trial

logger = logging.getLogger(__name__)
Report = Callable[[Mapping[str, object]], None]
"""Told where the trial stands: phase (train, measure, done, elsewhere, storage), step, steps, loss, rows, rows_total, bad (rows
so far that are not complete), reused, trained_s and trained_steps (of this try); at the end measured_s (seconds)."""
REPORT_S = 0.5
"""Seconds between two reports of one phase that are passed on."""


class Lease(Protocol):
    """The right to train one field while others wait; it only saves work (see `study.cluster.training_lease`)."""

    def acquire(self, train_id: str) -> bool:
        """Return whether the field is now ours to train."""

    def release(self, train_id: str) -> None:
        """Let others have it."""


@dataclass
class Job:
    """One try of a trial: what it works with."""

    config: StudyConfig
    trial: Trial
    report: Report
    lease: Lease | None
    deadline: Deadline
    store: FieldStore
    device: torch.device
    trackers: Trackers
    rows: RowWriter
    compile_s: float | None = None
    """Seconds that this try spent compiling the network; None where it did not."""
    train_s: float = 0.0
    """Seconds that this try trained."""
    steps: int = 0
    """Steps that this try trained."""
    made: Field | None = None
    """Its field, where it was trained together with others."""
    ended: Exception | None = None
    """What ended its training among others, if it is the trial's own: it diverged, or was over its time."""
    claimed: bool = False

    def claim(self) -> bool:
        """Return whether its field is to be trained, and is now ours to train until `release`."""
        train_id = self.trial.train_id
        if not self.config.field_source.trains or train_id in self.store:
            return False
        self.claimed = self.lease is None or self.lease.acquire(train_id)
        if self.claimed and self.lease is not None and train_id in self.store:  # published since we looked
            self.release()
        return self.claimed

    def release(self) -> None:
        """Let others have the field."""
        if self.claimed and self.lease is not None:
            self.lease.release(self.trial.train_id)
        self.claimed = False

    def tell(self, progress: Progress) -> None:
        """Say how far the training is."""
        spent = {"trained_s": self.train_s, "trained_steps": self.steps}
        self.report({"phase": "train", "step": progress.step, "steps": progress.steps, "loss": progress.loss, **spent})
        drawn = {CURVE: progress.loss, "gradient_norm": progress.gradient_norm, "learning_rate": progress.learning_rate}
        self.trackers.add(progress.step, drawn)

    def begun(self) -> dict[str, Tensor] | None:
        """The state to train on from: of this training, or of a shorter one of the field; None: from the start."""
        trial = self.trial
        state = self.store.load_training(trial.train_id)
        if state is not None or trial.stem is None or (shorter := self.store.load_training(trial.stem)) is None:
            return state
        step = int(shorter["step"])
        sooner = trial.train.warmup_steps <= step < trial.train.steps
        return shorter if sooner and all(at > step for at in trial.steps_on_the_way) else None

    def publish(self, trainer: Trainer) -> Field:
        """Publish the field that was trained; for a longer training its state is kept, if that can go on from it."""
        field, stem = Field.from_trainer(trainer), self.trial.stem
        if stem is not None:
            before = self.store.load_training(stem)
            if before is None or int(before["step"]) < trainer.step:
                self.store.save_training(stem, trainer.state())
        self.store.publish(self.trial.train_id, field)
        return field

    def keep(self, trainer: Trainer) -> None:
        """Publish the field as it was at the steps on the way that its training has passed; before a later state is saved."""
        for step, average in trainer.kept.items():
            self.store.publish_on_the_way(self.trial.train_id, step, Field.from_trainer(trainer, average))
        trainer.kept.clear()

    def field(self) -> tuple[Field | ExactField | None, bool]:
        """(the trained field, whether it was there already); (None, False) while another study trains it."""
        if self.ended is not None:
            raise self.ended
        if self.made is not None:
            made, self.made = self.made, None  # the others need not wait in memory for the last one
            return made, False
        train_id, source = self.trial.train_id, self.config.field_source
        if source.exact:
            return given_field(source, data_of(self.config.data, self.config.info.hash), self.device), False
        if (field := self.store.load(train_id, self.device)) is not None:
            return field, True
        if not source.trains:
            place = self.store.root / train_id
            raise FileNotFoundError(f"the given field is not at {place} any more; start the study again with --retry-failed")
        if self.lease is None:
            return self.train(), False
        if not self.lease.acquire(train_id):
            return None, False
        try:
            field = self.store.load(train_id, self.device)  # published since we looked?
            return (field, True) if field is not None else (self.train(), False)
        finally:
            self.lease.release(train_id)

    def train(self) -> Field:
        """Train the field, or continue the training that someone began, and publish it."""
        config, trial = self.config, self.trial
        assert trial.network is not None
        data, compiled = data_of(config.data, config.info.hash), config.resources.compile
        trainer = Trainer(data, trial.network, trial.train, trial.seed, self.device, compiled)
        trainer.keep_at = trial.steps_on_the_way
        if (state := self.begun()) is not None:
            try:
                trainer.load_state(state)
            except ValueError as error:  # begun on the CPU and continued on CUDA, or the reverse
                logger.warning("%s: %s", trial.trial_id, error)
        began = saved = time.monotonic()
        first = trainer.step
        for progress in trainer.run():
            self.train_s, self.steps = time.monotonic() - began, progress.step - first
            self.tell(progress)
            self.keep(trainer)
            late = self.deadline.over and progress.step < progress.steps
            if late or time.monotonic() - saved > config.limits.checkpoint_seconds:
                self.store.save_training(trial.train_id, trainer.state())
                saved = time.monotonic()
            if late:
                self.deadline.check()
        self.compile_s = None if trainer.compiled is None else trainer.compiled.cost_s
        return self.publish(trainer)


@functools.lru_cache(maxsize=4)
def data_of(config: DataConfig, data_hash: str) -> Dataset:
    """Return the data set, kept between the trials of one worker.

    Raises:
        RuntimeError: the data are no longer those that were planned with.
    """
    data = load_data(config)
    if data.info.hash != data_hash:
        raise RuntimeError(f"the data {config.path or config.name} changed while the study ran; start it again")
    return data
