"""Drivers and their families of processes: wait for them, list them, look whether they live."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

LONG = {"steps": 200, "batch_size": 32}
"""A second of training on one core."""


FOUR = {"train": {"sigma": {"choice": [0.1, 0.15, 0.2, 0.25]}}, "sampler": {"steps": {"choice": [4, 6]}}}


def files(*folders: Path) -> dict[str, tuple[str, int]]:
    """Hash and time of change of every file; what a kill left half-written under a temporary name is none yet."""
    return {
        str(p): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns)
        for folder in folders
        for p in folder.rglob("*")
        if p.is_file() and not p.name.startswith(".")
    }


def family(pid: int) -> list[psutil.Process]:
    """A process and all its descendants."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true answer of ``condition``; ``seconds``: the most on an idle machine, a busy one has five times as many."""
    end = time.monotonic() + 5 * seconds
    while time.monotonic() < end:
        if answer := condition():
            return answer
        time.sleep(0.1)  # looking at every process is work
    raise AssertionError(f"no {what} within {seconds:g} s")


def worker_pid(driver: int) -> int | None:
    """A Ray worker that is running a trial."""
    for process in family(driver):
        try:
            if process.name().startswith("ray::ImplicitFunc") or "ImplicitFunc.train" in " ".join(process.cmdline()):
                return process.pid
        except psutil.Error:
            continue
    return None


def alive(processes: list[psutil.Process]) -> list[str]:
    """Names of those that have not ended."""
    names = []
    for process in processes:
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                names.append(process.name())
        except psutil.NoSuchProcess:
            continue
    return names
