"""Process name → its class."""

from __future__ import annotations

from pfgm.config import TrainConfig
from pfgm.data.dataset import DataInfo
from pfgm.process.base import Process
from pfgm.process.diffusion import Ve, Vp
from pfgm.process.pfgm import Pfgm
from pfgm.process.pfgmpp import Pfgmpp

PROCESSES: dict[str, type[Process]] = {"pfgm": Pfgm, "pfgmpp": Pfgmpp, "ve": Ve, "vp": Vp}
"""Processes by the name they have in search.yaml."""


def make_process(train: TrainConfig, info: DataInfo) -> Process:
    """The process of a resolved training configuration (`pfgm.process.resolve.resolve_train`)."""
    return PROCESSES[train.process](train, info)
