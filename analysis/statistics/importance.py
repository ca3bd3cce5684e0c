"""Which parameters matter: shares of variance by fANOVA or PED-ANOVA, and whether there is any effect at all.

Importance is a number that every parameter has, null ones too, so it comes with what is needed to doubt it: the number of
points, an interval over resampled points, the surrogate's out-of-sample R², and a permutation p-value. Below 32 distinct
training points it is noise and refused. *fANOVA* (Hutter, Hoos and Leyton-Brown, ICML 2014): first-order shares of the variance
of a random forest. *PED-ANOVA* (Watanabe, Bansal and Hutter, IJCAI 2023): how much a parameter separates good points from all.
Both as in Optuna.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.rows.meta import AnalysisError, Axis
from analysis.rows.question import MAIN, statistic
from analysis.statistics.box import Points, as_frame, codes, need_box, permutation_p, permutations, ranked, searched_points

MIN_POINTS = 32
N_TREES, MAX_DEPTH = 16, 6


class Importance(NamedTuple):
    """The importance of one parameter."""

    parameter: str
    group: str
    importance: float
    """Share of the variance."""
    low: float
    high: float
    effect: float
    """η² of the ranks."""
    p_value: float
    n_points: int


@statistic()
def parameter_importance(
    frame: pd.DataFrame, metric: str = MAIN, *, method: str = "fanova", n_permutations: int = 999, n_bootstrap: int = 40,
    force: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """Estimate the importance of every searched parameter, with interval, permutation p-value and the surrogate's R².

    The p-value asks whether the parameter has a main effect: η² = SS_between bins / SS_total of the ranks of the points. η² is
    compared with the same statistic after permuting whole points: all rows of a training point move together.

    Args:
        frame: rows of `analysis.load_study`.
        metric: default ``fid``, on the log.
        method: ``fanova`` or ``ped_anova``.
        n_permutations: B of the p-value (1 + #{η²* ≥ η²}) / (1 + B).
        n_bootstrap: resamplings of whole points for the 95 % percentile interval.
        force: compute for any design, and below 32 points.
    Returns:
        parameter, group, importance, low, high, effect (η²), p_value, n_points; most important first; ``attrs``: surrogate_r2
        (by group, 5-fold), method, skipped.
    Raises:
        AnalysisError: an invalid design, fewer than 32 distinct training points, or another method.
    """
    if method not in ("fanova", "ped_anova"):
        raise AnalysisError(f"method: got {method}; use fanova or ped_anova")
    need_box(frame, metric, "parameter_importance", force)
    rows: list[Importance] = []
    skipped: dict[str, int] = {}
    r2: dict[str, float] = {}
    for points in searched_points(frame, metric, skipped):
        group, n = points.group, len(points.table)
        if n < MIN_POINTS and not force:
            if group == "train":
                raise AnalysisError(
                    f"parameter_importance needs {MIN_POINTS} distinct training points, this study has {n}: fewer rank noise."
                    " Raise design.trials, or pass force=True."
                )
            skipped[f"{len(points.axes)} sampler parameters: {n} sampler points, fewer than {MIN_POINTS}"] = len(points.axes)
            continue
        if n_failed := int(points.table["failed"].sum()):
            skipped[f"failed {group} points, ranked last"] = n_failed
        rows += _importances(points, method, n_permutations, n_bootstrap)
        r2[group] = surrogate_r2(points)
    rows.sort(key=lambda row: (row.group != "train", -np.nan_to_num(row.importance, nan=-1.0)))
    return as_frame(
        rows,
        Importance._fields,
        {**dict(frame.attrs), "skipped": skipped, "method": method, "surrogate_r2": r2, "metric": metric},
    )


def _importances(points: Points, method: str, n_permutations: int, n_bootstrap: int) -> list[Importance]:
    rng = np.random.default_rng(0)
    n = len(points.table)
    resampled = [rng.integers(0, n, n) for _ in range(n_bootstrap)]
    shares = _shares(points, method, np.arange(n))
    draws = [_shares(points, method, chosen) for chosen in resampled]
    rows = []
    for axis in points.axes:
        observed, permuted = main_effect(points, axis, n_permutations)
        column = [draw[axis.name] for draw in draws if axis.name in draw]
        low, high = np.quantile(column, [0.025, 0.975]) if column else (math.nan, math.nan)
        share, n_known = shares.get(axis.name, math.nan), int(points.table[axis.column].notna().sum())
        p_value = permutation_p(observed, permuted) if len(permuted) else math.nan
        rows.append(Importance(axis.name, points.group, share, float(low), float(high), observed, p_value, n_known))
    return rows


def main_effect(points: Points, axis: Axis, n_permutations: int) -> tuple[float, np.ndarray]:
    """Return η² of the ranks over the bins of one parameter, and after permuting the points, shape (n_permutations,)."""
    bins = codes(points.table[axis.column], axis)
    active = bins >= 0
    if not active.any() or len(np.unique(bins[active])) < 2:
        return math.nan, np.empty(0)
    y = ranked(points)[active]
    member = (bins[active][:, None] == np.unique(bins[active])).astype(float)
    y = y - y.mean()
    orders = np.vstack([np.arange(len(y)), permutations(len(y), n_permutations, np.random.default_rng(1))])
    between = ((y[orders] @ member) ** 2 / member.sum(axis=0)).sum(axis=1)
    total = float((y**2).sum())
    shares = between / total if total > 0 else np.zeros(len(between))
    return float(shares[0]), shares[1:]


def _shares(points: Points, method: str, chosen: np.ndarray) -> dict[str, float]:
    """Return Optuna's importances of the chosen points; a conditional parameter only on points where it is active."""
    always = [axis for axis in points.axes if points.table[axis.column].notna().all()]
    found = _optuna(points, always, chosen, method)
    for axis in points.axes:
        if axis not in always:
            active = chosen[points.table[axis.column].notna().to_numpy()[chosen]]
            found |= {axis.name: _optuna(points, [*always, axis], active, method).get(axis.name, math.nan)}
    return found


def _optuna(points: Points, axes: list[Axis], chosen: np.ndarray, method: str) -> dict[str, float]:
    import optuna  # optional, and two seconds of imports

    table = points.table.iloc[chosen]
    axes = [axis for axis in axes if len(table[axis.column].unique()) > 1]
    y = _finite(table["y"])
    if not axes or len(table) < 4 or np.ptp(y) == 0:
        return {axis.name: 0.0 for axis in axes}
    with warnings.catch_warnings():  # PED-ANOVA and its options are marked experimental
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            study = optuna.create_study()
            study.add_trials(_trials(table, axes, y))
            evaluator: Any = (
                optuna.importance.FanovaImportanceEvaluator(n_trees=N_TREES, max_depth=MAX_DEPTH, seed=0)
                if method == "fanova"
                else optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25, region_quantile=1.0)
            )
            return {name: float(share) for name, share in evaluator.evaluate(study).items()}
        finally:
            optuna.logging.set_verbosity(verbosity)


def _trials(table: pd.DataFrame, axes: list[Axis], y: np.ndarray) -> list[Any]:
    from optuna import distributions, trial  # optional, and slow to import

    space: dict[str, distributions.BaseDistribution] = {}
    for axis in axes:
        values = table[axis.column]
        if axis.categorical:
            space[axis.name] = distributions.CategoricalDistribution(sorted(values.astype(str).unique()))
        else:
            low, high = float(values.min()), float(values.max())
            space[axis.name] = distributions.FloatDistribution(low, high, log=axis.log and low > 0)
    rows = zip(*(table[a.column].astype(str if a.categorical else float) for a in axes), strict=True)
    names = [axis.name for axis in axes]
    return [
        trial.create_trial(params=dict(zip(names, row, strict=True)), distributions=space, value=float(value))
        for row, value in zip(rows, y, strict=True)
    ]


def _finite(y: pd.Series) -> np.ndarray:
    values = y.to_numpy(float)
    worst = np.nanmax(values) if np.isfinite(values).any() else 0.0
    return np.where(np.isfinite(values), values, worst)


def surrogate_r2(points: Points) -> float:
    """Return the forest's out-of-sample R² over five folds of whole points; below 0, the mean predicts better."""
    from sklearn import ensemble, model_selection  # two seconds of imports that few statistics need

    y = _finite(points.table["y"])
    if len(y) < 10 or np.ptp(y) == 0:
        return math.nan
    columns = [
        codes(points.table[a.column], a, 1000) if a.categorical else _column(points.table[a.column], a) for a in points.axes
    ]
    forest = ensemble.RandomForestRegressor(n_estimators=N_TREES, max_depth=MAX_DEPTH, random_state=0)
    predicted = model_selection.cross_val_predict(
        forest, np.column_stack(columns), y, cv=model_selection.KFold(5, shuffle=True, random_state=0)
    )
    return float(1 - ((y - predicted) ** 2).sum() / ((y - y.mean()) ** 2).sum())


def _column(values: pd.Series, axis: Axis) -> np.ndarray:
    if axis.categorical:
        return codes(values, axis)
    numbers = values.astype(float).fillna(values.astype(float).median()).to_numpy()
    return np.log(numbers) if axis.log and (numbers > 0).all() else numbers
