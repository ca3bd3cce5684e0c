"""Features of a convolutional network with fixed random weights, for images that have no better."""

from __future__ import annotations

from itertools import pairwise
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pfgm.metrics.features.kind import FeatureKind, Shape, check_images

RANDOM_WIDTHS = (64, 128, 256)


class RandomFeatures(nn.Module):
    """(n, d) images → (n, 512): means and standard deviations over pixels of three convolutions with fixed random weights."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        g = torch.Generator().manual_seed(20150312)
        widths = (shape[0], *RANDOM_WIDTHS)
        self.convolutions = nn.ModuleList()
        for a, b in pairwise(widths):
            convolution = nn.Conv2d(a, b, 3, padding=1)
            with torch.no_grad():
                convolution.weight.copy_(torch.randn(b, a, 3, 3, generator=g) * sqrt(2 / (9 * a)))
                assert convolution.bias is not None
                convolution.bias.copy_(0.1 * torch.randn(b, generator=g))
            self.convolutions.append(convolution)

    def forward(self, x: Tensor) -> Tensor:
        h = x.float().reshape(-1, *self.shape)
        for k, convolution in enumerate(self.convolutions):
            h = F.leaky_relu(convolution(F.avg_pool2d(h, 2) if k else h), 0.2)
        return torch.cat([h.mean((2, 3)), h.std((2, 3))], 1)


def _build(shape: Shape, weights: str | None) -> tuple[nn.Module, str]:
    return RandomFeatures(shape).eval().requires_grad_(False), "random"


RANDOM = FeatureKind(_build, check_images)
