"""Tell what a study can see, from the noise of one already measured: ``python -m analysis.power results/pilot --seeds 5``.

Two answers are given: the smallest gap that is found with 80 % power, and the fields that settle a tolerance. For training
parameters both follow from the standard deviation of log FID between train seeds of one training point. For sampler parameters
they follow from that of the log ratio of two samplings of a field. Both deviations are estimates from few fields, so each
answer is given for the estimate and for the upper end of its 95 % interval. The difference of the ratio between training points
is the sampler's effect, not noise, and has no part in it.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from analysis.robustness.noise import paired_seed_variances, seed_variance
from analysis.rows.load import load_study
from analysis.rows.meta import AnalysisError, compares, is_given, searched_axes, tolerance_of
from analysis.rows.question import MAIN, statistic
from analysis.rows.words import percent
from analysis.statistics.summary import sd_interval, seeds_needed
from analysis.statistics.variance import PRIOR_DF, Moderated, detectable, few, of_means
from pfgm.terminal import command
from study.rows.settle.judge import SettleAxis
from study.rows.settle.made_up import forecast

EPILOG = """\
examples
  python -m analysis.power results/pilot                         what more seeds would buy, from the pilot's noise
  python -m analysis.power results/pilot --seeds 5 --comparisons 8
  python -m study.run big.yaml --dry-run --pilot results/pilot   the same, for the plan of big.yaml

exit codes: 0 told, 2 no such study, or one without two seeds at any configuration.
"""


RATIO_NOISE = "ratio to the default sampler point"


class Noise(NamedTuple):
    """Standard deviation of log metric with its 95 % interval."""

    what: str
    sd: float
    high: float
    """Upper end of the interval of sd."""
    df: int
    paired: bool


@statistic()
def noise_of(frame: pd.DataFrame, metric: str = MAIN) -> list[Noise]:
    """Estimate the noise between train seeds: of the log metric, and of its log ratio to the default sampler point.

    Args:
        frame: rows of `analysis.load_study`.
        metric: default ``fid``.
    Raises:
        AnalysisError: no configuration with two fields.
    """
    pooled = seed_variance(frame, metric)
    if pooled is None or not pooled.variance > 0:
        if is_given(frame):
            raise AnalysisError("the given field was sampled once, so the noise is unknown; raise seeds.sample to 2 or more")
        raise AnalysisError(
            "no training point has two measured fields, so the seed noise is unknown; raise seeds.train to 2 or more"
        )
    sd = math.sqrt(pooled.variance)
    found = [Noise("sample seeds" if is_given(frame) else "train seeds", sd, sd_interval(sd, pooled.df)[1], pooled.df, False)]
    if compares(frame):
        axes = [axis for axis in searched_axes(frame) if axis.group == "sampler"]
        values = [pooled for axis in axes for pooled in paired_seed_variances(frame, axis, metric)]
        if values:
            sd = math.sqrt(statistics.median(v.variance for v in values))
            df = int(statistics.median(v.df for v in values))
            found.append(Noise(RATIO_NOISE, sd, sd_interval(sd, df)[1], df, True))
    return found


def power_table(frame: pd.DataFrame, seeds: Sequence[int] = (2, 3, 5, 10), comparisons: int = 1) -> pd.DataFrame:
    """Compute the smallest gap found with 80 % power for several numbers of seeds, and the seeds that settle the tolerance.

    Args:
        frame: rows of `analysis.load_study`.
        seeds: train seeds of each training point; for sampler parameters each of these fields is sampled both ways.
        comparisons: values compared with the default at once (Bonferroni).
    Returns:
        noise, sd, sd_high, df, fields, gap, gap_high (of sd_high), settle and settle_high (fields that settle the tolerance).
    """
    rows = []
    for noise in noise_of(frame):
        settle = [seeds_needed(sd, tolerance_of(frame), comparisons, paired=noise.paired) for sd in (noise.sd, noise.high)]
        for n in seeds:
            gap, gap_high = (_gap(sd, n, comparisons, noise.paired) for sd in (noise.sd, noise.high))
            rows.append(
                {"noise": noise.what, "sd": noise.sd, "sd_high": noise.high, "df": noise.df, "fields": n, "gap": gap,
                 "gap_high": gap_high, "settle": settle[0], "settle_high": settle[1]}
            )  # fmt: skip
    result = pd.DataFrame(rows)
    result.attrs = {**frame.attrs, "skipped": {}, "comparisons": comparisons}
    return result


def _gap(sd: float, n: int, comparisons: int, paired: bool) -> float:
    own = n - 1.0
    df = PRIOR_DF + own
    side = Moderated(PRIOR_DF * sd**2 / df, PRIOR_DF, own * sd**2 / df, own)
    variance, freedom = of_means([(side, n)] if paired else [(side, n)] * 2)
    return detectable(variance, freedom, comparisons=comparisons)


def sentences(table: pd.DataFrame, tolerance: float) -> list[str]:
    """Return the table in words, one sentence a kind of noise and number of fields."""
    found = []
    for (name, sd, high, df), part in table.groupby(["noise", "sd", "sd_high", "df"], sort=False):
        first = part.iloc[0]
        gaps = ", ".join(
            f"{n} seeds find a gap of {percent(gap)} (up to {percent(worst)})"
            for n, gap, worst in zip(part["fields"], part["gap"], part["gap_high"], strict=True)
        )
        title, what = f"{str(name)[0].upper()}{str(name)[1:]}", "the log metric has"
        if name == RATIO_NOISE:
            title, what = (
                "Two samplings of a field",
                "the log ratio to the default sampler point has, median over the values tried,",
            )
        found.append(
            f"{title}: {what} sd {sd:.3g} between seeds of one training point ({df} {'degree' if df == 1 else 'degrees'} of"
            f" freedom{few(float(str(df)))}; up to {high:.3g})."
            f" With 80 % power {gaps}; {tolerance:.0%} is settled by {first['settle']} (up to {first['settle_high']})."
        )
    return found


def settled_sentence(frame: pd.DataFrame, axes: Sequence[SettleAxis], seeds: int, budget: int) -> str:
    """Say what a budget of fields settles where no parameter has an effect, by made-up studies with the noise of a pilot.

    Args:
        frame: rows of the pilot.
        axes: parameters of the planned study, of design settle.
        seeds: fields that a value begins with.
        budget: fields at most.
    """
    noise = noise_of(frame)
    sd, pairs = noise[0].sd, noise[-1].sd if noise[-1].paired else noise[0].sd
    shares, fields = forecast(axes, sd, pairs, math.log1p(tolerance_of(frame)), seeds, budget)
    told = ", ".join(f"{axis.name.split('.')[-1]} in {share:.0%}" for axis, share in zip(axes, shares, strict=True))
    return (
        f"Settled by at most {budget} fields, in made-up studies with this noise and no effect: {told}; they took {fields:.0f}"
        " fields (median). Near an edge it takes more."
    )


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.power", description="What more seeds would tell, from the noise of a study already measured.",
        epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("pilot", help="the folder of a study, results/<study>, or its s3:// URI")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[2, 3, 5, 10], help="seeds of each training point to tell the power of"
    )
    parser.add_argument("--comparisons", type=int, default=1, help="values of a parameter compared with the default at once")
    parser.add_argument("--budget", type=int, default=None, help="fields that a study of design settle may train; with --axes")
    parser.add_argument("--axes", type=json.loads, default=None, help=argparse.SUPPRESS)  # by study.run --dry-run --pilot
    parser.add_argument("--tolerance", type=float, default=None, help="the tolerance to settle; default: the pilot's")
    options = parser.parse_args(arguments)
    try:
        if min(options.seeds) < 2:
            raise AnalysisError("--seeds: at least 2; one alone has no noise to compare with")
        frame = load_study(options.pilot)
        tolerance = tolerance_of(frame) if options.tolerance is None else options.tolerance
        frame.attrs["study"]["analysis"] = {**(frame.attrs["study"].get("analysis") or {}), "tolerance": tolerance}
        for sentence in sentences(power_table(frame, options.seeds, options.comparisons), tolerance):
            print(sentence)
        if options.axes:
            axes = [SettleAxis(**{**axis, "first": tuple(axis["first"])}) for axis in options.axes]
            print(settled_sentence(frame, axes, max(options.seeds), options.budget))
    except AnalysisError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
