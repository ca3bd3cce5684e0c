"""What scheduling costs: a thousand trials that do next to nothing, against the same trials in a loop in this process.

    python -m benchmarks.study.scheduling [--trials 1000] [--bundle 16]

Each trial trains one step of a tiny network on 64 points and measures one row of 50 samples. The driver is a process of its
own as always; its memory is sampled from outside. "Steady state" leaves out the first tenth of the trials, in which workers
start. With `--bundle`, so many fields are handed out and trained together; a trial is one of them. CPU time is that of the
driver and all that it started; it does not count waiting for a core of a busy machine.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import yaml

from benchmarks.ratios import tell
from benchmarks.study.trivial import TRIVIAL
from study.rows.records import read_arrow
from study.rows.segments import NAME, OF_BUNDLE
from study.run import main as run_study

ROOT = Path(__file__).resolve().parents[2]

STUDY: dict[str, Any] = TRIVIAL | {
    "name": "trivial",
    "sampler": {"solver": "euler", "steps": 1},
    "evaluate": {"samples": 50, "metrics": ["sliced_wasserstein"]},
    "search": {"train": {"sigma": {"uniform": [0.1, 0.2]}}},
}


def measure_loop(folder: Path, trials: int) -> float:
    """Seconds a trial, one after another in this process."""
    os.environ["OMP_NUM_THREADS"] = "1"
    arguments = ["search.yaml", "--inline", "--no-report", "--set", "storage=loop", "--set", f"design.trials={trials}"]
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
        run_study([*arguments[:-1], "design.trials=2"])  # imports, caches
        started = time.perf_counter()
        assert run_study(arguments) == 0
    return (time.perf_counter() - started) / (trials - 2)


def rows_in(name: str) -> int:
    """Rows of a file of ``evals/``."""
    found = NAME.fullmatch(name) or OF_BUNDLE.fullmatch(name)
    return int(found.group(2)) if found else 1


class Moment(NamedTuple):
    """A look at a driver: wall and CPU seconds, rows that are there, bytes of its memory."""

    wall_s: float
    cpu_s: float
    rows: int
    memory: int


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time of a process and all below it that live."""
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            times = one.cpu_times()
            total += times.user + times.system
    return total


def measure_ray(folder: Path, trials: int, bundle: int) -> tuple[float, float, float]:
    """(wall seconds and CPU seconds a trial in steady state, growth of the driver's memory there in MB)."""
    command = [sys.executable, "-m", "study.run", "search.yaml", "--no-report", "--set", f"design.trials={trials}"]
    command += ["--set", f"resources.bundle={bundle}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment)
        driver, rows = psutil.Process(process.pid), folder / "results/trivial/evals"
        begun: Moment | None = None
        last = Moment(0.0, 0.0, 0, 0)
        while process.poll() is None:
            done = sum(map(rows_in, os.listdir(rows))) if rows.is_dir() else 0
            with contextlib.suppress(psutil.Error):
                if done and done < len(read_arrow(folder / "results/trivial/manifest.parquet", ["cell_id"])):
                    last = Moment(time.perf_counter(), cpu_seconds(driver), done, driver.memory_info().rss)
            if begun is None and done >= trials // 10:
                begun = last
            time.sleep(0.5)
    assert process.returncode == 0 and begun is not None, (folder / "log").read_text()[-2000:]
    n = last.rows - begun.rows
    return (last.wall_s - begun.wall_s) / n, (last.cpu_s - begun.cpu_s) / n, (last.memory - begun.memory) / 2**20


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Seconds of scheduling a trial, against a loop in one process.")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--bundle", type=int, default=1)
    options = parser.parse_args()
    trials = options.trials
    folder = Path(tempfile.mkdtemp(prefix="pfgm-scheduling-"))
    try:
        (folder / "search.yaml").write_text(yaml.safe_dump({**STUDY, "design": {"name": "random", "trials": trials}}))
        wall, cpu, growth = measure_ray(folder, trials, options.bundle)
        loop = measure_loop(folder, max(trials // 5, 20))
    finally:
        shutil.rmtree(folder)
    told = "" if options.bundle == 1 else f" in bundles of {options.bundle}"
    print(f"{trials} trials with Ray{told}: {wall:.3f} s a trial in steady state, wall, {cpu:.3f} s of CPU time")
    print(f"the driver's memory grew by {growth:.0f} MB meanwhile")
    tell("a trivial trial with Ray", "a loop in one process", [loop / wall])
    print(f"the same trials in a loop in one process: {loop:.3f} s a trial; with Ray {wall / loop:.2f} times that")


if __name__ == "__main__":
    main()
