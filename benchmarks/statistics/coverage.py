"""Do the intervals of ``analysis`` cover what they promise? Simulated studies whose truth is known.

Each study is nested as real ones are: sampler points inside trained fields, sample seeds that start every field from the same
latents, and retraining noise whose standard deviation differs up to threefold between training points. Printed for 2, 3 and 5
train seeds: the share of intervals that hold the truth, on average and in the noisiest fifth of the configurations, and the
median half-width as a ratio to an oracle that knows every variance. For comparison, the two usual ways on the same studies:
Student's t of each configuration alone, and one variance pooled over all.

    python -m benchmarks.statistics.coverage                2,000 studies for each number of seeds, on every core; minutes
    python -m benchmarks.statistics.coverage --studies 200  a quick look
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis import compare, summarize, tolerance_interval, variance_components
from analysis.rows.meta import searched_axes
from analysis.testing.studies import synthetic_frame
from analysis.testing.truth import Draw, Truth, draw_noise, synthetic_plan
from benchmarks.ratios import tell

Z = float(stats.norm.ppf(0.975))
SPREAD = 3.0
SIGMA = {0.03: 0.0, 0.1: 0.0, 0.3: math.log(1.101)}
"""True log ratio of each σ to the default: none, and 10.1 %, just beyond the tolerance of 10 %: the hardest to tell."""

Result = dict[str, list[tuple[float, ...]]]


def truth(seeds: int) -> Truth:
    """Nine training points, five sampler points, two sample seeds."""
    return Truth(
        train_seeds=seeds, sample_seeds=2, seed_noise=0.015, seed_spread=SPREAD, pair_noise=0.005, shared_noise=0.005,
        sample_noise=0.005, effects={"sigma": lambda s: SIGMA[s]}, sampler_axes=("T_ratio",),
    )  # fmt: skip


KEEP = ["status", "metric_fid", "metric_sliced_wasserstein", "train_id", "point_id", "sampler_id", "seed_train", "seed_sample",
        "design_role", "design_sampler_role", "prov_design", "train_sigma", "train_M", "train_tau", "is_final",
        "train_reference_batch_size", "sampler_T_ratio"]  # fmt: skip


class Study:
    """One plan, drawn again and again."""

    def __init__(self, made_of: Truth) -> None:
        self.truth = made_of
        self.plan = synthetic_plan(made_of)
        whole = synthetic_frame(made_of)
        self.frame = whole[KEEP].copy()
        self.frame.attrs = whole.attrs
        self.axes = searched_axes(self.frame)

    def draw(self, rng: np.random.Generator) -> Draw:
        """New noise, put into the frame."""
        noise = draw_noise(self.plan, self.truth, rng)
        self.frame["metric_fid"] = np.exp(noise.log_fid)
        return noise


def one_study(study: Study, rng: np.random.Generator, found: Result) -> None:
    """Intervals of one realisation: (covered, half-width / oracle's, true standard deviation)."""
    noise = study.draw(rng)
    t, frame, plan = study.truth, study.frame, study.plan
    sd = dict(zip(plan["point_id"].unique(), noise.seed_sd, strict=True))
    n, s = t.train_seeds, t.sample_seeds
    _means("summarize", study, noise, found)
    _usual(frame, noise, found, t)
    for value, point in ((0.03, "p001"), (0.3, "p002")):
        result = compare(frame, ("p000", "s00"), (point, "s00"))
        spread = math.hypot(sd["p000"], sd[point])
        oracle = Z * math.sqrt((spread**2 + 2 * t.pair_noise**2) / n + 2 * t.sample_noise**2 / (n * s))
        _add(found["compare, training"], result, SIGMA[value], oracle, spread)
    paired = compare(frame, ("p000", "s00"), ("p000", "s04"))
    oracle = Z * math.sqrt((2 * t.pair_noise**2 + 2 * t.sample_noise**2 / s) / n)
    _add(found["compare, sampler"], paired, 0.0, oracle, sd["p000"])
    interval = tolerance_interval(frame, "sigma")
    found["inner set"].append((all(t.within("sigma", v) for v in interval.inside), float(len(interval.inside))))


def _means(name: str, study: Study, noise: Draw, found: Result) -> None:
    """The interval of every configuration's mean."""
    t, frame = study.truth, study.frame
    sd = dict(zip(study.plan["point_id"].unique(), noise.seed_sd, strict=True))
    means = pd.Series(noise.mean).groupby([frame["point_id"], frame["sampler_id"]]).first()
    n, s = t.train_seeds, t.sample_seeds
    for row in summarize(frame).itertuples():
        spread = sd[row.point_id]
        oracle = Z * math.sqrt((spread**2 + t.pair_noise**2) / n + t.sample_noise**2 / (n * s) + t.shared_noise**2 / s)
        low, high, true = math.log(row.low), math.log(row.high), means[row.point_id, row.sampler_id]
        found[name].append((low <= true <= high, (high - low) / 2 / oracle, spread))


def _add(kept: list[tuple[float, ...]], result: Any, true: float, oracle: float, spread: float) -> None:
    low, high = math.log(result.low), math.log(result.high)
    kept.append((low <= true <= high, (high - low) / 2 / oracle, spread))


def _usual(frame: pd.DataFrame, noise: Draw, found: Result, t: Truth) -> None:
    """Student's t of each training point alone, and one pooled variance, at the default sampler point."""
    rows = pd.DataFrame({"point": frame["point_id"], "field": frame["train_id"], "y": noise.log_fid, "true": noise.mean})
    rows = rows.loc[frame["design_sampler_role"].eq("default").to_numpy()]
    fields = rows.groupby(["point", "field"], sort=False)[["y", "true"]].mean().groupby(level="point", sort=False)
    mean, s2, true = fields["y"].mean(), fields["y"].var(ddof=1), fields["true"].first()
    n = t.train_seeds
    for name, variance, df in (("Student's t alone", s2, n - 1), ("pooled variance", s2 * 0 + s2.mean(), (n - 1) * len(s2))):
        half = stats.t.ppf(0.975, df) * np.sqrt(variance / n)
        oracle = Z * np.sqrt((noise.seed_sd**2 + t.pair_noise**2) / n + t.sample_noise**2 / (n * 2) + t.shared_noise**2 / 2)
        found[name] += list(zip((mean - true).abs() <= half, half / oracle, noise.seed_sd, strict=True))


def components(study: Study, points: int, rng: np.random.Generator, found: Result) -> None:
    """Intervals of the components of ``points`` training points with a random effect of their own."""
    noise, made_of = study.draw(rng), study.truth
    table = variance_components(study.frame).set_index("component")
    train = float((noise.seed_sd**2).mean()) + made_of.pair_noise**2
    parts = {"configuration": 0.04**2, "train seed": train, "sample seed": 0.005**2, "residual": 0.005**2}
    for name, variance in parts.items():
        row = table.loc[name]
        sd, share = math.sqrt(variance), variance / sum(parts.values())
        key = f"variance_components, {points} configurations"
        found[f"{key}: sd of the {name}"].append((row["sd_low"] <= sd <= row["sd_high"],))
        found[f"{key}: share of the {name}"].append((row["low"] <= share <= row["high"],))


def work(job: tuple[int, int, int]) -> tuple[int, Result]:
    """``count`` studies with a number of train seeds, from one seed of randomness."""
    seeds, count, start = job
    rng = np.random.default_rng([seeds, start])
    found: Result = defaultdict(list)
    study = Study(truth(seeds))
    flat = truth(seeds).changed(
        design="random", effects={}, point_noise=0.04, sample_seeds=3, sampler_axes=(), sampler_points=0
    )
    random = {points: Study(flat.changed(trials=points - 1)) for points in (8, 16)}
    latents = Study(truth(seeds).changed(shared_noise=0.05))
    for _ in range(count):
        one_study(study, rng, found)
        _means("summarize where latents matter 3 times more", latents, latents.draw(rng), found)
        for points, drawn in random.items():
            components(drawn, points, rng, found)
    return seeds, dict(found)


def noisiest(rows: np.ndarray) -> float:
    """Coverage in the fifth with the largest true standard deviation."""
    return float(rows[rows[:, 2] >= np.quantile(rows[:, 2], 0.8), 0].mean())


def show(title: str, found: Result, n_studies: int) -> None:
    """Print one block."""
    print(f"\n{title}: {n_studies} studies")
    print(f"  {'':46s} {'covered':>8s} {'noisiest fifth':>15s} {'half-width / oracle':>20s}")
    for name, values in found.items():
        rows = np.asarray(values, dtype=float)
        if rows.shape[1] == 3:
            width = float(np.median(rows[:, 1]))
            tell(f"width of {name}, {title}", "an oracle that knows every variance", [1 / width])
            print(f"  {name:46s} {rows[:, 0].mean():8.3f} {noisiest(rows):15.3f} {width:20.2f}")
        elif name == "inner set":
            print(f"  {'tolerance interval: every point truly within':46s} {rows[:, 0].mean():8.3f} {'':15s} {'':20s}"
                  f" (mean size {rows[:, 1].mean():.2f} of 3)")  # fmt: skip
    parts = {name: float(np.mean(values)) for name, values in found.items() if name.startswith("variance_components")}
    for name in dict.fromkeys(name.split(":")[0] for name in parts):
        of = {key.split(": ")[1]: value for key, value in parts.items() if key.startswith(name)}
        print(f"  {name:46s} {np.mean(list(of.values())):8.3f}   {', '.join(f'{k} {v:.3f}' for k, v in of.items())}")


def merge(results: Iterable[tuple[int, Result]]) -> dict[int, Result]:
    """Results of all workers by number of seeds."""
    merged: dict[int, Result] = {}
    for seeds, found in results:
        kept = merged.setdefault(seeds, defaultdict(list))
        for name, values in found.items():
            kept[name] += values
    return merged


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000, help="studies for each number of train seeds")
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 5], help="train seeds a configuration")
    options = parser.parse_args()
    start = time.perf_counter()
    size = max(1, min(50, options.studies // 4))
    jobs = [(n, min(size, options.studies - at), at) for n in options.seeds for at in range(0, options.studies, size)]
    with multiprocessing.get_context("spawn").Pool() as pool:
        merged = merge(pool.imap_unordered(work, jobs))
    for seeds in sorted(merged):
        show(f"{seeds} train seeds", merged[seeds], options.studies)
    together: Result = defaultdict(list)
    for found in merged.values():
        for name, values in found.items():
            together[name] += values
    show("all together", together, options.studies * len(merged))
    print(f"\n{time.perf_counter() - start:.0f} s on {multiprocessing.cpu_count()} cores")


if __name__ == "__main__":
    main()
