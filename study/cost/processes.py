"""Processes that measure side by side, as many as the study will have trials at once; they end with their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.pool import Pool

from study.config.study import StudyConfig


@contextmanager
def side_by_side(config: StudyConfig, n: int) -> Iterator[Pool]:
    """Start ``n`` processes with the threads of a trial each, for as long as the block runs."""
    os.environ["OMP_NUM_THREADS"] = str(config.resources.cpus)
    context = multiprocessing.get_context("spawn")
    with _without_interrupts():
        pool = context.Pool(n, initializer=_end_with_parent)
    with pool:
        yield pool


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes started meanwhile do not know Ctrl-C, which a terminal sends to all of them: they are ended by this one."""
    resource_tracker.ensure_running()  # the start of it, which any first queue or lock makes, would unblock the signal again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """However the parent ends, kill -9 included; by itself a process would first finish its measurements."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
