"""How often do the tests of ``analysis`` see an effect where there is none? Simulated studies without any.

Printed: the share of false alarms per parameter at a nominal 5 % for `compare`, `regional_sensitivity` and the permutation test
of `parameter_importance`, the share of studies with at least one (family-wise), and how often a parameter of a flat study is
rated *sensitive*. The fields carry retraining noise that differs up to threefold between training points, and every field is
sampled at several points: rows are not independent. Beside them: the same test with rows taken for independent units.

    python -m benchmarks.statistics.null_studies                2,000 studies of each kind, on every core; minutes
    python -m benchmarks.statistics.null_studies --studies 200  a quick look
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections import defaultdict

import numpy as np
from scipy import stats

from analysis import compare, regional_sensitivity, tolerance_interval
from analysis.statistics.box import design_points, permutation_p
from analysis.statistics.importance import main_effect
from analysis.testing.truth import Truth
from benchmarks.ratios import tell
from benchmarks.statistics.coverage import Study

NOISE = Truth(seed_noise=0.06, seed_spread=3.0, pair_noise=0.02, shared_noise=0.02, sample_noise=0.02, sample_seeds=2,
              sampler_axes=("T_ratio",))  # fmt: skip
ARMS = NOISE.changed(train_seeds=3)
SOBOL = NOISE.changed(seed_noise=0.3, design="sobol", trials=40, train_seeds=2, sampler_points=4)
PERMUTATIONS = 199

Result = dict[str, list[bool]]


def arms(study: Study, rng: np.random.Generator, found: Result) -> None:
    """A flat one_at_a_time study: every arm against the default, and the rating of every parameter."""
    study.draw(rng)
    frame, plan = study.frame, study.plan
    alarms = []
    points = plan.drop_duplicates("point_id")
    for point, role in zip(points["point_id"], points["design_role"], strict=True):
        if role == "default":
            continue
        result = compare(frame, ("p000", "s00"), (point, "s00"))
        alarms.append(not result.low <= 1 <= result.high)
        found[f"compare: {role.removeprefix('arm:')}"].append(alarms[-1])
    paired = compare(frame, ("p000", "s00"), ("p000", "s03"))
    alarms.append(not paired.low <= 1 <= paired.high)
    found["compare: T_ratio (paired)"].append(alarms[-1])
    found["compare: any of 9 in a study (family-wise)"].append(any(alarms))
    ratings = [tolerance_interval(frame, axis).rating == "sensitive" for axis in study.axes]
    for axis, sensitive in zip(study.axes, ratings, strict=True):
        found[f"rated sensitive, one_at_a_time: {axis.name}"].append(sensitive)
    found["rated sensitive, one_at_a_time: any (family-wise)"].append(any(ratings))


def sobol(study: Study, rng: np.random.Generator, found: Result) -> None:
    """A flat Sobol' study: p-values of every training parameter, and the rating."""
    study.draw(rng)
    frame = study.frame
    table = regional_sensitivity(frame, n_permutations=PERMUTATIONS)
    table = table.loc[table["group"].eq("train")]
    for name, p in zip(table["parameter"], table["p_value"], strict=True):
        found[f"regional_sensitivity: {name}"].append(p <= 0.05)
    if len(table):
        found["regional_sensitivity: any (family-wise)"].append(bool((table["p_value"] <= 0.05).any()))
    points = design_points(frame, "train", "fid")
    alarms = []
    for axis in points.axes:
        observed, permuted = main_effect(points, axis, PERMUTATIONS)
        alarms.append(permutation_p(observed, permuted) <= 0.05)
        found[f"importance: {axis.name}"].append(alarms[-1])
    found["importance: any (family-wise)"].append(any(alarms))
    train = [axis for axis in study.axes if axis.group == "train"]
    ratings = [tolerance_interval(frame, axis).rating == "sensitive" for axis in train]
    for axis, sensitive in zip(train, ratings, strict=True):
        found[f"rated sensitive, sobol: {axis.name}"].append(sensitive)
    found["rated sensitive, sobol: any (family-wise)"].append(any(ratings))
    y, sigma = np.log(frame["metric_fid"]), frame["train_sigma"]
    inside = y <= y.median()
    found["rows as units, for comparison: KS of sigma"].append(stats.ks_2samp(sigma[inside], sigma[~inside]).pvalue <= 0.05)


def work(job: tuple[int, int]) -> Result:
    """``count`` studies of each kind, from one seed of randomness."""
    count, start = job
    rng = np.random.default_rng([7, start])
    found: Result = defaultdict(list)
    studies = [Study(ARMS), Study(SOBOL.changed(seed=start))]
    for _ in range(count):
        arms(studies[0], rng, found)
        sobol(studies[1], rng, found)
    return dict(found)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000, help="studies of each kind")
    options = parser.parse_args()
    start = time.perf_counter()
    size = max(1, min(25, options.studies // 4))
    merged: Result = defaultdict(list)
    with multiprocessing.get_context("spawn").Pool() as pool:
        jobs = [(min(size, options.studies - at), at) for at in range(0, options.studies, size)]
        for found in pool.imap_unordered(work, jobs):
            for name, values in found.items():
                merged[name] += values
    print(f"false alarms at a nominal 5 %, {options.studies} flat studies of each kind")
    for name in sorted(merged):
        rate, n = float(np.mean(merged[name])), len(merged[name])
        if name.endswith("(family-wise)"):
            tell(f"no false alarm in {name.removesuffix(': any (family-wise)')}", "95 % of flat studies", [(1 - rate) / 0.95])
        print(f"  {name:58s} {rate:6.3f} ± {1.96 * np.sqrt(rate * (1 - rate) / n):.3f}   (n = {n})")
    print(f"{time.perf_counter() - start:.0f} s on {multiprocessing.cpu_count()} cores")


if __name__ == "__main__":
    main()
