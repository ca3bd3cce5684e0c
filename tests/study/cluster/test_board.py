"""Progress beside Tune: words are few, never waited for, and reach the display."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from helpers.processes import wait_for

from study.cluster import board
from study.cluster.environment import prepare
from study.cluster.scheduler import RATE, interval
from study.inline import throttled
from study.measure.job import REPORT_S


def test_words_are_few_however_many_trials_there_are() -> None:
    """A thousand trials leave no more words a second than a hundred; a change of phase is always told."""
    assert interval(4) == REPORT_S
    for slots in (100, 1_000, 8_000):
        assert slots / interval(slots) == pytest.approx(RATE)
    said: list[dict[str, Any]] = []
    say = throttled(said.append, every_s=1e6)  # type: ignore[arg-type]
    for phase in ("train", "measure", "done"):
        for n in range(100):
            say({"phase": phase, "n": n})
    assert said == [{"phase": phase, "n": 0} for phase in ("train", "measure", "done")]


@pytest.fixture(scope="module")
def a_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    prepare(None)
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    yield
    ray.shutdown()


@pytest.mark.slow
def test_the_last_word_of_each_trial_is_heard_once(a_ray: None) -> None:
    there, heard = board.new_board(), list[tuple[str, Any]]()
    listener = board.Listener(there, lambda trial, said: heard.append((trial, said["step"])))
    ray.get([there.say.remote("a", {"step": 1}), there.say.remote("b", {"step": 2}), there.say.remote("a", {"step": 3})])

    def look() -> bool:
        listener.look()
        return bool(heard)

    wait_for(look, 30, "word")
    assert sorted(heard) == [("a", 3), ("b", 2)]
    assert ray.get(there.take.remote()) == {}


@pytest.mark.slow
def test_nobody_waits_for_a_board_that_does_not_answer(a_ray: None, tmp_path: Any) -> None:
    """Words beyond a few are dropped; the driver goes on looking; then the board's process dies, and another hears."""

    class Deaf(board.Board):
        def say(self, trial_id: str, said: board.Said) -> None:
            while not (tmp_path / "open").exists():
                time.sleep(0.01)
            super().say(trial_id, said)

        def pid(self) -> int:
            return os.getpid()

    there = ray.remote(Deaf).options(num_cpus=0, max_restarts=-1, max_pending_calls=board.UNREAD).remote()
    pid, heard = ray.get(there.pid.remote()), list[str]()
    listener = board.Listener(there, lambda trial, said: heard.append(trial))
    for n in range(50):
        board.leave(there, f"trial {n}", {"step": n})
    listener.next_at = 0.0
    for _ in range(50):
        listener.look()
    assert heard == []
    (tmp_path / "open").touch()
    wait_for(lambda: listener.look() or heard, 30, "word")
    assert 0 < len(heard) <= board.UNREAD and heard[0] == "trial 0"
    os.kill(pid, 9)
    heard.clear()

    def again() -> bool:
        board.leave(there, "later", {"step": 1})
        listener.look()
        return "later" in heard

    wait_for(again, 60, "word after the death of the board")
