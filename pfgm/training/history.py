"""What is told and kept of a training: progress, seeds by role, the rate of every step, the version of its numbers.

`TRAINING_VERSION` says whose numbers a field has: a change to the training, the objectives or the networks that moves them
must raise it, and rows name it. 2: targets are good to 1e-6, where they were good to 1e-7 (`pfgm.field.target`). That moves
losses in the seventh digit, less than another processor does.

`FIELD_VERSION` is part of a field's identity. It rises where fields of one configuration and seed become other ones than
rounding makes, so that old and new fields must not stand in one study. A golden test of twenty losses fails until it does.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from pfgm.config import TrainConfig

TRAINING_VERSION = 2
FIELD_VERSION = 1
REPORT_EVERY = 50
"""Steps between two reports, and between two looks at what the device counts."""


class TrainingDiverged(RuntimeError):
    """The loss was not finite."""


@dataclass(frozen=True)
class Progress:
    """The progress since the report before: mean loss and gradient norm, and where the training stands."""

    step: int
    steps: int
    loss: float
    gradient_norm: float
    learning_rate: float
    elapsed_s: float


def derive_seed(seed: int, role: str) -> int:
    """A 63-bit seed for one role; a function of (seed, role) alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{role}".encode()).digest()[:8], "big") >> 1


def learning_rate(train: TrainConfig, step: int) -> float:
    """Rate of step k = 0, 1, …: linear over ``warmup_steps``, then cosine to zero at the last step, or constant."""
    warmup = min(train.warmup_steps, train.steps)
    if step < warmup:
        return train.learning_rate * (step + 1) / warmup
    if train.constant_rate:
        return train.learning_rate
    return train.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(train.steps - warmup, 1)))
