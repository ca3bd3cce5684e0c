"""Kill -9 everything, again and again, and compare what is left with a run that nobody disturbed.

    python -m benchmarks.study.fault_campaign --kills 40 --seed 0 [--bundle 4] [--settle]

A two-node Ray cluster on loopback lives in this process; the driver is a process of its own that joins it. Kills go to the
driver, a worker or the raylet of the second node; half at random moments, half the moment a phase announces itself in the file
system: `train` (a training state was saved), `publish` (the weights of a field are being written), `row` (a row is being
written), `gather` (rows are being put into a segment), `continuation` (a saved training state is being read). The driver and
the node are started again after each of their deaths. Whenever the study is finished, its rows are compared and the next round
begins in an empty folder, until all kills are spent. Linux only (inotify).

Exit code 0 when, in every round, the rows equal the undisturbed ones (same keys, metrics bit for bit), none is lost or double,
and no published field was trained again. With `--bundle`, fields are trained together: a field that goes on in another bundle
than before is the same up to rounding, so its numbers are compared to a relative 1e-5. With `--settle`, the study decides round
by round what it measures next; the same rows then mean that every decision was the same too.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks.study.phase_watch import PHASES, Event, Watch
from study.rows.folders import read_evals

ROOT = Path(__file__).resolve().parents[2]

STUDY: dict[str, Any] = {
    "name": "faults",
    "storage": "results",
    "data": {"name": "rings", "n": 300},
    "network": {"name": "mlp", "width": 32, "depth": 1},
    "train": {"steps": 800, "batch_size": 64},
    "sampler": {"solver": "heun2", "steps": 6},
    "evaluate": {"samples": 400, "metrics": ["fid", "sliced_wasserstein"]},
    "search": {
        "train": {"sigma": {"choice": [0.1, 0.15, 0.2, 0.25]}},
        "sampler": {"steps": {"choice": [4, 6, 8]}},
    },
    "seeds": {"train": 2},
    "retries": 100,
    "limits": {"checkpoint_seconds": 0.4},
}
"""8 fields, 24 rows; a field takes a few seconds."""
SETTLE: dict[str, Any] = {
    "search": {
        "train": {"sigma": {"log_uniform": [0.05, 0.4], "levels": 2}},
        "sampler": {"T_ratio": {"log_uniform": [0.3, 3.0], "levels": 2}},
    },
    "design": {"name": "settle", "budget": {"fields": 20}},
}
"""20 fields in several rounds: what is measured next follows from the rows."""
ROUNDING = 1e-5
"""Relative difference of what was measured on a field of one bundle and of another."""
DRIVER = """\
import sys
from study.host import gathering
from study.rows import measured, segments
from study.run import main

measured.LOOSE, gathering.LOOK_S = 4, {False: 0.5, True: 0.5}
measured.SEGMENT_ROWS = segments.SEGMENT_ROWS = 10
sys.exit(main())
"""
"""A driver that gathers four rows already, where others wait for a thousand."""
TARGETS = ("driver", "worker", "raylet")
PATIENCE_S = 40.0
SAME = re.compile(
    r"(metric|diag|train|sampler|seed|data|network|design)_|(cell|trial|point|train|sampler)_id$|cost_nfe|status$"
)


class Cluster:
    """Two nodes of one CPU each; the second may die."""

    def __init__(self) -> None:
        os.environ |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
        from ray.cluster_utils import Cluster as RayCluster

        self.temporary = Path(tempfile.mkdtemp(prefix="pfgm-cluster-"))
        Path("/tmp/ray").mkdir(exist_ok=True)  # where Ray notes the address of a cluster
        head = {"num_cpus": 1, "temp_dir": str(self.temporary), "include_dashboard": False, "node_ip_address": "127.0.0.1"}
        self.ray = RayCluster(initialize_head=True, head_node_args=head)
        self.address = self.ray.address
        self.node: Any = None
        self.mend()

    def mend(self) -> None:
        """Start the second node where there is none."""
        if self.node is None or self.raylet() is None:
            if self.node is not None:
                self.ray.remove_node(self.node, allow_graceful=False)
            self.node = self.ray.add_node(num_cpus=1, node_ip_address="127.0.0.1")

    def raylet(self) -> int | None:
        """The process of the second node's raylet, if it lives."""
        process = self.node.all_processes["raylet"][0].process
        return process.pid if process.poll() is None else None

    def close(self) -> None:
        """End both nodes."""
        self.ray.shutdown()
        shutil.rmtree(self.temporary, ignore_errors=True)


class Driver:
    """``study.run`` on the cluster, started again after every death."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder, self.address, self.starts = folder, address, 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, unless it runs."""
        self.starts += 1
        command = [sys.executable, "-c", DRIVER, "search.yaml", "--no-report", "--address", self.address]
        with open(self.folder / f"driver-{self.starts}.log", "wb") as log:
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, env=environment)

    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        assert self.process is not None
        return self.process.poll()

    def log(self) -> str:
        """What it printed."""
        return (self.folder / f"driver-{self.starts}.log").read_text()


def workers() -> list[int]:
    """Ray workers that are running a trial."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if "ImplicitFunc" in " ".join(process.info["cmdline"] or []):
            found.append(process.pid)
    return found


def undisturbed(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of a run that nobody disturbs, by cell."""
    command = [sys.executable, "-m", "study.run", "search.yaml", "--no-report", "--set", "storage=undisturbed"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)})
    return {str(row["cell_id"]): row for row in read_evals(folder / "undisturbed/faults")}


class Campaign:
    """The kills of a run, and what came of them."""

    def __init__(self, kills: int, seed: int, folder: Path, rounding: float) -> None:
        self.rounding = rounding
        self.random, self.folder, self.done = random.Random(seed), folder, 0
        self.plan: list[tuple[str, str]] = []
        for k in range(kills):
            moment = "random" if k % 2 else PHASES[(k // 2) % len(PHASES)]
            self.plan.append((moment, TARGETS[(k // 2 + k // 8) % 3] if moment == "random" else self.random.choice(TARGETS)))
        self.hits: Counter[str] = Counter()
        self.by_target: Counter[str] = Counter()
        self.reference = undisturbed(folder)
        self.faults: list[str] = []
        self.cluster = Cluster()

    def run(self) -> None:
        """Rounds until all kills are spent; the last round is finished undisturbed."""
        rounds = 0
        while self.done < len(self.plan):
            rounds += 1
            self.round(rounds)
        self.rounds = rounds

    def round(self, number: int) -> None:
        """One study from nothing to its last row."""
        folder = self.folder / f"round-{number}"
        folder.mkdir()
        shutil.copy(self.folder / "search.yaml", folder)
        ids = sorted({str(row["train_id"]) for row in self.reference.values()})
        watch, driver = Watch(folder / "results", ids), Driver(folder, self.cluster.address)
        driver.start()
        while True:
            self.cluster.mend()
            code = driver.code()
            if code == 0:
                break
            if code is not None:
                if code != -signal.SIGKILL:
                    self.faults.append(f"round {number}: a driver ended with {code}: {driver.log()[-500:]}")
                    break
                driver.start()
            if self.done < len(self.plan):
                self.kill(*self.plan[self.done], watch, driver)
            else:
                for _ in watch.events(1.0):
                    pass
        for _ in watch.events(0.2):
            pass
        self.compare(number, folder, watch, len(ids))
        watch.close()

    def kill(self, moment: str, target: str, watch: Watch, driver: Driver) -> None:
        """Wait for the moment and kill the target; nothing happens when the study ends first.

        A continuation needs a training that was cut off: a worker is killed at the moment `train` for it, as an extra.
        """
        if moment == "continuation" and not self.strike("train", "worker", watch, driver):
            return
        if self.strike(moment, target, watch, driver):
            self.done += 1

    def strike(self, moment: str, target: str, watch: Watch, driver: Driver) -> bool:
        """Wait for the moment and kill; whether it came to that."""
        delay = self.random.uniform(0.0, 14.0)
        end = time.monotonic() + (delay if moment == "random" else PATIENCE_S)
        event: Event | None = None
        while time.monotonic() < end and driver.code() is None:
            for seen in watch.events(min(0.25, max(end - time.monotonic(), 0.01))):
                if seen.phase == moment:
                    event = seen
                    break
            if event is not None:
                break
        if driver.code() is not None or (moment != "random" and event is None):
            return False
        pid = self.victim(target, event, driver)
        if pid is None:
            return False
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        self.hits[moment] += 1
        self.by_target[target] += 1
        print(f"  kill {sum(self.hits.values())}: {target}, {moment}", flush=True)
        if target == "driver":
            assert driver.process is not None
            driver.process.wait()
        return True

    def victim(self, target: str, event: Event | None, driver: Driver) -> int | None:
        """The process to kill."""
        if target == "driver":
            assert driver.process is not None
            return driver.process.pid
        if target == "raylet":
            return self.cluster.raylet()
        if event is not None and event.pid is not None:
            return event.pid
        running = workers()
        return self.random.choice(running) if running else None

    def compare(self, number: int, folder: Path, watch: Watch, n_fields: int) -> None:
        """The rows of a round against the undisturbed ones."""
        rows = read_evals(folder / "results/faults")
        by_cell = {str(row["cell_id"]): row for row in rows}
        problems = {
            "lost": len(self.reference.keys() - by_cell.keys()),
            "not planned": len(by_cell.keys() - self.reference.keys()),
            "double": len(rows) - len(by_cell),
            "different": sum(
                not same(by_cell[c], self.reference[c], self.rounding) for c in by_cell.keys() & self.reference.keys()
            ),
            "fields trained again": watch.again + watch.changed(),
            "fields not published": n_fields - len(watch.published),
        }
        self.faults += [f"round {number}: {n} {what}" for what, n in problems.items() if n]
        print(f"round {number}: {len(by_cell)} rows; {', '.join(f'{n} {what}' for what, n in problems.items())}", flush=True)


def same(a: dict[str, Any], b: dict[str, Any], rounding: float) -> bool:
    """Whether two rows agree in every column that equal seeds promise, measured numbers up to some rounding."""
    return all(near(a[k], b[k], rounding if k.startswith(("metric_", "diag_")) else 0.0) for k in b if SAME.match(k))


def near(a: object, b: object, rounding: float) -> bool:
    """Whether two values are equal, or numbers that differ by rounding."""
    return a == b or (isinstance(a, float) and isinstance(b, float) and abs(a - b) <= rounding * abs(b))


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Kill -9 a study's processes and compare its rows with an undisturbed run.")
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bundle", type=int, default=1, help="fields that are trained together")
    parser.add_argument("--settle", action="store_true", help="a study that decides round by round what it measures")
    options = parser.parse_args()
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="pfgm-campaign-"))
    study = {**STUDY, **(SETTLE if options.settle else {}), "resources": {"bundle": options.bundle}}
    (folder / "search.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    campaign = Campaign(options.kills, options.seed, folder, ROUNDING if options.bundle > 1 else 0.0)
    try:
        campaign.run()
    finally:
        campaign.cluster.close()
    hits = ", ".join(f"{moment} {campaign.hits[moment]}" for moment in ("random", *PHASES))
    targets = ", ".join(f"{target} {campaign.by_target[target]}" for target in TARGETS)
    minutes = (time.monotonic() - started) / 60
    print(f"{sum(campaign.hits.values())} kills in {campaign.rounds} rounds, {minutes:.1f} min: {targets}; moments: {hits}")
    if campaign.faults:
        print("\n".join(campaign.faults), file=sys.stderr)
        print(f"logs are in {folder}", file=sys.stderr)
        return 1
    how = "bit for bit" if options.bundle == 1 else f"to {ROUNDING:g}"
    print(f"rows equal to the undisturbed run's: same keys, metrics {how}; 0 lost, 0 double, 0 fields trained again")
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
