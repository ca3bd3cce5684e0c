"""Rows for the cells of a trial whose worker died, or never started."""

from __future__ import annotations

from study.config.study import StudyConfig
from study.measure.outcomes import outcomes, write_log, write_row
from study.plan.trial import Trial
from study.plan.worklist import Worklist


def write_lost(config: StudyConfig, work: Worklist, trial: Trial, deaths: int, failed_starts: int, reason: str) -> None:
    """Rows for the cells of a trial that has had its tries.

    Args:
        deaths: of workers that had started.
        failed_starts: workers that could not be started.
        reason: what Ray said about the last one.
    """
    work.measured.refresh()
    missing = set(work.missing(trial))
    cells = [c for c in trial.cells if c.cell_id in missing]
    log = write_log(config, trial.trial_id, reason) if reason else ""
    if deaths > config.retries:
        error = f"the worker failed {_times(deaths)} (killed, or out of memory)"
    else:
        error = f"no worker could be started ({_times(failed_starts)}; killed, out of memory, or unable to load the study)"
    for row in outcomes(cells, "failed", error, log):
        write_row(config, row)


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"
