"""A part is one file and one registry line: one of each kind is added, and a study runs with all of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from analysis import load_study, plot_summary, summarize, to_optuna
from analysis.rows.facts import column_of

PARTS = {
    "own_network.py": """
from math import prod
from torch import Tensor, nn
from pfgm.kinds import Keys, NetworkKind, PositiveInt

class LinearKeys(Keys):
    rank: PositiveInt = 3

class Linear(nn.Module):
    def __init__(self, dim: int, embedding: int, rank: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(dim + embedding, rank), nn.Linear(rank, dim + 1)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        from torch import cat
        return self.up(self.down(cat([x, e], 1)))

CARD = NetworkKind(LinearKeys, lambda config, shape, width: Linear(prod(shape), width, LinearKeys.of(config).rank))
""",
    "own_process.py": '''
from pfgm.kinds import Keys, Positive
from pfgm.process.diffusion import GaussianDiffusion

class FlatKeys(Keys):
    top: Positive = 5.0

class Flat(GaussianDiffusion):
    """Noise levels uniform between 0 and the top."""
    Keys = FlatKeys
    height_keys = ("top",)

    @property
    def height_max(self) -> float:
        return FlatKeys.of(self.train).top

    def levels(self, u):
        return self.height_max * (u + 1e-3)
''',
    "own_solver.py": """
from pfgm.sampling.solvers import Solver, one_step

def ralston(ode, z, u, v):
    slope = ode.slope(z, u)
    ahead = ode.slope(z + 2 / 3 * (v - u) * slope, u + 2 / 3 * (v - u))
    return z + (v - u) * (slope / 4 + 3 * ahead / 4)

RALSTON = Solver(one_step(ralston), calls=2)
""",
    "own_metric.py": """
from pfgm.metrics.card import Column, Metric
COLUMN = Column("metric_spread", label="spread of the samples", unit="data units", log=True, higher_is_better=True, shown=True)
SPREAD = Metric(lambda seen: {"metric_spread": float(seen.x.std())}, columns=(COLUMN,))
""",
    "own_reader.py": """
import numpy as np
from pfgm.data.items import Items, Reader

def read(config):
    angle = np.linspace(0, 3, config.n or 100)
    return Items(np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32))

ARC = Reader(read, frozenset({"n"}))
""",
    "own_features.py": """
from torch import cat, nn
from pfgm.metrics.features.kind import FeatureKind

class Squares(nn.Module):
    def forward(self, x):
        return cat([x, x.square()], 1)

SQUARES = FeatureKind(lambda shape, weights: (Squares(), "squares"))
""",
    "own_grid.py": """
from torch import float64, linspace

def cubes(T, t_min, steps, clock):
    share = linspace(0, 1, steps + 1, dtype=float64)
    return (T ** (1 / 3) + share * (t_min ** (1 / 3) - T ** (1 / 3))) ** 3
""",
}
RUN = """
from pfgm.registry import FEATURES, GRIDS, METRICS, NETWORKS, PROCESSES, READERS, SOLVERS
READERS.register("arc", "own_reader:ARC")
FEATURES.register("squares", "own_features:SQUARES")
GRIDS.register("cubes", "own_grid:cubes")
NETWORKS.register("linear", "own_network:CARD")
PROCESSES.register("flat", "own_process:Flat")
SOLVERS.register("ralston", "own_solver:RALSTON")
METRICS.register("spread", "own_metric:SPREAD")
from study.run import main
for name in ("search", "key", "solver"):
    print(name, main([f"{name}.yaml", "--inline", "--no-report"]))
"""
STUDY = {
    "name": "own",
    "data": {"name": "arc", "n": 300},
    "network": {"name": "linear", "rank": 4},
    "train": {"process": "flat", "steps": 20, "batch_size": 32},
    "sampler": {"solver": "ralston", "steps": 4, "grid": "cubes"},
    "evaluate": {"samples": 60, "features": "squares", "metrics": ["fid", "spread"]},
    "search": {"train": {"top": {"choice": [4.0, 5.0]}}},
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A folder with the parts, and a process that registers them, runs the study, and reads two files with a mistake."""
    folder = tmp_path_factory.mktemp("parts")
    for name, code in {**PARTS, "run.py": RUN}.items():
        (folder / name).write_text(code.lstrip(), encoding="utf-8")
    studies = {
        "search": STUDY,
        "key": STUDY | {"name": "key", "train": {"process": "flat", "steps": 20, "batch_size": 32, "sigma": 0.1}},
        "solver": STUDY | {"name": "solver", "sampler": {"solver": "ralstom", "steps": 4}},
    }
    for name, study in studies.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    done = subprocess.run([sys.executable, "run.py"], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_a_study_runs_with_a_part_of_ones_own_of_every_kind(ran: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = ran
    assert "search 0\n" in done.stdout, done.stderr
    rows = load_study(folder / "results" / "own")
    assert rows["status"].eq("complete").all() and sorted(rows["train_top"]) == [4.0, 5.0]
    assert rows["metric_spread"].gt(0).all() and rows["cost_nfe"].eq(9).all(), "two calls a step, and one to denoise"
    assert rows["network_rank"].eq(4).all() and rows["train_process"].eq("flat").all() and rows["data_name"].eq("arc").all()
    assert rows["metric_features"].eq("squares").all() and rows["sampler_grid"].eq("cubes").all()
    assert len(summarize(rows, metric="spread")) == 2
    spread = column_of(rows, "spread")  # registered in the other process alone: the rows tell of it
    assert spread.log and spread.higher_is_better and spread.shown and spread.metric == "spread"
    assert plot_summary(rows, "spread").get_xlabel() == "spread of the samples (data units)"
    assert to_optuna(rows, "spread").direction.name == "MAXIMIZE"
    manifest = pq.read_schema(folder / "results" / "own" / "manifest.parquet")
    assert {"train_top", "network_rank"} <= set(manifest.names)


def test_keys_of_ones_own_are_checked_like_any_other(ran: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = ran
    assert "key 2\n" in done.stdout and "solver 2\n" in done.stdout
    of_key, of_solver = ([line for line in done.stderr.splitlines() if line.startswith(f"{n}.yaml")] for n in ("key", "solver"))
    assert any("sigma: belongs to process pfgm, this run uses process flat" in line for line in of_key)
    assert any("ralston" in line for line in of_solver)
    assert not [name for name in ("key", "solver") if (folder / "results" / name).exists()]
