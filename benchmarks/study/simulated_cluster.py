"""A thousand workers without a cluster: how long they wait for the driver, and what the driver and the storage have to do.

    python -m benchmarks.study.simulated_cluster                     1,000 workers, trials of a minute
    python -m benchmarks.study.simulated_cluster --workers 8000 --trial-s 600 --rows 100

The driver is the real one: work list, searcher, display, board and gathering, on a real folder, and every call is timed. The
workers are simulated: each asks for a trial, leaves words on the way, writes its rows with the real writer, and takes as long
as is said, give or take a half. Time is counted, not waited for. The driver does one thing after another; what a worker waits
for it is counted as blocked. Ray itself is not simulated: what Tune adds to a trial is given (benchmarks/study/scheduling.py).
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import io
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from benchmarks.ratios import tell
from study.cluster.environment import prepare

prepare(None)

from benchmarks.study.trivial import TRIVIAL  # noqa: E402
from study.cluster.board import LOOK_S, Board  # noqa: E402
from study.cluster.scheduler import interval  # noqa: E402
from study.cluster.searcher import WorklistSearcher  # noqa: E402
from study.config.yaml_source import read_source  # noqa: E402
from study.driver import display, write_study  # noqa: E402
from study.host.gathering import LOOK_S as GATHER_S  # noqa: E402
from study.host.stop import Stop  # noqa: E402
from study.load import load_source  # noqa: E402
from study.plan.own_columns import evals_schema  # noqa: E402
from study.plan.trial import Trial  # noqa: E402
from study.plan.worklist import Worklist  # noqa: E402
from study.rows.records import write_table  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]

STUDY: dict[str, Any] = TRIVIAL | {
    "name": "simulated",
    "train": {"steps": 100, "batch_size": 8, "warmup_steps": 1},
    "search": {"train": {"sigma": {"log_uniform": [0.1, 0.2]}}, "sampler": {"T_ratio": {"log_uniform": [0.5, 2.0]}}},
}


class Simulation:
    """Workers, and a driver that serves one at a time.

    Attributes:
        busy_until: when the driver has done all that was asked of it, seconds.
        spent: by what it was, seconds of the driver.
        blocked: seconds that workers waited for the driver.
    """

    def __init__(self, work: Worklist, searcher: WorklistSearcher, options: argparse.Namespace) -> None:
        self.work, self.searcher, self.options = work, searcher, options
        self.board, self.random, self.schema = Board(), random.Random(0), evals_schema()
        self.events: list[tuple[float, int, Callable[[float], None]]] = []
        self.n = self.n_words = 0
        self.busy_until = self.blocked = self.worked = self.written_s = 0.0
        self.waits: list[float] = []
        self.spent: dict[str, float] = {}

    def at(self, when: float, what: Callable[[float], None]) -> None:
        """Do something at a moment."""
        self.n += 1
        heapq.heappush(self.events, (when, self.n, what))

    def serve(self, now: float, what: str, act: Callable[[], Any], more_s: float = 0.0) -> tuple[float, Any]:
        """(when the driver has done it, what came of it): after all that was asked before."""
        started = time.perf_counter()
        answer = act()
        took = time.perf_counter() - started + more_s
        self.spent[what] = self.spent.get(what, 0.0) + took
        self.busy_until = max(self.busy_until, now) + took
        return self.busy_until, answer

    def ask(self, now: float) -> None:
        """A worker asks for its next trial."""
        name = f"ray{self.n}"
        ready, handout = self.serve(now, "handing out", lambda: self.searcher.suggest(name))
        if not isinstance(handout, dict):
            if handout is None:
                self.at(ready + 1.0, self.ask)
            return
        self.blocked += ready - now
        self.waits.append(ready - now)
        (trial,) = self.searcher.own[name]
        took = self.options.trial_s * self.random.uniform(0.5, 1.5)
        self.worked += took
        for when in _steps(ready, ready + took, interval(self.options.workers)):
            self.at(when, lambda _, when=when: self.word(trial, (when - ready) / took))
        self.at(ready + took, lambda when: self.end(when, name, trial))

    def word(self, trial: Trial, share: float) -> None:
        """A worker says how far it is; the board is another process, so neither waits."""
        self.n_words += 1
        self.board.say(trial.trial_id, {"phase": "train", "step": round(100 * share), "steps": 100, "loss": 1.0})

    def end(self, now: float, name: str, trial: Trial) -> None:
        """A worker has written its rows, and Tune hears that its trial is over."""
        started = time.perf_counter()
        for cell in trial.cells:
            row = {**cell.to_row(), "status": "complete", "metric_names": "fid,sliced_wasserstein"}
            row |= {"metric_fid": self.random.random(), "metric_sliced_wasserstein": self.random.random()}
            write_table(self.work.config.folder / "evals" / f"{cell.cell_id}.parquet", [row], self.schema)
        self.written_s += time.perf_counter() - started
        self.searcher.said[name] = {trial.trial_id: {"phase": "done", "rows": len(trial.cells), "bad": 0}}
        ready, _ = self.serve(now, "endings", lambda: self.searcher.on_trial_complete(name), self.options.tune_s)
        self.blocked += ready - now
        self.at(ready, self.ask)

    def listen(self, now: float) -> None:
        """The driver reads the board."""

        def hear() -> None:
            for trial_id, said in self.board.take().items():
                self.searcher.progress.update(trial_id, said)

        self.serve(now, "words", hear)
        if not self.work.finished:
            self.at(now + LOOK_S, self.listen)

    def gather(self, now: float) -> None:
        """The thread beside the driver puts rows into segments."""
        started = time.perf_counter()
        self.work.measured.gather(self.work.in_use)
        took = time.perf_counter() - started
        self.spent["gathering, beside it"] = self.spent.get("gathering, beside it", 0.0) + took
        if not self.work.finished:
            self.at(now + max(GATHER_S[False], took), self.gather)

    def run(self) -> float:
        """Run to the end; returns the seconds that the study took."""
        for _ in range(self.options.workers):
            self.at(0.0, self.ask)
        self.at(LOOK_S, self.listen)
        self.at(GATHER_S[False], self.gather)
        now = 0.0
        while self.events:
            now, _, what = heapq.heappop(self.events)
            what(now)
        return now


def _steps(start: float, end: float, step: float) -> list[float]:
    return [start + i * step for i in range(int((end - start) / step) + 1)]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="How long simulated workers wait for the real driver.")
    parser.add_argument("--workers", type=int, default=1_000)
    parser.add_argument("--trials", type=int, help="default: three for each worker")
    parser.add_argument("--trial-s", type=float, default=60.0, help="seconds of a trial, on average")
    parser.add_argument("--rows", type=int, default=4, help="rows of a trial")
    parser.add_argument("--tune-s", type=float, default=0.02, help="seconds that Ray Tune adds to a trial")
    parser.add_argument("--folder", type=Path, help="where to put the temporary files")
    options = parser.parse_args()
    trials = options.trials or 3 * options.workers
    folder = Path(tempfile.mkdtemp(prefix="pfgm-simulated-", dir=options.folder))
    design = {"name": "random", "trials": trials, "sampler_points": options.rows}
    try:
        (folder / "search.yaml").write_text(yaml.safe_dump({**STUDY, "storage": str(folder / "results"), "design": design}))
        planned = load_source(read_source(folder / "search.yaml", ()))
        work = Worklist(planned.config, planned.trials)
        with contextlib.redirect_stdout(io.StringIO()):
            write_study(work.config, work)
            with display(work.config, work, options.workers) as (progress, start):
                searcher = WorklistSearcher(work.config, work, progress, start, Stop(), options.workers)
                simulation = Simulation(work, searcher, options)
                took = simulation.run()
        started = time.perf_counter()
        work.measured.tidy()
        show(simulation, took, trials, time.perf_counter() - started)
    finally:
        shutil.rmtree(folder)


def show(simulation: Simulation, took: float, trials: int, tidied_s: float) -> None:
    """Print what came of it."""
    options, rows = simulation.options, len(simulation.work.rows)
    assert rows == len(simulation.work.cells)
    first, later = simulation.waits[: options.workers], simulation.waits[options.workers :]
    begin = sum(first)
    print(f"{options.workers} workers, {trials} trials of {options.trial_s:g} s, {rows} rows: {took:.0f} s of the study's time")
    share = (simulation.blocked - begin) / (simulation.worked + simulation.blocked - begin)
    driver = sum(spent for what, spent in simulation.spent.items() if "beside" not in what)
    print(f"blocked      {100 * share:.2f} % of the workers' time, at most {max(later, default=0.0):.2f} s at once")
    tell(f"{options.workers} workers at work", "workers that never wait", [1 - share], "0.98")
    print(f"start        a worker waits {max(first):.1f} s at most for its first trial")
    print(f"driver       busy {100 * driver / took:.1f} % of the time")
    for what, seconds in simulation.spent.items():
        print(f"  {what:<22}{1e3 * seconds / trials:7.2f} ms a trial")
    print(f"words        {simulation.n_words / took:.0f} a second")
    print(f"rows         {rows / took:.1f} a second, {1e3 * simulation.written_s / rows:.1f} ms each to write")
    print(f"end          the last rows are gathered in {tidied_s:.1f} s")


if __name__ == "__main__":
    main()
