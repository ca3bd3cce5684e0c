"""How many trials run at once, and what each declares to Ray."""

from __future__ import annotations

import logging
import math

from study.config.study import StudyConfig
from study.host import machine
from study.host.sharing import MAX_A_GPU, USABLE, memory_needed

logger = logging.getLogger(__name__)


def slots(config: StudyConfig, cpus: int, gpus: float, fields: int = 1) -> int:
    """Trials at once, of so many fields each, where there are so many CPUs and GPUs."""
    if config.resources.concurrent != "auto":
        return config.resources.concurrent
    by_cpu = max(cpus // config.resources.cpus, 1)
    share = gpus_per_trial(config, cpus, gpus, fields)
    return by_cpu if share == 0 else max(min(by_cpu, int(gpus / share + 1e-9)), 1)


def gpus_per_trial(config: StudyConfig, cpus: int, gpus: float, fields: int = 1) -> float:
    """GPUs a trial declares to Ray where there are so many CPUs and GPUs; GPUs that are not there become the CPU."""
    declared = config.resources.gpus
    if declared == 0 or gpus == 0:
        return 0.0
    if declared != "auto":
        return float(declared)
    share = 10_000 // trials_per_gpu(config, cpus, gpus, fields)  # Ray counts in these: seven of 0.1429 are too many
    return share / 10_000


def warn_without_gpu(config: StudyConfig, found: float) -> None:
    """Say once that a declared GPU is not there."""
    if config.resources.gpus not in (0, "auto") and found == 0:
        logger.warning("resources.gpus: %s declared, no CUDA device found; using the CPU", config.resources.gpus)


def only_on_gpus(config: StudyConfig, found: float) -> tuple[str, ...] | None:
    """Return the key of the study file that asks for an arithmetic of GPUs, where no trial gets one; else None."""
    if found > 0 and config.resources.gpus != 0:
        return None
    if config.sampler.get("precision") == "tf32":
        return "sampler", "precision"
    searched = config.search_sampler.get("precision")
    return ("search", "sampler", "precision") if searched is not None and "tf32" in (searched.choices or ()) else None


def trials_per_gpu(config: StudyConfig, cpus: int, gpus: float, fields: int = 1) -> int:
    """Trials of so many fields that share a GPU where there are so many CPUs and GPUs, for ``resources.gpus: auto``."""
    memory = machine.gpu_memory()
    if memory is None or gpus == 0:
        return 1
    fed = math.ceil(max(cpus // config.resources.cpus, 1) / gpus)
    return max(min(MAX_A_GPU, int(USABLE * memory / memory_needed(config, fields)), fed), 1)
