"""Weights & Biases: offline in results/<study>/wandb, for ``wandb sync``, or online where WANDB_MODE or WANDB_API_KEY say so.

One group a study and one run a field: its training parameters, its curve by ``train/step``, and its rows by ``sampler/number``,
with their sampler parameters beside their metrics. A trial that begins again goes on with its run.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping

import wandb

from study.measure.trackers.tracker import Facts, Run, Tracker, TrackerKind

PATIENCE_S = 30
"""Seconds to wait for a server at either end of a run; of its own it waits for good at the end."""
ONLINE = ("WANDB_MODE", "WANDB_API_KEY")


def _online() -> bool:
    return any(os.environ.get(name) for name in ONLINE)


class Wandb(Tracker):
    """A run of Weights & Biases."""

    def __init__(self, run: Run) -> None:
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "pfgm"),
            group=run.study,
            id=f"{run.study}-{run.trial_id}"[-64:],
            name=run.trial_id,
            resume="allow",
            config=dict(run.parameters),
            dir=tempfile.gettempdir() if run.folder.remote else str(run.folder.local),
            mode=None if _online() else "offline",
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", init_timeout=PATIENCE_S, finish_timeout=PATIENCE_S),
        )
        for part, number in (("train", "step"), ("sampler", "number")):
            self.run.define_metric(f"{part}/*", step_metric=f"{part}/{number}")

    def add(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log({"train/step": step} | {f"train/{name}": value for name, value in values.items()})

    def add_row(self, number: int, name: str, sampler: Facts, values: Mapping[str, float]) -> None:
        """Keep a row, as a line of the run's history."""
        told = {"number": number, "cell_id": name, **sampler, **values}
        self.run.log({f"sampler/{column}": value for column, value in told.items()})

    def close(self) -> None:
        self.run.finish()


def _needs_local() -> str | None:
    if _online():
        return None
    return f"wandb without {ONLINE[1]} keeps its files in the study's folder, which must be local; set it, or remove wandb"


WANDB = TrackerKind(Wandb, _needs_local)
