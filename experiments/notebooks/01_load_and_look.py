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
# # Load a study and look at it
#
# A study trains a Poisson flow several times, changes one thing after another, and measures the samples. This notebook
# reads what was measured, checks it, and makes a first picture of it. Everything below is computed from the rows, the
# sentences too, so it holds for any study: set the environment variable `STUDY` to its folder, for instance
# `STUDY=../../results/digits`. Without it you see the small study that comes with this repository
# (`experiments/digits_bundle.yaml`, packed by `make_bundle.py`).

# %%
import os

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown, display

import analysis

STUDY = os.environ.get("STUDY", "digits_bundle")
rows = analysis.load_study(STUDY)
plt.rcParams["figure.dpi"] = 72  # small enough to be committed
study = rows.attrs["study"]


def say(text: str) -> None:
    """A sentence under a cell, written from the numbers above it."""
    display(Markdown(text))


n_fields, n_points = rows["train_id"].nunique(), rows["point_id"].nunique()
say(
    f"**{study['name']}**, a *{study['design']['name']}* study of {study['data']['name']}: {n_points} training points, "
    f"{n_fields} trained fields, {rows['sampler_id'].nunique()} ways to sample each, {len(rows)} planned cells."
)

# %% [markdown]
# ## What a row is
# One row is one *cell*: a trained field (a training point and a train seed), a sampler point, a sample seed. Columns that begin
# with `train_` and `sampler_` say what was done, `metric_` and `cost_` what came out, `diag_` what may explain it, and `prov_`
# with which versions. A planned cell that has not been measured is a row too, with the status `pending`.

# %%
shown = [
    "design_role",
    "seed_train",
    "design_sampler_role",
    "seed_sample",
    "status",
    "metric_fid",
    "metric_precision",
    "cost_nfe",
]
rows[shown].head(5).round(3)

# %%
counts = rows["status"].value_counts()
left_out = "; ".join(f"{reason}: {n}" for reason, n in rows.attrs["skipped"].items()) or "nothing"
say(f"Status: {', '.join(f'{n} {status}' for status, n in counts.items())}. Left out while loading: {left_out}.")

# %% [markdown]
# ## Is it sound?
# `validate` looks for what would spoil a statistic: missing or double rows, complete rows without a number, values outside the
# searched box, seeds that nobody planned. An empty table is the good answer.

# %%
problems = analysis.validate(STUDY)
say("No problem found." if problems.empty else f"{len(problems)} kinds of problem:")
display(problems)

# %% [markdown]
# ## What was searched
# The default is what every comparison below refers to.

# %%
axes = analysis.searched_axes(rows)
pd.DataFrame(
    [(a.group, a.name, a.default, a.low, a.high, "log" if a.log else "") for a in axes],
    columns=["group", "parameter", "default", "lowest", "highest", "scale"],
)

# %% [markdown]
# ## Did the training come to rest?
# One line a field. Lines that still fall at the right end say that longer training would change everything below.

# %%
history = analysis.load_history(STUDY)
if len(history):
    analysis.plot_learning_curves(STUDY)
    plt.show()
    last = history.groupby("train_id")["step"].transform("max")
    late = history.loc[history["step"] > 0.5 * last].sort_values("step").groupby("train_id")["loss"]
    change = (late.last() / late.first() - 1).median()
    say(
        f"Over the second half of the training the loss changed by {change:+.0%} (median over "
        f"{history['train_id'].nunique()} fields)."
    )
else:
    say("This study stored no training history.")

# %% [markdown]
# ## The samples themselves
# The same latents, so the same places in the three grids: what the default gives, and the configurations with the lowest and
# the highest mean. *Best* is picked after the fact and therefore reads a little too good.

# %%
_, panels = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
for which, ax in zip(("default", "best", "worst"), panels, strict=True):
    analysis.plot_samples(rows, which, ax=ax)
plt.show()

# %% [markdown]
# ## One row a configuration
# `summarize` takes the geometric mean over fields with Student's t-interval. Rows of one field are not independent, so the
# field is the unit and `n_train_seeds` is the n of the interval. `min_of_seeds` is what papers often report; it reads low.

# %%
summary = analysis.summarize(rows)
columns = [
    "design_role",
    "design_sampler_role",
    "n_train_seeds",
    "mean",
    "low",
    "high",
    "min_of_seeds",
    "n_failed",
    "n_diverged",
]
summary.sort_values("mean")[columns].head(6).round(3)

# %%
default = summary.loc[summary["design_role"].eq("default") & summary["design_sampler_role"].eq("default")]
for row in default.dropna(subset=["mean"]).itertuples():
    interval = f"95 % interval {row.low:.3g} to {row.high:.3g}" if pd.notna(row.low) else "no interval from a single field"
    say(
        f"The default: FID {row.mean:.3g} over {row.n_train_seeds} fields, {interval}; the least of its rows is "
        f"{row.min_of_seeds:.3g}."
    )

# %% [markdown]
# ## Each training parameter, first look
# Points are means over fields with their intervals, the band is the range of fields, the star the default, the dashed line
# the tolerance above it. Dotted lines have a known meaning: what a bootstrap of the data itself would score (floor), and what
# one Gaussian fitted to the pixels scores.

# %%
training = [axis for axis in axes if axis.group == "train"]
if training:
    n_rows = -(-len(training) // 2)
    _, panels = plt.subplots(n_rows, 2, figsize=(9, 3.1 * n_rows), layout="constrained", squeeze=False)
    for ax in panels.flat[len(training) :]:
        ax.set_axis_off()
    for axis, ax in zip(training, panels.flat, strict=False):
        analysis.plot_robustness(rows, axis.name, ax=ax)
    plt.show()

# %%
for axis in training:
    curve = analysis.robustness_curve(rows, axis.name, ["fid"]).dropna(subset=["mean"])
    if len(curve) > 1:
        low, high = curve.loc[curve["mean"].idxmin()], curve.loc[curve["mean"].idxmax()]
        say(
            f"- **{axis.name}**: FID goes from {low['mean']:.3g} at {low['value']} to {high['mean']:.3g} at "
            f"{high['value']}, a factor {high['mean'] / low['mean']:.2g}."
        )
    else:
        say(f"- **{axis.name}**: fewer than two measured values.")

# %% [markdown]
# Whether such a factor means anything is the question of the next notebook, `02_robustness_report_step_by_step`.
