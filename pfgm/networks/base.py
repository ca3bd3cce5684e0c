"""What every network of a field has in common: the scaled input, the two levels, the backbone.

At a point of Poisson flow the noise is not determined by t: ‖x − y‖/t has infinite variance. So the input is scaled by x
itself, 1/√(sd² + ‖x‖²/d), and the network is told two numbers: log t, and the log of the noise level that x shows, n̂
(`pfgm.networks.heads.noise_level`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pfgm.networks.embedding import LevelEmbedding
from pfgm.networks.heads import denoiser_head, noise_level
from pfgm.networks.labels import LabelEmbedding
from pfgm.networks.published import Head

EMBEDDING = 128
"""Width of the embedding of the two noise levels."""


class FieldNetwork(nn.Module):
    """Scale the input, embed the two levels, run the backbone.

    Args:
        backbone: maps (B, d) and an embedding (B, e) to (B, d + 1).
        embedding: (log t, log n̂) → (B, e); None: the backbone is given x and t as they are.
        sd: root mean square of the data's coordinates, in data units.
        noise_ratio: noise per coordinate over t, in the median (`pfgm.networks.heads.median_noise_ratio`).
        skip: read a field output through the head with a skip, not as it is (`pfgm.networks.heads`).
        root_below: height, in data units, below which a plain head is read by the root (None: γ).
        head: a published head in place of these, which tells the network t alone (`pfgm.networks.published`).
        labels: the embedding of classes, of a conditional field (`pfgm.networks.labels`).
    """

    def __init__(
        self,
        backbone: nn.Module,
        embedding: LevelEmbedding | None,
        sd: float,
        noise_ratio: float,
        skip: bool,
        root_below: float | None = None,
        head: Head | None = None,
        labels: LabelEmbedding | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.embedding = backbone, embedding
        self.sd, self.noise_ratio, self.skip, self.root_below, self.head = sd, noise_ratio, skip, root_below, head
        self.labels = labels

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """x (B, d), t (B,), classes (B,) or none → (B, d + 1) raw numbers (see `pfgm.networks.heads`), in x's dtype."""
        if self.head is not None:
            c = self.head.coefficients(t)
            seen = c.noise if self.embedding is None else self.embedding(torch.stack([t, t], 1).log())
            out = self._called(c.inside[:, None] * x, seen, labels)
        elif self.embedding is None:
            out = self._called(x, t, labels)
        else:
            scale = (self.sd**2 + x.square().mean(1, keepdim=True)).rsqrt()
            levels = torch.stack([t, self.level(x, t)], 1).log()
            out = self._called(x * scale, self.embedding(levels), labels)
        return out.to(x.dtype)  # float32 even under autocast: the heads subtract nearly equal numbers

    def _called(self, x: Tensor, seen: Tensor, labels: Tensor | None) -> Tensor:
        """The backbone's numbers: the class is added to the embedding of the levels, or handed on beside the level."""
        out: Tensor
        if self.labels is None:
            out = self.backbone(x, seen)
        elif self.embedding is None:
            out = self.backbone(x, seen, told=self.labels(labels, x))
        else:
            out = self.backbone(x, seen + self.labels(labels, x))
        return out

    def told(self, labels: Tensor) -> FieldNetwork:
        """Return this network as it answers rows of these classes (B,), sharing its weights."""
        return Told(self, labels)

    def level(self, x: Tensor, t: Tensor) -> Tensor:
        """n̂ (B,) at x (B, d), t (B,)."""
        return t if self.head is not None else noise_level(x, t, self.sd, self.noise_ratio)

    def denoise(self, x: Tensor, t: Tensor) -> Tensor:
        """D(x, t), shape (B, d), of the head with a skip, or of a published one."""
        raw = self(x.to(self.dtype), t.to(self.dtype))
        if self.head is not None:
            return self.head.denoised(raw, x, t)
        return denoiser_head(raw, x, self.level(x, t), self.sd)

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype


class Told(FieldNetwork):
    """A network that is called on rows of known classes, for whoever knows of none: an objective, or a process."""

    def __init__(self, network: FieldNetwork, classes: Tensor) -> None:
        numbers = network.sd, network.noise_ratio, network.skip, network.root_below
        super().__init__(network.backbone, network.embedding, *numbers, network.head, network.labels)
        self.network, self.classes = network, classes

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        out: Tensor = self.network(x, t, self.classes)
        return out
