"""The order of an image's numbers in memory: channels last, or pixels last (torch's contiguous).

Convolutions answer in the order of their input or their weights. An image of one channel has no order, and a kernel for it has
none, so the first activation is put into that of the weights that follow.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def as_weights(h: Tensor, convolution: nn.Conv2d) -> Tensor:
    """h (B, C, H, W) in the order of a convolution's weights."""
    last = convolution.weight.is_contiguous(memory_format=torch.channels_last)
    return h.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
