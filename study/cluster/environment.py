"""What Ray reads from the environment, set before ray is imported. Imports no ray."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

QUIET = {
    "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "30",
}
WORKER = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "PYTHONWARNINGS": "ignore",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",
}
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Off: Ray binds to 127.0.0.1 instead of every interface."""


class ClusterError(RuntimeError):
    """A cluster that cannot be joined, or a node of it that cannot run trials; the message is one line."""


def prepare(address: str | None) -> None:
    """Set what Ray reads when it is imported.

    Args:
        address: of a standing cluster; None for a private Ray, which then binds to 127.0.0.1 alone.
    """
    os.environ.update(QUIET | WORKER | ({} if address else LOOPBACK))
