"""How often does the design `settle` say something wrong, and how many fields does it save? Synthetic studies of known truth.

Every study runs the rule itself (`study.rows.settle`): rounds, bounds, new values and new fields, on made-up fields. Printed
for each kind of truth and each noise between fields: the share of parameters that are wrongly *robust* and wrongly *sensitive*,
the share with an edge bracket that does not hold the true crossing, the share of studies with any of these (family-wise, of
four parameters), what was settled, and the fields that it took. Then the economy of a six-axis study: fields until all is
settled, against the cheapest fixed one-at-a-time grid that settles as much at the same levels, and against a bisection by hand
with three seeds a value.

    python -m benchmarks.statistics.settle                  2,000 studies of each kind, on two cores; half an hour
    python -m benchmarks.statistics.settle --studies 200    a quick look
    python -m benchmarks.statistics.settle --rules          other rules for repeated looks, beside the one in use
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import multiprocessing.pool
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from scipy.special import stdtrit

import study.rows.settle.judge as judging
from benchmarks.statistics.made_up_fields import FACTOR, LIMIT, Study, Truth, crossing, errors, log_axis
from study.rows.settle.bounds import ALPHA, repeated_bounds
from study.rows.settle.judge import SettleAxis, Value, judge
from study.rows.settle.rounds import Round, Task


def monotone(slope: float) -> Truth:
    """Worse and worse above the default, better and better below."""
    return Truth(lambda u: slope * u)


def ramp(slope: float) -> Truth:
    """Worse and worse above the default, flat below."""
    return Truth(lambda u: max(slope * u, 0.0))


def parabola(curve: float) -> Truth:
    """Worse on both sides."""
    return Truth(lambda u: curve * u * u)


def wall(at: float) -> Truth:
    """Flat, but nine fields in ten fail beyond a distance."""
    return Truth(lambda u: 0.0, lambda u: 0.9 if u > at else 0.0)


KINDS: dict[str, Callable[[np.random.Generator], Truth]] = {
    "flat": lambda rng: Truth(lambda u: 0.0),
    "all exactly at the tolerance": lambda rng: Truth(lambda u: LIMIT if u else 0.0),
    "one end just beyond it": lambda rng: Truth(lambda u: LIMIT * (1 + 1e-9) if u > 1.0 else 0.0),
    "monotone": lambda rng: monotone(rng.uniform(0.1, 0.8)),
    "U-shaped": lambda rng: parabola(math.exp(rng.uniform(math.log(0.1), math.log(2.0)))),
    "region of failures": lambda rng: wall(rng.uniform(0.4, 1.1)),
}
Noise = tuple[float, float, float]
WAYS = ((1.0, 0.0), (3.0, 0.0), (1.0, 0.5), (1.0, 0.9), (3.0, 0.9))
NOISE: tuple[Noise, ...] = tuple((sd, *way) for way in WAYS for sd in (0.05, 0.15, 0.4))
"""Standard deviation between fields, the ratio of the noisiest to the quietest value's, correlation of equal seeds."""
BUDGET = 150


def four_axes(kind: str, sd: float, spread: float, alike: float, seed: int) -> dict[str, list[float]]:
    """One study of four axes (one of them paired) of one kind; what was wrong in it."""
    rng = np.random.default_rng([list(KINDS).index(kind), int(1000 * sd), int(spread), int(100 * alike), seed])
    ends = rng.uniform(1.1, 2.5, (4, 2))
    axes = [
        log_axis(f"a{i}", math.exp(-low), math.exp(high), int(rng.choice([2, 3, 4])), paired=i == 3)
        for i, (low, high) in enumerate(ends)
    ]
    study, found = Study(axes, [KINDS[kind](rng) for _ in axes], sd, spread, rng, alike), defaultdict[str, list[float]](list)
    errors(study, study.run(BUDGET), found)
    return found


def six_axes(sd: float, steep: float, alike: float, seed: int) -> dict[str, list[float]]:
    """One six-axis study settled by the rule, by a fixed grid and by hand: fields, and wrong verdicts."""
    rng = np.random.default_rng([6, int(1000 * sd), int(100 * steep), seed])
    axes = [log_axis(f"a{i}", math.exp(-low), math.exp(high), 2) for i, (low, high) in enumerate(rng.uniform(1.8, 2.5, (6, 2)))]
    curved = [parabola(steep * rng.uniform(0.6, 1.8)) for _ in range(2)]
    sloped = [ramp(steep * rng.uniform(0.45, 1.2)) for _ in range(2)]
    truths = [*curved, *sloped, *(Truth(lambda u: 0.0) for _ in range(2))]
    found = defaultdict[str, list[float]](list)
    study = Study(axes, truths, sd, 1.0, rng, alike)
    judged = study.run(3000)
    errors(study, judged, found)
    hand, wrong = by_hand(Study(axes, truths, sd, 1.0, rng, alike))
    grid = fixed_grid(Study(axes, truths, sd, 1.0, rng, alike))
    own = {"all settled": all(one.settled for one in judged), "hand": hand, "hand wrong": wrong, "grid": grid}
    return found | {name: [float(value)] for name, value in own.items()}


def by_hand(study: Study) -> tuple[int, int]:
    """Bisect every side by eye, three seeds a value; fields, and sides that are wrong."""
    study.take(Round(3), 10**6)
    wrong = 0
    for axis in study.axes:
        truth = study.goodness[axis.name]

        def looks_bad(value: Value, axis: SettleAxis = axis) -> bool:
            study.measure(axis, value, 3)
            return bool(study.samples[axis.name][value].y.mean() - study.default.mean() > LIMIT)

        for end in (min(axis.first), max(axis.first)):  # type: ignore[type-var]  # they are numbers
            near, far, true = 0.0, axis.place(end), crossing(truth, 0.0, axis.place(end))
            if not looks_bad(end):
                wrong += true is not None
                continue
            while not axis.close(math.exp(near), math.exp(far)):
                middle = axis.at((near + far) / 2)
                near, far = (near, axis.place(middle)) if looks_bad(middle) else (axis.place(middle), far)
            wrong += true is None or not abs(near) <= abs(true) <= abs(far)
    return study.fields, wrong


def fixed_grid(study: Study) -> float:
    """Fields of the cheapest grid with equal seeds that settles every axis, each of its values looked at once."""
    best = math.inf
    judging.repeated_bounds = one_look
    for finer in (1.0, 1.5, 2.0):
        axes = []
        for axis in study.axes:
            low, high = (axis.place(end) for end in (min(axis.first), max(axis.first)))  # type: ignore[type-var]
            step = math.log(FACTOR) / finer
            below, above = (math.ceil(abs(end) / step - 1e-9) for end in (low, high))
            places = [*np.linspace(low, 0, below + 1)[:-1], *np.linspace(0, high, above + 1)[1:]]
            axes.append(SettleAxis(axis.name, tuple(float(f"{math.exp(u):.6g}") for u in places), 1.0, True, axis.width))
        grid = Study(axes, list(study.goodness.values()), study.sd, study.spread, study.rng, study.alike)
        values = 1 + sum(len(axis.first) for axis in axes)
        for seeds in (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128):
            if seeds * values >= best:
                break
            grid.take(Round(seeds, [Task(a, v, 0, seeds, seeds) for a in axes for v in a.first]), 10**6)
            if all(judge(axis, grid.table, LIMIT).settled for axis in axes):
                best = seeds * values
                break
    judging.repeated_bounds = repeated_bounds
    return best


def one_look(d: np.ndarray, se: np.ndarray, df: np.ndarray, first: int, by_seed: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Bounds that hold at one look."""
    return d - stdtrit(df, 1 - ALPHA / max(first, 1)) * se, d + stdtrit(df, 1 - ALPHA) * se


def spending(d: np.ndarray, se: np.ndarray, df: np.ndarray, first: int, by_seed: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Bounds whose level is spent over doublings of the degrees of freedom, α / (e + 1)(e + 2)."""
    doublings = np.log2(np.maximum(df, 4.0) / 4.0)
    level = ALPHA / ((doublings + 1) * (doublings + 2))
    return d - stdtrit(df, 1 - level / max(first, 1)) * se, d + stdtrit(df, 1 - level) * se


def mixture(d: np.ndarray, se: np.ndarray, df: np.ndarray, first: int, by_seed: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the normal mixture (Robbins 1970), narrowest at eight fields, as if the noise were known."""
    n, rho = df + 1.0, 2.0

    def radius(level: float) -> np.ndarray:
        return np.asarray(np.sqrt((n + rho) / n * np.log((n + rho) / (4 * rho * level**2)))) * se

    return d - radius(ALPHA / max(first, 1)), d + radius(ALPHA)


RULES = {"in use": repeated_bounds, "one look": one_look, "spending over doublings": spending, "normal mixture": mixture}


def with_rule(rule: str, kind: str, noise: Noise, seed: int) -> dict[str, list[float]]:
    """`four_axes` under another rule for repeated looks."""
    judging.repeated_bounds = RULES[rule]
    return four_axes(kind, *noise, seed)


def many(
    one: Callable[[int], dict[str, list[float]]], studies: int, pool: multiprocessing.pool.Pool | None
) -> dict[str, float]:
    """Means over studies; of fields the median."""
    done = map(one, range(studies)) if pool is None else pool.imap_unordered(one, range(studies), chunksize=20)
    found = defaultdict[str, list[float]](list)
    for part in done:
        for name, values in part.items():
            found[name] += values
        if "grid" in part:
            found["of grid"].append(part["fields"][0] / part["grid"][0])
    middle = ("fields", "grid", "hand", "of grid")
    return {name: float(np.median(values) if name in middle else np.mean(values)) for name, values in found.items()}


def show_errors(studies: int, pool: multiprocessing.pool.Pool, rules: Sequence[str], kinds: Sequence[str]) -> None:
    """Print the rates of error."""
    print(f"shares of parameters in {studies} studies of each kind, at most {BUDGET} fields each")
    print(f"  {'':78s} robust sensitive   edge  any of four  settled  fields")
    for rule in rules:
        for kind in kinds:
            for sd, spread, alike in NOISE:
                found = many(partial(with_rule, rule, kind, (sd, spread, alike)), studies, pool)
                name = f"{kind}, sd {sd:g}" + (f", differing × {spread:g}" if spread > 1 else "")
                name += f", equal seeds alike {alike:g}" if alike else ""
                name += f" ({rule})" if len(rules) > 1 else ""
                rates = f"{found['robust']:9.3f} {found['sensitive']:9.3f} {found['edge']:6.3f} {found['any']:12.3f}"
                print(f"  {name:78s}{rates} {found['settled']:8.2f} {found['fields']:7.0f}", flush=True)


def show_economy(studies: int, pool: multiprocessing.pool.Pool) -> None:
    """Print the economy."""
    print(f"\nsix axes (two U-shaped, two sloped, two flat), until all is settled: medians over {studies} studies")
    for sd, steep, alike in ((0.05, 1.0, 0.0), (0.05, 2.0, 0.0), (0.05, 0.5, 0.0), (0.03, 1.0, 0.0), (0.15, 1.0, 0.0),
                             (0.05, 1.0, 0.9), (0.05, 0.5, 0.9), (0.15, 1.0, 0.9)):  # fmt: skip
        f = many(partial(six_axes, sd, steep, alike), studies, pool)
        print(
            f"  sd {sd:g}, slopes × {steep:g}, equal seeds alike {alike:g}: {f['fields']:.0f} fields,"
            f" all settled in {f['all settled']:.2f} of studies, {f['wrong']:.3f} wrong a study;"
            f" fixed grid {f['grid']:.0f}, ratio {f['of grid']:.2f};"
            f" by hand {f['hand']:.0f}, {f['hand wrong']:.2f} wrong a study",
            flush=True,
        )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000, help="studies of each kind")
    parser.add_argument("--rules", action="store_true", help="other rules for repeated looks too; without the economy")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS), help="kinds of truth")
    options = parser.parse_args()
    start = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(min(2, multiprocessing.cpu_count())) as pool:
        show_errors(options.studies, pool, list(RULES) if options.rules else ["in use"], options.kinds)
        if not options.rules:
            show_economy(max(options.studies // 10, 20), pool)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
