"""A study of 100,000 rows: disk, reading, status, the driver that continues it, and the 1,000th proposal of design tpe.

    python -m benchmarks.study.rows_scale            100,000 rows, about a quarter of an hour; --folder /dev/shm spares the disk
    python -m benchmarks.study.rows_scale --short    3,000 rows, and 200 proposals

The plan is a real one, made by the study's own planner. One trial of it is run. The rows of the others are written by the
writer that workers use, each into a file of its own: keys and parameters of its own cell, and the measurements of a row of that
trial, each number changed at random in all its digits. They are gathered as a driver gathers them. The last trial is left to a
real driver, whose peak memory is told. Ratios are against reading one file a row, timed in this process on the last rows
before they are gathered.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import yaml

from analysis import load_study
from benchmarks.ratios import tell
from benchmarks.study.trivial import TRIVIAL
from study.config.yaml_source import read_source
from study.load import load_source
from study.plan.own_columns import evals_schema
from study.plan.worklist import Worklist
from study.rows.folders import read_evals
from study.rows.measured import LOOSE
from study.rows.records import write_table
from study.rows.storage import Place
from study.run import main as run_study
from study.status import status

ROOT = Path(__file__).resolve().parents[2]

STUDY: dict[str, Any] = TRIVIAL | {
    "name": "many",
    "search": {
        "train": {"sigma": {"log_uniform": [0.1, 0.2]}, "tau": {"log_uniform": [0.02, 0.04]}},
        "sampler": {"T_ratio": {"log_uniform": [0.5, 2.0]}},
    },
    "seeds": {"sample": 5},
}
A_TRIAL = 100
"""Rows of a trial: 20 sampler points, 5 sample seeds."""
TPE: dict[str, Any] = {"name": "proposed", "seeds": {"train": 1, "sample": 1}, "design": {"name": "tpe", "trials": 10_000}}


def write(folder: Path, **sections: Any) -> Path:
    """Write a study file."""
    file = folder / f"{sections.get('name', STUDY['name'])}.yaml"
    file.write_text(yaml.safe_dump({**STUDY, **sections}, sort_keys=False))
    return file


def work_of(file: Path) -> Worklist:
    """The work list of a study file."""
    planned = load_source(read_source(file, ()))
    return Worklist(planned.config, planned.trials)


def made_up(measured: Mapping[str, object], source: random.Random) -> dict[str, object]:
    """Measurements like some that were measured."""
    return {
        name: value * source.uniform(0.9, 1.1) if isinstance(value, float) and value > 0 else value
        for name, value in measured.items()
    }


def fill(work: Worklist, folder: Path) -> Iterator[float]:
    """Write the rows of all trials but the last; yields seconds of every gathering."""
    cells = {c.cell_id for t in work.planned for c in t.cells}
    columns = set(work.planned[0].cells[0].to_row())
    real = [{k: v for k, v in row.items() if k not in columns} for row in read_evals(folder) if row["cell_id"] in cells]
    source, schema, loose = random.Random(0), evals_schema(), 0
    for trial in work.planned[1:-1]:
        for cell in trial.cells:
            row = {**cell.to_row(), **made_up(source.choice(real), source)}
            write_table(folder / "evals" / f"{cell.cell_id}.parquet", [row], schema)
        loose += len(trial.cells)
        if loose >= LOOSE:
            started = time.perf_counter()
            work.measured.gather(set)
            yield time.perf_counter() - started
            loose = 0


def seconds(act: Any) -> float:
    """Seconds of a call, the best of three."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        act()
        times.append(time.perf_counter() - started)
    return min(times)


def megabytes(folder: Path) -> float:
    """Bytes of a folder's files, in MB."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def one_file_a_row(work: Worklist, folder: Path, n: int) -> tuple[float, float]:
    """(seconds, MB) a row of a folder with one file a row; made of rows that are there."""
    other = folder.parent / "loose"
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns("evals", "samples", "logs", "tensorboard"))
    for row in read_evals(folder)[:n]:
        write_table(other / "evals" / f"{row['cell_id']}.parquet", [row], evals_schema())
    return seconds(lambda: load_study(other)) / n, megabytes(other / "evals") / n


def drive(file: Path) -> tuple[float, float]:
    """(seconds, peak memory in MB) of a driver that finishes the study."""
    command = [sys.executable, "-m", "study.run", file.name, "--no-report", "--inline"]
    started, peak = time.perf_counter(), 0
    process = subprocess.Popen(command, cwd=file.parent, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)})
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            peak = max(peak, watched.memory_info().rss)
        time.sleep(0.05)
    assert process.returncode == 0
    return time.perf_counter() - started, peak / 2**20


def proposals(folder: Path, numbers: tuple[int, int]) -> tuple[list[float], float]:
    """(seconds of a proposal at two numbers, the least of 20 there; seconds when all is read and told anew)."""
    file = write(folder, **{**TPE, "storage": str(folder / "results")})
    work = work_of(file)
    work.write_manifest()
    source, schema, times = random.Random(1), evals_schema(), list[float]()
    for _ in range(numbers[1] + 10):
        started = time.perf_counter()
        trial = work.take()
        times.append(time.perf_counter() - started)
        assert trial is not None
        for cell in trial.cells:
            row = {**cell.to_row(), "status": "complete", "metric_names": "fid,sliced_wasserstein", "is_final": True}
            row |= {"metric_fid": source.random(), "metric_sliced_wasserstein": 1.0}
            write_table(work.config.folder / "evals" / f"{cell.cell_id}.parquet", [row], schema)
        work.give_back(trial.trial_id)
    started = time.perf_counter()
    again = work_of(file)
    read_evals(again.config.folder)
    again.take()
    again.write_manifest()
    return [min(times[n - 10 : n + 10]) for n in numbers], time.perf_counter() - started


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Reading, status, driver and proposals of a study of very many rows.")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--short", action="store_true", help="3,000 rows, and 200 proposals")
    parser.add_argument("--folder", type=Path, help="where to put the temporary files")
    options = parser.parse_args()
    n, numbers = (3_000, (50, 200)) if options.short else (options.rows, (100, 1_000))
    folder = Path(tempfile.mkdtemp(prefix="pfgm-rows-", dir=options.folder))
    try:
        study_scale(folder, n)
        (first, last), anew = proposals(folder, numbers)
        print(
            f"tpe: proposal {numbers[0]} takes {1e3 * first:.0f} ms, {numbers[1]} {1e3 * last:.0f} ms: {last / first:.2f} times"
        )
        tell(f"tpe, proposal {numbers[1]}", "all read and told anew", [anew / last])
        print(f"     with everything read and told anew: {1e3 * anew:.0f} ms, {anew / last:.0f} times that")
    finally:
        shutil.rmtree(folder)


def study_scale(folder: Path, n: int) -> None:
    """Write a study of about so many rows, and print what it takes."""
    design = {"name": "sobol", "trials": n // A_TRIAL, "sampler_points": 20}
    file, study = write(folder, storage=str(folder / "results"), design=design), folder / "results/many"
    with contextlib.redirect_stdout(io.StringIO()):
        assert run_study([str(file), "--inline", "--no-report", "--set", "design.trials=1"]) == 0
    work = work_of(file)
    work.write_manifest()
    started = time.perf_counter()
    gathered = list(fill(work, study))
    rows = len(work.rows)
    a_row = 1e3 * sum(gathered) / max(LOOSE * len(gathered), 1)
    print(f"{rows} rows written in {time.perf_counter() - started:.0f} s; gathering took {a_row:.1f} ms a row of that")
    row_s, row_mb = one_file_a_row(work, study, 1_000)
    took, peak = drive(file)
    print(f"a driver that runs the last trial: {took:.0f} s, at most {peak:.0f} MB of memory")
    rows_mb, plan_mb = megabytes(study / "evals"), (study / "manifest.parquet").stat().st_size / 1e6
    frame = load_study(study)
    assert len(frame) == frame["cell_id"].nunique() >= rows and frame["status"].eq("complete").all()
    load, told, few = (
        seconds(act)
        for act in (lambda: load_study(study), lambda: status(Place.of(study)),
                    lambda: load_study(study, columns=["metric_fid", "train_sigma"]))
    )  # fmt: skip
    n, disk = len(frame), rows_mb + plan_mb
    print(f"{n} rows in {len(os.listdir(study / 'evals'))} files")
    print(f"disk         {disk:6.1f} MB, of which the plan {plan_mb:.1f}; as one file a row {n * row_mb / rows_mb:.0f} x")
    print(f"load_study   {load:6.2f} s; one file a row takes {n * row_s / load:.0f} times that; two columns {few:.2f} s")
    print(f"study.status {told:6.2f} s")
    tell("load_study, rows in segments", "one file a row", [n * row_s / load])
    tell("disk, rows in segments", "one file a row", [n * row_mb / rows_mb])


if __name__ == "__main__":
    main()
