"""A network that is called on parts of a batch, where memory does not hold all of it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pfgm.networks.base import FieldNetwork


class InParts(FieldNetwork):
    """A network, sharing its weights, that is called on ``parts`` parts of its rows, one after the other.

    Only inputs and outputs are kept: the backward pass computes the activations of one part at a time again.
    The first call loads torch's compiler, as any checkpointing does: 70 MB of the host's memory.
    """

    def __init__(self, network: FieldNetwork, parts: int) -> None:
        numbers = network.sd, network.noise_ratio, network.skip, network.root_below
        super().__init__(network.backbone, network.embedding, *numbers, network.head, network.labels)
        self.parts = parts

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        whole = super().forward
        rows = (x, t) if labels is None else (x, t, labels)
        pieces = zip(*(r.chunk(self.parts) for r in rows), strict=True)
        return torch.cat([checkpoint(whole, *piece, use_reentrant=False) for piece in pieces])
