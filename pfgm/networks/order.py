"""The order of an image's numbers in memory: channels last, or pixels last (torch's contiguous).

Convolutions answer in the order of their input or their weights. An image of one channel has no order, and a kernel for it has
none, so the first activation is put into that of the weights that follow.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def as_weights(h: Tensor, convolution: nn.Conv2d) -> Tensor:
    """h (B, C, H, W) in the order of a convolution's weights."""
    last = convolution.weight.is_contiguous(memory_format=torch.channels_last)
    return h.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def channels_last(network: Module) -> Module:
    """Put the weights of a network's convolutions into the order channels last, in place, and return the network."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub has no such overload
    return network
