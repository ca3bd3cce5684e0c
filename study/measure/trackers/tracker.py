"""What a tracker is, and the trackers of one trial, none of which can make it fail."""

from __future__ import annotations

import logging
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from study.measure.outcomes import one_line
from study.rows.storage import Place

logger = logging.getLogger(__name__)
Facts = Mapping[str, object]
PARAMETERS = ("data_name", "data_n", "data_dim", "seed_train", "network_", "train_")
"""Columns that say what a field is; a name that ends in _ stands for all that begin with it."""
SAMPLER = ("sampler_", "perturb_", "seed_sample", "step")
"""Columns that say what a row is of its field."""
CURVE = "loss"
"""The number that every report of a training has."""
MEASURED = ("metric_", "cost_nfe")
"""Columns of a row that are drawn."""
PASSWORD = re.compile(r"//[^/@\s]*@")
"""Name and password in the address of a server, which errors may quote."""
AGAIN_S = 600.0
"""Seconds for which a tracker that failed is left alone in this process: a server that is away may take a minute to say so."""
failed_at = dict[str, float]()
"""When each tracker that has failed in this process did so last; it is said the first time alone."""


@dataclass(frozen=True)
class Run:
    """One trial, as a tracker sees it."""

    study: str
    folder: Place
    """The study's."""
    trial_id: str
    parameters: Facts
    """Columns of `PARAMETERS` that have a value."""


class Tracker(ABC):
    """The curve and the rows of one trial, in one place."""

    @abstractmethod
    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Keep numbers of the training, by name, at a training step."""

    @abstractmethod
    def add_row(self, number: int, name: str, sampler: Facts, values: Mapping[str, float]) -> None:
        """Keep what was measured at one sampler point.

        Args:
            number: of the cell among those of the trial.
            name: its cell_id.
            sampler: its sampler parameters, by column.
            values: metrics and calls, by column.
        """

    @abstractmethod
    def close(self) -> None:
        """Write what is left."""


def nothing(study: str, folder: Place) -> None:
    """Prepare nothing."""


@dataclass(frozen=True)
class TrackerKind:
    """One tracker to choose."""

    begin: Callable[[Run], Tracker]
    needs_local: Callable[[], str | None]
    """Why it cannot be used where the storage is an object store; None where it can."""
    prepare: Callable[[str, Place], None] = nothing
    """Called by the driver with the study's name and folder before any trial begins."""


def numbers(values: Facts) -> dict[str, float]:
    """Return the numbers among some values."""
    return {k: float(v) for k, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def facts(row: Facts, names: tuple[str, ...]) -> dict[str, object]:
    """Return the columns with these names, or beginnings of names, that have a value."""
    ends = tuple(name for name in names if name.endswith("_"))
    return {k: v for k, v in row.items() if v is not None and (k in names or k.startswith(ends))}


class Trackers:
    """The trackers of one trial.

    Args:
        kinds: by name.
        run: the trial.
    """

    def __init__(self, kinds: Mapping[str, TrackerKind], run: Run) -> None:
        self.open: dict[str, Tracker] = {}
        for name, kind in kinds.items():
            if rests(name):
                continue
            with self._alone(name):
                self.open[name] = kind.begin(run)

    def add(self, step: int, values: Facts) -> None:
        """Keep the numbers among some values of the training."""
        seen = numbers(values)
        for name, tracker in [*self.open.items()]:
            with self._alone(name):
                tracker.add(step, seen)

    def add_row(self, number: int, name: str, row: Facts) -> None:
        """Keep what a row measured."""
        sampler, seen = facts(row, SAMPLER), numbers(facts(row, MEASURED))
        for key, tracker in [*self.open.items()]:
            with self._alone(key):
                tracker.add_row(number, name, sampler, seen)

    def close(self) -> None:
        """Close them all."""
        for name, tracker in [*self.open.items()]:
            with self._alone(name):
                tracker.close()
        self.open.clear()

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """A tracker that fails is left alone for the rest of the trial."""
        with never_failing(name) as failed:
            yield
        if failed:
            self.open.pop(name, None)


def rests(name: str) -> bool:
    """Return whether a tracker failed so shortly ago that it is left alone."""
    return name in failed_at and time.monotonic() - failed_at[name] < AGAIN_S


@contextmanager
def never_failing(name: str) -> Iterator[list[Exception]]:
    """Do something with a tracker; what it raises is said once in this process, and is in the list afterwards."""
    failed = list[Exception]()
    try:
        yield failed
    except Exception as error:
        failed.append(error)
        new, failed_at[name] = name not in failed_at, time.monotonic()
        if new:
            logger.warning("tracker %s stopped (%s); rows are not touched", name, PASSWORD.sub("//", one_line(error)))
