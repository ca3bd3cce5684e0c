"""Embedding of the two levels a field network is told: log t and the log of the input's noise level."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class LevelEmbedding(nn.Module):
    """Sines and cosines of each level at 16 geometric frequencies, then two linear layers.

    Levels are natural logarithms of lengths in data units, about −7 … 8; the periods run from 40 (one slow wave over
    the whole range) down to 3 (a factor of twenty in length).
    """

    frequencies: Tensor

    def __init__(self, width: int, n_frequencies: int = 16) -> None:
        super().__init__()
        # never on "meta", where these two operations load a second of torch's compiler
        periods = torch.logspace(math.log10(40.0), math.log10(3.0), n_frequencies, device="cpu")
        self.register_buffer("frequencies", 2 * math.pi / periods, persistent=False)
        self.layers = nn.Sequential(nn.Linear(4 * n_frequencies, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, levels: Tensor) -> Tensor:
        """levels (B, 2) → (B, width)."""
        angle = (levels[:, :, None] * self.frequencies).flatten(1)  # (B, 2 · n_frequencies)
        out: Tensor = self.layers(torch.cat([angle.sin(), angle.cos()], 1))
        return out
