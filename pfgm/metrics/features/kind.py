"""The card of a feature network: how it is built, and which images it takes.

    def build(shape: tuple[int, ...], weights: str | None) -> tuple[nn.Module, str]:
        return MyNetwork(shape).eval().requires_grad_(False), "mine"

    MINE = FeatureKind(build, check_images)

The network maps (n, d) in data units to (n, k), rows independent. The second value is its label in the rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from pfgm.mistakes import Mistake

Shape = tuple[int, ...]


def _anything(name: str, shape: Shape) -> None:
    """Refuse nothing."""


def _there(shape: Shape, weights: str | None) -> None:
    """Need nothing."""


def check_images(name: str, shape: Shape) -> None:
    """Refuse items that are no images.

    Raises:
        ValueError: vectors.
    """
    if len(shape) != 3:
        raise Mistake("features", f"{name} needs images, the data are vectors of shape {shape}; use pixels")


@dataclass(frozen=True)
class FeatureKind:
    """The card of a feature network; one that bears the name of a data set is that data set's default."""

    build: Callable[[Shape, str | None], tuple[nn.Module, str]]
    """(shape of an item, weight file or None) → the network, frozen, and its label."""
    check: Callable[[str, Shape], None] = _anything
    """Refuse a shape of items, given the network's name (ValueError that begins with ``features:``)."""
    ready: Callable[[Shape, str | None], None] = _there
    """Refuse now what would fail after a training, such as a package that is not installed (ValueError)."""
    weights: bool = False
    """Whether it reads ``evaluate.weights``."""
