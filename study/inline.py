"""The trials of a study one after another in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

from study.config.study import StudyConfig
from study.host.progress import Progress
from study.measure.job import REPORT_S, Report
from study.measure.trial import Task, run_trials
from study.plan.trial import Trial
from study.plan.worklist import Worklist

Start = Callable[[Trial], None]
"""Called with a trial as it is handed out."""


def throttled(report: Report, every_s: float = REPORT_S) -> Report:
    """Pass on at most one report every ``every_s`` seconds, and every change of phase."""
    last_at, last_phase = 0.0, ""

    def say(said: Mapping[str, object]) -> None:
        nonlocal last_at, last_phase
        now, phase = time.monotonic(), str(said["phase"])
        if phase != last_phase or now - last_at > every_s:
            last_at, last_phase = now, phase
            report(said)

    return say


def run_inline(config: StudyConfig, work: Worklist, progress: Progress, start: Start) -> None:
    """Run the trials one after another in this process, for a debugger."""
    while trials := work.take_together():
        for trial in trials:
            start(trial)
        tasks = [Task(t, work.missing(t), throttled(partial(progress.update, t.trial_id))) for t in trials]
        run_trials(config, tasks, work.number_of_bundle() if len(trials) > 1 else None)
        for trial in trials:
            work.give_back(trial.trial_id)
            progress.finish(trial.trial_id)
