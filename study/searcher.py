"""The Ray Tune side of a study: a Searcher that hands out missing trials, and a callback that follows them.

The only module besides `study.scheduler` that imports ray; imported once Ray's environment is set.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from study.config import StudyConfig
from study.plan import Trial
from study.progress import Progress
from study.stop import Stop
from study.storage import StorageError
from study.worklist import Worklist


class _Local:
    """Never copied or saved with its contents: Tune pickles what it is given for a restore that is not used here."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self


class WorklistSearcher(_Local, Searcher):
    """Hands out the trials of a `Worklist`; there is nothing to save, restore or learn."""

    def __init__(
        self, config: StudyConfig, work: Worklist, progress: Progress, start: Callable[[Trial], None], stop: Stop
    ) -> None:
        super().__init__()
        self.config, self.work, self.progress, self.start, self.stop = config, work, progress, start, stop
        self.own: dict[str, str] = {}
        self.errors: dict[str, str] = {}
        self.said: dict[str, dict[str, Any]] = {}
        """The last report of each running trial."""

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The hand-out of the next trial, None to be asked again, FINISHED when nothing is left."""
        trial = self.work.take()
        if trial is None:
            finished: Any = Searcher.FINISHED  # a word, though Ray declares a dictionary
            return finished if self.work.finished else None
        self.own[trial_id] = trial.trial_id
        self.start(trial)
        return {**trial.handout(), "todo": self.work.missing(trial)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A Ray trial ended; with ``error`` its process died on every try, and the missing rows are written here."""
        trial = self.work.give_back(self.own.pop(trial_id))
        said = self.said.pop(trial_id, {})
        if error and said.get("phase") == "storage":
            self.stop.because(str(said["error"]))  # no row could be written: the trial is to be run again
        elif error:
            self._write_lost(trial, self.errors.pop(trial_id, ""))
        elif said.get("phase") == "elsewhere":
            self.work.postpone(trial)
        self.progress.finish(trial.trial_id, lost=error, postponed=said.get("phase") == "elsewhere")

    def _write_lost(self, trial: Trial, reason: str) -> None:
        from study.scheduler import write_lost

        try:
            write_lost(self.config, self.work, trial, reason)
        except StorageError as error:
            self.stop.because(str(error))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the rows are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the rows are the state."""


class ProgressCallback(_Local, tune.Callback):
    """Passes what trials report on to the display."""

    def __init__(self, progress: Progress, searcher: WorklistSearcher, stop: Stop) -> None:
        self.progress, self.searcher, self.stop = progress, searcher, stop

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Many times a second: the place where a run ends that is to stop."""
        self.stop.check()

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A try failed and another follows: keep what Ray knows about it, in case that is the last word."""
        if trial.error_file and Path(trial.error_file).is_file():
            self.searcher.errors[trial.trial_id] = Path(trial.error_file).read_text(encoding="utf-8")

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        if "own_id" in result:
            self.searcher.said[trial.trial_id] = result
            self.progress.update(str(result["own_id"]), result)
