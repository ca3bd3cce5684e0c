# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A first look at a study
#
# From the rows of a study to three plots: how quality depends on one hyperparameter, what it costs, and what the solver's
# tolerance does. Run `make demo` first, or point `STUDY` at a study of your own.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt

import analysis

STUDY = Path(os.environ.get("STUDY", "../../results/digits"))
rows = analysis.load_study(STUDY)
print(f"{len(rows)} planned cells")
rows["status"].value_counts()

# %% [markdown]
# One row is one measured cell: a trained field × a sampler point × a sample seed. Its parameters are the columns `train_*` and
# `sampler_*`, its measurements `metric_*` and `cost_*`.

# %%
axes = analysis.searched_axes(rows)
[(axis.name, axis.group, axis.default) for axis in axes]

# %%
analysis.summarize(rows).head()

# %% [markdown]
# ## Quality against one hyperparameter
# The star is the declared default; bars are 95 % intervals over train seeds where there is more than one.

# %%
first = next(axis.name for axis in axes if axis.group == "train")
analysis.plot_robustness(rows, first)
plt.show()

# %% [markdown]
# ## Quality against cost
# NFE counts every call of the network while sampling; the front joins the settings that nothing beats on both.

# %%
analysis.plot_quality_cost(rows)
plt.show()

# %% [markdown]
# ## What the solver's tolerance does
# FID hardly sees the solver; the distance of each sample to the exact path from the same latent does.

# %%
analysis.plot_solver_tolerance(rows)
plt.show()

# %% [markdown]
# ## And the rating
# *Robust*: the whole tested range stays within the study's tolerance of the default. *Sensitive*: some value is surely outside.

# %%
for axis in axes:
    print(f"{axis.name:24s} {analysis.tolerance_interval(rows, axis.name).rating}")
