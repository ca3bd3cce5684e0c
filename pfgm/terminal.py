"""What every command does at its edges: Ctrl-C at any time, and characters that the terminal or the log cannot write.

Python prints a traceback where a signal comes while it imports, which takes the first seconds of a command, and where a
character has no place in the output's encoding, as in the log of a batch job whose locale is C. A command is stopped by one
line and exit code 130 instead, and writes what it can: σ as sigma, × as x.

The standard library alone, so that it is there before anything else is imported. `pfgm.terminal` and `study.terminal` are one
text, and a test keeps them so: pfgm works without study, and analysis, which shares the latter, without pfgm.
"""

from __future__ import annotations

import codecs
import functools
import os
import signal
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

COMMANDS = ("pfgm.data", "study.run", "study.status", "study.fields", "analysis.report", "analysis.power")
"""Run as ``python -m``."""
INTERRUPTED = 128 + signal.SIGINT
STOPPED = "stopped by Ctrl-C"
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
    """While the packages are imported for one of the `COMMANDS`, Ctrl-C ends the process: nothing has been begun."""
    told = list(getattr(sys, "orig_argv", ()))
    module = told[told.index("-m") + 1 :][:1] if "-m" in told else []
    if module and module[0].removesuffix(".__main__") in COMMANDS and _is_ours():
        signal.signal(signal.SIGINT, _end)


def _is_ours() -> bool:
    """Whether Ctrl-C does what it does by default here: a background job ignores it."""
    now = signal.getsignal(signal.SIGINT)
    default = now is signal.default_int_handler or getattr(now, "__name__", "") == _end.__name__  # of either text
    return default and threading.current_thread() is threading.main_thread()


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, f"{STOPPED}\n".encode())
    os._exit(INTERRUPTED)


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Raise `KeyboardInterrupt` for the first Ctrl-C, and note it; a second one ends the process."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if came:
            _end(number, frame)
        came.append(number)
        raise KeyboardInterrupt

    if not _is_ours():
        yield came
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield came
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
