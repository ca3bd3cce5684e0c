"""Where the variance of the metric comes from: the configuration, the train seed, the sample seed.

At one sampler point, with p training points, f fields in each and s sample seeds,

    y_pfs = μ + C_p + F_f(p) + S_s + ε,

and each component follows from mean squares. Their intervals are generalized ones (Weerahandi 1993, Journal of the American
Statistical Association 88, 899): every mean square is replaced by itself over an independent χ²/df draw, and the percentiles of
the resulting components are the bounds. Degrees of freedom of the train seed are Satterthwaite's, so that noise that differs
from point to point does not make them too narrow.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.rows.meta import is_default
from analysis.rows.metrics import metric_values
from analysis.rows.question import MAIN, statistic
from analysis.rows.units import field_key

N_DRAWS = 4000
COMPONENTS = ("configuration", "train seed", "sample seed", "residual")


class _Squares(NamedTuple):
    """Estimates that the components are made of, with their degrees of freedom."""

    points: float
    df_points: float
    fields: float
    """Mean within-point variance of field means."""
    df_fields: float
    per_point: float
    """Mean of 1 / (fields of a point)."""
    seeds: float
    df_seeds: float
    error: float
    df_error: float
    n_fields: int
    n_seeds: int


@statistic()
def variance_components(frame: pd.DataFrame, metric: str = MAIN, confidence: float = 0.95) -> pd.DataFrame:
    """Estimate standard deviation and share of variance of configuration, train seed, sample seed and residual.

    Rows of the default sampler point (without one: means over all sampler points). With one sample seed the last two cannot be
    told from the train seed and are NaN; with one field a point, the train seed cannot be told from the configuration, and no
    share is known. Fields that lack a sample seed count for their means only.

    Args:
        frame: rows of `analysis.load_study`.
        metric: default ``fid``, on the log.
        confidence: coverage of the intervals.
    Returns:
        component, sd, sd_low, sd_high (of the log metric), share, low, high (of the variance), df, n; ``attrs``: skipped,
        held_fixed.
        The configuration's share is that of the tested training points, whatever their design.
    """
    default = is_default(frame, "sampler")
    rows = frame.loc[default] if default.any() else frame
    values, skipped = metric_values(rows, metric)
    cells = pd.DataFrame({"point": rows["point_id"], "field": field_key(rows), "seed": rows["seed_sample"], "y": values})
    cells = cells.dropna(subset=["y"]).groupby(["point", "field", "seed"], sort=False)["y"].mean().reset_index()
    squares = _mean_squares(cells)
    estimates = _components(squares, np.ones((4, 1)))[:, 0]
    draws = _components(squares, _chi_squares(squares))
    result = _table(estimates, draws, squares, cells, (1 - confidence) / 2)
    held = "default sampler point" if default.any() else "mean over all sampler points"
    result.attrs = {**frame.attrs, "skipped": skipped, "metric": metric, "held_fixed": held}
    return result


def _mean_squares(cells: pd.DataFrame) -> _Squares:
    of_field = cells.groupby(["point", "field"])["y"].mean()
    grouped = of_field.groupby(level="point")
    n, means, s2 = grouped.size(), grouped.mean(), grouped.var(ddof=1)
    d = (n - 1)[n > 1].to_numpy(float)
    v = s2[n > 1].to_numpy(float)
    df_nominal = float(d.sum())
    fields = float((d * v).sum() / df_nominal) if df_nominal else math.nan
    fourth = float(
        (d * v**2 * (d + 1) / (d + 2)).sum()
    )  # E[s⁴] = σ⁴ (d + 2)/d; half of that is taken off, since it errs with s²
    df_fields = min(float((d * v).sum()) ** 2 / fourth, df_nominal) if fourth > 0 else df_nominal
    n_seeds = cells["seed"].nunique()
    n_fields = len(of_field)
    seeds = error = math.nan
    whole = cells.loc[cells.groupby("field")["seed"].transform("size").eq(n_seeds)]  # the others lack a seed
    df_error = float((whole["field"].nunique() - 1) * (n_seeds - 1))
    if n_seeds > 1 and df_error > 0:
        cells = whole
        r = cells["y"] - cells.groupby("field")["y"].transform("mean")
        of_seed = r.groupby(cells["seed"]).mean()
        seeds = float(of_seed.var(ddof=1))
        error = float(((r - of_seed.reindex(cells["seed"]).to_numpy()) ** 2).sum() / df_error)
    points = float(means.var(ddof=1)) if len(means) > 1 else math.nan
    return _Squares(points, max(len(means) - 1.0, 0.0), fields, df_fields, float((1 / n).mean()) if len(n) else math.nan,
                    seeds, max(n_seeds - 1.0, 0.0), error, df_error, n_fields, n_seeds)  # fmt: skip


def _chi_squares(s: _Squares) -> np.ndarray:
    """Draw χ²/df for the four mean squares, shape (4, N_DRAWS), the same for the same study."""
    rng = np.random.default_rng(20)
    df = np.maximum([s.df_points, s.df_fields, s.df_seeds, s.df_error], 1.0)[:, None]
    draws: np.ndarray = rng.chisquare(df, (4, N_DRAWS)) / df
    return draws


def _components(s: _Squares, w: np.ndarray) -> np.ndarray:
    """Return configuration, train seed, sample seed and residual variances, not below 0, for each column of χ²/df draws."""
    error = s.error / w[3]
    fields = s.fields / w[1]
    configuration = s.points / w[0] - fields * s.per_point
    split = s.n_seeds > 1 and math.isfinite(s.error)
    train = fields - error / s.n_seeds if split else fields
    sample = s.seeds / w[2] - error / s.n_fields
    return np.stack([np.where(np.isnan(part), np.nan, np.maximum(part, 0.0)) for part in (configuration, train, sample, error)])


def _table(estimates: np.ndarray, draws: np.ndarray, s: _Squares, cells: pd.DataFrame, tail: float) -> pd.DataFrame:
    def shares(parts: np.ndarray) -> np.ndarray:
        total = np.nansum(parts, axis=0)
        return np.asarray(np.divide(parts, total, out=np.full_like(parts, np.nan), where=total > 0))

    bounds = np.quantile(draws, [tail, 1 - tail], axis=1)
    share_bounds = np.quantile(shares(draws), [tail, 1 - tail], axis=1)
    counts = [cells["point"].nunique(), s.n_fields, s.n_seeds, len(cells)]
    df = [s.df_points, s.df_fields, s.df_seeds, s.df_error]
    known = np.isfinite(estimates) & (np.asarray(df) > 0)
    whole = known & (np.isfinite(estimates[1]) or counts[0] < 2)  # one field a point: the train seed's part is unknown
    return pd.DataFrame(
        {
            "component": COMPONENTS,
            "sd": np.where(known, np.sqrt(estimates), np.nan),
            "sd_low": np.where(known, np.sqrt(bounds[0]), np.nan),
            "sd_high": np.where(known, np.sqrt(bounds[1]), np.nan),
            "share": np.where(whole, shares(estimates[:, None])[:, 0], np.nan),
            "low": np.where(whole, share_bounds[0], np.nan),
            "high": np.where(whole, share_bounds[1], np.nan),
            "df": df,
            "n": counts,
        }
    )
