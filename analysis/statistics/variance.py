"""Intervals of means and their power, from the moderated variances of `study.rows.settle.variance`."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import stats

from study.rows.settle.variance import PRIOR_DF as PRIOR_DF
from study.rows.settle.variance import Compared as Compared
from study.rows.settle.variance import Moderated as Moderated
from study.rows.settle.variance import Pooled as Pooled
from study.rows.settle.variance import Values as Values
from study.rows.settle.variance import compare_fields as compare_fields
from study.rows.settle.variance import mean_differences as mean_differences
from study.rows.settle.variance import moderate as moderate
from study.rows.settle.variance import of_means as of_means
from study.rows.settle.variance import pool as pool
from study.rows.settle.variance import satterthwaite as satterthwaite

FEW_DF = 5.0
"""With fewer degrees of freedom a standard deviation may be off by a factor of two and more, so it is not printed alone."""


def few(df: float) -> str:
    """Return the warning beside a number whose variance has fewer than `FEW_DF` degrees of freedom, else ""."""
    return f", fewer than {FEW_DF:g}: it may be luck" if 0 < df < FEW_DF - 1e-9 else ""


def moderate_all(s2: np.ndarray, df: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the moderated variances of many configurations at once; pooling stays within ``group``.

    Args:
        s2: sample variances, shape (C,), anything where df is 0.
        df: their degrees of freedom n − 1, shape (C,).
        group: which configurations are pooled together, integers, shape (C,).
    Returns:
        Variances and degrees of freedom, shape (C,); NaN and 0 where nothing is known.
    """
    weighted = np.where(df > 0, s2, 0.0) * df
    total_df = np.bincount(group, weights=df)[group]
    with np.errstate(invalid="ignore", divide="ignore"):
        pooled = np.bincount(group, weights=weighted)[group] / total_df
        prior = np.clip(total_df - df, 0.0, PRIOR_DF)
        both = prior + df
        variance = (np.where(prior > 0, prior * pooled, 0.0) + weighted) / both
    return np.where(both > 0, variance, np.nan), both


def sample_seed_variance(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Estimate the variance that sample seeds add to every field alike: more fields do not make it smaller.

    Equal sample seeds start from equal latents, so their luck is shared:

        σ_S² = mean over c of [ Var_s(r̄_cs) − MS_E / n_c ],  not below 0.

    r are the deviations from each field's mean, and r̄_cs is their mean over the n_c fields of configuration c. MS_E is the mean
    square that is left in all configurations that are pooled together.

    Args:
        rows: one row a cell: ``config``, ``field``, ``seed_sample``, ``y``, and ``pooled``, integers 0, 1, … that say which
            configurations are pooled. A field that lacks a sample seed is left out: its deviations are too small.
    Returns:
        σ_S² and its degrees of freedom S − 1 for each value of ``pooled``; 0 and 0 with a single sample seed or field.
    """
    n_pools = int(rows["pooled"].max()) + 1
    here = rows.groupby(["config", "field"])["seed_sample"].transform("size")
    rows = rows.loc[here.eq(rows.groupby("pooled")["seed_sample"].transform("nunique"))]
    if rows.empty:
        return np.zeros(n_pools), np.zeros(n_pools)
    config, field, seed = (pd.factorize(rows[name])[0] for name in ("config", "field", "seed_sample"))
    field = pd.factorize(config * (int(field.max()) + 1) + field)[0]  # a field at one sampler point
    pooled, y = rows["pooled"].to_numpy(), rows["y"].to_numpy(float)
    n_configs, n_seeds = int(config.max()) + 1, int(seed.max()) + 1
    r = y - (np.bincount(field, y) / np.bincount(field))[field]
    cell = config * n_seeds + seed
    count = np.bincount(cell, minlength=n_configs * n_seeds)
    with np.errstate(invalid="ignore", divide="ignore"):
        of_seed = np.bincount(cell, r, minlength=n_configs * n_seeds) / count
        left = np.bincount(pooled, (r - of_seed[cell]) ** 2, minlength=n_pools)
        first = np.unique(field, return_index=True)[1]
        n_fields = np.bincount(config[first], minlength=n_configs)
        pool_of = pooled[np.unique(config, return_index=True)[1]]
        seeds = pd.Series(seed).groupby(pooled).nunique().reindex(range(n_pools), fill_value=0).to_numpy()
        df_error = np.bincount(pool_of, np.maximum(n_fields - 1, 0), minlength=n_pools) * (seeds - 1)
        error = np.where(df_error > 0, left / df_error, 0.0)
        table = of_seed.reshape(n_configs, n_seeds)
        known = (count > 0).reshape(n_configs, n_seeds)
        mean = np.where(known, table, 0.0).sum(axis=1) / known.sum(axis=1)
        spread = np.where(known, (table - mean[:, None]) ** 2, 0.0).sum(axis=1) / (known.sum(axis=1) - 1)
        usable = (n_fields > 1) & (known.sum(axis=1) > 1)
        excess = np.where(usable, spread - error[pool_of] / n_fields, 0.0)
    configs = np.bincount(pool_of, usable, minlength=n_pools)
    variance = np.maximum(np.bincount(pool_of, excess, minlength=n_pools) / np.maximum(configs, 1), 0.0)
    return variance, np.where(configs > 0, np.maximum(seeds - 1, 0), 0)


def intervals(usable: pd.DataFrame, configs: pd.Index, pooled: np.ndarray, confidence: float) -> pd.DataFrame:
    """Return mean, moderated interval and counts of every configuration, on the averaging scale."""
    cells = usable.groupby(["config", "field", "seed_sample"], sort=False)["y"].mean().reset_index()
    of_field = cells.groupby(["config", "field"], sort=False)["y"].mean().groupby(level="config")
    seeds = cells.groupby(["config", "field"], sort=False)["seed_sample"].size().groupby(level="config").max()
    n = of_field.size().reindex(configs, fill_value=0)
    mean, s2 = of_field.mean().reindex(configs), of_field.var(ddof=1).reindex(configs)
    variance, df = moderate_all(s2.to_numpy(), np.maximum(n.to_numpy() - 1.0, 0.0), pooled)
    if cells.empty:
        shared = np.zeros((2, len(configs)))
    else:
        by_pool = pd.Series(pooled, index=configs)[cells["config"]].to_numpy()
        shared = np.stack(sample_seed_variance(cells.assign(pooled=by_pool)))[:, np.minimum(pooled, by_pool.max())]
    n_seeds = seeds.reindex(configs, fill_value=0).to_numpy(float)
    known = (n.to_numpy() > 1) & (df > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        own, from_seeds = variance / n.to_numpy(), np.where(shared[0] > 0, shared[0] / n_seeds, 0.0)
        total = own + from_seeds
        total_df = np.where(total > 0, total**2 / (own**2 / df + np.where(from_seeds > 0, from_seeds**2 / shared[1], 0.0)), df)
    half = np.where(known, stats.t.ppf((1 + confidence) / 2, np.where(known, total_df, 1.0)) * np.sqrt(total), np.nan)
    return pd.DataFrame(
        {
            "n_train_seeds": n, "n_sample_seeds": n_seeds.astype(int), "mean": mean, "low": mean - half, "high": mean + half,
            "se": np.where(known, np.sqrt(total), np.nan), "df": np.where(known, total_df, 0.0),
            "few_df": known & (total_df < FEW_DF - 1e-9),
            "min_of_seeds": usable.groupby("config")["y"].min().reindex(configs),
        },
        index=configs,
    )  # fmt: skip


def half_width(variance: float, df: float, confidence: float = 0.95, comparisons: int = 1) -> float:
    """Return t_{1 − (1−c)/2m, df} · √variance; NaN where no variance is known."""
    if not (df > 0 and math.isfinite(variance)):
        return math.nan
    return float(stats.t.ppf(1 - (1 - confidence) / (2 * comparisons), df)) * math.sqrt(variance)


def detectable(variance: float, df: float, power: float = 0.80, comparisons: int = 1) -> float:
    """Return the gap that a 5 % test of a log ratio finds with this power, a fraction: exp((t_{1−α/2m} + t_power) · SE) − 1."""
    if not (df > 0 and math.isfinite(variance)):
        return math.nan
    quantiles = float(stats.t.ppf(1 - 0.025 / max(comparisons, 1), df) + stats.t.ppf(power, df))
    return math.expm1(min(quantiles * math.sqrt(variance), 700.0))
