"""What running trials say of their progress, beside Tune.

A report to Tune holds the worker until the driver has read it. So Tune hears the end of a trial alone. On the way a worker
leaves a word with an actor, the board, and trains on; the driver asks the board now and then, and does not wait for the answer.
A word that cannot be left at once is dropped.

The board's process imports this file and what it names: ray alone, so that it starts at once and stays small.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

Said = Mapping[str, object]
LOOK_S = 1.0
"""Seconds between two questions of the driver."""
UNREAD = 4
"""Words of one trial that may be on their way."""


class Board:
    """The last word of each trial that nobody has asked for yet."""

    def __init__(self) -> None:
        self.said: dict[str, Said] = {}

    def say(self, trial_id: str, said: Said) -> None:
        """Take the word of a trial in place of the one before."""
        self.said[trial_id] = said

    def take(self) -> dict[str, Said]:
        """Return what was said since the last question."""
        said, self.said = self.said, {}
        return said


def new_board(trials: int = 1) -> Any:
    """Start a board on this node; it ends with this process.

    Args:
        trials: that one worker has at most.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    options = {"num_cpus": 0, "max_restarts": -1, "max_pending_calls": UNREAD * trials, "scheduling_strategy": here}
    return ray.remote(Board).options(**options).remote()


def leave(board: Any, trial_id: str, said: Said) -> None:
    """Leave a word with the board, unless too many are on their way; does not wait."""
    try:
        board.say.options(num_returns=0).remote(trial_id, dict(said))
    except ray.exceptions.PendingCallsLimitExceeded:
        return  # the next word says more


class Listener:
    """The driver's side of a board.

    Args:
        hear: called with a trial's id and its word.
    """

    def __init__(self, board: Any, hear: Callable[[str, Said], None]) -> None:
        self.board, self.hear = board, hear
        self.answer: Any = None
        self.next_at = time.monotonic() + LOOK_S

    def look(self) -> None:
        """Pass on an answer that has come, or ask again when it is time; returns at once."""
        try:
            if self.answer is None:
                if time.monotonic() >= self.next_at:
                    self.next_at = time.monotonic() + LOOK_S
                    self.answer = self.board.take.remote()
            elif ray.wait([self.answer], timeout=0)[0]:
                answer, self.answer = self.answer, None
                for trial_id, said in ray.get(answer).items():
                    self.hear(trial_id, said)
        except (ray.exceptions.RayActorError, ray.exceptions.PendingCallsLimitExceeded):
            return  # its process died, and Ray starts another; or it is slow
