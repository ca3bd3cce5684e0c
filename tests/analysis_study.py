"""A synthetic study folder with a known truth, for the tests of ``analysis``.

log FID = log base + Σ effects of the parameters + N(0, seed_noise²) per field + N(0, sample_noise²) per cell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from study.records import EVALS, HISTORY, MANIFEST, write_table

TRAIN_DEFAULT = {"sigma": 0.1, "M": 121.0, "tau": 0.03, "reference_batch_size": 1797}
SAMPLER_DEFAULT = {"T_ratio": 1.0, "solver": "dopri5", "rtol": 1e-4, "steps": None}
TRAIN_ARMS = {
    "sigma": [0.03, 0.3],
    "M": [60.0, 180.0],
    "tau": [0.01, 0.1],
    "reference_batch_size": [128, 512],
}
SAMPLER_ARMS = {
    "T_ratio": [0.3, 0.5, 2.0, 5.0],
    "rtol": [1e-5, 1e-3, 1e-2, 1e-1],
    "solver": ["heun2"],
    "steps": [8, 16, 32],
}
SEARCH = {
    "train": {
        "sigma": {"log_uniform": [0.03, 0.3], "levels": 2},
        "M": {"uniform": [60.0, 180.0], "levels": 2},
        "tau": {"log_uniform": [0.01, 0.1], "levels": 2},
        "reference_batch_size": {"choice": [128, 512, "all"]},
    },
    "sampler": {
        "T_ratio": {"log_uniform": [0.3, 5.0], "levels": 4},
        "rtol": {"log_uniform": [1e-5, 0.1], "levels": 4},
        "solver": {"choice": ["dopri5", "heun2"]},
        "steps": {"choice": [8, 16, 32], "when": {"solver": ["heun2"]}},
    },
}

Effect = Callable[[Any], float]


@dataclass(frozen=True)
class Truth:
    """What the synthetic study is made of; `write_study` turns it into a folder."""

    design: str = "one_at_a_time"
    train_seeds: int = 3
    arm_seeds: int | None = None
    sample_seeds: int = 1
    seed_noise: float = 0.05
    sample_noise: float = 0.01
    effects: Mapping[str, Effect] = field(default_factory=dict)
    status: Callable[[dict[str, Any]], str] = lambda row: "complete"
    """Status of a cell; "pending" writes no row."""
    train_axes: tuple[str, ...] = tuple(TRAIN_ARMS)
    sampler_axes: tuple[str, ...] = tuple(SAMPLER_ARMS)
    trials: int = 12
    """Training points of an iid design."""
    sampler_points: int = 6
    disjoint: bool = False
    with_default: bool = True
    features: str = "digits"
    metrics: bool = True
    """False: every metric is null."""
    samples: bool = True
    tolerance: float = 0.10
    seed: int = 0

    def changed(self, **keys: Any) -> Truth:
        return replace(self, **keys)


def write_study(folder: Path, truth: Truth) -> Path:
    """Write study.yaml, manifest, evals, history, sample grids and logs; returns the folder."""
    rng = np.random.default_rng(truth.seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(yaml.safe_dump(_study_yaml(folder.name, truth), sort_keys=False))
    trains, samplers = _points(truth, rng)
    planned, measured, history = [], [], []
    for point, (role, train) in enumerate(trains):
        for seed in _seeds(truth, role, point):
            field_noise = rng.normal(0, truth.seed_noise)
            train_id = f"f{point:03d}s{seed}"
            for number, (sampler_role, sampler) in enumerate(samplers):
                for sample_seed in range(truth.sample_seeds):
                    row = _row(folder.name, truth, point, role, train, seed, number, sampler_role, sampler, sample_seed)
                    planned.append({k: v for k, v in row.items() if k in MANIFEST.names})
                    noise = field_noise + rng.normal(0, truth.sample_noise)
                    status = truth.status(row)
                    if status != "pending":
                        measured.append(_measure(row, truth, status, noise))
            history += _history(train_id, seed, rng)
    write_table(folder / "manifest.parquet", planned, MANIFEST)
    for train_id in sorted({row["train_id"] for row in measured}):  # a few files, each with several cells: faster
        write_table(folder / "evals" / f"{train_id}.parquet", [r for r in measured if r["train_id"] == train_id], EVALS)
    write_table(folder / "history" / "all.parquet", history, HISTORY)
    if truth.samples:
        _grids(folder, measured, rng)
    return folder


def _study_yaml(name: str, truth: Truth) -> dict[str, Any]:
    search = {
        "train": {k: v for k, v in SEARCH["train"].items() if k in truth.train_axes},
        "sampler": {k: v for k, v in SEARCH["sampler"].items() if k in truth.sampler_axes},
    }
    return {
        "name": name,
        "storage": "results",
        "data": {"name": "digits", "path": None, "center": True, "n": None, "dim": None},
        "network": {"name": "mlp", "width": 512, "depth": 2},
        "train": {"process": "pfgm", "objective": "normalized", "gamma": 5.0, "sigma": 0.1, "tau": 0.03, "M": "rule",
                  "height_ratio": None, "reference_batch_size": "all", "steps": 1300, "batch_size": 128,
                  "learning_rate": 0.001},
        "sampler": {"T": "rule", "T_ratio": None, "solver": "dopri5", "rtol": 1e-4, "atol": "same", "t_min": 0.001,
                    "denoise": True, "max_radius_ratio": None, "batch_size": 500},
        "evaluate": {"samples": 1000, "metrics": ["fid", "precision_recall"], "features": truth.features},
        "search": {group: axes for group, axes in search.items() if axes},
        "design": {"name": truth.design, "trials": None, "sampler_points": None, "seed": 0, "arm_seeds": truth.arm_seeds},
        "seeds": {"train": list(range(truth.train_seeds)), "sample": list(range(truth.sample_seeds)),
                  "disjoint": truth.disjoint},
        "resources": {"cpus": 1, "gpus": "auto", "concurrent": "auto"},
        "analysis": {"tolerance": truth.tolerance},
    }  # fmt: skip


def _points(truth: Truth, rng: np.random.Generator) -> tuple[list[Any], list[Any]]:
    trains = [("default", dict(TRAIN_DEFAULT))] if truth.with_default else []
    samplers = [("default", dict(SAMPLER_DEFAULT))] if truth.with_default else []
    if truth.design == "one_at_a_time":
        for name in truth.train_axes:
            trains += [(f"arm:{name}", {**TRAIN_DEFAULT, name: value}) for value in TRAIN_ARMS[name]]
        for name in truth.sampler_axes:
            samplers += [(f"arm:{name}", _sampler_arm(name, value)) for value in SAMPLER_ARMS[name]]
        return trains, _joined(samplers)
    trains += [(truth.design, _draw_train(truth, rng)) for _ in range(truth.trials)]
    samplers += [(truth.design, _draw_sampler(truth, rng)) for _ in range(truth.sampler_points)]
    return trains, samplers


def _joined(points: list[Any]) -> list[Any]:
    """As the planner: no point twice, one on two arms has both roles."""
    roles: dict[str, list[str]] = {}
    for role, point in points:
        roles.setdefault(repr(point), []).append(role)
    return [("+".join(roles.pop(repr(point))), point) for _, point in points if repr(point) in roles]


def _sampler_arm(name: str, value: Any) -> dict[str, Any]:
    if name == "solver":
        return {**SAMPLER_DEFAULT, "solver": value, "rtol": None, "steps": 16}
    if name == "steps":
        return {**SAMPLER_DEFAULT, "solver": "heun2", "rtol": None, "steps": value}
    return {**SAMPLER_DEFAULT, name: value}


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


def _draw_train(truth: Truth, rng: np.random.Generator) -> dict[str, Any]:
    drawn = {"sigma": _log_uniform(rng, 0.03, 0.3), "M": float(rng.uniform(60, 180)), "tau": _log_uniform(rng, 0.01, 0.1),
             "reference_batch_size": int(rng.choice([128, 512, 1797]))}  # fmt: skip
    return {k: v if k in truth.train_axes else TRAIN_DEFAULT[k] for k, v in drawn.items()}


def _draw_sampler(truth: Truth, rng: np.random.Generator) -> dict[str, Any]:
    heun = "solver" in truth.sampler_axes and rng.random() < 0.4
    drawn = {"T_ratio": _log_uniform(rng, 0.3, 5.0), "rtol": _log_uniform(rng, 1e-5, 0.1)}
    point = {k: v if k in truth.sampler_axes else SAMPLER_DEFAULT[k] for k, v in drawn.items()}
    steps = int(rng.choice([8, 16, 32]))
    return {**point, "solver": "heun2", "rtol": None, "steps": steps} if heun else {**point, "solver": "dopri5", "steps": None}


def _seeds(truth: Truth, role: str, point: int) -> list[int]:
    n = truth.arm_seeds if role.startswith("arm:") and truth.arm_seeds else truth.train_seeds
    first = point * truth.train_seeds if truth.disjoint else 0
    return list(range(first, first + n))


def _row(
    study: str, truth: Truth, point: int, role: str, train: dict[str, Any], seed: int, number: int, sampler_role: str,
    sampler: dict[str, Any], sample_seed: int,
) -> dict[str, Any]:  # fmt: skip
    return {
        "study_id": study, "cell_id": f"c{point:03d}-{seed}-{number:02d}-{sample_seed}", "trial_id": f"t{point}-{seed}",
        "point_id": f"p{point:03d}", "train_id": f"f{point:03d}s{seed}", "sampler_id": f"s{number:02d}",
        "seed_train": seed, "seed_sample": sample_seed, "step": 1300, "is_final": True, "design_role": role,
        "design_sampler_role": sampler_role, "data_name": "digits", "data_n": 1797, "data_dim": 64, "data_center": True,
        "network_name": "mlp", "network_width": 512, "network_depth": 2, "train_process": "pfgm",
        "train_objective": "normalized", "train_gamma": 5.0, "train_sigma": train["sigma"], "train_tau": train["tau"],
        "train_M": train["M"], "train_height_max": train["sigma"] * (1 + train["tau"]) ** train["M"],
        "train_reference_batch_size": train["reference_batch_size"], "train_steps": 1300, "train_batch_size": 128,
        "train_learning_rate": 1e-3, "sampler_T": 2.85 * sampler["T_ratio"], "sampler_T_ratio": sampler["T_ratio"],
        "sampler_t_min": 1e-3, "sampler_solver": sampler["solver"], "sampler_rtol": sampler["rtol"],
        "sampler_atol": sampler["rtol"], "sampler_steps": sampler["steps"], "sampler_denoise": True,
        "sampler_batch_size": 500, "prov_design": truth.design, "schema_version": 1,
    }  # fmt: skip


def log_effect(row: Mapping[str, Any], effects: Mapping[str, Effect]) -> float:
    """Σ effects of the row's parameters on log FID."""
    total = 0.0
    for name, effect in effects.items():
        group = "train" if f"train_{name}" in row else "sampler"
        value = row[f"{group}_{name}"]
        total += effect(value) if value is not None else 0.0
    return total


def _measure(row: dict[str, Any], truth: Truth, status: str, noise: float) -> dict[str, Any]:
    common = {
        **row, "status": status, "cost_train_s": 60.0, "prov_training_version": 1, "prov_field_reused": False,
        "prov_device": "cpu", "prov_threads": 1, "prov_torch": "2.8.0", "prov_python": "3.12", "prov_version": "0.1.0",
        "prov_finished_at": "2026-01-02T03:04:05+00:00", "prov_cpu": "x86", "prov_git": "abc1234",
    }  # fmt: skip
    if status != "complete":
        error = {"failed": "RuntimeError: out of memory", "diverged": "12 samples are not finite"}.get(status, status)
        return {**common, "error": error, "error_log": f"logs/{row['trial_id']}.log", "metric_nonfinite_fraction": 0.1}
    fid = math.exp(math.log(0.8) + log_effect(row, truth.effects) + noise)
    rtol, steps = row["sampler_rtol"], row["sampler_steps"]
    nfe = float(2 * steps + 1) if steps else 30.0 * (1e-2 / rtol) ** 0.2 + 10
    costs = {"cost_nfe": nfe, "cost_nfe_max": nfe + 6, "cost_sample_s": nfe / 20, "cost_metric_s": 1.0}
    if not truth.metrics:
        return {**common, **costs}
    spread = {"metric_precision": 0.9 - 0.1 * math.tanh(fid - 0.8), "metric_recall": 0.66 - 0.1 * math.tanh(fid - 0.8),
              "metric_outlier_fraction": 0.06, "metric_nn_ratio": 0.92,
              "metric_solver_error": 0.3 * math.sqrt(rtol) if rtol else 0.02}  # fmt: skip
    if truth.features == "pixels":
        return {**common, **costs, "metric_sliced_wasserstein": fid / 10, "metric_n": 1000}
    fids = {"metric_fid": fid, "metric_fid_floor": 0.1, "metric_fid_half": 0.34, "metric_fid_gaussian": 16.3,
            "metric_n": 1000, "metric_features": truth.features}  # fmt: skip
    return {**common, **costs, **spread, **fids}


def _history(train_id: str, seed: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    return [
        {"train_id": train_id, "seed_train": seed, "step": step, "loss": 2.0 / math.sqrt(step) * math.exp(rng.normal(0, 0.05)),
         "gradient_norm": 1.0, "learning_rate": 1e-3, "elapsed_s": step / 40}
        for step in range(100, 1301, 200)
    ]  # fmt: skip


def _grids(folder: Path, measured: list[dict[str, Any]], rng: np.random.Generator) -> None:
    (folder / "samples").mkdir(exist_ok=True)
    for row in measured:
        if row["status"] == "complete":
            pixels = rng.integers(0, 256, (66, 66), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "samples" / f"{row['cell_id']}.png")
