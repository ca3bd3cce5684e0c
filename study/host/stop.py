"""Stopping a study from outside its loop: Ctrl-C, SIGTERM, a lease that was lost, a storage that cannot be written.

The first signal ends the loop at once and lets everything be put away; the second ends the process, and so does the first
where the main thread is too deep in a computation to take it. Either way no finished row is lost: a row is a file that is
written whole.
"""

from __future__ import annotations

import _thread
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

from pfgm.terminal import DeafEnds, end_now

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Why a study is to stop, if it is. As a context it handles SIGINT and SIGTERM by raising `KeyboardInterrupt`."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.error: str | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._watch = DeafEnds(SIGNALS, self._end)

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            self._watch.__enter__()
            self._before = {s: signal.signal(s, self._handle) for s in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._before:
            self._watch.__exit__(kind, error, trace)

    @property
    def wanted(self) -> bool:
        return self.signal is not None or self.error is not None

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, or 1."""
        return 1 if self.signal is None else 128 + self.signal

    def because(self, error: str) -> None:
        """Stop the main thread, from any thread, for a reason that is no signal."""
        if not self.wanted:
            self.error = error
            _thread.interrupt_main()

    def check(self) -> None:
        """Raise `KeyboardInterrupt` when stopping was asked for: an interrupt may get lost in somebody else's code."""
        if self.wanted:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._watch.taken()
        if self.signal is not None:
            _show_cursor()
            os._exit(128 + number)
        if self.error is None:
            self.signal = signal.Signals(number)
        raise KeyboardInterrupt

    def _end(self, number: int) -> None:
        """The main thread is deaf. What Ray started ends with this process (`study.host.reaper`)."""
        for process in multiprocessing.active_children():
            with contextlib.suppress(OSError):
                process.kill()
        _show_cursor()
        why = "" if self.error is None else f" ({self.error})"
        code = 1 if self.error is not None else 128 + number
        end_now(f"stopping now{why}: a long computation did not end; finished rows are safe", code)


def _show_cursor() -> None:
    if sys.stdout.isatty():
        os.write(1, b"\x1b[?25h\n")  # the live display had hidden it
