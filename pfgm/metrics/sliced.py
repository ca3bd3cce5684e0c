"""Sliced Wasserstein distance, for vectors and toys."""

from __future__ import annotations

import torch

from pfgm.field.sources import Sources
from pfgm.metrics.neighbours import CHUNK


def sliced_wasserstein(x: Sources, y: Sources, n_directions: int = 256, seed: int = 0) -> float:
    """√ of the mean over directions u of W₂²(u·x, u·y), in data units; x (n, d), y (m, d).

    The one-dimensional W₂ compares quantile functions at max(n, m) midpoints; the directions depend on (d, seed) alone.
    """
    g = torch.Generator().manual_seed(seed)
    u = torch.nn.functional.normalize(torch.randn(x.shape[1], n_directions, generator=g, dtype=torch.float64), dim=0)
    n = max(len(x), len(y))
    p = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    quantiles = []
    for z in (x, y):
        projected = torch.cat([z[start : start + CHUNK].double().cpu() @ u for start in range(0, len(z), CHUNK)])
        quantiles.append(torch.sort(projected, 0).values[(p * len(z)).long()])
    return float((quantiles[0] - quantiles[1]).square().mean().sqrt())
