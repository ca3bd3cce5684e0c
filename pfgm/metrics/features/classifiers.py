"""Small classifiers whose pooled activations are features: trained once, frozen, and shipped with their hash.

Each was trained on labelled data by its script in ``experiments/features/``: `DigitsFeatures` on four fifths of scikit-learn's
digits, `FashionFeatures` on Fashion-MNIST's training split. Beside the weights, ``<name>_features.json`` has their SHA-256, the
number of parameters and the accuracy on images that were held out.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from itertools import pairwise
from math import prod
from pathlib import Path

import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor, nn

from pfgm.metrics.features.kind import FeatureKind, Shape
from pfgm.mistakes import Mistake
from pfgm.networks.order import channels_last

HERE = Path(__file__).parent


class DigitsFeatures(nn.Module):
    """(n, 64) images in [−1, 1] → (n, 64) features; `logits` classifies them."""

    shape = (1, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv_2 = nn.Conv2d(32, 64, 3, padding=1)
        self.conv_3 = nn.Conv2d(64, 64, 3, padding=1)
        self.conv_4 = nn.Conv2d(64, 64, 3, padding=1)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.conv_1(x.float().reshape(-1, 1, 8, 8)))
        h = F.max_pool2d(F.relu(self.conv_2(h)), 2)
        h = F.relu(self.conv_4(F.relu(self.conv_3(h))))
        return h.mean((2, 3))

    def logits(self, x: Tensor) -> Tensor:
        """(n, 64) images → (n, 10) class scores."""
        out: Tensor = self.head(self(x))
        return out


class FashionFeatures(nn.Module):
    """(n, 784) images in [−1, 1] → (n, 192) features; `logits` classifies them."""

    shape = (1, 28, 28)
    widths = (1, 32, 64, 80, 112, 192)
    halved = (1, 3)
    """Convolutions before which the image is halved."""

    def __init__(self) -> None:
        super().__init__()
        pairs = list(pairwise(self.widths))
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in pairs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for _, b in pairs)
        self.head = nn.Linear(192, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = x.float().reshape(-1, *self.shape)
        for k, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            h = F.relu(norm(convolution(F.max_pool2d(h, 2) if k in self.halved else h)))
        return h.mean((2, 3))

    def logits(self, x: Tensor) -> Tensor:
        """(n, 784) images → (n, 10) class scores."""
        out: Tensor = self.head(self(x))
        return out


Classifier = DigitsFeatures | FashionFeatures
CLASSIFIERS: dict[str, type[DigitsFeatures] | type[FashionFeatures]] = {
    "digits": DigitsFeatures,
    "fashion_mnist": FashionFeatures,
}
"""Feature network's name → its architecture; ``shape`` is that of the images it takes."""


@cache
def shipped_classifier(name: str) -> Classifier:
    """A shipped network, frozen.

    Raises:
        ValueError: the weight file is not the one whose hash is shipped beside it.
    """
    content = (HERE / f"{name}_features.safetensors").read_bytes()
    expected = json.loads((HERE / f"{name}_features.json").read_text(encoding="utf-8"))["sha256"]
    if hashlib.sha256(content).hexdigest() != expected:
        raise ValueError(f"{name}_features.safetensors does not match its hash in {name}_features.json; reinstall the package")
    network: Classifier = CLASSIFIERS[name]()
    network.load_state_dict(load(content))
    return channels_last(network.eval().requires_grad_(False))


def _kind(name: str) -> FeatureKind:
    def check(called: str, shape: Shape) -> None:
        own = CLASSIFIERS[name].shape
        if shape != own and prod(shape) != prod(own):
            wanted, others = " × ".join(map(str, own[1:])), "random or inception" if len(shape) == 3 else "pixels"
            text = f"the {called} network needs {wanted} grey images, the data have shape {shape}; use {others}"
            raise Mistake("features", text)

    return FeatureKind(lambda shape, weights: (shipped_classifier(name), name), check)


DIGITS, FASHION_MNIST = _kind("digits"), _kind("fashion_mnist")
