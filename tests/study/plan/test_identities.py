"""Identities of forty varied studies, as they are in storages that exist: whoever moves one orphans finished rows or fields.

``golden_identities.json`` holds, by case, the number of cells, a digest of all their identities, and the first cell's in full.
A key that is added later must move none of them. Where a change is meant to (say so in the changelog), write the file anew with
``python tests/study/plan/test_identities.py``.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from study.load import load_study_config
from study.plan.identity import digest
from study.plan.make import make_plan

GOLDEN = Path(__file__).parent / "golden_identities.json"
NAMES = ("train_id", "point_id", "sampler_id", "cell_id")
BASE: dict[str, Any] = {
    "name": "golden",
    "data": {"name": "digits"},
    "network": {"width": 16, "depth": 1},
    "train": {"steps": 20, "batch_size": 32},
    "sampler": {"solver": "heun2", "steps": 4},
    "evaluate": {"samples": 60, "metrics": ["fid"]},
}
VECTORS = {"name": "vectors", "path": "points.npy"}
T_AXIS = {"T_ratio": {"log_uniform": [0.5, 4], "levels": 3}}


def _train(**keys: Any) -> dict[str, Any]:
    return {"train": BASE["train"] | keys}


def _sampler(**keys: Any) -> dict[str, Any]:
    return {"sampler": keys}


CASES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "sigma, tau, M": _train(sigma=0.2, tau=0.05, M=80.0),
    "height_ratio": _train(height_ratio=0.5),
    "restrict_M": _train(restrict_M=True),
    "gamma and reference batch": _train(gamma=1.0, reference_batch_size=64),
    "constant rate": _train(constant_rate=True, warmup_steps=5, gradient_clip=0.5, ema_decay=0.99),
    "bf16": _train(bf16=True),
    "raw, forced": _train(objective="raw", force=True),
    "pfgmpp": _train(process="pfgmpp"),
    "pfgmpp, D = 8": _train(process="pfgmpp", n_aug=8.0, P_mean=-0.4, P_std=1.0),
    "pfgmpp, D infinite": _train(process="pfgmpp", n_aug=float("inf")),
    "pfgmpp, reference": _train(process="pfgmpp", objective="reference", reference_batch_size=128),
    "ve": _train(process="ve", sigma_max=10.0),
    "vp": _train(process="vp", beta_max=15.0),
    "unet": {"network": {"name": "unet", "width": 16, "depth": 2}},
    "unet in patches": {"network": {"name": "unet", "width": 16, "depth": 2, "patch": 2}},
    "ddpmpp": {"network": {"name": "ddpmpp", "width": 8, "depth": 1, "channel_mult": [1, 2]}},
    "plain head": {"network": {"width": 16, "depth": 1, "skip": False}},
    "not centred, flipped": {"data": {"name": "digits", "center": False, "flip": True}},
    "held out": {"data": {"name": "digits", "holdout": 0.1}},
    "vectors": {"data": VECTORS},
    "vectors, energy": {"data": VECTORS, "evaluate": {"samples": 80, "metrics": ["sliced_wasserstein", "energy"]}},
    "dopri5": _sampler(solver="dopri5", rtol=1e-3),
    "dopri8, atol": _sampler(solver="dopri8", rtol=1e-5, atol=1e-6),
    "T and t_min": _sampler(solver="euler", steps=8, T=40, t_min=1e-2),
    "T_ratio, rho, truncated": _sampler(solver="multistep2", steps=8, T_ratio=2.0, grid="rho", max_radius_ratio=60),
    "no denoise": _sampler(solver="rk4", steps=5, denoise=False, batch_size=100),
    "features and space": {"evaluate": {"samples": 60, "metrics": ["fid", "precision_recall"], "pr_space": "features"}},
    "random features": {"evaluate": {"samples": 60, "metrics": ["fid", "kid"], "features": "random"}},
    "likelihood": {"evaluate": {"samples": 60, "metrics": ["fid", "likelihood"], "likelihood_samples": 32}},
    "one at a time": {"search": {"train": {"sigma": {"log_uniform": [0.05, 0.4], "levels": 2}}, "sampler": T_AXIS}},
    "one at a time, seeds": {
        "search": {"train": {"tau": {"choice": [0.01, 0.03]}}, "sampler": T_AXIS}, "seeds": {"train": 2, "sample": [3, 5]}
    },
    "sobol": {
        "search": {
            "train": {"sigma": {"log_uniform": [0.05, 0.4]}, "height_ratio": {"log_uniform": [0.5, 2]}}, "sampler": T_AXIS
        },
        "design": {"name": "sobol", "trials": 4, "sampler_points": 3, "seed": 1},
    },
    "random": {
        "search": {"train": {"reference_batch_size": {"choice": [64, 128, "all"]}}},
        "design": {"name": "random", "trials": 6, "seed": 2},
    },
    "grid": {
        "search": {"train": {"sigma": {"choice": [0.1, 0.2]}}, "sampler": {"steps": {"choice": [4, 8]}}},
        "design": {"name": "grid"},
    },
    "processes": {
        "search": {
            "train": {
                "process": {"choice": ["pfgm", "pfgmpp", "ve", "vp"]},
                "n_aug": {"choice": [8.0, float("inf")], "when": {"process": "pfgmpp"}},
            }
        },
        "design": {"name": "grid"},
    },
    "sizes": {"search": {"train": {"width": {"choice": [16, 32]}}}, "design": {"name": "grid"}},
    "solvers": {
        "search": {
            "sampler": {
                "solver": {"choice": ["heun2", "dopri5"]},
                "rtol": {"choice": [1e-3, 1e-2], "when": {"solver": "dopri5"}},
                "steps": {"choice": [4, 6], "when": {"solver": "heun2"}},
            }
        },
        "design": {"name": "grid"},
    },
    "disturbed": {"perturb": {"noise": [0.1], "weight_bits": [6], "weight_noise": [0.05]}},
    "exact": {
        "network": None, "train": None, "field": {"exact": "empirical", "n_aug": 4.0}, "search": {"sampler": T_AXIS},
    },
}  # fmt: skip


def identities(case: str, folder: Path) -> dict[str, object]:
    """What the plan of a case names: how many cells, a digest of all identities in their order, and the first cell's."""
    points = np.arange(480, dtype=np.float32).reshape(120, 4) % 17 / 8 - 1  # exact in binary: the same on every machine
    np.save(folder / "points.npy", points)
    values = {k: v for k, v in (BASE | CASES[case]).items() if v is not None}
    if values["data"] == VECTORS:
        values["data"] = VECTORS | {"path": str(folder / "points.npy")}
    file = folder / "search.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    config = load_study_config(file)
    cells = [{name: str(cell.to_row()[name]) for name in NAMES} for trial in make_plan(config) for cell in trial.cells]
    return {"cells": len(cells), "all": digest(cells), "first": cells[0]}


def test_there_are_forty_cases():
    assert len(CASES) == 40 == len(json.loads(GOLDEN.read_text(encoding="utf-8")))


@pytest.mark.parametrize("case", CASES)
def test_identities_stay(case, tmp_path, monkeypatch):
    """Byte for byte."""
    monkeypatch.chdir(tmp_path)
    assert identities(case, tmp_path) == json.loads(GOLDEN.read_text(encoding="utf-8"))[case]


def test_the_cases_differ(tmp_path, monkeypatch):
    """A digest that would hold anything together would tell nothing: no two cases have the same one."""
    stored = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert len({entry["all"] for entry in stored.values()}) == len(CASES)
    monkeypatch.chdir(tmp_path)
    CASES["changed"] = _train(sigma=0.11)
    try:
        assert identities("changed", tmp_path)["first"] != stored["defaults"]["first"]
    finally:
        del CASES["changed"]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        found = {case: identities(case, Path(name)) for case in CASES}
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
