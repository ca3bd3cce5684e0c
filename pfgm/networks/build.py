"""Field networks: (x, t) → (B, d + 1) numbers that a process reads as a mean source (see `pfgm.process.base`).

At a point of Poisson flow the noise is not determined by t: ‖x − y‖/t has infinite variance. So the input is scaled by
x itself, 1/√(sd² + ‖x‖²/d), and the network is told two numbers: log t, and the log of the noise level that x shows,
n̂ (`pfgm.networks.heads.noise_level`). DDPM++ is the exception: it takes x and t as they are, as in the PFGM papers.

Weights of convolutions lie in channels-last order, which convolutions on CPU and GPU prefer; activations follow, files do not:
what is saved is contiguous.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from pfgm.config import NetworkConfig
from pfgm.networks import ddpmpp, unet
from pfgm.networks.cost import network_cost, with_prefix
from pfgm.networks.embedding import LevelEmbedding
from pfgm.networks.heads import denoiser_head, noise_level
from pfgm.networks.mlp import ResidualMLP

__all__ = ["FieldNetwork", "build_network", "check_network", "describe_network", "network_cost"]

EMBEDDING = 128
"""Numbers that the two levels become."""


class FieldNetwork(nn.Module):
    """Scale the input, embed the two levels, run the backbone.

    Args:
        backbone: maps (B, d) and an embedding (B, e) to (B, d + 1).
        embedding: (log t, log n̂) → (B, e); None: the backbone is given x and t as they are.
        sd: root mean square of the data's coordinates, in data units.
        noise_ratio: noise per coordinate over t, in the median (`pfgm.networks.heads.median_noise_ratio`).
        skip: read a field output through the head with a skip, not as it is (`pfgm.networks.heads`).
        root_below: height, in data units, below which a plain head is read by the root (None: γ).
    """

    def __init__(
        self,
        backbone: nn.Module,
        embedding: LevelEmbedding | None,
        sd: float,
        noise_ratio: float,
        skip: bool,
        root_below: float | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.embedding = backbone, embedding
        self.sd, self.noise_ratio, self.skip, self.root_below = sd, noise_ratio, skip, root_below

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x (B, d), t (B,) → (B, d + 1) raw numbers (see `pfgm.networks.heads`), in x's dtype."""
        if self.embedding is None:
            out: Tensor = self.backbone(x, t)
        else:
            scale = (self.sd**2 + x.square().mean(1, keepdim=True)).rsqrt()
            levels = torch.stack([t, self.level(x, t)], 1).log()
            out = self.backbone(x * scale, self.embedding(levels))
        return out.to(x.dtype)  # float32 even under autocast: the heads subtract nearly equal numbers

    def level(self, x: Tensor, t: Tensor) -> Tensor:
        """n̂ (B,) at x (B, d), t (B,)."""
        return noise_level(x, t, self.sd, self.noise_ratio)

    def denoise(self, x: Tensor, t: Tensor) -> Tensor:
        """D(x, t), shape (B, d), of the head with a skip."""
        raw = self(x.to(self.dtype), t.to(self.dtype))
        return denoiser_head(raw, x, self.level(x, t), self.sd)

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype


def check_network(config: NetworkConfig, shape: tuple[int, ...], process: str = "pfgm") -> None:
    """Refuse a U-Net or DDPM++ for items of ``shape``, or a ``process``, that it is not made for.

    Raises:
        ValueError: one line that begins with the key at fault.
    """
    if config.name == "unet":
        unet.check_images(shape, config.depth, config.patch or 1)
    if config.name != "ddpmpp":
        return
    if process != "pfgm":
        raise ValueError(f"network.name: ddpmpp belongs to process pfgm, this run uses {process}; use unet or mlp")
    assert config.channel_mult is not None
    ddpmpp.check_images(shape, config.width, config.channel_mult)


def build_network(config: NetworkConfig, shape: tuple[int, ...], sd: float, noise_ratio: float) -> FieldNetwork:
    """A freshly initialised network for items of ``shape`` ((d,) or (C, H, W)); draws from torch's global generator.

    Raises:
        ValueError: the U-Net or DDPM++ is asked for vectors, or for images it cannot halve.
    """
    embedding = None if config.name == "ddpmpp" else LevelEmbedding(EMBEDDING)
    return FieldNetwork(_backbone(config, shape), embedding, sd, noise_ratio, config.skip, config.root_below)


def _backbone(config: NetworkConfig, shape: tuple[int, ...]) -> nn.Module:
    if config.name == "ddpmpp":
        assert config.channel_mult is not None and config.dropout is not None
        return ddpmpp.DDPMpp(shape, config.width, config.depth, config.channel_mult, config.dropout)
    if config.name == "unet":
        return unet.UNet(shape, config.width, config.depth, EMBEDDING, config.patch or 1)
    return ResidualMLP(prod(shape), config.width, config.depth, EMBEDDING)


def describe_network(config: NetworkConfig, shape: tuple[int, ...]) -> str:
    """Size and cost in words, e.g. "ddpmpp: 61.8 M parameters, 21.7 GFLOPs a call"; nothing is allocated.

    Raises:
        ValueError: as `build_network`.
    """
    with torch.device("meta"):
        network = build_network(config, shape, 1.0, 1.0)
    parameters, flops = network_cost(network, shape)
    return f"{config.name}: {with_prefix(parameters)} parameters, {with_prefix(flops)}FLOPs a call"
