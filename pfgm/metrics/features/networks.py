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

import torch
from torch import Tensor

from pfgm.field.sources import Sources
from pfgm.memory import ByRows
from pfgm.mistakes import Mistake
from pfgm.registry import FEATURES

CHUNK = 250
"""Images that a network is called on at once."""
MAX_PIXEL_DIM = 256
"""Precision and recall look at the points themselves up to this dimension, at their features above."""


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
    if data_name in FEATURES:
        return data_name
    return "random" if len(shape) == 3 and min(shape[1:]) >= 8 else "pixels"


def default_space(dim: int) -> str:
    """Return where precision and recall look for neighbours unless told otherwise."""
    return "pixels" if dim <= MAX_PIXEL_DIM else "features"


def check_features(name: str, shape: tuple[int, ...], weights: str | None = None) -> None:
    """Refuse features that cannot take items of ``shape``.

    Raises:
        ValueError: unknown features, the wrong shape, or weights for a network that ships its own.
    """
    if name not in FEATURES:
        raise FEATURES.mistake(name)
    FEATURES[name].check(name, shape)
    if weights is not None and not FEATURES[name].weights:
        reading = " and ".join(other for other, kind in FEATURES.items() if kind.weights)
        raise Mistake("weights", f"belongs to features {reading}, this run uses {name}; remove it")


def check_ready(name: str, shape: tuple[int, ...], weights: str | None = None) -> None:
    """Refuse now what would fail after a training.

    Raises:
        Mistake: see `check_features`; or what the network needs is not there.
    """
    check_features(name, shape, weights)
    FEATURES[name].ready(shape, weights)


def feature_network(
    name: str, shape: tuple[int, ...], device: torch.device | str = "cpu", weights: str | None = None
) -> FeatureNetwork:
    """The network ``name`` for items of ``shape``, on ``device``; ``weights``: a weight file of inception.

    Raises:
        ValueError: see `check_features`; or the weights cannot be had.
    """
    check_features(name, shape, weights)
    network, label = FEATURES[name].build(shape, weights)
    return FeatureNetwork(label, network.to(device), device)
