r"""DDPM++, the network of the PFGM papers' image experiments, tensor for tensor.

A U-Net of BigGAN residual blocks: group norm, swish, 3 × 3 convolution, plus a linear map of the height's embedding, group
norm, swish, dropout, 3 × 3 convolution; the sum of this and the input is divided by √2. A block that changes the resolution
does so before its first convolution, on both branches: means of 2 × 2 pixels down, nearest neighbours up. Self-attention with
one head follows the blocks at resolution 16 and stands between the two blocks in the middle. Every activation on the way down
is concatenated to one on the way up, which has one block more a resolution.

It is told x as it is and the height t alone, as sin(ω_k t), cos(ω_k t), ω_k = 10000^{−k/(w/2 − 1)}, k = 0 … w/2 − 1, w the
width.
Weights are drawn uniformly with the variance of Glorot's rule, times 0.1 for the inputs of attention, and times 1e-10 where a
branch, or the network, ends: a fresh block returns its input over √2, a fresh network zero.

The modules stand in one list, `all_modules`, in the order in which the forward pass uses them, which is that of the authors'
checkpoints (`pfgm.flow.poisson_flow`).

Sources: PFGM (arXiv 2209.11178), which takes DDPM++ from Song et al., *Score-based generative modeling through SDEs* (arXiv
2011.13456); residual blocks of BigGAN (arXiv 1809.11096); embedding of *Attention is all you need* (arXiv 1706.03762).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pfgm.kinds import Keys, NetworkKind, PositiveInt
from pfgm.mistakes import Mistake
from pfgm.networks.order import as_weights, channels_last

ATTENTION_RESOLUTION = 16
"""Images of this size (the larger side) are attended to."""
LONGEST_PERIOD = 10_000.0
"""Ratio of the embedding's slowest and fastest period."""
NEARLY_ZERO = 1e-10
"""Variance, relative to Glorot's, of weights that start a branch at zero."""
MAX_GROUPS = 32

if TYPE_CHECKING:
    from pfgm.config import NetworkConfig


def positional_embedding(t: Tensor, width: int) -> Tensor:
    """(sin ω_k t …, cos ω_k t …), shape (B, width), of heights t (B,); see the module's formula for ω_k.

    Source: arXiv 1706.03762, with the scale of the diffusion models (half − 1 in the exponent).
    """
    half = width // 2
    k = torch.arange(half, dtype=t.dtype, device=t.device)
    angle = t[:, None] * (k * (-math.log(LONGEST_PERIOD) / (half - 1))).exp()
    return torch.cat([angle.sin(), angle.cos()], 1)


def check_images(shape: tuple[int, ...], width: int, channel_mult: tuple[int, ...], name: str = "ddpmpp") -> None:
    """Refuse items that the network cannot take.

    Args:
        shape: of one item, (d,) or (C, H, W).
        width: channels at full resolution over ``channel_mult[0]``.
        channel_mult: channels of each resolution over ``width``; each resolution has half the sides of the one before.
        name: of the network.
    Raises:
        ValueError: vectors, sides that cannot be halved, or channels that make no groups.
    """
    if len(shape) != 3:
        raise Mistake("network.name", f"{name} needs images, the data are vectors of shape {shape}; use name: mlp")
    halvings = len(channel_mult) - 1
    if shape[1] % 2**halvings or shape[2] % 2**halvings:
        possible = next(n for n in reversed(range(halvings)) if not (shape[1] % 2**n or shape[2] % 2**n))
        shorter = ", ".join(map(str, channel_mult[: possible + 1]))
        raise Mistake(
            "network.channel_mult",
            f"{shape[1]} × {shape[2]} images cannot be halved {halvings} times;"
            f" name {possible + 1} resolution{'s' if possible else ''}, e.g. [{shorter}]",
        )
    levels = [width * m for m in channel_mult]
    joined = [a + b for a in (*levels, width) for b in levels]
    if width % 4 or any(c % _n_groups(c) for c in (*levels, width, *joined)):
        raise Mistake("network.width", f"{name} normalises channels in groups, for which {width} is no good; use 32, 64, 96, …")


def _n_groups(channels: int) -> int:
    return min(channels // 4, MAX_GROUPS) or 1


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(_n_groups(channels), channels, eps=1e-6)


def _draw(weight: Tensor, variance: float) -> None:
    nn.init.xavier_uniform_(weight, gain=math.sqrt(variance))


def linear(n_in: int, n_out: int) -> nn.Linear:
    """A linear layer, drawn by Glorot's rule."""
    layer = nn.Linear(n_in, n_out)
    _draw(layer.weight, 1.0)
    nn.init.zeros_(layer.bias)
    return layer


def conv(c_in: int, c_out: int, size: int = 3, variance: float = 1.0) -> nn.Conv2d:
    """A convolution that keeps the resolution, drawn by Glorot's rule, its variance times ``variance``."""
    layer = nn.Conv2d(c_in, c_out, size, padding=size // 2)
    _draw(layer.weight, variance)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class ChannelMap(nn.Module):
    """y = x W + b for each pixel, W (c_in, c_out)."""

    def __init__(self, channels: int, variance: float) -> None:
        super().__init__()
        self.W, self.b = nn.Parameter(torch.empty(channels, channels)), nn.Parameter(torch.zeros(channels))
        _draw(self.W, variance)

    def forward(self, pixels: Tensor) -> Tensor:
        return F.linear(pixels, self.W.t(), self.b)


class Attention(nn.Module):
    """(h + o)/√2, o the attention of every pixel to all, zero at the start."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.query, self.key, self.value = (ChannelMap(channels, 0.1) for _ in range(3))
        self.out = ChannelMap(channels, NEARLY_ZERO)

    def forward(self, h: Tensor) -> Tensor:
        pixels = self.norm(h).flatten(2).transpose(1, 2)[:, None]  # (B, 1 head, HW, C)
        mixed = F.scaled_dot_product_attention(self.query(pixels), self.key(pixels), self.value(pixels))
        out: Tensor = (h + self.out(mixed)[:, 0].transpose(1, 2).reshape(h.shape)) / math.sqrt(2)
        return out


class ResidualBlock(nn.Module):
    """(skip(h) + branch(h, e))/√2 at the same, half or twice the resolution; the branch is zero at the start."""

    def __init__(
        self, c_in: int, c_out: int, embedding: int, dropout: float, resample: Literal["down", "up"] | None = None
    ) -> None:
        super().__init__()
        self.resample, self.dropout = resample, dropout
        self.norm_1, self.conv_1 = _norm(c_in), conv(c_in, c_out)
        self.level = linear(embedding, c_out)
        self.norm_2, self.conv_2 = _norm(c_out), conv(c_out, c_out, variance=NEARLY_ZERO)
        self.skip = nn.Identity() if c_in == c_out and resample is None else conv(c_in, c_out, 1)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        inner = self.conv_1(self._resampled(F.silu(self.norm_1(h)))) + self.level(F.silu(e))[:, :, None, None]
        inner = F.dropout(F.silu(self.norm_2(inner)), self.dropout, self.training)
        out: Tensor = (self.skip(self._resampled(h)) + self.conv_2(inner)) / math.sqrt(2)
        return out

    def _resampled(self, h: Tensor) -> Tensor:
        if self.resample == "down":
            return F.avg_pool2d(h, 2)
        return F.interpolate(h, scale_factor=2.0, mode="nearest") if self.resample == "up" else h


class DDPMpp(nn.Module):
    """(B, d), heights (B,) → (B, d + 1); component d + 1 is the spatial mean of one extra output channel.

    Args:
        shape: of one image, (C, H, W).
        width: channels at full resolution, for ``channel_mult[0]`` = 1; also the length of the embedding of t.
        depth: residual blocks of a resolution on the way down (one more on the way up).
        channel_mult: channels of each resolution over ``width``.
        dropout: share of activations set to zero while training, drawn from torch's global generator.
    Raises:
        ValueError: see `check_images`.
    """

    Block: ClassVar[type[ResidualBlock]] = ResidualBlock

    def __init__(self, shape: tuple[int, ...], width: int, depth: int, channel_mult: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        check_images(shape, width, channel_mult)
        self.shape, self.width, self.depth = shape, width, depth
        self.attends = [max(shape[1:]) == ATTENTION_RESOLUTION * 2**k for k in range(len(channel_mult))]
        self.all_modules = nn.ModuleList(self._modules_in_order([width * m for m in channel_mult], dropout))
        channels_last(self)

    def _modules_in_order(self, channels: list[int], dropout: float) -> Iterator[nn.Module]:
        e, c, block = 4 * self.width, self.width, self.Block
        yield from (*self._seen(), linear(self.seen_width, e), linear(e, e), conv(self.shape[0], c))
        kept, image = [c], self.shape[0]
        for k, c_level in enumerate(channels):
            for _ in range(self.depth):
                yield block(c, c_level, e, dropout)
                c = c_level
                if self.attends[k]:
                    yield Attention(c)
                kept.append(c)
            if k + 1 < len(channels):
                yield from (block(c, c, e, dropout, "down"), *self._beside(image, c))
                kept.append(c)
                image = c
        yield from (block(c, c, e, dropout), Attention(c), block(c, c, e, dropout))
        for k, c_level in reversed(list(enumerate(channels))):
            for _ in range(self.depth + 1):
                yield block(c + kept.pop(), c_level, e, dropout)
                c = c_level
            if self.attends[k]:
                yield Attention(c)
            if k:
                yield block(c, c, e, dropout, "up")
        yield from (_norm(c), conv(c, self.shape[0] + 1, variance=NEARLY_ZERO))

    @property
    def seen_width(self) -> int:
        """Return how many numbers of the height the first layer sees."""
        return self.width

    def _seen(self) -> Iterator[nn.Module]:
        """Make the modules that see the height; DDPM++ needs none."""
        return iter(())

    def _beside(self, image: int, channels: int) -> Iterator[nn.Module]:
        """Make the modules that take the image beside the network to the next resolution; DDPM++ has none.

        Args:
            image: channels that it has so far.
            channels: those of the activation that it is added to.
        """
        return iter(())

    def _sines(self, modules: Iterator[nn.Module], t: Tensor) -> Tensor:
        """Numbers (B, seen_width) of the heights t (B,)."""
        return positional_embedding(t, self.width)

    def _joined(self, modules: Iterator[nn.Module], h: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """(activation, image) at the next resolution, of the activation there and the image at the last one."""
        return h, image

    def forward(self, x: Tensor, t: Tensor, told: Tensor | None = None) -> Tensor:
        modules = iter(self.all_modules)
        seen = self._sines(modules, t)
        e = next(modules)(seen)
        e = next(modules)(F.silu(e))
        e = e if told is None else e + told
        image = x.reshape(-1, *self.shape)
        h = next(modules)(image)
        block = next(module for module in self.all_modules if isinstance(module, ResidualBlock))
        kept = [as_weights(h, block.conv_1)]
        for k, attends in enumerate(self.attends):
            for _ in range(self.depth):
                h = next(modules)(kept[-1], e)
                kept.append(next(modules)(h) if attends else h)
            if k + 1 < len(self.attends):
                h, image = self._joined(modules, next(modules)(kept[-1], e), image)
                kept.append(h)
        h = next(modules)(kept[-1], e)
        h = next(modules)(h)
        h = next(modules)(h, e)
        for k, attends in reversed(list(enumerate(self.attends))):
            for _ in range(self.depth + 1):
                h = next(modules)(torch.cat([h, kept.pop()], 1), e)
            if attends:
                h = next(modules)(h)
            if k:
                h = next(modules)(h, e)
        h = F.silu(next(modules)(h))
        out = next(modules)(h)
        return torch.cat([out[:, :-1].reshape(-1, prod(self.shape)), out[:, -1:].mean((2, 3))], 1)


class DDPMppKeys(Keys):
    """Keys of ``network`` for DDPM++."""

    channel_mult: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (1, 2, 2, 2)
    """ddpmpp: channels of each resolution over `width` (default [1, 2, 2, 2])."""
    dropout: Annotated[float, Field(ge=0, lt=1, strict=True)] = 0.0
    """ddpmpp: share of activations set to zero in training (default 0; the authors' is 0.1)."""


def _check(config: NetworkConfig, shape: tuple[int, ...], process: str) -> None:
    if process != "pfgm":
        raise Mistake("network.name", f"ddpmpp belongs to process pfgm, this run uses {process}; use unet or mlp")
    check_images(shape, config.width, DDPMppKeys.of(config).channel_mult)


def _build(config: NetworkConfig, shape: tuple[int, ...], embedding: int) -> DDPMpp:
    keys = DDPMppKeys.of(config)
    return DDPMpp(shape, config.width, config.depth, keys.channel_mult, keys.dropout)


DDPMPP = NetworkKind(
    Keys=DDPMppKeys, build=_build, check=_check, embeds=False, told=lambda config: 4 * config.width, skips=False
)
