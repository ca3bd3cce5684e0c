"""A bar with the time left for what takes a while, on stderr, if that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(what: str, total: float | None, in_bytes: bool = False) -> Iterator[Callable[[float], None]]:
    """Give a function that is told how much is done so far; silent where no one looks."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from pfgm.data.pictures.bar import bar  # rich, which a terminal alone needs

    with bar(what, total, in_bytes) as tell:
        yield tell
