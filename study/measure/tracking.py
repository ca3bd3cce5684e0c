"""TensorBoard scalars, when TensorBoard is installed: ``tensorboard --logdir results/<study>/tensorboard``.

One run a field: training loss, gradient norm and learning rate by step, then the metrics of every sampler point. Written to
local storage only: an event file grows, which an object store cannot do.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from study.rows.storage import Place


class Tracker:
    """Scalars of one trial; silent where they cannot be kept."""

    def __init__(self, folder: Place, trial_id: str) -> None:
        self.writer: Any = None
        if not folder.remote and all(importlib.util.find_spec(name) is not None for name in ("tensorboard", "tensorboardX")):
            from tensorboardX import SummaryWriter  # optional

            self.writer = SummaryWriter(str(folder.local / "tensorboard" / trial_id), flush_secs=10)

    def add(self, step: int, values: Mapping[str, object], group: str) -> None:
        """Keep the finite numbers among ``values`` at ``step``."""
        if self.writer is not None:
            for name, value in values.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    self.writer.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        """Flush and close the event file."""
        if self.writer is not None:
            self.writer.close()
