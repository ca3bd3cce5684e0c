"""Processes that draw plain random numbers first, and place the points by them afterwards.

So several trainings can each draw from a stream of their own, while their points are placed at once: what a process's keys say
of the law goes in as numbers, one for all rows or one a row.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from pfgm.process.base import Process

Number = float | Tensor
"""A float for all rows, or float64 of shape (B,)."""


class PlacedProcess(Process):
    """A process whose training points are a function of random numbers that its keys do not change."""

    @property
    @abstractmethod
    def numbers(self) -> tuple[float, ...]:
        """What its keys say of the law, as `placed` takes it."""

    @abstractmethod
    def draws(self, y: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Random numbers for data points like y (B, d), of which only shape, dtype and device count: tensors of B rows."""

    @classmethod
    @abstractmethod
    def placed(cls, y: Tensor, drawn: tuple[Tensor, ...], numbers: tuple[Number, ...]) -> tuple[Tensor, Tensor]:
        """(x (B, d), t (B,)) around the data points y (B, d)."""

    def training_points(self, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`placed`, by `numbers`, at new `draws`."""
        return self.placed(y, self.draws(y, generator), self.numbers)
