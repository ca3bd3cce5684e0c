"""TensorBoard: ``tensorboard --logdir results/<study>/tensorboard``.

One run a field: training loss, gradient norm and learning rate by step, then the metrics of every sampler point, by the number
of its cell. Local storage only: an event file grows, which an object store cannot do.
"""

from __future__ import annotations

from collections.abc import Mapping

import tensorboard  # noqa: F401  who cannot look at the files needs none
from tensorboardX import SummaryWriter

from study.measure.trackers.tracker import Facts, Run, Tracker, TrackerKind


class TensorBoard(Tracker):
    """An event file."""

    def __init__(self, run: Run) -> None:
        self.writer = SummaryWriter(str(run.folder.local / "tensorboard" / run.trial_id), flush_secs=10)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(f"train/{name}", value, step)

    def add_row(self, number: int, name: str, sampler: Facts, values: Mapping[str, float]) -> None:
        for column, value in values.items():
            self.writer.add_scalar(f"sampler/{column}", value, number)

    def close(self) -> None:
        self.writer.close()


def _needs_local() -> str | None:
    return "tensorboard appends to files, which an object store cannot do; remove it"


TENSORBOARD = TrackerKind(TensorBoard, _needs_local)
