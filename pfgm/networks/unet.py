"""A small U-Net for images: group norm, residual blocks, attention at the lowest resolution.

With ``patch`` p, squares of p × p pixels become channels first (space to depth): the convolutions run on 1/p² of the pixels,
which is most of what makes it fast. The d image components of the output are one value per pixel and channel; component d + 1
(the field along t) is the spatial mean of one extra output channel.
"""

from __future__ import annotations

from math import gcd, prod
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pfgm.kinds import Keys, NetworkKind, PositiveInt
from pfgm.mistakes import Mistake
from pfgm.networks.order import as_weights, channels_last

LARGEST_PATCH = 8
"""Patches that an error names are at most this large."""

if TYPE_CHECKING:
    from pfgm.config import NetworkConfig


def check_images(shape: tuple[int, ...], depth: int, patch: int) -> None:
    """Refuse items that the network cannot take.

    Args:
        shape: of one item, (d,) or (C, H, W).
        depth: resolutions; each has half the sides of the one before.
        patch: sides of the squares that become channels first.
    Raises:
        ValueError: vectors, or sides that cannot be cut into squares or halved.
    """
    if len(shape) != 3:
        raise Mistake("network.name", f"unet needs images, the data are vectors of shape {shape}; use name: mlp")
    if shape[1] % patch or shape[2] % patch:
        possible = [str(p) for p in range(1, LARGEST_PATCH + 1) if gcd(shape[1], shape[2]) % p == 0]
        cure = f"use {', '.join(possible[:-1])} or {possible[-1]}" if len(possible) > 1 else "remove it"
        raise Mistake("network.patch", f"{shape[1]} × {shape[2]} images have no squares of {patch} × {patch}; {cure}")
    factor = 2 ** (depth - 1)
    if shape[1] // patch % factor or shape[2] // patch % factor:
        small = f"{shape[1]} × {shape[2]} images" + (f" in squares of {patch} × {patch}" if patch > 1 else "")
        raise Mistake("network.depth", f"{small} cannot be halved {depth - 1} times; lower it")


def _norm(channels: int) -> nn.GroupNorm:
    groups = next(g for g in (8, 4, 2, 1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


class ConvBlock(nn.Module):
    """Two 3 × 3 convolutions with the level added between them, and a skip."""

    def __init__(self, c_in: int, c_out: int, embedding: int) -> None:
        super().__init__()
        self.norm_1, self.conv_1 = _norm(c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.level = nn.Linear(embedding, c_out)
        self.norm_2, self.conv_2 = _norm(c_out), nn.Conv2d(c_out, c_out, 3, padding=1)
        self.skip = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)
        nn.init.zeros_(self.conv_2.weight)
        assert self.conv_2.bias is not None
        nn.init.zeros_(self.conv_2.bias)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        inner = self.conv_1(F.silu(self.norm_1(h))) + self.level(e)[:, :, None, None]
        out: Tensor = self.skip(h) + self.conv_2(F.silu(self.norm_2(inner)))
        return out


class Attention(nn.Module):
    """Self-attention over pixels, one head, zero at the start."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = (
            _norm(channels),
            nn.Conv2d(channels, 3 * channels, 1),
            nn.Conv2d(channels, channels, 1),
        )
        nn.init.zeros_(self.out.weight)
        assert self.out.bias is not None
        nn.init.zeros_(self.out.bias)

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(h)).flatten(2).transpose(1, 2).chunk(3, 2)  # (B, HW, C) each
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(h.shape)
        out: Tensor = h + self.out(mixed)
        return out


class UNet(nn.Module):
    """(B, d), embedding (B, e) → (B, d + 1); channels double at each of ``depth`` − 1 halvings."""

    def __init__(self, shape: tuple[int, ...], width: int, depth: int, embedding: int, patch: int = 1) -> None:
        super().__init__()
        check_images(shape, depth, patch)
        self.shape, self.patch = shape, patch
        channels = [width * 2**k for k in range(depth)]
        self.first = nn.Conv2d(shape[0] * patch**2, width, 3, padding=1)
        self.down = nn.ModuleList([ConvBlock(channels[max(k - 1, 0)], channels[k], embedding) for k in range(depth)])
        self.middle_1 = ConvBlock(channels[-1], channels[-1], embedding)
        self.attention = Attention(channels[-1])
        self.middle_2 = ConvBlock(channels[-1], channels[-1], embedding)
        self.up = nn.ModuleList(
            [ConvBlock(channels[min(k + 1, depth - 1)] + channels[k], channels[k], embedding) for k in reversed(range(depth))]
        )
        self.norm, self.last = _norm(width), nn.Conv2d(width, shape[0] * patch**2 + 1, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)
        channels_last(self)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        h = as_weights(self.first(F.pixel_unshuffle(x.reshape(-1, *self.shape), self.patch)), self.middle_1.conv_1)
        skips: list[Tensor] = []
        for k, block in enumerate(self.down):
            h = block(F.avg_pool2d(h, 2) if k else h, e)
            skips.append(h)
        h = self.middle_2(self.attention(self.middle_1(h, e)), e)
        for k, block in enumerate(self.up):
            if k:
                h = F.interpolate(h, scale_factor=2.0, mode="nearest")
            h = block(torch.cat([h, skips.pop()], 1), e)
        out = self.last(F.silu(self.norm(h)))
        image = F.pixel_shuffle(out[:, :-1], self.patch)
        return torch.cat([image.reshape(-1, prod(self.shape)), out[:, -1:].mean((2, 3))], 1)


class UNetKeys(Keys):
    """Keys of ``network`` for a U-Net."""

    patch: PositiveInt | None = None
    """unet: squares of patch × patch pixels become channels before the first convolution (default 1)."""


def _check(config: NetworkConfig, shape: tuple[int, ...], process: str) -> None:
    check_images(shape, config.depth, UNetKeys.of(config).patch or 1)


def _build(config: NetworkConfig, shape: tuple[int, ...], embedding: int) -> UNet:
    return UNet(shape, config.width, config.depth, embedding, UNetKeys.of(config).patch or 1)


UNET = NetworkKind(Keys=UNetKeys, build=_build, check=_check)
