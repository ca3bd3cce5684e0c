"""Write docs/claims.md from claims.yaml and the committed rows of the claim studies: every number there is computed here.

    python experiments/claims/build.py
    python experiments/notebooks/make_bundle.py results/claim_speed experiments/claims/rows/speed    # a study's rows, to commit

A claim is a ratio of geometric means over fields, with a 95 % t-interval (`analysis.compare`, `analysis.contrast`): it *holds*
where the interval lies below 1, and *does not* where it lies above. Else it is *equal within 10 %* where two one-sided tests at
5 % say so, and *undecided* where not, or where a row of it failed. Beside it stand what is left of the verdict after Holm's
correction over the whole page, and the smallest gap that its seeds could have seen four times in five.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import yaml

from analysis import Comparison, Contrast, compare, contrast, degradation, load_study, plot_perturbation_robustness
from analysis.rows.meta import undisturbed
from analysis.rows.metrics import BAD, metric_values
from analysis.rows.units import unit_key
from analysis.rows.words import percent
from analysis.statistics.comparison import configuration
from analysis.statistics.contrasts import holm, p_values
from analysis.statistics.disturbances import series_of

HERE = Path(__file__).resolve().parent
TOLERANCE, ALPHA = 0.10, 0.05
EQUAL, UNDECIDED = f"**equal within {100 * TOLERANCE:.0f} %**", "undecided"
ROWS, PAGE = HERE / "rows", HERE.parents[1] / "docs" / "claims.md"


class Finding(NamedTuple):
    """What a study says about a claim."""

    ratio: float
    low: float
    high: float
    detectable_gap: float
    n: tuple[int, ...]
    """Fields of each group that enters."""
    n_bad: int
    """Rows of it that are not complete."""

    p: tuple[float, float] = (1.0, 1.0)
    """How surely the ratio is another than 1, and how surely it lies within the tolerance (`p_values`)."""

    @property
    def verdict(self) -> str:
        """holds, does not, equal within 10 %, or undecided; by itself."""
        if self.n_bad or math.isnan(self.low):
            return UNDECIDED
        return "**holds**" if self.high < 1 else "**does not**" if self.low > 1 else self.word(1.0, self.p[1])

    def word(self, different: float, equal: float) -> str:
        """The verdict by two p-values, which may be corrected ones."""
        if self.n_bad:
            return UNDECIDED
        if different <= ALPHA:
            return "**holds**" if self.ratio < 1 else "**does not**"
        return EQUAL if equal <= ALPHA else UNDECIDED


def measure(claim: Mapping[str, Any], frame: pd.DataFrame) -> Finding:
    """The finding of one claim on the rows of its study.

    Raises:
        ValueError: a claim without a ratio, degradation or weaker network.
    """
    if "ratio" in claim:
        asked = claim["ratio"]
        found = compare(frame, asked["to"], asked["of"], metric=asked["metric"])
        gap, n = found.detectable_gap, (found.n_b, found.n_a)
        return Finding(found.ratio, found.low, found.high, gap, n, found.n_bad_a + found.n_bad_b, _p(found))
    if "degradation" in claim:
        asked = claim["degradation"]
        table = degradation(frame, asked["kind"], asked["level"])
        names = [asked["of"], asked["to"]]
        series = {str(name): part["log_ratio"].to_numpy() for name, part in table.groupby("series")}
        sides, others = _sides(series, names)
        if lost := [name for name, side in zip(names, sides, strict=True) if not len(side)]:
            there = "; ".join(sorted(set(table["series"])))
            raise ValueError(f"claims.yaml: {claim['claim']!r}: no series {lost[0]!r}; there are: {there}")
        own = frame.loc[series_of(frame).isin(names)]
        if asked["kind"] != "steps":
            own = own.loc[own["perturb_kind"].isna() | own["perturb_kind"].eq(asked["kind"])]
        found = contrast([(1, sides[0]), (-1, sides[1])], others=others)
        return Finding(*found[:5], n_bad=int(own["status"].isin(BAD).sum()), p=_p(found))
    if "weaker" in claim:
        asked = claim["weaker"]
        plain = undisturbed(frame)
        signs = ((1, "of", "down_to"), (-1, "of", "from"), (-1, "to", "down_to"), (1, "to", "from"))
        keys = [configuration(plain, {**asked[side], asked["key"]: asked[size]}) for _, side, size in signs]
        sides, others = _sides(_log_values(plain, keys[0][1], asked["metric"]), [point for point, _ in keys])
        own = plain["point_id"].isin([point for point, _ in keys])
        found = contrast([(c, side) for (c, _, _), side in zip(signs, sides, strict=True)], others=others)
        return Finding(*found[:5], n_bad=int(plain.loc[own, "status"].isin(BAD).sum()), p=_p(found))
    raise ValueError(f"claims.yaml: {claim['claim']!r} names no ratio, degradation or weaker network; add one")


def _p(found: Comparison | Contrast) -> tuple[float, float]:
    return p_values(math.log(found.ratio), found.variance, found.df, math.log1p(TOLERANCE))


def together(found: list[Finding]) -> list[str]:
    """The verdicts that hold together: all differences of the page share one error of 5 %, and so do all equalities."""
    corrected = zip(holm([f.p[0] for f in found]), holm([f.p[1] for f in found]), strict=True)
    return [f.word(*p) for f, p in zip(found, corrected, strict=True)]


def _sides(groups: Mapping[str, np.ndarray], names: list[str]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The named groups, empty where there is none of that name, and all others."""
    return [groups.get(name, np.empty(0)) for name in names], [y for name, y in groups.items() if name not in names]


def _log_values(frame: pd.DataFrame, sampler: str, metric: str) -> dict[str, np.ndarray]:
    """Log metric at one sampler point by training point, one value a field."""
    rows = frame.loc[frame["sampler_id"].eq(sampler)].reset_index(drop=True)
    values, _ = metric_values(rows, metric)
    means = values.groupby([rows["point_id"], unit_key(rows)]).mean().dropna()
    return {str(point): part.to_numpy() for point, part in means.groupby(level=0)}


def page(claims: list[dict[str, Any]]) -> str:
    """The whole page, in Markdown."""
    frames = {name: load_study(ROWS / name, perturbed=True) for name in dict.fromkeys(str(c["study"]) for c in claims)}
    found = [(claim, measure(claim, frames[claim["study"]])) for claim in claims]
    joint = together([f for _, f in found])
    single = [f.verdict for _, f in found]
    counts = {f"{word}{end}": _count(words, word) for end, words in (("", single), ("_joint", joint)) for word in WORDS}
    lines = [HEAD.format(n=len(claims), **counts)]
    for number, ((claim, f), after) in enumerate(zip(found, joint, strict=True), start=1):
        sides = " and ".join(map(str, f.n)) if len(set(f.n)) > 1 else str(f.n[0])
        lines.append(
            f"| {number} | {claim['claim']} | {_number(f.ratio)} ({_number(f.low)} to {_number(f.high)}) | {f.verdict} |"
            f" {after} | {percent(f.detectable_gap) if math.isfinite(f.detectable_gap) else '–'} | {sides} |"
            f" {claim['published']} | `{claim['study']}` |"
        )
    lines.append("\n## How quality is lost\n")
    lines += [f"![{text}](claims_{study}_{kind}.png)\n\n{text}\n" for study, kind, text in FIGURES]
    lines.append("## Sources and caveats\n")
    lines += [
        f"{number}. {claim['source']}." + (f" *{claim['caveat']}*" if "caveat" in claim else "")
        for number, (claim, _) in enumerate(found, start=1)
    ]
    lines.append(f"\n## Verdicts that changed\n\n{CHANGED}\n")
    lines += [
        f"- Claim {k}: before {c['before']}; now {f.verdict}." for k, (c, f) in enumerate(found, start=1) if "before" in c
    ]
    lines.append("\n## The studies\n")
    lines += [_study(name, frame, _shared(name, frames)) for name, frame in frames.items()]
    return "\n".join(lines) + "\n"


HEAD = """# Claims, measured

Written by `python experiments/claims/build.py` from [the claims](../experiments/claims/claims.yaml) and [the rows of their
studies](../experiments/claims/rows); no measured number is typed by hand. Of {n} claims {holds} hold, {not} do not,
{equal} are equal within 10 %, {undecided} are undecided.

A ratio is a geometric mean over fields (train seeds) divided by another; below 1 speaks for the claim. In brackets its 95 %
interval (Student's t, variances moderated by those of the other groups). A claim *holds* where the whole interval is below 1,
*does not* where it is above. Otherwise it is *equal within 10 %* where two one-sided tests at 5 % refuse a gap of 10 % in
either direction, and *undecided* where they do not, or where a row of it failed: then the detectable gap says how large a gap
these seeds would have seen four times in five.

Every verdict stands for itself; of twenty true nulls one falls outside by chance. The column *over the page* has what is left
where all differences of the page together may err once in twenty pages, and all equalities likewise (Holm 1979): {holds_joint}
hold, {not_joint} do not, {equal_joint} are equal within 10 %, {undecided_joint} are undecided. Holm's correction asks for no
independence, and there is none: studies share fields.

Where a study has many train seeds, their number was fixed beforehand, by what three had shown; the rows of these three are
not among them, and every field has latents of its own. Other studies share one or two sets of latents: their intervals hold
for these. Within a study all sides share network, head, parameters, steps, batch, learning rate, average of the weights,
evaluation seeds and tolerance (of the state that each ODE is written in: for `vp` that is x shrunk to bounded variance). What
differs is a process's own: kernel, training target and its weight, noise levels that are trained, height T where samples
start, and time. Levels and T follow the data where there is a published rule (`pfgm`: its authors' rule; `ve`: the largest
distance between two images, as advised in arXiv 2006.09011), and are the published constants where there is none (`pfgmpp`,
`vp`). These are small images and small networks: a verdict speaks of this scale, and published figures stand beside it for
orientation.

| | claim | ratio (95 %) | verdict | over the page | detectable gap | fields a side | published | study |
|---|---|---|---|---|---|---|---|---|"""


CHANGED = """The reason is the same for all: three fields a side could not tell gaps of 23 to 47 % from none. There are 5 to 32
now, and each has latents of its own, so that the luck of one set of latents is no longer shared by all. The network of
`dimension` is half as wide as it was."""
WORDS = ("holds", "not", "equal", "undecided")
BARS = "Bars: 95 % over fields, each point by itself."
FIGURES = (
    (
        "steps",
        "steps",
        f"FID with fewer Euler steps, over the same fields with 100; lines are processes on their own grids. {BARS}",
    ),
    ("dimension", "noise", f"FID with noise before every step, over the same fields and latents without. {BARS}"),
    ("dimension", "weight_bits", f"FID with weights rounded to so many bits, over the same fields and latents without. {BARS}"),
)
"""(study, kind of disturbance, caption) of the figures beside the page."""


def draw(folder: Path) -> None:
    """Write the figures of the page into ``folder``."""
    for study, kind, _ in FIGURES:
        figure, ax = plt.subplots(figsize=(6.4, 4.0), dpi=80, layout="constrained")
        plot_perturbation_robustness(load_study(ROWS / study, perturbed=True), kind, ax=ax)
        figure.savefig(folder / f"claims_{study}_{kind}.png")
        plt.close(figure)


def _count(verdicts: list[str], word: str) -> int:
    return sum(word in verdict for verdict in verdicts)


def _shared(name: str, frames: Mapping[str, pd.DataFrame]) -> str:
    """Which of a study's fields are those of studies before it, in words."""
    fields = {study: set(frame["train_id"]) for study, frame in frames.items()}
    before = list(fields)[: list(fields).index(name)]
    common = {study: len(fields[name] & fields[study]) for study in before if fields[name] & fields[study]}
    return "".join(f", {n} of them those of `{study}`" for study, n in list(common.items())[:1])


def _study(name: str, frame: pd.DataFrame, shared: str) -> str:
    """Protocol and means of one study."""
    study, plain = frame.attrs["study"], undisturbed(frame)
    network, train, sampler = study["network"], study["train"], study["sampler"]
    size = ", ".join(f"{key} {network[key]}" for key in ("width", "depth", "patch") if network.get(key) is not None)
    seconds = plain.drop_duplicates("train_id")["cost_train_s"].sum() + plain["cost_sample_s"].sum()
    settings = ", ".join(f"{key} {sampler[key]}" for key in SAMPLER if sampler.get(key) is not None)
    latents = (
        "each field from latents of its own"
        if study["seeds"]["sample"] == "own"
        else f"{plain['seed_sample'].nunique()} sample seed(s)"
    )
    head = (
        f"### {name}\n\n    python -m study.run experiments/claims/{name}.yaml\n\n"
        f"{study['data']['name']}, {network['name']} ({size}), {train['steps']:,} steps of {train['batch_size']},"
        f" {plain['train_id'].nunique()} fields ({plain['seed_train'].nunique()} train seeds){shared};"
        f" {settings}; {latents}, n = {int(plain['metric_n'].max())};"
        f" {frame['status'].eq('complete').sum()} of {len(frame)} rows"
        f" complete; {seconds / 3600:.1f} core-hours of training and undisturbed sampling.\n"
    )
    metric = "sliced_wasserstein" if plain["metric_sliced_wasserstein"].notna().any() else "fid"
    varied = [c for c in VARIED if len(plain[c].unique()) > 1]
    rows = [_mean_row(key, part[f"metric_{metric}"], part) for key, part in plain.groupby(varied, dropna=False, sort=True)]
    quality = "FID" if metric == "fid" else "sliced Wasserstein"
    columns = [*(c.split("_", 1)[1] for c in varied), quality, "precision", "recall", "NFE", "T"]
    table = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns), *rows]
    return "\n".join([head, *table, ""])


SAMPLER = ("solver", "rtol", "steps", "grid", "t_min")
"""What is printed of the default sampler point."""
VARIED = ("train_process", "train_objective", "train_n_aug", "network_width", "sampler_steps", "sampler_rtol")


def _mean_row(key: tuple[Any, ...], quality: pd.Series, part: pd.DataFrame) -> str:
    """Means of one configuration, quality on the log."""
    words = ["–" if pd.isna(v) else v if isinstance(v, str) else "∞" if math.isinf(v) else f"{v:g}" for v in key]
    values = [math.exp(np.log(quality.dropna()).mean()) if quality.notna().any() else math.nan]
    values += [part[column].mean() for column in ("metric_precision", "metric_recall", "cost_nfe", "sampler_T")]
    return "| " + " | ".join([*words, *(_number(v) for v in values)]) + " |"


def _number(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def main(arguments: list[str] | None = None) -> int:
    """Write the page and its figures."""
    argparse.ArgumentParser(description="Write docs/claims.md from the committed rows of the claim studies.").parse_args(
        arguments
    )
    mpl.use("Agg")
    claims: list[dict[str, Any]] = yaml.safe_load((HERE / "claims.yaml").read_text())
    PAGE.write_text(page(claims))
    draw(PAGE.parent)
    sys.stdout.write(f"{PAGE}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
