"""Feature networks of the Fréchet distance, by name.

`digits` is a small convolutional classifier of 8 × 8 digits (pooled activations, 64 numbers), trained on four fifths of
scikit-learn's digits by ``experiments/features/train_digits_features.py``, frozen, and shipped with its hash. `pixels` is
the identity, for vectors.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor, nn

from pfgm.memory import ByRows

HERE = Path(__file__).parent


class DigitsFeatures(nn.Module):
    """(n, 64) images in [−1, 1] → (n, 64) features; `logits` classifies them."""

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


@cache
def digits_network() -> DigitsFeatures:
    """The shipped network.

    Raises:
        ValueError: the weight file is not the one whose hash is shipped beside it.
    """
    content = (HERE / "digits_features.safetensors").read_bytes()
    expected = json.loads((HERE / "digits_features.json").read_text())["sha256"]
    if hashlib.sha256(content).hexdigest() != expected:
        raise ValueError("digits_features.safetensors does not match its hash in digits_features.json; reinstall the package")
    network = DigitsFeatures()
    network.load_state_dict(load(content))
    return network.eval().requires_grad_(False)


def default_features(data_name: str) -> str:
    """Feature network that a data set uses unless told otherwise."""
    return "digits" if data_name == "digits" else "pixels"


def extract(name: str, x: Tensor, chunk: int = 2000) -> Tensor:
    """Features (n, k) of samples x (n, d) in data units.

    Raises:
        ValueError: unknown features, or the digits network on anything but 8 × 8 images.
    """
    if name == "pixels":
        return x
    if name != "digits":
        raise ValueError(f"features: unknown '{name}'; use digits or pixels")
    if x.shape[1] != 64:
        raise ValueError(f"features: the digits network needs 8 × 8 grey images, the data have d = {x.shape[1]}; use pixels")
    network = digits_network().to(x.device)
    by_rows = ByRows(network)
    return torch.cat([by_rows(part) for part in x.split(chunk)])
