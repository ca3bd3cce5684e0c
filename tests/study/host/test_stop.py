"""Signals that the main thread cannot take, and a dry run that is stopped: every process ends, with one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.folder import Folder
from helpers.processes import alive, family, wait_for

ROOT = Path(__file__).resolve().parents[3]
DEAF = """\
import ctypes, os, signal, sys, threading, time
import pfgm.terminal
pfgm.terminal.GRACE_S = 1.0
from study.host.stop import Stop

def for_ever():
    '''A call of C that lets other threads run, and that no signal interrupts: a lock that this thread holds.'''
    library, lock = ctypes.CDLL(None), ctypes.create_string_buffer(256)
    library.pthread_mutex_lock(lock)
    threading.Thread(target=say, daemon=True).start()
    library.pthread_mutex_lock(lock)

def say():
    '''Once the main thread sleeps, and has not run for half a second in which it could.'''
    task, before = f"/proc/self/task/{os.getpid()}", ""
    while not (" S " in open(task + "/stat").read() and before == (now := open(task + "/schedstat").read())):
        before = open(task + "/schedstat").read()
        time.sleep(0.5)
    print("deaf", flush=True)

def without():
    with Stop():
        signal.set_wakeup_fd(-1)
        for_ever()

def study_():
    with Stop():
        for_ever()

def lost():
    with Stop() as stop:
        threading.Timer(1.0, stop.because, ["another driver took over"]).start()
        for_ever()

def dataset():
    pfgm.terminal.command(lambda arguments: for_ever())([])

def report():
    pfgm.terminal.command(lambda arguments: for_ever())([])

globals()[sys.argv[1]]()
"""
SAFE = "a long computation did not end; finished rows are safe\n"


def deaf(what: str) -> subprocess.Popen[str]:
    """A process whose main thread is in a call of C that does not end."""
    process = subprocess.Popen(
        [sys.executable, "-c", DEAF, what], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "deaf\n"
    return process


@pytest.mark.parametrize(
    ("what", "number", "code", "said"),
    [
        ("study_", signal.SIGTERM, 143, f"stopping now: {SAFE}"),
        ("study_", signal.SIGINT, 130, f"stopping now: {SAFE}"),
        ("dataset", signal.SIGINT, 130, "stopped by Ctrl-C\n"),
        ("report", signal.SIGINT, 130, "stopped by Ctrl-C\n"),
        ("report", signal.SIGTERM, -signal.SIGTERM, ""),
        ("lost", None, 1, f"stopping now (another driver took over): {SAFE}"),
    ],
)
def test_a_long_call_is_cut_off(what: str, number: signal.Signals | None, code: int, said: str) -> None:
    process = deaf(what)
    if number is not None:
        process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (code, "", said)


def test_without_the_watch_it_would_hang() -> None:
    process = deaf("without")
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=4)
    process.kill()
    process.communicate()


def calibrating(folder: Folder) -> tuple[subprocess.Popen[str], list]:
    """A dry run, and its processes once all are there and one has imported torch."""
    folder.write(evaluate={"samples": 20_000, "metrics": ["fid", "sliced_wasserstein"]}, train={"steps": 9, "batch_size": 256})
    command = [sys.executable, "-m", "study.run", "search.yaml", "--dry-run", "--set", "resources.concurrent=2"]
    process = subprocess.Popen(
        command, cwd=folder.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )

    def busy() -> bool:
        pool = [p for p in family(process.pid)[1:] if "spawn_main" in " ".join(p.cmdline())]
        return len(pool) == 2 and any("torch" in m.path for p in pool for m in p.memory_maps())

    wait_for(busy, 120, "process that measures")
    return process, family(process.pid)[1:]


def blocks_interrupts(pid: int) -> bool:
    """Whether SIGINT is in the mask of a process."""
    (mask,) = (line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigBlk"))
    return bool(int(mask, 16) >> (signal.SIGINT - 1) & 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGINT, 130, "stopped by Ctrl-C\n"), (signal.SIGTERM, 143, "stopped by SIGTERM\n"), (signal.SIGKILL, -9, "")],
)
def test_a_dry_run_that_is_stopped_leaves_nothing_behind(folder: Folder, number: signal.Signals, code: int, said: str) -> None:
    """Ctrl-C reaches every process of a terminal; SIGTERM and kill -9 the one they are meant for."""
    process, children = calibrating(folder)
    measuring = [p for p in children if "spawn_main" in " ".join(p.cmdline())]
    assert [blocks_interrupts(p.pid) for p in measuring] == [True, True], "else some print a traceback"
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (code, said)
    wait_for(lambda: not alive(children), 60, "end of everything")
