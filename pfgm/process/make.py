"""From a resolved training configuration to its process."""

from __future__ import annotations

from pfgm.config import TrainConfig
from pfgm.data.dataset import DataInfo
from pfgm.process.base import Process
from pfgm.registry import PROCESSES


def make_process(train: TrainConfig, info: DataInfo) -> Process:
    """Return the process of a resolved training configuration (`pfgm.process.resolve.resolve_train`)."""
    return PROCESSES[train.process](train, info)
