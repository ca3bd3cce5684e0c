"""A trial's time limit, looked at between training steps, network calls of a solve and rows; nothing is killed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pfgm.config import SamplerConfig
from pfgm.flow.base import Flow, PriorError
from pfgm.flow.exact import ExactField
from pfgm.flow.trained import Field
from pfgm.process.base import Process
from pfgm.sampling.asked import Asked
from pfgm.sampling.solvers import MeanSource


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
        """Return whether the time has passed."""
        return self.minutes is not None and time.monotonic() - self.started > 60 * self.minutes

    def put_off(self, seconds: float) -> None:
        """Leave out time in which the process worked for other trials."""
        self.started += seconds

    @property
    def told(self) -> str:
        """Return what is said of a trial that has had its time."""
        return f"over limits.trial_minutes = {self.minutes:g}; raise it, then --retry-failed continues"

    def check(self) -> None:
        """Raise `TimeLimitReached` when it has."""
        if self.over:
            raise TimeLimitReached(self.told)


@dataclass(frozen=True)
class TimedFlow(Flow):
    """A flow that looks at a deadline at every call, so that a solve that goes on and on ends."""

    flow: Field | ExactField
    deadline: Deadline
    process: Process = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "process", self.flow.process)

    @property
    def device(self) -> torch.device:
        return self.flow.device

    @property
    def dtype(self) -> torch.dtype:
        return self.flow.dtype

    def double(self) -> TimedFlow:
        """Return this flow in float64, with the same deadline."""
        return TimedFlow(self.flow.double(), self.deadline)

    def mean_source(self, x: Tensor, t: Tensor) -> Tensor:
        """Ask the flow, or raise `TimeLimitReached`."""
        self.deadline.check()
        return self.flow.mean_source(x, t)

    def asked(self, sampler: SamplerConfig) -> MeanSource | Asked:
        """Ask the flow, whose calls raise `TimeLimitReached`."""
        inner = self.flow.asked(sampler)
        return inner.through(self.deadline.check) if isinstance(inner, Asked) else self.mean_source

    def prior_error(self, T: float, seed: int = 0) -> PriorError:
        """Ask the flow itself."""
        return self.flow.prior_error(T, seed)

    def source_with_gradient(self, x: Tensor, t: Tensor) -> Tensor:
        """Ask the flow, or raise `TimeLimitReached`."""
        self.deadline.check()
        return self.flow.source_with_gradient(x, t)
