"""What is solved for together: how many rows a batch has, and which latents they start from.

Batches are of equal size: the last is filled up, and what is too much is discarded. Latents are drawn batch by batch where all
of them would be large: images of 256 × 256 pixels take 1.6 MB each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import torch

from pfgm.config import SamplerConfig
from pfgm.memory import fitting_rows
from pfgm.prior.latent import Latents, latent_blocks, latents
from pfgm.registry import SOLVERS

STATES = 16
"""States of a batch that a solver of fixed steps keeps at most, its temporary ones included."""
KEPT_NUMBERS = 2**23
"""Numbers of latents, 64 MiB, up to which they are kept: the rows of a study start from the same few."""
_kept = lru_cache(maxsize=3)(latents)


def batch_rows(sampler: SamplerConfig, n: int, dim: int, device: torch.device | str, dtype: torch.dtype) -> int:
    """Rows of a batch: those of the sampler point, at most n; with fixed steps at most as many as the memory holds.

    An adaptive solver takes its steps by the whole batch, so its batch stays what the sampler point says.
    """
    size = min(sampler.batch_size, n)
    return size if SOLVERS[sampler.solver].adaptive else fitting_rows(size, STATES * dim * dtype.itemsize, device)


def latent_batches(n: int, size: int, dim: int, seed: int, given: Latents | None) -> Iterator[Latents]:
    """Batches of ``size`` latents, n and those that fill up the last batch.

    Args:
        n: samples that are wanted.
        size: of a batch.
        dim: d.
        seed: of the latents.
        given: n latents in place of the seed's; the first ones fill up the last batch.
    """
    padded = math.ceil(n / size) * size
    if given is None and padded * dim > KEPT_NUMBERS:
        yield from latent_blocks(padded, dim, seed, size)
        return
    whole = _kept(padded, dim, seed) if given is None else given
    for k in range(0, padded, size):
        yield whole.rows(slice(k, k + size)) if k + size <= len(whole.quantile) else whole.rows(torch.arange(k, k + size) % n)
