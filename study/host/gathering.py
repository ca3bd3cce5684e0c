"""Rows are put into segments beside the run, in a thread of its own: the path that hands out trials never waits for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from study.rows.storage import StorageError

logger = logging.getLogger(__name__)
LOOK_S = {False: 10.0, True: 60.0}
"""Seconds between two looks at how many files there are: on a directory, and on an object store."""


@contextmanager
def gathering(gather: Callable[[Callable[[], bool]], None], remote: bool) -> Iterator[None]:
    """Gather rows while the block runs.

    Args:
        gather: does it where there is enough of them; it is given a function that tells whether to stop on the way.
        remote: whether the rows lie in an object store.
    """
    ended = threading.Event()
    thread = threading.Thread(target=_run, args=(gather, ended, LOOK_S[remote]), name="gathering", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _run(gather: Callable[[Callable[[], bool]], None], ended: threading.Event, look_s: float) -> None:
    told = False
    while not ended.wait(look_s):
        try:
            gather(ended.is_set)
        except StorageError as error:  # rows stay in the files that they are in; the end of the run tries again
            if not told:
                logger.warning("%s; rows are not gathered into larger files for now", error)
            told = True
