"""Published quality and cost, for one data set and one feature network; nothing is drawn where these differ.

Values are the papers' own: FID of 50,000 samples with the 2015 Inception network, and the network calls they state. Those of
PFGM and its baselines used an adaptive solver (rtol = atol 1e-4 for PFGM, 1e-5 for the baselines). PFGM++ and EDM used Heun's
method. The PFGM++ values are minima over checkpoints, so they flatter a little.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

PFGM = "PFGM, arXiv 2209.11178, the CIFAR-10 table"
PFGMPP = "PFGM++, arXiv 2302.04265, its table of unconditional generation (minimum over checkpoints)"


class Published(NamedTuple):
    """One published point."""

    model: str
    data: str
    features: str
    samples: int
    fid: float
    nfe: int
    source: str


POINTS = (
    Published("PFGM (DDPM++)", "cifar10", "inception", 50_000, 2.48, 104, PFGM),
    Published("PFGM (DDPM++ deep)", "cifar10", "inception", 50_000, 2.35, 110, PFGM),
    Published("VP-ODE (DDPM++)", "cifar10", "inception", 50_000, 2.97, 134, PFGM),
    Published("VE-ODE (NCSN++)", "cifar10", "inception", 50_000, 5.29, 194, PFGM),
    Published("DDIM, 50 steps", "cifar10", "inception", 50_000, 4.67, 50, PFGM),
    Published("PFGM++ (D = 2048)", "cifar10", "inception", 50_000, 1.91, 35, PFGMPP),
    Published("EDM (D → ∞)", "cifar10", "inception", 50_000, 1.98, 35, PFGMPP),
    Published("PFGM++ (D = 128)", "ffhq64", "inception", 50_000, 2.43, 79, PFGMPP),
    Published("EDM (D → ∞)", "ffhq64", "inception", 50_000, 2.53, 79, PFGMPP),
)
"""Published points by data set, feature network and number of samples."""


def published_points(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the published points that may stand beside these rows: same data, same features, as many samples.

    Args:
        frame: rows of `analysis.load_study`.
    Returns:
        model, data, features, samples, fid, nfe, source; empty unless every measured row has one data set, one feature
        network and one sample count, and all three agree.
    """
    known = frame.loc[frame["metric_fid"].notna()]
    seen = set(known[["data_name", "metric_features", "metric_n"]].drop_duplicates().itertuples(index=False, name=None))
    points = [p for p in POINTS if seen == {(p.data, p.features, p.samples)}]
    return pd.DataFrame(points, columns=list(Published._fields))
