"""A small U-Net for images: group norm, residual blocks, attention at the lowest resolution.

The d image components of the output are one value per pixel and channel; component d + 1 (the field along t) is the
spatial mean of one extra output channel.
"""

from __future__ import annotations

from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
        nn.init.zeros_(self.conv_2.bias)  # type: ignore[arg-type]

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
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(h)).flatten(2).transpose(1, 2).chunk(3, 2)  # (B, HW, C) each
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(h.shape)
        out: Tensor = h + self.out(mixed)
        return out


class UNet(nn.Module):
    """(B, d), embedding (B, e) → (B, d + 1); channels double at each of ``depth`` − 1 halvings."""

    def __init__(self, shape: tuple[int, ...], width: int, depth: int, embedding: int) -> None:
        super().__init__()
        if len(shape) != 3:
            raise ValueError(f"network.name: unet needs images, the data are vectors of shape {shape}; use name: mlp")
        factor = 2 ** (depth - 1)
        if shape[1] % factor or shape[2] % factor:
            raise ValueError(f"network.depth: {shape[1]} × {shape[2]} images cannot be halved {depth - 1} times; lower it")
        self.shape = shape
        channels = [width * 2**k for k in range(depth)]
        self.first = nn.Conv2d(shape[0], width, 3, padding=1)
        self.down = nn.ModuleList([ConvBlock(channels[max(k - 1, 0)], channels[k], embedding) for k in range(depth)])
        self.middle_1 = ConvBlock(channels[-1], channels[-1], embedding)
        self.attention = Attention(channels[-1])
        self.middle_2 = ConvBlock(channels[-1], channels[-1], embedding)
        self.up = nn.ModuleList(
            [ConvBlock(channels[min(k + 1, depth - 1)] + channels[k], channels[k], embedding) for k in reversed(range(depth))]
        )
        self.norm, self.last = _norm(width), nn.Conv2d(width, shape[0] + 1, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        h = self.first(x.reshape(-1, *self.shape))
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
        d = prod(self.shape)
        return torch.cat([out[:, :-1].reshape(-1, d), out[:, -1:].mean((2, 3))], 1)
