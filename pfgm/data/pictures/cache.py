"""Decoded images, once for all: an .npy file under ``$PFGM_CACHE`` that every process maps into its memory.

Its name is a hash of what was read (names, sizes, times, options), so that changed images are decoded anew. It is written row
by row beside its final name and renamed when it is whole; a lock lets a second process wait for the first instead of decoding
too. The mapping is copy-on-write: pages are shared by all workers, and no one can change them for another. A folder that
cannot be written costs time and memory, not the study: the images are then decoded into memory, and the log says so.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

logger = logging.getLogger(__name__)

VERSION = 1
"""Raise it when the same facts would give other arrays."""


class Decoded(NamedTuple):
    """An array to be made: its shape, its rows in blocks, and what is to be said of it once they are all made."""

    shape: tuple[int, ...]
    blocks: Iterable[np.ndarray]
    how: Callable[[], str]


class _NotWritable(OSError):
    """The cache took no more; not to be confused with a data file that cannot be read."""


def cache_folder() -> Path:
    """``$PFGM_CACHE``, by default ~/.cache/pfgm-study."""
    return Path(os.environ.get("PFGM_CACHE") or "~/.cache/pfgm-study").expanduser()


def cached(facts: object, decode: Callable[[], Decoded]) -> tuple[np.ndarray, str]:
    """The uint8 array that ``decode`` makes, and its sentence, from the cache if they are there.

    Args:
        facts: whatever the array depends on; its repr names the file.
        decode: called where the cache has no such array, and again if it cannot be written.
    """
    path = cache_folder() / f"{hashlib.sha256(repr((VERSION, facts)).encode()).hexdigest()[:32]}.npy"
    if (found := _open(path)) is not None:
        return found
    try:
        with locked(path):
            if (found := _open(path)) is None:
                _write(path, decode())
                found = _open(path)
        if found is not None:
            return found
        reason = "the file that was written cannot be read"
    except _NotWritable as error:
        reason = str(error)
    logger.warning("%s: decoded into memory by every process; set PFGM_CACHE to a folder with room", reason)
    return _in_memory(decode())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for whoever makes the same file; a system without locks does without.

    Raises:
        OSError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = open(path.with_name(f".{path.name}.lock"), "wb")  # noqa: SIM115
    except OSError as error:
        raise _NotWritable(f"{path.parent} cannot be written ({error.strerror or error})") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            logger.info("no locks on %s (%s)", path.parent, error)
        yield


def _open(path: Path) -> tuple[np.ndarray, str] | None:
    try:
        how = path.with_suffix(".txt").read_text(encoding="utf-8")
        return np.load(path, mmap_mode="c", allow_pickle=False), how
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("%s is damaged (%s); it is made anew", path, error)
        return None


def _write(path: Path, decoded: Decoded) -> None:
    with _beside(path) as handle:
        header = {"descr": "|u1", "fortran_order": False, "shape": decoded.shape}
        _to_disk(handle, lambda: np.lib.format.write_array_header_1_0(handle, header))
        for block in decoded.blocks:
            content = np.ascontiguousarray(block, np.uint8)
            _to_disk(handle, partial(handle.write, content.data))
        with _beside(path.with_suffix(".txt")) as note:  # read before the array, so it is there first
            _to_disk(note, lambda: note.write(decoded.how().encode()))
    logger.info("%s: kept in %s", decoded.how(), path)


@contextmanager
def _beside(path: Path) -> Iterator[BinaryIO]:
    """A file that gets its name when it is whole, and leaves nothing behind if it is not."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        handle = open(temporary, "wb")  # noqa: SIM115
    except OSError as error:
        raise _NotWritable(f"{path.parent} cannot be written ({error.strerror or error})") from error
    try:
        with handle:
            yield handle
            _to_disk(handle, handle.flush)
            _to_disk(handle, lambda: os.fsync(handle.fileno()))
            _to_disk(handle, lambda: os.replace(temporary, path))
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _to_disk(handle: BinaryIO, write: Callable[[], object]) -> None:
    try:
        write()
    except OSError as error:
        raise _NotWritable(f"{handle.name} cannot be written ({error.strerror or error})") from error


def _in_memory(decoded: Decoded) -> tuple[np.ndarray, str]:
    out, start = np.empty(decoded.shape, np.uint8), 0
    for block in decoded.blocks:
        out[start : start + len(block)] = block
        start += len(block)
    return out, decoded.how()
