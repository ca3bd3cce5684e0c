"""What a network costs: parameters, and floating-point operations of one call on one item.

Operations are counted where the time goes, in matrix products, convolutions and attention, a multiplication and an addition as
two; a training step takes three times as many. The count is read off a call with tensors that have a shape and no content.
"""

from __future__ import annotations

from math import prod

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode


def network_cost(network: nn.Module, shape: tuple[int, ...]) -> tuple[int, int]:
    """(parameters, operations a call on one item).

    Args:
        network: maps x (B, d) and t (B,) to field numbers; neither changed nor run.
        shape: of one item, (d,) or (C, H, W).
    """
    tensors = {
        name: torch.empty_like(tensor, device="meta")
        for name, tensor in (*network.named_parameters(), *network.named_buffers())
    }
    x, t = torch.empty(1, prod(shape), device="meta"), torch.empty(1, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        functional_call(network, tensors, (x, t))
    return sum(p.numel() for p in network.parameters()), int(counter.get_total_flops())


def with_prefix(number: float) -> str:
    """Three digits and a decimal prefix: 61805572 → "61.8 M"; none below a thousand: "64 "."""
    for prefix in ("", "k", "M", "G"):
        if number < 999.5:
            return f"{number:.3g} {prefix}"
        number /= 1000
    return f"{number:.3g} T"
