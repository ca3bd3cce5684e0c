"""Puts away what a driver leaves behind, however it ends: the processes of its private Ray, and its temporary folder.

`study.cluster.session` starts the reaper as a process of its own, which reads a pipe from the driver. The pipe ends when the
driver does, also by kill -9. Some processes of Ray live a minute longer than their parent. By then neither their name nor their
parent tells that they are ours. So the reaper notes the descendants while the driver lives. It imports neither torch nor ray.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

PREFIX = "pfgm-"
"""How the names of temporary folders begin that may be removed."""
LOOK_S, AGAIN_S, GRACE_S = 0.5, 0.1, 60.0
"""Between two looks at a driver, between two tries to end everything, and for all of these tries: a busy machine is slow."""


class Reaper:
    """A temporary folder for one run, removed with all processes that use it when the run ends, or the process does."""

    def __init__(self) -> None:
        root = tempfile.gettempdir()
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root if len(root) < 40 else "/tmp"))  # sockets need short names
        self.process = subprocess.Popen(
            [sys.executable, "-m", "study.host.reaper", str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is not for it
        )

    def finish(self) -> None:
        """End everything now, and wait for it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=GRACE_S + 30)


def users(folder: str) -> list[psutil.Process]:
    """Processes whose command line names the folder, with all their descendants."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and any(folder in word for word in process.cmdline()):
                found[process.pid] = process
                found |= {child.pid: child for child in process.children(recursive=True)}
        except psutil.Error:
            continue
    return list(found.values())


def descendants(driver: int) -> set[psutil.Process]:
    """All processes that descend from the driver, this one left out."""
    try:
        return {p for p in psutil.Process(driver).children(recursive=True) if p.pid != os.getpid()}
    except psutil.NoSuchProcess:
        return set()


def reap(folder: str, noted: set[psutil.Process]) -> None:
    """Kill what was noted and what uses the folder, and remove it; again, until nothing is left."""
    end = time.monotonic() + GRACE_S
    while time.monotonic() < end:
        processes = [*users(folder), *(p for p in noted if _lives(p))]
        for process in processes:
            try:
                process.kill()
            except psutil.Error:
                continue
        psutil.wait_procs(processes, timeout=1)
        if any(_lives(p) for p in processes):
            continue
        shutil.rmtree(folder, ignore_errors=True)
        if not processes and not os.path.exists(folder):
            return
        time.sleep(AGAIN_S)
    shutil.rmtree(folder, ignore_errors=True)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def main() -> None:
    """Wait for the driver's end, then reap the folder named on the command line."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    folder = sys.argv[1]
    if not Path(folder).name.startswith(PREFIX):
        raise SystemExit(f"{folder}: not a folder of a driver")
    driver, noted = os.getppid(), set[psutil.Process]()
    while not select.select([sys.stdin], [], [], LOOK_S)[0]:
        noted = {p for p in noted if _lives(p)} | descendants(driver)
    reap(folder, noted)


if __name__ == "__main__":
    main()
