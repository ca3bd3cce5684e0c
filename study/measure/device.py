"""The device that a trial runs on, and how torch is set there."""

from __future__ import annotations

import os
import resource

import torch

from pfgm.memory import share_host
from study.config.study import StudyConfig
from study.host.machine import usable_cpus


def prepare_torch(threads: int) -> None:
    """One thread (or as many as the trial's CPUs) and deterministic algorithms: equal trials give equal bits.

    Of the machine's free memory a trial counts on as large a part as it has of the CPUs.
    """
    torch.set_num_threads(threads)
    share_host(usable_cpus() / threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_deterministic_debug_mode("warn")  # as use_deterministic_algorithms, without two seconds of imports
    torch.backends.cudnn.allow_tf32 = False
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def pick_device(config: StudyConfig) -> torch.device:
    """CUDA where the trial has (a part of) a GPU, else the CPU."""
    return torch.device("cuda" if config.resources.gpus != 0 and torch.cuda.is_available() else "cpu")


def peak_memory_mb(device: torch.device) -> float:
    """Return the most memory that this process has had, of the GPU or of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
