"""A trial's time limit, looked at between training steps, network calls of a solve and rows; nothing is killed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields

from torch import Tensor

from pfgm.checkpoint import Field


class TimeLimitReached(Exception):
    """The trial has had its time; what it finished stays."""


@dataclass
class Deadline:
    """``minutes`` from the moment it is made; None never ends."""

    minutes: float | None = None

    def __post_init__(self) -> None:
        self.started = time.monotonic()

    @property
    def over(self) -> bool:
        """Whether the time has passed."""
        return self.minutes is not None and time.monotonic() - self.started > 60 * self.minutes

    def check(self) -> None:
        """Raise `TimeLimitReached` when it has."""
        if self.over:
            raise TimeLimitReached(f"over limits.trial_minutes = {self.minutes:g}; raise it, then --retry-failed continues")


@dataclass(frozen=True)
class TimedField(Field):
    """A field that looks at a deadline at every call, so that a solve that goes on and on ends."""

    deadline: Deadline = field(default_factory=Deadline)

    @classmethod
    def of(cls, trained: Field, deadline: Deadline) -> TimedField:
        """The same field, with a deadline."""
        return cls(**{f.name: getattr(trained, f.name) for f in fields(Field)}, deadline=deadline)

    def mean_source(self, x: Tensor, t: Tensor) -> Tensor:
        """As `Field.mean_source`; raises `TimeLimitReached`."""
        self.deadline.check()
        return super().mean_source(x, t)
