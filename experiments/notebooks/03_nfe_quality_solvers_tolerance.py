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
# # Network calls against quality
#
# Sampling solves a differential equation, and every evaluation of the network (NFE) costs time. How many are enough, which
# solver spends them best, and what does a looser tolerance break? Set `STUDY` to look at a study of your own.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown, display

import analysis

STUDY = os.environ.get("STUDY", "digits_bundle")
rows = analysis.load_study(STUDY)
plt.rcParams["figure.dpi"] = 72  # small enough to be committed


def say(text: str) -> None:
    """A sentence under a cell, written from the numbers above it."""
    display(Markdown(text))


# %% [markdown]
# ## The whole picture
# Each mark is a configuration. The star is the default; lines follow one solver from cheap to exact at the default training
# point, with 95 % intervals over fields and the range of its rows as a band. The small dots are the least over seeds, the
# number that papers like to report: it lies below the mean for every configuration, by luck. The dark steps are the front:
# nothing is both cheaper and better.

# %%
_, ax = plt.subplots(figsize=(7, 4.6), layout="constrained")
analysis.plot_quality_cost(rows, ax=ax)
plt.show()

# %%
front = analysis.pareto_front(rows)
best, star = front.loc[front["on_front"]], front.loc[front["is_default"]].dropna(subset=["mean"])
columns = ["solver", "nfe", "mean", "low", "high", "n_train_seeds", "front_seeds", "knee", "design_role", "design_sampler_role"]
display(best[columns].round(3))
seeds = rows["seed_train"].nunique()
if len(best):
    say(f"{len(best)} of {len(front)} configurations lie on the front.")
    if seeds > 1:
        always = int(best["front_seeds"].eq(seeds).sum())
        say(
            f"{always} of these {len(best)} lie on the front of each of the {seeds} train seeds by itself; the rest "
            "owe it to some seeds."
        )
for row in front.loc[front["knee"]].itertuples():
    say(f"Beyond its knee at {row.nfe:.0f} NFE ({row.solver}) the front buys little: FID {row.mean:.3g} there.")
for row in front.loc[front["cheapest_within"]].itertuples():
    if len(star):
        base = star.iloc[0]
        say(
            f"The cheapest configuration whose mean is within tolerance of the default: {row.solver}, {row.nfe:.0f} "
            f"NFE, FID {row.mean:.3g}; the default needs {base['nfe']:.0f} NFE for FID {base['mean']:.3g}."
        )

# %% [markdown]
# ## Precision and recall beside it
# FID mixes two things. Precision asks whether samples look like data, recall whether all of the data is reached. An inexact
# solver can lower FID and still make worse samples, or the other way round; look at all three before choosing.

# %%
_, panels = plt.subplots(1, 2, figsize=(10, 3.9), layout="constrained")
for metric, ax in zip(("precision", "recall"), panels, strict=True):
    analysis.plot_quality_cost(rows, metric=metric, ax=ax)
plt.show()

# %% [markdown]
# ## What the tolerance of an adaptive solver does
# Left: the distance of each sample to the end of the exact path from the same latent. Middle: FID, which hardly sees that.
# Right: what it costs. A red cross counts solves that met infinite values or ran out of steps.

# %%
_, panels = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
for quantity, ax in zip(("solver_error", "quality", "nfe"), panels, strict=True):
    analysis.plot_solver_tolerance(rows, quantity=quantity, ax=ax)
plt.show()

# %%
tolerances = analysis.solver_tolerance(rows)
known = tolerances.dropna(subset=["quality", "nfe"])
say(f"Held fixed: {tolerances.attrs['held_fixed']}. Left out: {tolerances.attrs['skipped'] or 'nothing'}.")
for solver, part in known.groupby("solver"):
    part = part.sort_values("rtol")
    if len(part) > 1:
        tight, loose = part.iloc[0], part.iloc[-1]
        error = ""
        if pd.notna(tight["solver_error"]) and pd.notna(loose["solver_error"]):
            error = f", the solver error by {loose['solver_error'] / tight['solver_error']:.3g}"
        say(
            f"- **{solver}**, rtol {tight['rtol']:.0e} → {loose['rtol']:.0e}: NFE {tight['nfe']:.0f} → {loose['nfe']:.0f}, "
            f"FID {tight['quality']:.3g} → {loose['quality']:.3g} (a factor {loose['quality'] / tight['quality']:.3g}){error}."
        )
tolerances.drop(columns=["n_rows", "n_pending"]).round({column: 4 for column in tolerances if column != "rtol"})

# %% [markdown]
# ## Fewer steps as a disturbance
# A fixed-step solver against itself with its largest number of steps: same field, same latents, so the noise of seeds
# cancels and small effects show. A ratio above 1 is worse, the dashed line is the tolerance.

# %%
analysis.plot_perturbation_robustness(rows, "steps")
plt.show()
steps = analysis.perturbation_robustness(rows)
for row in steps.loc[steps["perturb_kind"].eq("steps") & steps["ratio"].notna()].itertuples():
    interval = f" ({row.low:.3g} to {row.high:.3g})" if pd.notna(row.low) else ""
    say(f"- {row.series}, {row.perturb_level:.0f} steps: FID × {row.ratio:.3g}{interval}, {row.n_fields} fields")
fewer = steps.loc[steps["perturb_kind"].eq("steps") & steps["high"].lt(1)]
if len(fewer):
    say(
        "Where the whole interval lies below 1, fewer steps gave the *lower* FID: the exact solution of an imperfect "
        "field need not be the best sample. The solver error says how exact, FID how good; they are two questions."
    )

# %% [markdown]
# ## Where the path starts
# The prior is heavy-tailed: some latents start very far out. Truncating it at R/T trades those against a law that is
# no longer the right one. Triangles: where the outliers among the samples started. Dotted: how many latents start beyond R/T.

# %%
analysis.plot_outlier_map(rows)
plt.show()
outliers = analysis.outlier_map(rows).dropna(subset=["outlier_fraction"])
if len(outliers):
    worst = outliers.loc[outliers["outlier_fraction"].idxmax()]
    say(
        f"The largest share of outliers, {worst['outlier_fraction']:.2%}, is met at T = {worst['T_ratio']:.3g} × the "
        f"rule's, prior truncated at R/T = {worst['max_radius_ratio']:g} (inf: not truncated)."
    )
else:
    say("No outlier fraction was measured.")

# %% [markdown]
# ## Measured against theory
# Coverage (which share of the latents starts where training has been) is pure geometry, so points must lie on the line; it
# does not rate anything. The error made by starting at a finite height T has a law too, valid outside the grey zone, in units
# of its own: compare where each curve goes flat, not their heights. And τ must not matter at a fixed height: ratios of 1.

# %%
_, panels = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
for which, ax in zip(("coverage", "prior_error", "tau_null"), panels, strict=True):
    analysis.plot_theory_curves(rows, which, ax=ax)
plt.show()

# %%
theory = analysis.theory_curves(rows)
points = theory.loc[theory["kind"].eq("measured")]
heights = points.loc[points["theory"].eq("prior_error")].dropna(subset=["y"])
if len(heights) > 1 and theory.attrs["valid_from"]:
    flat = heights.loc[heights["x"] >= theory.attrs["valid_from"]].sort_values("x")
    curve = theory.loc[theory["theory"].eq("prior_error") & theory["kind"].eq("curve")]
    if len(flat) > 1:
        error = np.interp(flat["x"], curve["x"], curve["y"])
        share = np.sqrt(error[0] / 2)
        say(
            f"From T = {flat['x'].iloc[0]:.3g} to {flat['x'].iloc[-1]:.3g} the prior's own error falls from "
            f"{error[0]:.1e} to {error[-1]:.1e} nats, so it can change at most a share √(KL/2) = {share:.1%} of the "
            f"samples (Pinsker's inequality). Over the same heights FID goes from {flat['y'].iloc[0]:.3g} to "
            f"{flat['y'].iloc[-1]:.3g}."
        )
for row in points.loc[points["theory"].eq("tau_null") & points["low"].notna()].itertuples():
    verdict = (
        "contains 1, as it should" if row.low <= 1 <= row.high else "does not contain 1: look at the seeds before you trust it"
    )
    say(f"- τ = {row.x:g}: FID ratio {row.y:.3g}, interval {row.low:.3g} to {row.high:.3g}, which {verdict}")
