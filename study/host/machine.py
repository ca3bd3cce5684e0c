"""What this machine has: CPUs that this process may use, and CUDA devices."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    pass


def usable_cpus() -> int:
    """CPUs this process may use: its affinity, and a container's quota (cgroup v2) where there is one."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.is_file():
        limit, period = quota.read_text(encoding="ascii").split()
        if limit != "max":
            cpus = min(cpus, max(int(limit) // int(period), 1))
    return cpus


def gpu_count() -> int:
    """CUDA devices of this machine."""
    return torch.cuda.device_count()


def gpu_memory() -> int | None:
    """Bytes of the smallest GPU that this process sees; None where it sees none."""
    if not torch.cuda.is_available():
        return None
    return min(torch.cuda.get_device_properties(k).total_memory for k in range(torch.cuda.device_count()))
