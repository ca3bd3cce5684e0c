"""The edges of every command: Ctrl-C at any time, and characters that the terminal or the log cannot write.

Imports take the first seconds of a command, and Python prints a traceback if a signal comes then. It prints one too if the
encoding of the output lacks a character, as in the log of a batch job whose locale is C. Here a command that is stopped says so
in one line and ends with exit code 130. A character that is lacking is written in others: σ as sigma, × as x.

Every package uses this module. It needs the standard library alone, so that it is there before anything else is imported.
"""

from __future__ import annotations

import atexit
import codecs
import functools
import gc
import os
import select
import signal
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType

COMMANDS = ("pfgm", "pfgm.data", "study.run", "study.status", "study.fields", "analysis.report", "analysis.power")
"""Run as ``python -m``."""
INTERRUPTED = 128 + signal.SIGINT
STOPPED = "stopped by Ctrl-C"
GRACE_S, TWICE_S = 5.0, 0.5
"""For the main thread to take a signal; signals this close together are one, as they are for Python."""
PLAIN = {
    "−": "-", "–": "-", "—": "-", "·": "|", "…": "...", "×": "x", "÷": "/", "√": "sqrt", "²": "^2", "±": "+-", "≤": "<=",
    "≥": ">=", "≈": "~", "≠": "!=", "→": "->", "←": "<-", "‖": "|", "∞": "inf", "σ": "sigma", "τ": "tau", "γ": "gamma",
    "α": "alpha", "ρ": "rho", "ε": "epsilon", "χ": "chi", "π": "pi", "λ": "lambda", "Δ": "Delta", "’": "'", "‘": "'",
    "“": '"', "”": '"',
}  # fmt: skip
"""Characters of our messages, for outputs that have none but ASCII's; others lose their accents, or become a question mark."""


def command(main: Callable[[Sequence[str] | None], int]) -> Callable[..., int]:
    """The entry point of a command: whatever is printed can be printed, and Ctrl-C ends it with one line and exit code 130."""

    @functools.wraps(main)
    def run(arguments: Sequence[str] | None = None) -> int:
        speak_plainly()
        with _interrupts() as came:
            try:
                return main(arguments)
            except UnicodeError as error:
                print(f"{_shown(error)}; set PYTHONUTF8=1, or name the files in plain letters", file=sys.stderr)
                return 2
            except BaseException as error:
                if isinstance(error, SystemExit) or not (came or isinstance(error, KeyboardInterrupt)):
                    raise
                print(STOPPED, file=sys.stderr)  # imports may have turned the interrupt into an error of their own
                return INTERRUPTED

    return run


def speak_plainly() -> None:
    """Let stdout and stderr write any text: what their encoding has no place for in plain letters."""
    codecs.register_error("pfgm.plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="pfgm.plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(_letters(character) for character in error.object[error.start : error.end]), error.end


def _letters(character: str) -> str:
    if character in PLAIN:
        return PLAIN[character]
    return unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode() or "?"


def _shown(error: UnicodeError) -> str:
    """A text or a file's name that this locale has no place for."""
    if isinstance(error, UnicodeEncodeError):
        return f"this locale's {error.encoding} has no place for {error.object[error.start : error.end]!a}"
    return f"a text cannot be read ({error})"


def guard_start() -> None:
    """Prepare the process of one of the `COMMANDS`: Ctrl-C ends it while it imports the packages, and it ends without delay."""
    told = list(getattr(sys, "orig_argv", ()))
    module = told[told.index("-m") + 1 :][:1] if "-m" in told else []
    if not module or module[0].removesuffix(".__main__") not in COMMANDS:
        return
    atexit.register(gc.freeze)  # at the end Python would look for garbage in all of torch: a second
    if _is_ours():
        signal.signal(signal.SIGINT, _end)


def _is_ours() -> bool:
    """Return whether Ctrl-C does what it does by default here: a background job ignores it."""
    now = signal.getsignal(signal.SIGINT)
    default = now is signal.default_int_handler or getattr(now, "__name__", "") == _end.__name__  # of either text
    return default and threading.current_thread() is threading.main_thread()


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, f"{STOPPED}\n".encode())
    os._exit(INTERRUPTED)


class DeafEnds:
    """Ends the process where its main thread does not take one of ``signals`` within `GRACE_S`, or before the second comes.

    The handlers of these signals call `taken`. A call of C that keeps Python's lock as well cannot be ended so.

    Args:
        end: called in another thread with the signal's number; it ends the process.
    """

    def __init__(self, signals: Sequence[int], end: Callable[[int], object]) -> None:
        self.signals, self.end, self._taken_at = frozenset(signals), end, -1.0

    def __enter__(self) -> DeafEnds:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        signal.set_wakeup_fd(self._before)
        os.close(self._write)
        self._watcher.join()
        os.close(self._read)

    def taken(self) -> None:
        """The main thread is in the handler of a signal."""
        self._taken_at = time.monotonic()

    def _watch(self) -> None:
        while came := os.read(self._read, 4096):  # the numbers of the signals, written as they come
            ours = [number for number in came if number in self.signals]
            if ours and self._is_deaf(time.monotonic() - TWICE_S):
                self.end(ours[-1])

    def _is_deaf(self, since: float) -> bool:
        while time.monotonic() < since + TWICE_S + GRACE_S:
            if self._taken_at >= since:
                return False
            if time.monotonic() > since + 2 * TWICE_S and select.select([self._read], [], [], 0)[0]:
                return self._taken_at < since  # the second; or the end of this watch
            time.sleep(0.02)
        return self._taken_at < since


def end_now(line: str, code: int) -> None:
    """Say one line on stderr and end the process, from any thread."""
    flush = threading.Thread(target=_flush, daemon=True)
    flush.start()
    flush.join(1.0)  # the main thread may be in the middle of a write
    os.write(2, f"{line}\n".encode())
    os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Raise `KeyboardInterrupt` for the first Ctrl-C, and note it; a second one ends the process."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        watch.taken()
        if came:
            _end(number, frame)
        came.append(number)
        raise KeyboardInterrupt

    if not _is_ours():
        yield came
        return
    watch = DeafEnds([signal.SIGINT], lambda number: end_now(STOPPED, INTERRUPTED))
    with watch:
        signal.signal(signal.SIGINT, note)
        try:
            yield came
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
