"""Run the missing trials: with Ray Tune, or one after another in this process.

Ray Tune places trials and reuses worker processes; it keeps no state that matters. Every start is a new session whose Searcher
hands out what the rows say is missing, and once more what a process that died was given.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from ray import tune

from study.cluster.board import Listener, leave, new_board
from study.cluster.searcher import ProgressCallback, WorklistSearcher
from study.cluster.session import Room, for_workers
from study.cluster.training_lease import TrainingLease, claims_actor
from study.config.study import StudyConfig
from study.host.progress import Progress
from study.host.slots import gpus_per_trial, slots
from study.host.stop import Stop
from study.inline import Start, throttled
from study.measure.job import REPORT_S
from study.measure.trial import Task, run_trials
from study.plan.trial import rebuilt
from study.plan.worklist import Worklist

logger = logging.getLogger(__name__)
RATE = 50.0
"""Words a second that all trials together leave with the board at most, changes of phase aside."""


with suppress(ImportError):
    from ray.air._internal import usage  # private, and may be gone in a later Ray; then no start is spared these seconds

    usage.tag_callbacks = lambda callbacks: False
"""Ray counts the callbacks of a study for its usage statistics, which are off (`study.cluster.environment`). To count, it loads
mlflow, wandb and comet where they are installed, which takes two seconds of every start."""


def interval(slots: int) -> float:
    """Return the seconds between two words of one trial where so many run at once."""
    return max(REPORT_S, slots / RATE)


def run_with_ray(config: StudyConfig, work: Worklist, progress: Progress, start: Start, stop: Stop, room: Room) -> None:
    """Run every missing trial in Ray Tune trials of one or several, in a `study.cluster.session.ray_session`.

    Raises:
        KeyboardInterrupt: stopped, `stop` says why; finished rows are kept.
    """
    n_slots = slots(config, room.cpus, room.gpus, work.most)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(n_slots)
    searcher = WorklistSearcher(config, work, progress, start, stop, n_slots)
    owner = f"{os.uname().nodename}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
    if room.standing:  # other studies may run there too
        claims_actor()
    board = new_board(work.most)
    shared = {"config": for_workers(config), "owner": owner if room.standing else None, "board": board}
    trainable = tune.with_resources(
        tune.with_parameters(ray_trial, **shared, every_s=interval(n_slots * work.most)),
        {"cpu": config.resources.cpus, "gpu": gpus_per_trial(config, room.cpus, room.gpus, work.most)},
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=-1,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="session",
            storage_path=str(room.folder / "tune"),
            verbose=0,
            callbacks=[ProgressCallback(progress, searcher, stop, Listener(board, progress.update))],
            failure_config=tune.FailureConfig(max_failures=0),  # a failed trial comes back as a new one of Ray's
        ),
    )
    tuner.fit()
    stop.check()


LAST = ("done", "elsewhere", "storage")
"""Phases that end a trial: Tune hears of them when all trials of a worker have ended."""


def ray_trial(handout: Mapping[str, Any], config: StudyConfig, owner: str | None, board: Any, every_s: float) -> None:
    """Rebuild some trials from their declared points in a Ray worker, and run them.

    Args:
        owner: a name for this run of the study, where others may train the same fields at the same time.
        board: where to say how it goes (`study.cluster.board`).
        every_s: seconds between two words of a trial.
    """
    ends: dict[str, Mapping[str, object]] = {}
    tasks = []
    for told in handout["trials"]:
        trial = rebuilt(config, told)
        lease = TrainingLease(config.place, f"{owner}/{trial.trial_id}") if owner else None
        report = throttled(partial(_say, trial.trial_id, ends, board), every_s)
        tasks.append(Task(trial, told["todo"], report, lease))
    try:
        run_trials(config, tasks, handout["number"])
    finally:
        if ends:
            tune.report({"ends": json.dumps(ends)})  # as text: Tune keeps statistics of every number, for good


def _say(trial_id: str, ends: dict[str, Mapping[str, object]], board: Any, said: Mapping[str, object]) -> None:
    """Keep the last word of a trial for Tune, and leave the others with the board."""
    if said["phase"] in LAST:
        ends[trial_id] = dict(said)
    else:
        leave(board, trial_id, said)
