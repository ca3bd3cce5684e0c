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
# # Your own statistics, with pandas, DuckDB or Optuna
#
# The functions of this toolkit answer the usual questions. For others the rows are plain Parquet, one line a measured cell,
# and any program that reads Parquet can ask them. Two rules keep your own numbers honest: rows of one trained field are not
# independent, so reduce each field to one number first; and a failed cell is a result, so count it. Set `STUDY` for your own
# study.

# %%
import os
import tempfile
import warnings
from pathlib import Path

import duckdb
import matplotlib.pyplot as plt
import numpy as np
import optuna
import pandas as pd
from IPython.display import Markdown, display
from scipy import stats

import analysis

STUDY = os.environ.get("STUDY", "digits_bundle")
rows = analysis.load_study(STUDY)
plt.rcParams["figure.dpi"] = 72  # small enough to be committed
optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)


def say(text: str) -> None:
    """A sentence under a cell, written from the numbers above it."""
    display(Markdown(text))


# %% [markdown]
# ## pandas: the unit is the field
# The default sampler point at each training point: first one number a field (the mean of log FID over its sample seeds), then
# a mean and Student's t over fields. The wrong way, over rows, claims more certainty than there is. (`analysis.summarize` goes
# one step further: all fields share their latents, so it adds what the sample seeds contribute and its intervals are wider.)

# %%
complete = rows.loc[rows["status"].eq("complete") & rows["metric_fid"].gt(0)].copy()
complete["log_fid"] = np.log(complete["metric_fid"])
own = complete.loc[complete["design_sampler_role"].eq("default")]
own = own if len(own) else complete
fields = own.groupby(["design_role", "point_id", "train_id"])["log_fid"].mean().reset_index()


def t_interval(y: pd.Series) -> pd.Series:
    """Geometric mean with a 95 % Student-t interval."""
    half = stats.t.ppf(0.975, len(y) - 1) * y.std(ddof=1) / np.sqrt(len(y)) if len(y) > 1 else np.nan
    return pd.Series({"n": len(y), "mean": np.exp(y.mean()), "low": np.exp(y.mean() - half), "high": np.exp(y.mean() + half)})


pd.DataFrame({key: t_interval(y) for key, y in fields.groupby(["design_role", "point_id"])["log_fid"]}).T.round(3)

# %%
first = fields.sort_values("design_role", key=lambda role: role.ne("default"), kind="stable")["point_id"]
point = first.iloc[0] if len(first) else None
by_field = fields.loc[fields["point_id"].eq(point), "log_fid"]
by_row = own.loc[own["point_id"].eq(point), "log_fid"]
if len(by_field) > 1:
    right, wrong = t_interval(by_field), t_interval(by_row)
    say(
        f"The first training point: {len(by_field)} fields give {right['mean']:.3g} ({right['low']:.3g} to "
        f"{right['high']:.3g}). Its {len(by_row)} rows taken for independent would give {wrong['mean']:.3g} "
        f"({wrong['low']:.3g} to {wrong['high']:.3g}), the interval of an n that does not exist."
    )
else:
    say("No training point has two measured fields here, so no interval over fields.")

# %% [markdown]
# ## pandas: compare a field with itself
# A sampler parameter is best asked within fields: the same network and the same latents, sampled twice. The spread between
# fields then cancels.

# %%
keys = ["train_id", "seed_sample"]
base = complete.loc[complete["design_sampler_role"].eq("default")].set_index(keys)["log_fid"].rename("base")
paired = complete.join(base[~base.index.duplicated()], on=keys).dropna(subset=["base"])
paired["ratio"] = paired["log_fid"] - paired["base"]
per_field = paired.groupby(["sampler_id", "train_id"])["ratio"].mean().reset_index()
ratios = pd.DataFrame({key: t_interval(y) for key, y in per_field.groupby("sampler_id", sort=False)["ratio"]}).T
if len(ratios):
    described = rows.drop_duplicates("sampler_id").set_index("sampler_id")
    described = described[["design_sampler_role", "sampler_solver", "sampler_rtol", "sampler_steps", "sampler_T_ratio"]]
    display(ratios.round(4).join(described).reset_index(drop=True))
else:
    say("This study has no default sampler point to compare with.")

# %% [markdown]
# ## DuckDB: ask the files themselves
# No loading, no copy: DuckDB reads `evals/*.parquet` where they lie, however many there are, also on S3 or from the command
# line (`duckdb -c "…"`). The plan is in `manifest.parquet`; a left join shows what is still missing.

# %%
folder = Path(STUDY)
con = duckdb.connect()
con.execute(f"CREATE VIEW evals AS SELECT * FROM read_parquet('{folder}/evals/*.parquet', union_by_name = true)")
con.execute(f"CREATE VIEW plan AS SELECT * FROM read_parquet('{folder}/manifest.parquet')")
con.sql("""
    SELECT coalesce(e.status, 'pending') AS status, count(*) AS cells
    FROM plan p LEFT JOIN (SELECT DISTINCT ON (cell_id) * FROM evals) e USING (cell_id)
    GROUP BY 1 ORDER BY 2 DESC
""").df()

# %%
by_sampler = con.sql("""
    WITH per_field AS (
        SELECT sampler_solver, sampler_rtol, sampler_steps, train_id, avg(ln(metric_fid)) AS y, avg(cost_nfe) AS nfe
        FROM evals WHERE status = 'complete' AND metric_fid > 0 AND design_role = (
            SELECT design_role FROM evals GROUP BY 1 ORDER BY count(*) FILTER (design_role = 'default') DESC, 1 LIMIT 1)
        GROUP BY ALL
    )
    SELECT sampler_solver AS solver, sampler_rtol AS rtol, sampler_steps AS steps, count(*) AS fields,
           avg(nfe) AS nfe, exp(avg(y)) AS fid, exp(stddev_samp(y)) AS spread_factor
    FROM per_field GROUP BY ALL ORDER BY fid
""").df()
by_sampler.round({"nfe": 1, "fid": 3, "spread_factor": 3})

# %%
if len(by_sampler):
    first = by_sampler.iloc[0]
    budget = f"rtol {first['rtol']:g}" if pd.notna(first["rtol"]) else f"{first['steps']:.0f} steps"
    say(
        f"Lowest in this table: {first['solver']} with {budget}, FID {first['fid']:.3g} at {first['nfe']:.0f} NFE, "
        f"averaged over whatever else varied. With {first['fields']:.0f} fields that is a hint to be tested, not a "
        "finding."
    )

# %% [markdown]
# ## A picture of your own
# The functions return ordinary frames and draw on ordinary axes. Here: is the solver's error, sample by sample, what FID sees?

# %%
_, ax = plt.subplots(figsize=(5.2, 3.6), layout="constrained")
known = complete.dropna(subset=["metric_solver_error"])
for solver, part in known.groupby("sampler_solver"):
    ax.scatter(part["metric_solver_error"], part["metric_fid"], s=9, alpha=0.6, label=solver)
ax.set(xscale="log", yscale="log", xlabel="solver error, median RMS (data units)", ylabel="FID")
if len(known):
    ax.legend(fontsize=7)
plt.show()
if len(known) > 2:
    within = known.groupby("train_id").apply(lambda g: g["metric_solver_error"].corr(g["metric_fid"], method="spearman"))
    say(f"Rank correlation of solver error and FID within a field, median over {len(within)} fields: {within.median():.2f}.")

# %% [markdown]
# ## Optuna
# `to_optuna` makes every configuration a trial: its value is the geometric mean over fields, parameters appear only where they
# are active, and a configuration with failed or diverged cells is FAIL or PRUNED, so that it never wins. All of Optuna's plots
# work. They know nothing of seeds: no interval, and an importance from a few dozen points is mostly noise.

# %%
trials = analysis.to_optuna(rows)
print({state.name: sum(t.state == state for t in trials.trials) for state in optuna.trial.TrialState})
searched = [key for key in trials.best_trial.params if key.startswith("train.")] if trials.best_trials else []
axes = optuna.visualization.matplotlib.plot_slice(trials, params=searched[:3] or None)
plt.gcf().set_size_inches(9, 3)
plt.show()

# %% [markdown]
# With a storage the same study opens in a browser: `analysis.to_optuna(rows, storage="sqlite:///study.db")`, then
# `optuna-dashboard sqlite:///study.db`.
#
# ## Several studies, and other programs
# `load_studies` puts studies under one another, with a column `study`; `of_study` gives one back with its own defaults and
# tolerance. `to_csv` writes numbers that read back exactly.

# %%
both = analysis.load_studies([STUDY])
for name in both.attrs["studies"]:
    one = analysis.of_study(both, name)
    say(f"{name}: {len(one)} cells, {one['status'].eq('complete').sum()} complete")
with tempfile.TemporaryDirectory() as folder_of_csv:
    table = analysis.to_csv(rows, Path(folder_of_csv) / "rows.csv")
    print(f"{table.name}: {table.stat().st_size / 1e3:.0f} kB, {len(pd.read_csv(table))} lines")
