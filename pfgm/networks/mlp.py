"""A residual multilayer perceptron, for vectors and images of a few hundred pixels."""

from __future__ import annotations

from math import prod

import torch.nn.functional as F
from torch import Tensor, nn

from pfgm.kinds import Keys, NetworkKind


class ResidualBlock(nn.Module):
    """h + W₂ silu(W₁ norm(h) + A e), W₂ = 0 at the start."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, width)
        self.level = nn.Linear(embedding, width)
        self.outer = nn.Linear(width, width)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        out: Tensor = h + self.outer(F.silu(self.inner(self.norm(h)) + self.level(e)))
        return out


class ResidualMLP(nn.Module):
    """(B, d), embedding (B, e) → (B, d + 1)."""

    def __init__(self, dim: int, width: int, depth: int, embedding: int) -> None:
        super().__init__()
        self.first = nn.Linear(dim, width)
        self.blocks = nn.ModuleList([ResidualBlock(width, embedding) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, dim + 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        h = self.first(x)
        for block in self.blocks:
            h = block(h, e)
        out: Tensor = self.last(F.silu(self.norm(h)))
        return out


MLP = NetworkKind(
    Keys=Keys,
    build=lambda config, shape, embedding: ResidualMLP(prod(shape), config.width, config.depth, embedding),
)
