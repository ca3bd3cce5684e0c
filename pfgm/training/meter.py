"""Losses and gradient norms between two reports: summed where they are, read once a report."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pfgm.training.history import TrainingDiverged


class Meter:
    """Losses and gradient norms since the last report, summed on the device.

    Args:
        device: where they are.
    """

    def __init__(self, device: torch.device) -> None:
        self._losses = torch.zeros((), dtype=torch.float64, device=device)
        self._norms = torch.zeros_like(self._losses)
        self.since = 0

    def add(self, loss: Tensor, norm: Tensor) -> None:
        """Take note of one step."""
        self._losses += loss
        self._norms += norm
        self.since += 1

    def means(self, step: int) -> tuple[float, float]:
        """Mean loss and gradient norm up to ``step``; what comes counts anew.

        Raises:
            TrainingDiverged: the mean loss is not finite.
        """
        loss, norm, since = float(self._losses) / self.since, float(self._norms) / self.since, self.since
        self._losses.zero_()
        self._norms.zero_()
        self.since = 0
        if not math.isfinite(loss):
            raise TrainingDiverged(f"the loss was not finite between steps {step - since} and {step}")
        return loss, norm
