# ---
# jupyter:
#   jupytext:
#     formats: py:percent,ipynb
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The robustness report, step by step
#
# `study.run` writes a report at its end. This notebook makes its main parts one after another, so that you can see where each
# statement comes from and what would overturn it. Every sentence below a cell is written from the numbers above it. Set `STUDY`
# to the folder of your own study; without it the small study that comes with this repository is used.

# %%
import os

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown, display

import analysis
from analysis.testing import Truth, synthetic_frame

STUDY = os.environ.get("STUDY", "digits_bundle")
rows = analysis.load_study(STUDY)
study = rows.attrs["study"]
plt.rcParams["figure.dpi"] = 72  # small enough to be committed


def say(text: str) -> None:
    """A sentence under a cell, written from the numbers above it."""
    display(Markdown(text))


axes = analysis.searched_axes(rows)
training = [axis for axis in axes if axis.group == "train"]
sampling = [axis for axis in axes if axis.group == "sampler"]
tolerance = study["analysis"]["tolerance"]
say(
    f"Question: how far may each of {len(axes)} parameters move from its default before FID leaves the tolerance of "
    f"{tolerance:.0%}, declared before the study ran? Design: *{study['design']['name']}*."
)

# %% [markdown]
# ## 1. What was planned and what came of it
# A failed or diverged cell is a result: it counts as outside the tolerance and is never dropped.

# %%
display(analysis.failure_table(rows))
say(
    "Left out while loading: "
    + ("; ".join(f"{reason} ({n})" for reason, n in rows.attrs["skipped"].items()) or "nothing")
    + "."
)

# %% [markdown]
# ## 2. The noise floor
# Training again with another seed, or sampling again with other latents, changes FID although nothing was changed. Whatever
# differs by less than that is not known to differ. The shares say where the spread of this study's rows comes from.

# %%
components = analysis.variance_components(rows)
analysis.plot_variance_components(rows)
plt.show()
for row in components.dropna(subset=["sd"]).itertuples():
    interval = f" (95 % interval {row.sd_low:.1%} to {row.sd_high:.1%})" if pd.notna(row.sd_low) else ""
    say(f"- {row.component}: standard deviation of log FID {row.sd:.1%}{interval}, {row.share:.0%} of the variance")
unknown = components.loc[components["sd"].isna(), "component"].tolist()
if unknown:
    say(f"Not told apart in this study: {', '.join(unknown)} (that takes more seeds).")

# %%
noise = components.loc[components["component"].ne("configuration"), "sd"].dropna()
sd = float((noise**2).sum() ** 0.5)  # of one cell of one field
if sd > 0:
    needed = {gap: analysis.seeds_needed(sd, gap) for gap in (0.03, tolerance, 0.30)}
    fields = ", ".join(f"{n} for {gap:.0%}" for gap, n in needed.items())
    say(f"All of it together: {sd:.1%}. Fields a side, one cell each, that find a difference with 80 % power: {fields}.")
else:
    say("No noise is known here, so no power: raise seeds.train and seeds.sample.")

# %% [markdown]
# ## 3. One curve for each parameter
# Mean over fields with its interval; the caption of each line below says what was held fixed, for M and the height cannot
# both be. Parameters of the sampler are compared within each field, which is far sharper than between fields.

# %%
n_rows = max(-(-len(axes) // 3), 1)
_, panels = plt.subplots(n_rows, 3, figsize=(12, 3.0 * n_rows), layout="constrained", squeeze=False)
for ax in panels.flat[len(axes) :]:
    ax.set_axis_off()
for axis, ax in zip(axes, panels.flat, strict=False):
    analysis.plot_robustness(rows, axis.name, ax=ax)
plt.show()
for axis in axes:
    say(f"- {axis.name}: {analysis.robustness_curve(rows, axis.name, ['fid']).attrs['held_fixed'] or 'nothing was held fixed'}")

# %% [markdown]
# ## 4. The verdicts
# Bounds hold for all tested values of a parameter at once. *Robust*: at every tested value the upper bound on the loss lies
# inside the tolerance. *Sensitive*: somewhere the lower bound lies outside, or cells failed. *Undetermined*: neither, with the
# number of seeds that would settle it. A lower FID than the default's is no loss.

# %%
verdicts = [analysis.tolerance_interval(rows, axis.name) for axis in axes]
table = pd.DataFrame(
    [
        {"parameter": v.parameter, "default": v.default, "inside from": v.low, "to": v.high, "decades": v.decades,
         "rating": v.rating, "worst ratio": v.worst_ratio, "at": v.worst_value, "seeds that settle": v.n_needed}
        for v in verdicts
    ]
)  # fmt: skip
display(table.round(3))
for v in verdicts:
    say(f"- **{v.parameter}**: *{v.rating}* ({v.rule}).")

# %% [markdown]
# ## 5. Two configurations against each other
# `compare` takes any two. Its four answers: *better*, *worse*, *equal* (two one-sided tests: inside the tolerance) or
# *undecided* (these seeds cannot tell; the gap that they could have seen is printed). The worst tested value of each
# parameter, or in a design that moves all of them at once the lowest and the highest mean, which were picked and so look too
# far apart.

# %%
pairs = {}
if study["design"]["name"] == "one_at_a_time":
    for v in verdicts:
        if v.worst_value is not None and v.default is not None and v.worst_value != v.default:
            pairs[f"{v.parameter} at {v.worst_value} against its default {v.default}"] = {v.parameter: v.worst_value}
else:  # a value of one parameter is no configuration here, the others vary with it
    ranked = analysis.summarize(rows).dropna(subset=["mean"]).sort_values("mean")
    for word, place in (("lowest", 0), ("highest", -1)):
        pairs[f"the {word} mean against the default"] = (ranked["point_id"].iloc[place], ranked["sampler_id"].iloc[place])
for words, other in pairs.items():
    say(f"- {words}: {analysis.compare(rows, 'default', other).sentence}")

# %% [markdown]
# ## 6. Do two parameters act on each other?
# Only measured pairs are drawn; nothing is interpolated.

# %%
pair = (training[0].name, sampling[0].name) if training and sampling else None
if pair:
    analysis.plot_interaction(rows, *pair)
    plt.show()
    cells = analysis.interaction(rows, *pair).dropna(subset=["mean"])
    low, high = cells.loc[cells["mean"].idxmin()], cells.loc[cells["mean"].idxmax()]
    say(
        f"Lowest mean FID {low['mean']:.3g} at {pair[0]} = {low['value_1']:.3g}, {pair[1]} = {low['value_2']:.3g}; highest "
        f"{high['mean']:.3g} at {high['value_1']:.3g} and {high['value_2']:.3g}. Held fixed: "
        f"{cells.attrs.get('held_fixed') or 'see the plan'}."
    )
else:
    say("This study searched one group only.")

# %% [markdown]
# ## 7. The whole box: importance, volume, worst case
# Moving one parameter at a time says nothing about the corners. A share of the box, or the importance of a parameter over it,
# needs points that fill it (`design: sobol`), and these functions refuse any other design and say what to do. The cell below
# asks this study first; where it refuses, it shows the same statistics on a *made-up* study whose true answer is known.

# %%
box = rows
try:
    analysis.tolerance_volume(rows)
    analysis.parameter_importance(rows, n_permutations=199, n_bootstrap=10)
except analysis.AnalysisError as refusal:
    say(f"This study: {refusal}")
    truth = Truth(
        design="sobol",
        trials=40,
        train_seeds=2,
        effects={"sigma": lambda v: 8 * (v - 0.1) ** 2, "T_ratio": lambda v: 0.02 * abs(v - 1.0)},
    )
    box = synthetic_frame(truth)
    say("From here on, the **made-up** study: only σ and T act, 40 Sobol' points, noise of 5 % between fields.")

# %%
importance = analysis.parameter_importance(box, n_permutations=199, n_bootstrap=20)
display(importance.round(3))
real = importance.loc[importance["p_value"].lt(0.05), "parameter"].tolist()
say(f"Main effects that a permutation of whole points calls real at 5 %: {', '.join(real) or 'none'}.")
regional = analysis.regional_sensitivity(box, n_permutations=199)
display(regional.round(3))
_, panels = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
analysis.plot_parameter_importance(box, table=importance, ax=panels[0])
analysis.plot_regional_sensitivity(box, n_permutations=199, ax=panels[1])
plt.show()

# %%
volume = analysis.tolerance_volume(box)
display(volume.drop(columns="held_fixed").round(3))
for row in volume.itertuples():
    say(
        f"- {row.box} box: {row.share:.0%} of it is within {tolerance:.0%} of the default (95 % interval "
        f"{row.low:.0%} to {row.high:.0%}, {row.n_points} points)."
    )
for row in analysis.worst_case(box).itertuples():
    say(
        f"- worst of {row.n_configurations} in the {row.box} box: {row.ratio:.3g} times the default "
        f"({row.low:.3g} to {row.high:.3g}); the box may hold worse."
    )

# %% [markdown]
# ## 8. All of it in one file
# `python -m analysis.report results/<study>` writes `report/report.html` with these parts, the costs, the versions, the exact
# command and the tables as CSV.
