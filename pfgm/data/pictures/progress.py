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
    from rich import console  # a terminal alone needs it
    from rich import progress as bars

    count = bars.DownloadColumn() if in_bytes else bars.MofNCompleteColumn()
    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), count, bars.TimeRemainingColumn())
    with bars.Progress(*columns, console=console.Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
