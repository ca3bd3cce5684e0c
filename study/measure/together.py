"""Fields that were handed out together are trained together, step by step beside each other (`pfgm.training.bundle`).

Each is claimed, stored, stopped and published by itself, as it would be alone. What cannot go on in the bundle goes on alone
when its trial's turn comes: from its stored state, or from the start. That is so for a field whose state is of another device
or of a step in parts, for all where the memory does not hold a step of them together, and for all after an error that is no
field's own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

from torch import Tensor

from pfgm.memory import is_out_of_memory
from pfgm.mistakes import Mistake
from pfgm.training.bundle import Bundle, BundleTooLarge
from pfgm.training.history import Progress, TrainingDiverged
from study.measure.job import Job, data_of
from study.measure.limits import TimeLimitReached
from study.measure.outcomes import one_line
from study.rows.storage import StorageError

logger = logging.getLogger(__name__)
State = Mapping[str, Tensor]


def train_together(jobs: Sequence[Job]) -> None:
    """Train the fields of some trials; each job then has its field, or the error that ended its training, or neither.

    Raises:
        StorageError: a field or a state could not be written.
    """
    ours = [job for job in jobs if job.claim()]
    try:
        begun = [(job, job.begun()) for job in ours]
        fit = [(job, state) for job, state in begun if state is None or int(state.get("parts", 1)) == 1]
        if len(fit) > 1:
            _Together([job for job, _ in fit], [state for _, state in fit]).run()
    except StorageError:
        raise
    except BundleTooLarge as error:
        logger.warning("%s; they go on alone", error)
    except Exception as error:
        if not isinstance(error, Mistake) and not is_out_of_memory(error):
            logger.warning("%d fields cannot be trained together (%s); they go on alone", len(ours), one_line(error))
    finally:
        for job in ours:
            job.release()


class _Together:
    """The jobs of a bundle while it is trained."""

    def __init__(self, jobs: Sequence[Job], states: Sequence[State | None]) -> None:
        self.jobs, first = jobs, jobs[0]
        assert first.trial.network is not None
        data = data_of(first.config.data, first.config.info.hash)
        trains, seeds = [job.trial.train for job in jobs], [job.trial.seed for job in jobs]
        self.bundle = Bundle(data, first.trial.network, trains, seeds, first.device)
        for k, state in enumerate(states):
            self.bundle.fields[k].keep_at = jobs[k].trial.steps_on_the_way
            if state is not None:
                self._continue(k, state)
        now = time.monotonic()
        self.saved = [now for _ in self.jobs]
        self.first = [field.step for field in self.bundle.fields]
        self.before = [field.elapsed_s for field in self.bundle.fields]

    def _continue(self, k: int, state: State) -> None:
        try:
            self.bundle.load_state(k, state)
        except ValueError as error:  # begun on the CPU and continued on CUDA, or the reverse
            logger.warning("%s: %s", self.jobs[k].trial.trial_id, error)

    def run(self) -> None:
        """Train until all have ended, been dropped or diverged."""
        at = time.monotonic()
        try:
            active = self.bundle.active
            for reports in self.bundle.run():
                now = time.monotonic()
                self._charge(active, now - at)
                at = now
                for k, report in reports.items():
                    self._hear(k, report)
                active = self.bundle.active
        except BundleTooLarge:
            for k in self.bundle.active:
                self.jobs[k].keep(self.bundle.fields[k])
                self.jobs[k].store.save_training(self.jobs[k].trial.train_id, self.bundle.fields[k].state())
            raise

    def _charge(self, active: Sequence[int], seconds: float) -> None:
        """A trial's time limit counts its part of the time; a field that left waits until all have ended."""
        for k, job in enumerate(self.jobs):
            job.deadline.put_off(seconds * (1 - 1 / len(active)) if k in active else seconds)

    def _hear(self, k: int, report: Progress | TrainingDiverged) -> None:
        job, trainer = self.jobs[k], self.bundle.fields[k]
        if isinstance(report, TrainingDiverged):
            job.ended = report
            job.release()
            return
        job.train_s, job.steps = trainer.elapsed_s - self.before[k], report.step - self.first[k]
        job.tell(report)
        job.keep(trainer)
        if report.step == report.steps:
            job.made = job.publish(trainer)
            job.release()
            return
        late, now = job.deadline.over, time.monotonic()
        if late or now - self.saved[k] > job.config.limits.checkpoint_seconds:
            job.store.save_training(job.trial.train_id, trainer.state())
            self.saved[k] = now
        if late:
            self.bundle.drop(k)
            job.ended = TimeLimitReached(job.deadline.told)
            job.release()
