"""Rows on the way: the quality of a field before its training is over (``evaluate.at_steps``).

A share of ``train.steps`` becomes a whole number of steps here, for the plan and for who reads the rows. A row says its step
in the column ``step``; ``is_final`` is false in it. It is no outcome of its configuration.
"""

from __future__ import annotations

from collections.abc import Iterable

GONE = (
    "the field was trained past this step before evaluate.at_steps asked for it; to have the row,"
    " remove that field from the store (fields/<train_id>) and start with --retry-failed"
)
"""Why a row on the way is missed (`study.rows.records.MISSED`)."""


def step_at(share: float, steps: int) -> int:
    """Return the step, 1 or more, that a share in (0, 1] of a training of so many steps is."""
    return max(1, round(share * steps))


def steps_on_the_way(shares: Iterable[float], steps: int) -> tuple[int, ...]:
    """Return the steps that some shares are, each once, growing; that of the end is left out."""
    return tuple(sorted({step_at(share, steps) for share in shares} - {steps}))
