"""The identity, for vectors: a distance in the data's own coordinates."""

from __future__ import annotations

from torch import nn

from pfgm.metrics.features.kind import FeatureKind

PIXELS = FeatureKind(lambda shape, weights: (nn.Identity(), "pixels"))
