"""Run the missing trials: with Ray Tune, or one after another in this process.

Ray Tune places trials, reuses worker processes and retries those whose process died; it keeps no state that matters. Every
start is a new session whose Searcher hands out what the rows say is missing.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from study.config import StudyConfig
from study.plan import Trial, make_trial
from study.progress import Progress
from study.trial import REPORT_S, Report, run_trial, write_log, write_outcome
from study.worklist import Worklist

RETRIES = 2
"""How often a trial whose process died is started again."""

LOCAL_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # off: Ray binds to 127.0.0.1 instead of every interface
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "30",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "PYTHONWARNINGS": "ignore",
}


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


def slots(config: StudyConfig) -> int:
    """Trials at once on this machine."""
    if config.resources.concurrent != "auto":
        return config.resources.concurrent
    by_cpu = max(usable_cpus() // config.resources.cpus, 1)
    share = gpus_per_trial(config)
    return by_cpu if share == 0 else max(min(by_cpu, int(_gpu_count() / share)), 1)


def usable_cpus() -> int:
    """CPUs this process may use: its affinity, and a container's quota (cgroup v2) where there is one."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.is_file():
        limit, period = quota.read_text().split()
        if limit != "max":
            cpus = min(cpus, max(int(limit) // int(period), 1))
    return cpus


def _gpu_count() -> int:
    import torch

    return torch.cuda.device_count()


def gpus_per_trial(config: StudyConfig) -> float:
    """GPUs a trial declares to Ray; a GPU that is not there becomes the CPU, with one warning."""
    gpus = config.resources.gpus
    if gpus == 0 or _gpu_count() == 0:
        if gpus not in (0, "auto"):
            logging.getLogger(__name__).warning("resources.gpus: %s declared, no CUDA device found; using the CPU", gpus)
        return 0.0
    return 1.0 if gpus == "auto" else float(gpus)


def run_inline(config: StudyConfig, work: Worklist, progress: Progress, start: Callable[[Trial], None]) -> None:
    """The same trials one after another in this process, for a debugger."""
    while (trial := work.take()) is not None:
        start(trial)
        todo = work.missing(trial)
        run_trial(config, trial, todo, throttled(lambda said, t=trial: progress.update(t.trial_id, said)))  # type: ignore[misc]
        work.give_back(trial.trial_id)
        progress.finish(trial.trial_id)


def run_with_ray(config: StudyConfig, work: Worklist, progress: Progress, start: Callable[[Trial], None]) -> None:
    """Run every missing trial as a Ray Tune trial on this machine.

    Raises:
        KeyboardInterrupt: stopped by the user; finished rows are kept.
    """
    os.environ.update(LOCAL_ENVIRONMENT)
    import ray
    from ray import tune

    from study.searcher import ProgressCallback, WorklistSearcher

    n_slots, gpus = slots(config), gpus_per_trial(config)
    session = tempfile.mkdtemp(prefix="pfgm-study-")
    ray.init(
        address="local",  # never a cluster that happens to be there
        num_cpus=max(n_slots * config.resources.cpus, 1),
        num_gpus=_gpu_count() if gpus else 0,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address="127.0.0.1",
    )
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    try:
        searcher = WorklistSearcher(config, work, progress, start)
        trainable = tune.with_resources(
            tune.with_parameters(ray_trial, config=config), {"cpu": config.resources.cpus, "gpu": gpus}
        )
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(search_alg=searcher, num_samples=-1, max_concurrent_trials=n_slots, reuse_actors=True),
            run_config=tune.RunConfig(
                name="session",
                storage_path=session,
                verbose=0,
                callbacks=[ProgressCallback(progress, searcher)],
                failure_config=tune.FailureConfig(max_failures=RETRIES),
            ),
        )
        tuner.fit()
    finally:
        ray.shutdown()
        shutil.rmtree(session, ignore_errors=True)


def ray_trial(handout: Mapping[str, Any], config: StudyConfig) -> None:
    """What runs in a Ray worker: rebuild the trial from its declared point, and run it."""
    from ray import tune

    trial = make_trial(
        config, handout["role"], handout["point"], handout["seed"], [(role, point) for role, point in handout["sampling"]]
    )
    report = throttled(lambda said: tune.report({**said, "own_id": trial.trial_id}))
    run_trial(config, trial, handout["todo"], report)


def write_lost(config: StudyConfig, work: Worklist, trial: Trial, reason: str) -> None:
    """Rows for the cells of a trial whose process died on every try; ``reason``: what Ray said about it."""
    work.refresh()
    missing = set(work.missing(trial))
    cells = [c for c in trial.cells(config) if c["cell_id"] in missing]
    log = write_log(config, trial.trial_id, reason) if reason else ""
    write_outcome(
        config,
        cells,
        "failed",
        f"the worker failed {RETRIES + 1} times (killed, out of memory, or unable to start the trial)",
        log,
    )
