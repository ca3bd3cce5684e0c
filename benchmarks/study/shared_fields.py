"""What sharing fields saves: 3 training points with 8 sampler points each, against training once per configuration.

    python -m benchmarks.study.shared_fields

Both run with Ray on the same two slots, one after the other: first as one study, whose trials train a field and measure all
sampler points on it, then as every tool does that does not know the difference: one trial, and one training, a configuration.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.ratios import tell
from study.rows.folders import read_evals

ROOT = Path(__file__).resolve().parents[2]

STEPS = [4, 6, 8, 10, 12, 16, 20, 24]
STUDY: dict[str, Any] = {
    "name": "shared",
    "data": {"name": "rings", "n": 1000},
    "network": {"name": "mlp", "width": 64, "depth": 2},
    "train": {"steps": 600, "batch_size": 64},
    "sampler": {"solver": "heun2", "steps": 4},
    "evaluate": {"samples": 500, "metrics": ["fid", "sliced_wasserstein"]},
    "resources": {"concurrent": 2},
}
SIGMAS = [0.1, 0.15, 0.2]


def run(folder: Path, name: str, study: dict[str, Any]) -> float:
    """Wall seconds of a study."""
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({**study, "name": name}, sort_keys=False))
    command = [sys.executable, "-m", "study.run", f"{name}.yaml", "--no-report", "--set", f"storage={name}"]
    started = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - started


def trained(folder: Path, name: str) -> tuple[int, int]:
    """(rows, fields that were trained for them)."""
    fields = [p for p in (folder / name / "fields").iterdir() if not p.name.startswith(".")]
    return len(read_evals(folder / name / name)), len(fields)


def main() -> None:
    """Run both and print the ratio."""
    folder = Path(tempfile.mkdtemp(prefix="pfgm-shared-"))
    axes = {"sigma": {"choice": SIGMAS}}, {"steps": {"choice": STEPS}}
    shared = {**STUDY, "search": {"train": axes[0], "sampler": axes[1]}, "design": {"name": "grid"}}
    # every (training, sampler) pair under a train seed of its own: nothing can be shared
    separate = {**STUDY, "search": {"train": axes[0]}, "design": {"name": "grid"}, "seeds": {"train": len(STEPS)}}
    try:
        shared_s, separate_s = run(folder, "shared", shared), run(folder, "separate", separate)
        rows, fields = trained(folder, "shared")
        rows_separate, fields_separate = trained(folder, "separate")
    finally:
        shutil.rmtree(folder)
    print(f"shared: {rows} rows, {fields} fields trained, {shared_s:.1f} s")
    print(f"training once a configuration: {rows_separate} rows, {fields_separate} fields trained, {separate_s:.1f} s")
    tell("3 fields, 8 sampler points each", "a training for each configuration", [separate_s / shared_s], "2")
    print(f"ratio {shared_s / separate_s:.2f} (asked: 3 fields and at most 0.50)")


if __name__ == "__main__":
    main()
