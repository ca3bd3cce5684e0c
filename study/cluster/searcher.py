"""The Ray Tune side of a study: a Searcher that hands out missing trials, and a callback that follows them.

This module, not Tune, decides whether a trial is tried again. Tune counts a worker that could not be started as a death of the
trial. It counts the death of a worker that is taken over from another trial twice. Imported once Ray's environment is set.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from study.cluster.board import Listener
from study.cluster.lost import write_lost
from study.config.study import StudyConfig
from study.host.progress import Progress
from study.host.stop import Stop
from study.plan.trial import Trial
from study.plan.worklist import Worklist
from study.rows.storage import StorageError


class _Local:
    """Never copied or saved with its contents: Tune pickles what it is given for a restore that is not used here."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self


STARTS = 10
"""Failed starts of one trial's worker before it is given up; they are no tries, and come and go on a busy node."""


class WorklistSearcher(_Local, Searcher):
    """Hands out the trials of a `Worklist`, to at most ``slots`` workers at once, several to one where their fields are trained
    together; there is nothing to save, restore or learn."""

    def __init__(
        self,
        config: StudyConfig,
        work: Worklist,
        progress: Progress,
        start: Callable[[Trial], None],
        stop: Stop,
        slots: int,
    ) -> None:
        super().__init__()
        self.config, self.work, self.progress, self.start, self.stop, self.slots = config, work, progress, start, stop, slots
        self.own: dict[str, list[Trial]] = {}
        """Our own trials of each Ray trial."""
        self.began: set[str] = set()
        """Ray trials whose worker has started."""
        self.deaths, self.failed_starts = Counter[str](), Counter[str]()
        """By our own trials."""
        self.said: dict[str, dict[str, Any]] = {}
        """The last report of each Ray trial: how its trials ended, by their ids."""

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The hand-out of the next trials of a worker, None to be asked again, FINISHED when nothing is left."""
        free = self.slots - len(self.own)
        trials = self.work.take_together(free) if free > 0 else []
        if not trials:
            finished: Any = Searcher.FINISHED  # a word, though Ray declares a dictionary
            return finished if self.work.finished else None
        self.own[trial_id] = trials
        for trial in trials:
            self.start(trial)
        number = self.work.number_of_bundle() if len(trials) > 1 else None
        return {"trials": [{**trial.handout(), "todo": self.work.missing(trial)} for trial in trials], "number": number}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A Ray trial ended; with ``error``, `failed` follows, which knows why."""
        if error or trial_id not in self.own:
            return
        trials, said = self._take_back(trial_id)
        for trial in trials:
            elsewhere = said.get(trial.trial_id, {}).get("phase") == "elsewhere"
            if elsewhere:
                self.work.postpone(trial)
            self.progress.finish(trial.trial_id, postponed=elsewhere)

    def failed(self, trial_id: str, reason: str, counts: bool = True) -> None:
        """A worker died or could not be started: try its trials again, or write the missing rows of those that had their tries.

        A trial that was not alone is not given up: the worker may have died of another one. Its last try is alone.

        Args:
            reason: what Ray says about it.
            counts: False for an end that is nobody's fault, such as that of a node that was taken away.
        """
        counted = self.deaths if counts and trial_id in self.began else self.failed_starts
        trials, said = self._take_back(trial_id)
        if unwritten := [end["error"] for end in said.values() if end.get("phase") == "storage"]:  # all are to be run again
            self.stop.because(str(unwritten[0]))
            for trial in trials:
                self.progress.finish(trial.trial_id, lost=True)
            return
        left = self._unmeasured(trials) if len(trials) > 1 else trials
        for trial in trials:
            if trial not in left:
                self.progress.finish(trial.trial_id)
        now = time.monotonic()
        for trial in left:
            counted[trial.trial_id] += 1
            spent = self.deaths[trial.trial_id] > self.config.retries or self.failed_starts[trial.trial_id] >= STARTS
            again = not spent or len(trials) > 1
            if again:
                last_try = counted is self.deaths and counted[trial.trial_id] == self.config.retries
                self.work.postpone(trial, alone=spent or last_try, now=now)
            else:
                self._write_lost(trial, reason)
            self.progress.finish(trial.trial_id, lost=not again, postponed=again)

    def _unmeasured(self, trials: list[Trial]) -> list[Trial]:
        """The trials of a worker that died which are not over."""
        try:
            self.work.measured.refresh()
        except StorageError as error:
            self.stop.because(str(error))
        return [trial for trial in trials if self.work.missing(trial)]

    def _take_back(self, trial_id: str) -> tuple[list[Trial], dict[str, Any]]:
        self.began.discard(trial_id)
        trials = self.own.pop(trial_id)
        for trial in trials:
            self.work.give_back(trial.trial_id)
        return trials, self.said.pop(trial_id, {})

    def _write_lost(self, trial: Trial, reason: str) -> None:
        try:
            write_lost(self.config, self.work, trial, self.deaths[trial.trial_id], self.failed_starts[trial.trial_id], reason)
        except StorageError as error:
            self.stop.because(str(error))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the rows are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the rows are the state."""


class ProgressCallback(_Local, tune.Callback):
    """Passes what trials say on to the display."""

    def __init__(self, progress: Progress, searcher: WorklistSearcher, stop: Stop, listener: Listener) -> None:
        self.progress, self.searcher, self.stop, self.listener = progress, searcher, stop, listener

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Many times a second: the place where a run ends that is to stop."""
        self.stop.check()
        self.listener.look()
        for trial in trials:
            if trial.status == "ERROR" and trial.trial_id in self.searcher.own:
                self._failed(trial)  # given up by Tune without a word, such as a worker that did not let go of the last trial

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The worker is there; what happens from now on is the trial's doing."""
        self.searcher.began.add(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if trial.trial_id in self.searcher.own:
            self._failed(trial)

    def _failed(self, trial: Any) -> None:
        there = trial.error_file and Path(trial.error_file).is_file()
        preempted = getattr(trial.get_pickled_error(), "preempted", False)
        self.searcher.failed(
            trial.trial_id, Path(trial.error_file).read_text(encoding="utf-8") if there else "", counts=not preempted
        )

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        if "ends" in result:
            self.searcher.said[trial.trial_id] = json.loads(result["ends"])
            for own_id, said in self.searcher.said[trial.trial_id].items():
                self.progress.update(own_id, said)
