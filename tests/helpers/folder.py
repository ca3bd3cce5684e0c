"""Tiny studies: two rings in the plane, a network of 16 units, a few dozen steps; and the command line to run them."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from study.config.study import StudyConfig
from study.load import load_study_config
from study.rows.folders import read_evals
from study.run import main

TINY: dict[str, Any] = {
    "name": "tiny",
    "storage": "results",
    "data": {"name": "rings", "n": 300},
    "network": {"name": "mlp", "width": 16, "depth": 1},
    "train": {"steps": 20, "batch_size": 32},
    "sampler": {"solver": "heun2", "steps": 4},
    "evaluate": {"samples": 60, "metrics": ["fid", "sliced_wasserstein"]},
    "search": {"train": {"sigma": {"choice": [0.1, 0.2]}}, "sampler": {"steps": {"choice": [4, 6]}}},
}
"""Two fields, two sampler points: four rows."""


SAME = ("cost_nfe", "cost_nfe_max", "status")


PREFIXES = ("metric_", "diag_", "train_", "sampler_", "seed_", "data_", "network_", "design_")


KEYS = ("cell_id", "trial_id", "point_id", "train_id", "sampler_id", "step", "is_final")


class Folder:
    """A folder with one study file, and the command line to run it."""

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, path / "search.yaml"

    def write(self, **sections: Any) -> Path:
        """Write search.yaml: the tiny study with some sections replaced; a section that is None is left out."""
        values = {**TINY, **sections}
        self.file.write_text(yaml.safe_dump({k: v for k, v in values.items() if v is not None}, sort_keys=False))
        return self.file

    def load(self, *overrides: str, **sections: Any) -> StudyConfig:
        """The configuration of the tiny study with some sections replaced."""
        return load_study_config(self.write(**sections), overrides)

    def start(self, *options: str, file: str = "search.yaml") -> subprocess.Popen[str]:
        """Start ``python -m study.run`` here; its output is read by `finish`."""
        command = [sys.executable, "-m", "study.run", file, "--no-report", *options]
        return subprocess.Popen(command, cwd=self.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *options: str, expect: int = 0, report: bool = False) -> tuple[str, str]:
        """Run to the end; returns (stdout, stderr) and checks the exit code. Inline, it runs in this process, with a report
        where one is wanted."""
        if "--inline" in options:
            code, out, err = self._run_here(*options, *([] if report else ["--no-report"]))
            assert code == expect, f"exit {code}, not {expect}\n{out}\n{err}"
            return out, err
        process = self.start(*options)
        try:
            out, err = process.communicate(timeout=600)
        finally:
            process.kill()
        assert process.returncode == expect, f"exit {process.returncode}, not {expect}\n{out}\n{err}"
        return out, err

    def _run_here(self, *options: str) -> tuple[int, str, str]:
        out, err, threads = io.StringIO(), io.StringIO(), torch.get_num_threads()
        deterministic = torch.get_deterministic_debug_mode()
        with contextlib.chdir(self.path), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(["search.yaml", *options])
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(deterministic)  # without two seconds of imports
        return code, out.getvalue(), err.getvalue()

    def rows(self, name: str = "tiny", storage: str = "results") -> dict[str, dict[str, Any]]:
        """Rows by cell_id."""
        return {str(row["cell_id"]): row for row in read_evals(self.path / storage / name)}

    def fields(self, storage: str = "results") -> set[str]:
        """Names of the published fields."""
        return {p.name for p in (self.path / storage / "fields").iterdir() if not p.name.startswith(".")}


def promised(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that equal seeds promise bit for bit."""
    return {k: v for k, v in row.items() if k in SAME or k in KEYS or k.startswith(PREFIXES)}


def same_rows(a: Mapping[str, Mapping[str, Any]], b: Mapping[str, Mapping[str, Any]]) -> None:
    """Fail unless two studies have exactly the same rows in every promised column."""
    assert a.keys() == b.keys()
    for cell_id in a:
        assert promised(a[cell_id]) == promised(b[cell_id])


def near_rows(a: Mapping[str, Mapping[str, Any]], b: Mapping[str, Mapping[str, Any]]) -> None:
    """Fail unless two studies have the same rows, numbers that were measured up to rounding: to 1e-5 of their size."""
    assert a.keys() == b.keys()
    for cell_id in a:
        one, other = promised(a[cell_id]), promised(b[cell_id])
        numbers = {k for k, v in one.items() if isinstance(v, float) and k.startswith(("metric_", "diag_"))}
        assert {k: v for k, v in one.items() if k not in numbers} == {k: v for k, v in other.items() if k not in numbers}
        assert [one[k] for k in sorted(numbers)] == pytest.approx([other[k] for k in sorted(numbers)], rel=1e-5, nan_ok=True)
