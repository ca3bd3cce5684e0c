"""The right to drive a study: one process at a time hands out its trials.

``driver.json`` in the study's folder says who holds it and since when; the holder renews it. A holder on the same machine is
looked up there, by process number and start time. A holder on another machine counts as dead when it has not renewed for a
while, by the storage's own clock. On a directory a file lock guards the lease, so that of two drivers that start together one
wins. An object store has no such lock, so the lease is advisory there. Two drivers then do no harm, because their rows and
fields have equal names and equal contents.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from study.rows.storage import Place, StorageError

RENEW_S = {False: 10.0, True: 60.0}
"""Seconds between two renewals: on a directory, and on an object store."""
EXPIRE_RENEWALS = 3
"""A lease on another machine is dead after this many renewals that did not come."""
SETTLE_S = 2.0
"""On an object store: how long a new holder waits before it looks whether another wrote at the same moment."""


class StudyHeld(RuntimeError):
    """Another driver holds the study; the message says who, since when, and how to take over."""


class LeaseLost(RuntimeError):
    """The study is no longer ours; the message says why."""


class DriverLease:
    """Hold a study while a ``with`` block runs.

    Args:
        folder: the study's folder.
        take_over: take the lease from whoever holds it; the other driver notices at its next renewal and stops.
        lost: called with a sentence, from another thread, when the lease is no longer ours.
    """

    def __init__(self, folder: Place, take_over: bool, lost: Callable[[str], None]) -> None:
        self.folder, self.take_over, self.lost = folder, take_over, lost
        self.file = folder / "driver.json"
        self.renew_s = RENEW_S[folder.remote]
        self.me: dict[str, Any] = {
            "token": uuid.uuid4().hex,
            "host": platform.node(),
            "where": _where(),
            "pid": os.getpid(),
            "started": psutil.Process().create_time(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="driver-lease", daemon=True)

    def __enter__(self) -> DriverLease:
        """Take the lease.

        Raises:
            StudyHeld: another driver has it.
            StorageError: the folder cannot be written.
        """
        with _guard(self.folder):
            self._refuse_if_held()
            self._write()
        if self.folder.remote:
            time.sleep(SETTLE_S)
            self.take_over = False
            self._refuse_if_held()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()  # or it might renew what is given back below
        with contextlib.suppress(StorageError):  # a storage that is gone has no lease to give back
            if read_holder(self.folder).get("token") == self.me["token"]:
                self.file.delete()

    def check(self) -> None:
        """Make sure that the study is still ours.

        Raises:
            LeaseLost: another driver took over, or the folder is gone.
            StorageError: the folder cannot be read.
        """
        token = read_holder(self.folder).get("token")
        if token == self.me["token"]:
            return
        if token or (self.folder / "study.yaml").is_file():  # one that took over may have ended: then there is no lease
            raise LeaseLost("another driver took over")
        raise LeaseLost(f"{self.folder} is gone or was emptied while the study ran")

    def _refuse_if_held(self) -> None:
        holder = read_holder(self.folder)
        if holder and holder["token"] != self.me["token"] and not self.take_over and holder_lives(self.folder, holder):
            raise StudyHeld(
                f"{self.folder}: another driver runs this study, pid {holder['pid']} on {holder['host']}, since"
                f" {holder['since']}; stop it (kill {holder['pid']}), or add --take-over; the lease of a dead one ends"
                f" {EXPIRE_RENEWALS * self.renew_s:.0f} s after its last sign of life"
            )

    def _write(self) -> None:
        self.file.write((json.dumps(self.me, indent=1) + "\n").encode())

    def _renew(self) -> None:
        while not self._ended.wait(self.renew_s):
            try:
                self.check()
                self._write()
            except StorageError:
                continue  # rows that cannot be written stop the study; the lease alone does not
            except LeaseLost as error:
                if not self._ended.is_set():
                    self.lost(str(error))
                return


def read_holder(folder: Place) -> dict[str, Any]:
    """Who holds a study's lease: token, host, where, pid, started, since; {} when nobody does."""
    try:
        holder = json.loads((folder / "driver.json").read())
    except (FileNotFoundError, ValueError):  # none, or one that was never written whole
        return {}
    return holder if isinstance(holder, dict) and {"token", "host", "where", "pid", "started", "since"} <= holder.keys() else {}


def holder_lives(folder: Place, holder: dict[str, Any]) -> bool:
    """Return whether the process that holds a lease is alive, as far as one can tell from here."""
    if holder["where"] == _where():
        try:
            return bool(abs(psutil.Process(holder["pid"]).create_time() - holder["started"]) < 1)
        except psutil.NoSuchProcess:
            return False
    renewed = (folder / "driver.json").modified()
    return renewed is not None and _storage_now(folder) - renewed < EXPIRE_RENEWALS * RENEW_S[folder.remote]


def _where() -> str:
    """A name for this machine, since its start, as its processes see it: containers have process numbers of their own."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    space = os.readlink("/proc/self/ns/pid") if os.path.exists("/proc/self/ns/pid") else ""
    start = boot.read_text(encoding="ascii").strip() if boot.is_file() else ""
    return f"{platform.node()}/{start}/{space}"


def _storage_now(folder: Place) -> float:
    """The time by the storage's own clock, on which the times of its files are."""
    probe = folder / f".clock-{uuid.uuid4().hex[:8]}"
    probe.write(b"")
    now = probe.modified()
    probe.delete()
    return time.time() if now is None else now


@contextlib.contextmanager
def _guard(folder: Place) -> Iterator[None]:
    """A short critical section on a directory; none on an object store, or where file locks are not to be had."""
    if folder.remote:
        yield
        return
    try:
        folder.local.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder.local / ".driver.lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise StorageError(f"cannot write {folder} ({error.strerror or error})") from error
    try:
        with contextlib.suppress(OSError):  # a network file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
