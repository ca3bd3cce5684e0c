"""Synthetic studies with a known truth, for tests, benchmarks, and trying a statistic before trusting it.

`synthetic_frame` is a study in memory, `write_study` a folder like one of ``study.run``: plan, rows, history, sample grids.
The truth, `Truth`, and the model of its noise are in `analysis.testing.truth`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from analysis.rows.meta import Shared
from analysis.testing.truth import BASE, SEARCH, Draw, Truth, draw_noise, synthetic_plan
from study.rows.on_the_way import step_at
from study.rows.records import EVALS, HISTORY, MANIFEST, write_table

__all__ = ["Draw", "Truth", "draw_noise", "study_yaml", "synthetic_frame", "synthetic_plan", "write_study"]


def synthetic_frame(
    truth: Truth, rng: np.random.Generator | None = None, early: Mapping[float, Truth] | None = None
) -> pd.DataFrame:
    """Return a study as `analysis.load_study` would, without a folder: every cell complete, no pictures.

    Args:
        truth: what it is made of.
        rng: noise of the metrics; default: from ``truth.seed``.
        early: by share of the training what its rows on the way are made of; none: it has no such rows.
    """
    plan = synthetic_plan(truth)
    draw = draw_noise(plan, truth, rng if rng is not None else np.random.default_rng([truth.seed, 2]))
    parts = [_measured(plan, truth, draw, always_complete=True), *_early(early or {})]
    frame = (pd.concat(parts, ignore_index=True) if early else parts[0]).reindex(columns=EVALS.names)
    frame.attrs = {"study": Shared(study_yaml("synthetic", truth, early)), "path": "synthetic", "skipped": {}}
    return frame


def _early(early: Mapping[float, Truth], name: str = "synthetic") -> list[pd.DataFrame]:
    """Return rows on the way at the default sampler point, a frame a share."""
    parts = []
    for share, truth in early.items():
        plan = synthetic_plan(truth, name)
        rows = _measured(plan, truth, draw_noise(plan, truth, np.random.default_rng([truth.seed, 2])), always_complete=True)
        rows = rows.loc[rows["design_sampler_role"].eq("default")]
        step = step_at(share, int(rows["train_steps"].iloc[0]))
        parts.append(rows.assign(step=step, is_final=False, cell_id=rows["cell_id"] + f"-{step}"))
    return parts


def write_study(folder: Path, truth: Truth, early: Mapping[float, Truth] | None = None) -> Path:
    """Write study.yaml, manifest, evals, history, sample grids and logs; returns the folder. As `synthetic_frame`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(yaml.safe_dump(study_yaml(folder.name, truth, early), sort_keys=False), encoding="utf-8")
    plan = synthetic_plan(truth, folder.name)
    draw = draw_noise(plan, truth, np.random.default_rng([truth.seed, 2]))
    parts = [_measured(plan, truth, draw), *_early(early or {}, folder.name)]
    rows = [row for part in parts for row in _records(part)]
    write_table(folder / "manifest.parquet", [{k: r[k] for k in MANIFEST.names if k in r} for r in rows], MANIFEST)
    rows = [row for row in rows if row["status"] != "pending"]
    by_field: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_field.setdefault(str(row["train_id"]), []).append(row)
    for train_id, group in by_field.items():  # a few files, each with several cells: faster
        write_table(folder / "evals" / f"{train_id}.parquet", group, EVALS)
    rng = np.random.default_rng([truth.seed, 3])
    fields = plan.drop_duplicates("train_id")[["train_id", "seed_train"]].itertuples(index=False)
    history = [row for train_id, seed in fields for row in _history(str(train_id), int(seed), rng)]
    write_table(folder / "history" / "all.parquet", history, HISTORY)
    if truth.samples:
        _grids(folder, rows, rng)
    return folder


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as dictionaries of Python scalars, None where nothing was measured, in the schema's columns."""
    known = frame[[name for name in EVALS.names if name in frame.columns]].astype(object)
    rows: list[Any] = known.where(known.notna(), None).to_dict("records")
    return [{k: v.item() if isinstance(v, np.generic) else v for k, v in row.items()} for row in rows]


def _measured(plan: pd.DataFrame, truth: Truth, draw: Draw, always_complete: bool = False) -> pd.DataFrame:
    """Return the plan with status, metrics and costs."""
    if always_complete:
        status = pd.Series("complete", index=plan.index)
    else:
        status = pd.Series([truth.status(row) for row in _records(plan)], index=plan.index)
    fid = pd.Series(np.exp(draw.log_fid), index=plan.index)
    rtol, steps = plan["sampler_rtol"].astype(float), plan["sampler_steps"].astype(float)
    nfe = (2 * steps + 1).where(steps.notna(), 30.0 * (1e-2 / rtol) ** 0.2 + 10)
    common: dict[str, Any] = {
        "cost_train_s": 60.0, "prov_training_version": 1, "prov_field_reused": False, "prov_device": "cpu", "prov_threads": 1,
        "prov_torch": "2.8.0", "prov_python": "3.12", "prov_version": "0.1.0", "prov_cpu": "x86", "prov_git": "abc1234",
        "prov_finished_at": "2026-01-02T03:04:05+00:00",
    }  # fmt: skip
    measured: dict[str, Any] = {"cost_nfe": nfe, "cost_nfe_max": nfe + 6, "cost_sample_s": nfe / 20, "cost_metric_s": 1.0}
    if truth.metrics and truth.features == "pixels":
        measured |= {"metric_sliced_wasserstein": fid / 10, "metric_n": 1000}
    elif truth.metrics:
        worse = np.tanh(fid - BASE)
        measured |= {
            "metric_fid": fid, "metric_precision": 0.9 - 0.1 * worse, "metric_recall": 0.66 - 0.1 * worse,
            "metric_outlier_fraction": 0.06, "metric_nn_ratio": 0.92, "metric_solver_error": (0.3 * rtol**0.5).fillna(0.02),
            "metric_fid_floor": 0.1, "metric_fid_half": 0.34, "metric_fid_gaussian": 16.3, "metric_n": 1000,
            "metric_features": truth.features,
        }  # fmt: skip
    frame = plan.assign(status=status, **common, **measured)
    bad = ~status.eq("complete")
    if bad.any():
        frame[list(measured)] = frame[list(measured)].astype(object).where(~bad, None)
        frame["metric_nonfinite_fraction"] = np.where(bad, 0.1, np.nan)
        frame["error"] = status.map(_ERRORS).fillna(status).where(bad)
        frame["error_log"] = ("logs/" + plan["trial_id"] + ".log").where(bad)
    return frame


_ERRORS = {"failed": "RuntimeError: out of memory", "diverged": "12 samples are not finite"}


def study_yaml(name: str, truth: Truth, early: Mapping[float, Truth] | None = None) -> dict[str, Any]:
    """Return the resolved search.yaml of the synthetic study."""
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
        "evaluate": {"samples": 1000, "metrics": ["fid", "precision_recall"], "features": truth.features,
                     **({"at_steps": [*early, 1.0]} if early else {})},
        "search": {group: axes for group, axes in search.items() if axes},
        "design": {"name": truth.design, "trials": None, "sampler_points": None, "seed": 0, "arm_seeds": truth.arm_seeds},
        "seeds": {"train": list(range(truth.train_seeds)), "sample": list(range(truth.sample_seeds)),
                  "disjoint": truth.disjoint},
        "resources": {"cpus": 1, "gpus": "auto", "concurrent": "auto"},
        "analysis": {"tolerance": truth.tolerance},
    }  # fmt: skip


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
