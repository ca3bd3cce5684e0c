"""Bounds of a comparison that may be looked at again and again while fields are added.

An interval made for one look is wrong about its promise when the study goes on until it says something. Here every look has the
same nominal level, `SHARE` of the level α in all:

    upper = d + t_{1 − 0.3 α, ν} · SE,    lower = d − t_{1 − 0.3 α / K, ν} · SE

It is Pocock's constant level for six looks. There are about six, because the fields of a value at most double from look to look
and end at `study.rows.settle.rounds.MOST`: 2, 4, 8, 16, 32, 64. The two bounds have different tasks. *Robust* needs the upper
bound at every value, so none of them needs a correction (an intersection–union test). *Sensitive* needs the lower bound at one,
so it is corrected for the K values of the parameter that are tested first. Values that are added later stand between two
verdicts and rate nothing.

The level was chosen by simulation (`benchmarks/statistics/settle.py`, with ``--rules`` for other rules). Where all effects
are exactly the tolerance, bounds of one look call 9 to 13 % of parameters sensitive, these 3 to 4 %, and a level spent over
doublings 0 to 3 %. The normal mixture of Robbins errs as often as these, and takes the noise as known.
Sources: Pocock (1977), Biometrika 64, 191; Berger (1982), Technometrics 24, 295, on the union of tests.
"""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit

ALPHA = 0.05
SHARE, SHARE_BY_SEED = 0.3, 0.2
"""Of a level, what every look has: where means are compared, and where fields are compared seed by seed."""


def quantiles(df: np.ndarray, first: int, by_seed: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return the multiples of the standard error of the lower and of the upper bound.

    Args:
        df: degrees of freedom, positive, shape (K,).
        first: values of the parameter that were tested first, the default left out.
        by_seed: whether fields were compared seed by seed (`study.rows.settle.variance`).
    """
    level = ALPHA * (SHARE_BY_SEED if by_seed else SHARE)
    low, high = (np.asarray(stdtrit(df, 1 - share)) for share in (level / max(first, 1), level))
    return low, high


def repeated_bounds(
    d: np.ndarray, se: np.ndarray, df: np.ndarray, first: int, by_seed: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return lower and upper bounds of log ratios, NaN where a standard error is.

    Args:
        d: estimates, shape (K,).
        se: their standard errors.
        df: degrees of freedom.
        first: see `quantiles`.
        by_seed: see `quantiles`.
    """
    low, high = quantiles(df, first, by_seed)
    return d - low * se, d + high * se
