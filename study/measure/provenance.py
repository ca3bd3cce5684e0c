"""The machine and the versions that a row was made with; never part of any identity."""

from __future__ import annotations

import functools
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from pfgm.training.history import TRAINING_VERSION
from study.config.study import StudyConfig


def provenance(config: StudyConfig) -> dict[str, object]:
    """Return where and with what a row was made; never part of any identity."""
    return {
        "prov_training_version": TRAINING_VERSION,
        "prov_host": platform.node(),
        "prov_threads": config.resources.cpus,
        "prov_finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **_versions(),
    }


@functools.cache
def _versions() -> dict[str, object]:
    try:
        own = version("pfgm-study")
    except PackageNotFoundError:
        own = "source"
    here = Path(__file__).resolve().parent
    try:
        command = ["git", "-C", str(here), "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(command, capture_output=True, encoding="utf-8", check=False).stdout.strip() or None
    except OSError:  # no git on this machine
        commit = None
    return {
        "prov_torch": torch.__version__,
        "prov_python": platform.python_version(),
        "prov_version": own,
        "prov_git": commit,
        "prov_cpu": torch.backends.cpu.get_cpu_capability(),
    }
