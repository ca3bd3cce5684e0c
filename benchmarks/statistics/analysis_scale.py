"""How long a study of 100,000 rows takes to load and to report, on a study made up in a temporary folder.

The study is written as `study.run` writes one: study.yaml, manifest.parquet, and the measured rows with their checksums,
here in a stated number of files (a running study has one file a cell; see ``--files``). Everything is
timed once, in this process, with the slowest sections of the report named.

    python -m benchmarks.statistics.analysis_scale                         500 training points × 20 sampler points × 2 × 5 seeds
    python -m benchmarks.statistics.analysis_scale --design one_at_a_time
    python -m benchmarks.statistics.analysis_scale --profile               adds the functions that cost most
"""

from __future__ import annotations

import argparse
import cProfile
import logging
import os
import pstats
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks.ratios import tell
from study.rows.records import EVALS, HISTORY, MANIFEST

LIMIT_LOAD_S, LIMIT_REPORT_S = 2.0, 60.0
TRAIN_SEEDS, SAMPLE_SEEDS = 2, 5
T_RULE = 2.85
"""T of the rule in the made-up data's units."""
SEARCH = {
    "train": {
        "sigma": {"log_uniform": [0.03, 0.3], "levels": 40},
        "tau": {"log_uniform": [0.01, 0.1], "levels": 40},
        "M": {"uniform": [60.0, 180.0], "levels": 40},
    },
    "sampler": {
        "T_ratio": {"log_uniform": [0.3, 5.0], "levels": 8},
        "rtol": {"log_uniform": [1e-5, 0.1], "levels": 8},
        "solver": {"choice": ["dopri5", "heun2"]},
    },
}
DEFAULTS = {"sigma": 0.1, "tau": 0.03, "M": 121.0, "T_ratio": 1.0, "rtol": 1e-4, "solver": "dopri5"}
NOISE = {"field": 0.10, "sample": 0.02}


def points(design: str, group: str, n: int, rng: np.random.Generator) -> pd.DataFrame:
    """The default and n − 1 further points of a group, with their role."""
    names = list(SEARCH[group])
    rows: list[dict[str, Any]] = [{"role": "default", **{name: DEFAULTS[name] for name in names}}]
    for i in range(n - 1):
        drawn = {name: _draw(SEARCH[group][name], rng) for name in names}
        arm = names[i % len(names)]
        own = {name: drawn[name] if design != "one_at_a_time" or name == arm else DEFAULTS[name] for name in names}
        rows.append({"role": f"arm:{arm}" if design == "one_at_a_time" else design, **own})
    frame = pd.DataFrame(rows)
    if group == "sampler":
        frame.loc[frame["solver"].eq("heun2"), "rtol"] = np.nan
    return frame


def _draw(distribution: dict[str, Any], rng: np.random.Generator) -> Any:
    if "choice" in distribution:
        return distribution["choice"][rng.integers(len(distribution["choice"]))]
    low, high = distribution.get("log_uniform") or distribution["uniform"]
    if "uniform" in distribution:
        return float(rng.uniform(low, high))
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def cells(design: str, n_rows: int, n_sampler: int, rng: np.random.Generator) -> pd.DataFrame:
    """Every planned cell with its keys and parameters: training points × train seeds × sampler points × sample seeds."""
    n_train = max(n_rows // (n_sampler * TRAIN_SEEDS * SAMPLE_SEEDS), 1)
    shape = (n_train, TRAIN_SEEDS, n_sampler, SAMPLE_SEEDS)
    point, seed, sampler, again = (index.ravel() for index in np.indices(shape))
    train = points(design, "train", n_train, rng).iloc[point].reset_index(drop=True)
    sample = points(design, "sampler", n_sampler, rng).iloc[sampler].reset_index(drop=True)
    text = [f"{p:05d}-{s}-{k:03d}-{a}" for p, s, k, a in zip(point, seed, sampler, again, strict=True)]
    constant = {"study_id": "scale", "step": 1300, "is_final": True, "data_name": "digits", "data_n": 1797, "data_dim": 64,
                "data_center": True, "network_name": "mlp", "network_width": 512, "network_depth": 2, "train_process": "pfgm",
                "train_objective": "normalized", "train_gamma": 5.0, "train_steps": 1300, "train_batch_size": 128,
                "train_learning_rate": 1e-3, "sampler_t_min": 1e-3, "sampler_denoise": True, "sampler_batch_size": 500,
                "prov_design": design, "schema_version": 1}  # fmt: skip
    keys = pd.DataFrame(
        {
            "cell_id": text, "trial_id": [f"t{p}-{s}" for p, s in zip(point, seed, strict=True)],
            "point_id": [f"p{p:05d}" for p in point], "sampler_id": [f"s{k:03d}" for k in sampler],
            "train_id": [f"f{p:05d}s{s}" for p, s in zip(point, seed, strict=True)], "seed_train": seed, "seed_sample": again,
            "design_role": train["role"], "design_sampler_role": sample["role"],
        }
    )  # fmt: skip
    own = {f"train_{name}": train[name] for name in SEARCH["train"]} | {f"sampler_{n}": sample[n] for n in SEARCH["sampler"]}
    derived = {"train_height_max": train["sigma"] * (1 + train["tau"]) ** train["M"], "sampler_T": T_RULE * sample["T_ratio"],
               "sampler_atol": sample["rtol"],
               "sampler_steps": np.where(sample["solver"].eq("heun2"), 16.0, np.nan)}  # fmt: skip
    return keys.assign(**own, **derived, **constant)


def measured(planned: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Rows of the planned cells: FID moves with log σ and log T, with noise of the field and of the cell; 1 % diverge."""
    n = len(planned)
    fields, index = np.unique(planned["train_id"], return_inverse=True)
    log_fid = np.log(0.8) + 0.05 * np.log(planned["train_sigma"] / 0.1) ** 2 + 0.1 * np.log(planned["sampler_T_ratio"]) ** 2
    log_fid += rng.normal(0, NOISE["field"], len(fields))[index] + rng.normal(0, NOISE["sample"], n)
    rtol = planned["sampler_rtol"]
    nfe = np.where(rtol.isna(), 33.0, 40.0 * (rtol.fillna(1e-2) / 1e-2) ** -0.2 + 10)
    fid = np.exp(log_fid)
    values = {"metric_fid": fid, "metric_fid_floor": 0.1, "metric_fid_half": 0.34, "metric_fid_gaussian": 16.3,
              "metric_precision": 0.9 - 0.1 * np.tanh(fid - 0.8), "metric_recall": 0.66 - 0.1 * np.tanh(fid - 0.8),
              "metric_outlier_fraction": 0.06, "metric_nn_ratio": 0.92, "metric_solver_error": 0.3 * np.sqrt(rtol.fillna(4e-3)),
              "cost_nfe": nfe, "cost_nfe_max": nfe + 6, "cost_sample_s": nfe / 20, "cost_metric_s": 1.0}  # fmt: skip
    bad = rng.random(n) < 0.01
    known = {name: np.where(bad, np.nan, value) for name, value in values.items()}
    status = {"status": np.where(bad, "diverged", "complete"), "error": np.where(bad, "12 samples are not finite", None),
              "error_log": np.where(bad, "logs/" + planned["trial_id"] + ".log", None)}  # fmt: skip
    run = {"metric_n": 1000, "metric_features": "digits", "cost_train_s": 60.0, "prov_training_version": 1,
           "prov_field_reused": False, "prov_device": "cpu", "prov_threads": 1, "prov_torch": "2.8.0", "prov_python": "3.12",
           "prov_version": "0.1.0", "prov_finished_at": "2026-01-02T03:04:05+00:00", "prov_cpu": "x86",
           "prov_git": "abc1234"}  # fmt: skip
    return planned.assign(**known, **status, **run)


def write(path: Path, frame: pd.DataFrame, schema: pa.Schema) -> None:
    """A Parquet file as `study.rows.records.write_table` makes one, from columns instead of dictionaries."""
    sink, mark = pa.BufferOutputStream(), b"file.crc32="
    table = pa.Table.from_pandas(frame.reindex(columns=schema.names), schema=schema, preserve_index=False)
    options: dict[str, Any] = {"compression": "zstd", "write_statistics": False, "use_dictionary": False}
    with pq.ParquetWriter(sink, schema, write_page_checksum=True, **options) as writer:
        writer.write_table(table.replace_schema_metadata(None))
        writer.add_key_value_metadata({"checksum": f"{mark.decode()}{0:08x}"})
    content = sink.getvalue().to_pybytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.replace(mark + b"0" * 8, mark + b"%08x" % zlib.crc32(content)))


def write_study(folder: Path, design: str, n_rows: int, n_sampler: int, n_files: int) -> int:
    """A study folder; returns the number of rows."""
    rng = np.random.default_rng(0)
    planned = cells(design, n_rows, n_sampler, rng)
    rows = measured(planned, rng)
    write(folder / "manifest.parquet", planned, MANIFEST)
    for i, part in enumerate(np.array_split(np.arange(len(rows)), n_files)):
        write(folder / "evals" / f"{i:06d}.parquet", rows.iloc[part], EVALS)
    fields = planned["train_id"].unique()
    steps = np.arange(100, 1301, 100)
    history = pd.DataFrame({"train_id": np.repeat(fields, len(steps)), "seed_train": 0, "step": np.tile(steps, len(fields))})
    history = history.assign(loss=2 / np.sqrt(history["step"]), gradient_norm=1.0, learning_rate=1e-3, elapsed_s=1.0)
    write(folder / "history" / "all.parquet", history, HISTORY)
    study = {"name": "scale", "storage": "results", "data": {"name": "digits"}, "network": {"name": "mlp", "width": 512},
             "train": {"process": "pfgm", "sigma": 0.1, "tau": 0.03, "M": "rule"},
             "sampler": {"T": "rule", "T_ratio": None, "solver": "dopri5", "rtol": 1e-4, "atol": "same"},
             "evaluate": {"samples": 1000, "metrics": ["fid", "precision_recall"], "features": "digits"},
             "search": SEARCH, "design": {"name": design, "seed": 0}, "analysis": {"tolerance": 0.1},
             "seeds": {"train": list(range(TRAIN_SEEDS)), "sample": list(range(SAMPLE_SEEDS)), "disjoint": False}}  # fmt: skip
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    return len(rows)


@contextmanager
def clock(spent: dict[str, float], name: str) -> Iterator[None]:
    """Wall and processor seconds of a block."""
    start, own = time.perf_counter(), time.process_time()
    yield
    spent[name] = spent.get(name, 0.0) + time.perf_counter() - start
    spent[f"{name} cpu"] = spent.get(f"{name} cpu", 0.0) + time.process_time() - own


def main(arguments: list[str] | None = None) -> int:
    """Print the figures; 1 when one is over its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--files", type=int, default=20, help="Parquet files that hold the rows (default 20)")
    parser.add_argument("--sampler-points", type=int, default=20)
    parser.add_argument("--design", default="sobol", choices=("sobol", "one_at_a_time", "random"))
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="analysis-scale-") as temporary:
        folder = Path(temporary) / "scale"
        n = write_study(folder, options.design, options.rows, options.sampler_points, options.files)
        return measure(folder, n, options)


def measure(folder: Path, n: int, options: argparse.Namespace) -> int:
    """Load and report, timed: wall seconds, and the seconds of this process's own work where the machine is shared."""
    spent: dict[str, float] = {}
    logging.getLogger("analysis.report").setLevel(logging.DEBUG)
    logging.getLogger("analysis.report").addHandler(slow := SlowSections())
    with clock(spent, "import"):
        from analysis import load_study
        from analysis.report import write
    with clock(spent, "load"):
        frame = load_study(folder)
    assert len(frame) == n
    profile = cProfile.Profile()
    if options.profile:
        profile.enable()
    with clock(spent, "report"):
        write.write_report(folder, output=folder / "report")
    profile.disable()
    n_files = len(list((folder / "evals").iterdir()))
    page = (folder / "report" / "report.html").stat().st_size
    print(f"{options.design}: {n} rows in {n_files} files, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for name, limit in (("load", LIMIT_LOAD_S), ("report", LIMIT_REPORT_S)):
        wall, own = spent[name], spent[f"{name} cpu"]
        print(f"  {name:<8} {wall:6.2f} s (CPU {own:.2f} s), limit {limit:g} s: {'ok' if wall <= limit else 'TOO SLOW'}")
    with clock(spent, "pandas"):
        pd.concat([pd.read_parquet(path) for path in sorted((folder / "evals").iterdir())])
    tell("load_study", "pandas reading the same files", [spent["pandas"] / spent["load"]])
    print(f"  page     {page / 1e6:6.2f} MB")
    print("  slowest  " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in slow.slowest(6)))
    if options.profile:
        pstats.Stats(profile).sort_stats("cumulative").print_stats(60)
    return int(spent["load"] > LIMIT_LOAD_S or spent["report"] > LIMIT_REPORT_S)


class SlowSections(logging.Handler):
    """Collects what the report logs of its sections: name and seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        if isinstance(record.args, tuple) and len(record.args) == 2:
            name, seconds = record.args
            self.seconds[str(name)] = self.seconds.get(str(name), 0.0) + float(str(seconds))

    def slowest(self, n: int) -> list[tuple[str, float]]:
        return sorted(self.seconds.items(), key=lambda item: -item[1])[:n]


if __name__ == "__main__":
    sys.exit(main())
