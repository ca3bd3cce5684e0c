"""Run every benchmark in its short form, write benchmarks/RESULTS.md, and say which ratio fell by more than 15 %.

    python -m benchmarks.all [--only model.sampling model.bundles] [--keep]

A ratio compares two ways in one run, and above 1 is better than the baseline. Seconds are not kept: they are the machine's.
Ratios of few repetitions on a busy machine move by more than 15 % by chance; run the benchmark again before you look for a
cause. Exit code 1: a ratio fell, or a benchmark failed. The file is then written all the same, unless ``--keep``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.ratios import FILE

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "RESULTS.md"
FALL = 0.15
"""Share of a committed ratio that it may lose."""
SHORT: dict[str, str] = {
    "model.field_target": "--repeats 1",
    "model.training": "--rounds 3 --seconds 1",
    "model.training_step": "--rounds 5 --widths 256 512",
    "model.bundles": "--rounds 3",
    "model.sampling": "--fields exact --calls 8 20 --samples 200",
    "study.shared_fields": "",
    "study.scheduling": "--trials 200",
    "study.rows_scale": "--short",
    "statistics.analysis_scale": "--rows 20000",
    "study.simulated_cluster": "--workers 100",
    "model.reading": "",
    "statistics.coverage": "--studies 60",
    "statistics.null_studies": "--studies 60",
    "statistics.partial": "--studies 10",
}
"""Arguments of the short form of each benchmark. The fault campaign finds no ratio: `make faults`."""
COLUMNS = ("what", "baseline", "ratio", "least … largest", "asked", "command")


def run(name: str) -> list[dict[str, Any]]:
    """Run one benchmark; its output is shown, and its ratios are returned.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    command = [sys.executable, "-m", f"benchmarks.{name}", *SHORT[name].split()]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ratios"
        file.touch()
        path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
        subprocess.run(command, check=True, cwd=HERE.parent, env={**os.environ, FILE: str(file), "PYTHONPATH": path})
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [line | {"command": f"{name} {SHORT[name]}".strip()} for line in lines]


def machine() -> str:
    """The machine and the versions that the ratios were measured with."""
    cpu = next((line.split(":")[1].strip() for line in cpuinfo() if line.startswith("model name")), platform.machine())
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "ray", "pandas", "numpy", "optuna"))
    load = f"load {os.getloadavg()[0]:.1f} at the end"
    return f"{os.cpu_count()} cores, {cpu}, {load}; Python {platform.python_version()}, {packages}"


def cpuinfo() -> list[str]:
    """Linux tells the name of its processor here."""
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def table(lines: list[dict[str, Any]]) -> str:
    """The ratios as Markdown."""
    rows = [COLUMNS, ("---",) * len(COLUMNS)]
    for line in lines:
        spread = f"{line['low']:.3g} … {line['high']:.3g}" if line["n"] > 1 else "once"
        rows.append((line["what"], line["baseline"], f"{line['ratio']:.3g}", spread, line["asked"], f"`{line['command']}`"))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def committed() -> dict[str, float]:
    """The ratios of the file that is there, by what they are of."""
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
    found = re.findall(r"^\| (.+?) \| .+? \| ([0-9.e+-]+) \|", text, flags=re.MULTILINE)
    return {what: float(ratio) for what, ratio in found}


def fallen(before: dict[str, float], lines: list[dict[str, Any]]) -> list[str]:
    """Return a sentence for every ratio that lost more than it may."""
    return [
        f"{line['what']}: {line['ratio']:.3g}, before {before[line['what']]:.3g} ({line['command']})"
        for line in lines
        if line["what"] in before and line["ratio"] < (1 - FALL) * before[line["what"]]
    ]


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SHORT), default=list(SHORT), help="run these alone; writes no file")
    parser.add_argument("--keep", action="store_true", help="compare only, write no file")
    options = parser.parse_args()
    lines: list[dict[str, Any]] = []
    failed: list[str] = []
    for name in options.only:
        print(f"\n== {name} {SHORT[name]}", flush=True)
        started = time.perf_counter()
        try:
            lines += run(name)
        except subprocess.CalledProcessError as error:
            failed.append(f"{name} ended with exit code {error.returncode}")
        print(f"== {name}: {time.perf_counter() - started:.0f} s", flush=True)
    faults = fallen(committed(), lines) + failed
    shown = table(lines)
    print(f"\n{shown}\n")
    if options.only == list(SHORT) and not options.keep:
        head = (
            "# Benchmarks: ratios to baselines of the same run\n\nWritten by `make bench`. Above 1 is better than the baseline."
        )
        RESULTS.write_text(f"{head}\n\n{machine()}\n\n{shown}\n", encoding="utf-8")
        print(f"written: {RESULTS}")
    print("\n".join(f"fell: {fault}" for fault in faults) or "no ratio fell by more than 15 %")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
