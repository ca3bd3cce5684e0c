"""Run the missing trials: with Ray Tune, or one after another in this process.

Ray Tune places trials and reuses worker processes; it keeps no state that matters. Every start is a new session whose Searcher
hands out what the rows say is missing, and once more what a process that died was given.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from study.cluster.session import Room, for_workers
from study.config.study import StudyConfig
from study.host.progress import Progress
from study.host.sharing import trials_per_gpu
from study.host.stop import Stop
from study.measure.trial import REPORT_S, Report, run_trial, write_log, write_outcome
from study.plan.make import Trial, make_trial
from study.plan.worklist import Worklist

logger = logging.getLogger(__name__)
Start = Callable[[Trial], None]
"""Called with a trial as it is handed out."""


def throttled(report: Report) -> Report:
    """Pass on at most one report every `REPORT_S` seconds, and every change of phase."""
    last_at, last_phase = 0.0, ""

    def say(said: Mapping[str, object]) -> None:
        nonlocal last_at, last_phase
        now, phase = time.monotonic(), str(said["phase"])
        if phase != "train" or phase != last_phase or now - last_at > REPORT_S:
            last_at, last_phase = now, phase
            report(said)

    return say


def slots(config: StudyConfig, cpus: int, gpus: float) -> int:
    """Trials at once where there are so many CPUs and GPUs."""
    if config.resources.concurrent != "auto":
        return config.resources.concurrent
    by_cpu = max(cpus // config.resources.cpus, 1)
    share = gpus_per_trial(config, cpus, gpus)
    return by_cpu if share == 0 else max(min(by_cpu, int(gpus / share + 1e-9)), 1)


def gpus_per_trial(config: StudyConfig, cpus: int, gpus: float) -> float:
    """GPUs a trial declares to Ray where there are so many CPUs and GPUs; GPUs that are not there become the CPU."""
    declared = config.resources.gpus
    if declared == 0 or gpus == 0:
        return 0.0
    if declared != "auto":
        return float(declared)
    return (
        10_000 // trials_per_gpu(config, cpus, gpus) / 10_000
    )  # Ray counts in ten thousandths, and seven of 0.1429 are too many


def warn_without_gpu(config: StudyConfig, found: float) -> None:
    """Say once that a declared GPU is not there."""
    if config.resources.gpus not in (0, "auto") and found == 0:
        logger.warning("resources.gpus: %s declared, no CUDA device found; using the CPU", config.resources.gpus)


def run_inline(config: StudyConfig, work: Worklist, progress: Progress, start: Start) -> None:
    """The same trials one after another in this process, for a debugger."""
    while (trial := work.take()) is not None:
        start(trial)
        todo = work.missing(trial)
        run_trial(config, trial, todo, throttled(lambda said, t=trial: progress.update(t.trial_id, said)))  # type: ignore[misc]
        work.give_back(trial.trial_id)
        progress.finish(trial.trial_id)


def run_with_ray(config: StudyConfig, work: Worklist, progress: Progress, start: Start, stop: Stop, room: Room) -> None:
    """Run every missing trial as a Ray Tune trial, in a `study.cluster.session.ray_session`.

    Raises:
        KeyboardInterrupt: stopped, `stop` says why; finished rows are kept.
    """
    from ray import tune

    from study.cluster.searcher import ProgressCallback, WorklistSearcher

    n_slots = slots(config, room.cpus, room.gpus)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(n_slots)
    searcher = WorklistSearcher(config, work, progress, start, stop, n_slots)
    owner = f"{os.uname().nodename}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
    if room.standing:  # other studies may run there too
        from study.cluster.training_lease import claims_actor

        claims_actor()
    trainable = tune.with_resources(
        tune.with_parameters(ray_trial, config=for_workers(config), owner=owner if room.standing else None),
        {"cpu": config.resources.cpus, "gpu": gpus_per_trial(config, room.cpus, room.gpus)},
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
            callbacks=[ProgressCallback(progress, searcher, stop)],
            failure_config=tune.FailureConfig(max_failures=0),  # a failed trial comes back as a new one of Ray's
        ),
    )
    tuner.fit()
    stop.check()


def ray_trial(handout: Mapping[str, Any], config: StudyConfig, owner: str | None) -> None:
    """What runs in a Ray worker: rebuild the trial from its declared point, and run it.

    Args:
        owner: a name for this run of the study, where others may train the same fields at the same time.
    """
    from ray import tune

    from study.cluster.training_lease import TrainingLease

    trial = make_trial(
        config, handout["role"], handout["point"], handout["seed"], [(role, point) for role, point in handout["sampling"]]
    )
    report = throttled(lambda said: tune.report({**said, "own_id": trial.trial_id}))
    lease = TrainingLease(config.place, f"{owner}/{trial.trial_id}") if owner else None
    run_trial(config, trial, handout["todo"], report, lease)


def write_lost(config: StudyConfig, work: Worklist, trial: Trial, deaths: int, failed_starts: int, reason: str) -> None:
    """Rows for the cells of a trial that has had its tries.

    Args:
        deaths: of workers that had started.
        failed_starts: workers that could not be started.
        reason: what Ray said about the last one.
    """
    work.refresh()
    missing = set(work.missing(trial))
    cells = [c for c in trial.cells(config) if c["cell_id"] in missing]
    log = write_log(config, trial.trial_id, reason) if reason else ""
    if deaths > config.retries:
        error = f"the worker failed {_times(deaths)} (killed, or out of memory)"
    else:
        error = f"no worker could be started ({_times(failed_starts)}; killed, out of memory, or unable to load the study)"
    write_outcome(config, cells, "failed", error, log)


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"
