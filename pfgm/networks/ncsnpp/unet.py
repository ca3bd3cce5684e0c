r"""NCSN++ as the PFGM authors have it, tensor for tensor: a DDPM++ that is told log t, filters where it resamples, and takes
the image along on the way down.

What differs from `pfgm.networks.ddpmpp`:

- The height is seen as sin(2π w_k log t), cos(2π w_k log t), w_k normal numbers of standard deviation 16, drawn once and kept
  with the weights (`embedding: fourier`); or as DDPM++ sees it (`positional`).
- A block that changes the resolution filters with [1, 3, 3, 1] along each axis, on both branches (`pfgm.networks.edm.block`).
- Beside each block that halves the resolution the image is filtered, halved and convolved by weights of its own. The sum of the
  two over √2 is the activation, and the image that goes on.

Sources: PFGM (arXiv 2209.11178) and the configuration cifar10_ncsnpp of its repository; Song et al. (arXiv 2011.13456), the
network; StyleGAN2 (arXiv 1912.04958), filter and convolution in one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pfgm.kinds import Keys, NetworkKind, PositiveInt
from pfgm.mistakes import Mistake
from pfgm.networks.ddpmpp import DDPMpp, ResidualBlock, check_images, conv
from pfgm.networks.edm.block import FORMS, resampled

if TYPE_CHECKING:
    from pfgm.config import NetworkConfig

FOURIER_SCALE = 16.0
"""Standard deviation of the random frequencies."""


class FilteredBlock(ResidualBlock):
    """A block that filters where it resamples; arguments as of `ResidualBlock`."""

    kernel: Tensor

    def __init__(
        self, c_in: int, c_out: int, embedding: int, dropout: float, resample: Literal["down", "up"] | None = None
    ) -> None:
        super().__init__(c_in, c_out, embedding, dropout, resample)
        self.register_buffer("kernel", FORMS["ncsnpp"].kernel(), persistent=False)

    def _resampled(self, h: Tensor) -> Tensor:
        return resampled(h, self.kernel, self.resample)


class Frequencies(nn.Module):
    """log t (B,) → (sin 2π w_k log t …, cos 2π w_k log t …), shape (B, 2 n)."""

    W: Tensor

    def __init__(self, n: int) -> None:
        super().__init__()
        self.register_buffer("W", torch.randn(n) * FOURIER_SCALE)

    def forward(self, log_t: Tensor) -> Tensor:
        angle = 2 * math.pi * log_t[:, None] * self.W
        return torch.cat([angle.sin(), angle.cos()], 1)


class HalvedImage(nn.Module):
    """The image at half the resolution: filtered, then every second pixel of a 3 × 3 convolution."""

    kernel: Tensor

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = conv(c_in, c_out)
        self.register_buffer("kernel", FORMS["ncsnpp"].kernel(), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        c, rim = image.shape[1], self.kernel.shape[-1] // 2
        wide = F.conv2d(image, self.kernel.expand(c, -1, -1, -1), padding=rim, groups=c)
        return F.conv2d(wide, self.conv.weight, self.conv.bias, stride=2)


class NCSNpp(DDPMpp):
    """(B, d), heights (B,) → (B, d + 1), as `DDPMpp`.

    Args:
        shape, width, depth, channel_mult, dropout: as there.
        embedding: how the height is seen.
    Raises:
        ValueError: see `pfgm.networks.ddpmpp.check_images`.
    """

    Block = FilteredBlock

    def __init__(
        self, shape: tuple[int, ...], width: int, depth: int, channel_mult: tuple[int, ...], dropout: float,
        embedding: Literal["fourier", "positional"] = "fourier",
    ) -> None:  # fmt: skip
        self.fourier = embedding == "fourier"
        super().__init__(shape, width, depth, channel_mult, dropout)

    @property
    def seen_width(self) -> int:
        """Return twice the width, or the width where the height is seen as DDPM++ sees it."""
        return 2 * self.width if self.fourier else self.width

    def _seen(self) -> Iterator[nn.Module]:
        if self.fourier:
            yield Frequencies(self.width)

    def _beside(self, image: int, channels: int) -> Iterator[nn.Module]:
        yield HalvedImage(image, channels)

    def _sines(self, modules: Iterator[nn.Module], t: Tensor) -> Tensor:
        if not self.fourier:
            return super()._sines(modules, t)
        seen: Tensor = next(modules)(t.log())
        return seen

    def _joined(self, modules: Iterator[nn.Module], h: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        both = (next(modules)(image) + h) / math.sqrt(2)
        return both, both


class NcsnppKeys(Keys):
    """Keys of ``network`` for NCSN++."""

    channel_mult: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (1, 2, 2, 2)
    """Channels of each resolution over `width` (ddpmpp, ncsnpp: default [1, 2, 2, 2]; edm: default [2, 2, 2])."""
    dropout: Annotated[float, Field(ge=0, lt=1, strict=True)] = 0.0
    """Share of activations set to zero in training (default 0; the authors of ddpmpp, ncsnpp took 0.1, those of edm 0.13)."""
    embedding: Literal["fourier", "positional"] = "fourier"
    """ncsnpp: how it is told the height, as random waves of log t (default) or as ddpmpp is."""


def _check(config: NetworkConfig, shape: tuple[int, ...], process: str) -> None:
    if process != "pfgm":
        raise Mistake("network.name", f"ncsnpp belongs to process pfgm, this run uses {process}; use edm with form: ncsnpp")
    check_images(shape, config.width, NcsnppKeys.of(config).channel_mult, "ncsnpp")


def _build(config: NetworkConfig, shape: tuple[int, ...], embedding: int) -> NCSNpp:
    keys = NcsnppKeys.of(config)
    return NCSNpp(shape, config.width, config.depth, keys.channel_mult, keys.dropout, keys.embedding)


NCSNPP = NetworkKind(
    Keys=NcsnppKeys, build=_build, check=_check, embeds=False, told=lambda config: 4 * config.width, skips=False
)
