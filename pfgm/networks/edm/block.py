r"""The block of EDM's U-Nets, and what its three forms differ in.

h ↦ s (skip(h) + branch(h, e)), branch = conv(silu(told(norm(conv(silu(norm h)))))), s a constant; then, at some resolutions,
s (h + attention(h)). A block that changes the resolution does so before its first convolution, on both branches. The noise
level's embedding e tells the second norm: h + A e is normalised (DDPM++, NCSN++), or the norm of h is taken (1 + a) times and b
added, (a, b) = A e (ADM).

Resampling with the filter f, Σ f = 1, along each axis: y_i = Σ_k f_k x_{2i+k−p} downwards, its transpose, doubled, upwards.
[1, 1] is the mean of 2 × 2 pixels and their repetition; [1, 3, 3, 1] is wider.

Sources: EDM (arXiv 2206.00364); DDPM++ and NCSN++ of Song et al. (arXiv 2011.13456); ADM of Dhariwal and Nichol (arXiv
2105.05233).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_GROUPS, MIN_GROUP = 32, 4
NEARLY_ZERO, OF_ATTENTION = 1e-5, math.sqrt(0.2)
"""Weights that start a branch near zero, and those of attention, over Glorot's."""
Resample = Literal["down", "up"]


@dataclass(frozen=True)
class Form:
    """One of the published architectures."""

    filter: tuple[int, ...] = (1, 1)
    """f, before it is normalised."""
    fourier: bool = False
    """The noise level at random frequencies, not at geometric ones."""
    residual: bool = False
    """The image itself, resampled, is added at each lower resolution."""
    adaptive: bool = False
    """The embedding scales and shifts."""
    scale: float = math.sqrt(0.5)
    """s."""
    eps: float = 1e-6
    """Added to variances."""
    head: int | None = None
    """Channels of an attention head; None: one head."""

    @property
    def noise(self) -> int:
        """Width of the noise level's sines and cosines over the network's."""
        return 2 if self.fourier else 1

    def kernel(self) -> Tensor:
        """f_k f_l, (1, 1, n, n), of sum 1."""
        f = torch.tensor(self.filter, dtype=torch.float32, device="cpu")  # known where a network is made on "meta" too
        return (torch.outer(f, f) / f.sum().square())[None, None]

    def heads(self, channels: int) -> int:
        """Attention heads; 0 where the channels make none."""
        return 1 if self.head is None else channels // self.head


FORMS = {
    "ddpmpp": Form(),
    "ncsnpp": Form(filter=(1, 3, 3, 1), fourier=True, residual=True),
    "adm": Form(adaptive=True, scale=1.0, eps=1e-5, head=64),
}


def groups(channels: int) -> int:
    """Groups of a norm: at most `MAX_GROUPS`, of at least `MIN_GROUP` channels."""
    return min(MAX_GROUPS, channels // MIN_GROUP) or 1


def norm(channels: int, eps: float) -> nn.GroupNorm:
    """A group norm."""
    return nn.GroupNorm(groups(channels), channels, eps=eps)


def conv(c_in: int, c_out: int, size: int = 3, gain: float = 1.0) -> nn.Conv2d:
    """A convolution that keeps the resolution, drawn by Glorot's rule times ``gain``."""
    layer = nn.Conv2d(c_in, c_out, size, padding=size // 2)
    nn.init.xavier_uniform_(layer.weight, gain)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def linear(n_in: int, n_out: int, bias: bool = True) -> nn.Linear:
    """A linear layer, drawn by Glorot's rule."""
    layer = nn.Linear(n_in, n_out, bias=bias)
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def resampled(h: Tensor, kernel: Tensor, way: Resample | None) -> Tensor:
    """h (B, C, H, W) at half or twice the resolution, by `Form.kernel`; ``way`` None: as it is."""
    if way is None:
        return h
    c, rim = h.shape[1], (kernel.shape[-1] - 1) // 2
    kernel = kernel.expand(c, -1, -1, -1)
    if way == "down":
        return F.conv2d(h, kernel, stride=2, padding=rim, groups=c)
    return F.conv_transpose2d(h, 4 * kernel, stride=2, padding=rim, groups=c)


class Block(nn.Module):
    """h (B, c_in, H, W), e (B, n) → (B, c_out, H, W), or another resolution; the names of its parts are those of the files."""

    kernel: Tensor

    def __init__(
        self, c_in: int, c_out: int, embedding: int, form: Form, attends: bool, dropout: float, way: Resample | None = None
    ) -> None:
        super().__init__()
        self.form, self.way, self.dropout = form, way, dropout
        self.register_buffer("kernel", form.kernel(), persistent=False)
        self.heads = form.heads(c_out) if attends else 0
        self.norm0, self.conv0 = norm(c_in, form.eps), conv(c_in, c_out)
        self.affine = linear(embedding, c_out * (2 if form.adaptive else 1))
        self.norm1, self.conv1 = norm(c_out, form.eps), conv(c_out, c_out, gain=NEARLY_ZERO)
        plain = c_in == c_out and (way is None or form.adaptive)
        self.skip = nn.Identity() if plain else conv(c_in, c_out, 1)
        if self.heads:
            self.norm2 = norm(c_out, form.eps)
            self.qkv, self.proj = conv(c_out, 3 * c_out, 1, OF_ATTENTION), conv(c_out, c_out, 1, NEARLY_ZERO)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        inner = self.conv0(resampled(F.silu(self.norm0(h)), self.kernel, self.way))
        told = self.affine(e)[:, :, None, None]
        if self.form.adaptive:
            a, b = told.chunk(2, 1)
            inner = F.silu((1 + a) * self.norm1(inner) + b)
        else:
            inner = F.silu(self.norm1(inner + told))
        inner = self.conv1(F.dropout(inner, self.dropout, self.training))
        out: Tensor = (self.skip(resampled(h, self.kernel, self.way)) + inner) * self.form.scale
        return (out + self.attention(out)) * self.form.scale if self.heads else out

    def attention(self, h: Tensor) -> Tensor:
        """What every pixel gathers from all, (B, C, H, W); channels lie as head, channel, then query, key, value."""
        q, k, v = self.qkv(self.norm2(h)).reshape(h.shape[0], self.heads, -1, 3, h[0, 0].numel()).transpose(2, 4).unbind(3)
        mixed = F.scaled_dot_product_attention(q, k, v)  # (B, heads, HW, C / heads)
        out: Tensor = self.proj(mixed.transpose(2, 3).reshape(h.shape))
        return out
