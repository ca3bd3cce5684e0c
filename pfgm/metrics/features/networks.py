"""Feature networks of the Fréchet distance, by name.

`digits` and `fashion_mnist` are small shipped classifiers (`pfgm.metrics.features.classifiers`); `inception` is the network of
published FIDs (`pfgm.metrics.features.inception`, an optional extra); `random` is a convolutional network with fixed random
weights, for images that have no better: distances in it order corruptions, and compare with nothing published; `pixels` is the
identity, for vectors.

A distance means nothing without its features: `FeatureNetwork.label` goes into the row, and values of different labels, or of
different sample counts, are never drawn on one axis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import prod, sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pfgm.config import FEATURES
from pfgm.field.sources import Sources
from pfgm.memory import ByRows
from pfgm.metrics.features.classifiers import CLASSIFIERS, shipped_classifier
from pfgm.metrics.features.inception import inception_network
from pfgm.mistakes import Mistake

CHUNK = 250
"""Images that a network is called on at once."""
MAX_PIXEL_DIM = 256
"""Precision and recall look at the points themselves up to this dimension, at their features above."""
RANDOM_WIDTHS = (64, 128, 256)


@dataclass(frozen=True)
class FeatureNetwork:
    """Features of rows in data units.

    Args:
        label: what the row's ``metric_features`` says.
        network: (n, d) in data units → (n, k); rows are independent.
        device: where it lives.
    """

    label: str
    network: Callable[[Tensor], Tensor]
    device: torch.device | str = "cpu"

    @torch.no_grad()
    def __call__(self, x: Sources, chunk: int = CHUNK) -> Tensor:
        """Features (n, k), float32 or better, of x (n, d) in data units; the network is called on ``chunk`` rows at a time."""
        by_rows = ByRows(self.network)
        parts = (x[start : start + chunk].to(self.device) for start in range(0, len(x), chunk))
        return torch.cat([by_rows(part) for part in parts])


def default_features(data_name: str, shape: tuple[int, ...]) -> str:
    """Feature network that a data set uses unless told otherwise: its own, else `random` for images, `pixels` for vectors."""
    if data_name in CLASSIFIERS:
        return data_name
    return "random" if len(shape) == 3 and min(shape[1:]) >= 8 else "pixels"


def default_space(dim: int) -> str:
    """Where precision and recall look for neighbours unless told otherwise."""
    return "pixels" if dim <= MAX_PIXEL_DIM else "features"


def check_features(name: str, shape: tuple[int, ...], weights: str | None = None) -> None:
    """Refuse features that cannot take items of ``shape``.

    Raises:
        ValueError: unknown features, the wrong shape, or weights for a network that ships its own.
    """
    if name not in FEATURES:
        raise Mistake("features", f"unknown '{name}'; use one of {', '.join(FEATURES)}")
    if name in CLASSIFIERS and shape != CLASSIFIERS[name].shape and prod(shape) != prod(CLASSIFIERS[name].shape):
        wanted = " × ".join(map(str, CLASSIFIERS[name].shape[1:]))
        raise Mistake(
            "features",
            f"the {name} network needs {wanted} grey images, the data have shape {shape};"
            f" use {'random or inception' if len(shape) == 3 else 'pixels'}",
        )
    if name in ("random", "inception") and len(shape) != 3:
        raise Mistake("features", f"{name} needs images, the data are vectors of shape {shape}; use pixels")
    if name == "inception" and shape[0] not in (1, 3):
        raise Mistake("features", f"inception needs grey or RGB images, the data have {shape[0]} channels; use random")
    if weights is not None and name != "inception":
        raise Mistake("weights", f"belongs to features inception, this run uses {name}; remove it")


def feature_network(
    name: str, shape: tuple[int, ...], device: torch.device | str = "cpu", weights: str | None = None
) -> FeatureNetwork:
    """The network ``name`` for items of ``shape``, on ``device``; ``weights``: a weight file of inception.

    Raises:
        ValueError: see `check_features`; or the weights cannot be had.
    """
    check_features(name, shape, weights)
    if name == "pixels":
        return FeatureNetwork(name, lambda x: x, device)
    if name == "inception":
        network, label = inception_network(shape, weights)
        return FeatureNetwork(label, network.to(device), device)
    if name == "random":
        return FeatureNetwork(name, RandomFeatures(shape).to(device).eval().requires_grad_(False), device)
    return FeatureNetwork(name, shipped_classifier(name).to(device), device)


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
