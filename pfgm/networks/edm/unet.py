r"""EDM's U-Net in its DDPM++, NCSN++ and ADM forms, tensor for tensor: the names of its parts are those of the published files.

It is told the noise as one number, c_noise, of which it sees sines and cosines: at geometric frequencies (DDPM++, ADM) or at
random ones that are kept with the weights (NCSN++). Two linear layers make the embedding e of them, to which a class label and
the parameters of an augmentation may be added. On the way down every resolution has `depth` blocks, and every activation is
kept; two blocks stand at the lowest; on the way up, with one block more a resolution, each is joined to the one that was kept.
In NCSN++ the image itself goes down beside it, through a convolution and a filter, and is added at each resolution, over √2.

A label is a vector, one for its class and zeros for none. A network that knows labels is asked without one, as its authors
train it to be, unless it was made for one (`label`). Augmentation is for training; samples are asked for with none.

Sources: EDM (arXiv 2206.00364); PFGM++ (arXiv 2302.04265), whose networks are these; and those of `pfgm.networks.edm.block`.
"""

from __future__ import annotations

import math
from math import prod
from typing import TYPE_CHECKING, Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pfgm.kinds import Integer, Keys, NetworkKind, PositiveInt
from pfgm.mistakes import Mistake
from pfgm.networks.ddpmpp import LONGEST_PERIOD, positional_embedding
from pfgm.networks.edm.block import FORMS, NEARLY_ZERO, Block, conv, groups, linear, norm
from pfgm.networks.order import channels_last

if TYPE_CHECKING:
    from pfgm.config import NetworkConfig

FOURIER_SCALE = 16.0
"""Standard deviation of the random frequencies."""
EMBEDDING = 4
"""Width of the embedding e over the network's."""


class EdmKeys(Keys):
    """Keys of ``network`` for EDM's U-Net."""

    form: Literal["ddpmpp", "ncsnpp", "adm"] = "ddpmpp"
    """edm: which of the published architectures (default ddpmpp)."""
    channel_mult: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (2, 2, 2)
    """Channels of each resolution over `width` (ddpmpp: default [1, 2, 2, 2]; edm: default [2, 2, 2])."""
    attention: tuple[PositiveInt, ...] = (16,)
    """edm: sides of the images that are attended to."""
    dropout: Annotated[float, Field(ge=0, lt=1, strict=True)] = 0.0
    """Share of activations set to zero in training (default 0; the authors of ddpmpp took 0.1, those of edm 0.13)."""
    labels: Annotated[Integer, Field(ge=0)] = 0
    """edm: classes that the network knows (default 0)."""
    label: Annotated[Integer, Field(ge=0)] | None = None
    """edm: the class that it is asked for (default: none)."""
    augment_dim: Annotated[Integer, Field(ge=0)] = 0
    """edm: parameters of an augmentation that the network can be told (default 0)."""


class Frequencies(nn.Module):
    """2π times these are the frequencies at which the noise is seen; drawn once, kept with the weights."""

    freqs: Tensor

    def __init__(self, n: int) -> None:
        super().__init__()
        self.register_buffer("freqs", torch.randn(n) * FOURIER_SCALE)


class EdmUNet(nn.Module):
    """(B, d), noise (B,) → (B, d + 1), the last component zero: heads of denoisers read the others.

    Args:
        shape: of one image, (C, n, n).
        width: channels over ``keys.channel_mult``.
        depth: blocks of a resolution on the way down.
        keys: the rest.
    """

    kernel: Tensor

    def __init__(self, shape: tuple[int, ...], width: int, depth: int, keys: EdmKeys) -> None:
        super().__init__()
        self.shape, self.width, self.form, self.keys = shape, width, FORMS[keys.form], keys
        self.register_buffer("kernel", self.form.kernel(), persistent=False)
        e, noise, adm = EMBEDDING * width, self.form.noise * width, self.form.adaptive
        if self.form.fourier:
            self.map_noise = Frequencies(noise // 2)
        if keys.labels:
            self.map_label = linear(keys.labels, e if adm else noise, bias=not adm)
        if keys.augment_dim:
            self.map_augment = linear(keys.augment_dim, noise, bias=False)
        self.map_layer0, self.map_layer1 = linear(noise, e), linear(e, e)
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        c = self._downwards(depth, e)
        self._upwards(depth, e, c)
        channels_last(self)

    def _block(self, c_in: int, c_out: int, e: int, attends: bool = False, way: Literal["down", "up"] | None = None) -> Block:
        return Block(c_in, c_out, e, self.form, attends, self.keys.dropout, way)

    def _downwards(self, depth: int, e: int) -> list[int]:
        """Make the way down; the channels of what is kept."""
        c, image = self.width * (self.keys.channel_mult[0] if self.form.adaptive else 1), self.shape[0]
        kept = [c]
        for level, mult in enumerate(self.keys.channel_mult):
            n = self.shape[1] >> level
            if not level:
                self.enc[f"{n}x{n}_conv"] = conv(image, c)
            else:
                self.enc[f"{n}x{n}_down"] = self._block(c, c, e, way="down")
                if self.form.residual:
                    self.enc[f"{n}x{n}_aux_residual"] = conv(image, c)
                    image = c
                kept.append(c)
            for k in range(depth):
                self.enc[f"{n}x{n}_block{k}"] = self._block(c, self.width * mult, e, n in self.keys.attention)
                c = self.width * mult
                kept.append(c)
        return kept

    def _upwards(self, depth: int, e: int, kept: list[int]) -> None:
        """Make the way up."""
        c, last = kept[-1], len(self.keys.channel_mult) - 1
        for level, mult in reversed(list(enumerate(self.keys.channel_mult))):
            n = self.shape[1] >> level
            if level == last:
                self.dec[f"{n}x{n}_in0"] = self._block(c, c, e, attends=True)
                self.dec[f"{n}x{n}_in1"] = self._block(c, c, e)
            else:
                self.dec[f"{n}x{n}_up"] = self._block(c, c, e, way="up")
            for k in range(depth + 1):
                attends = n in self.keys.attention and (self.form.adaptive or k == depth)
                self.dec[f"{n}x{n}_block{k}"] = self._block(c + kept.pop(), self.width * mult, e, attends)
                c = self.width * mult
        end = norm(c, self.form.eps), conv(c, self.shape[0], gain=NEARLY_ZERO)
        if self.form.adaptive:
            self.out_norm, self.out_conv = end
        else:
            self.dec[f"{n}x{n}_aux_norm"], self.dec[f"{n}x{n}_aux_conv"] = end

    def filters(self) -> list[str]:
        """Names under which the files keep the filter; here it is known from the form."""
        found = []
        for name, part in self.named_modules():
            if isinstance(part, Block) and part.way is not None:
                found += [f"{name}.conv0.resample_filter", f"{name}.skip.resample_filter"]
            elif name.endswith("aux_residual"):
                found.append(f"{name}.resample_filter")
        return found

    def forward(
        self, x: Tensor, noise: Tensor, labels: Tensor | None = None, augment: Tensor | None = None,
        told: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        e = self.embedding(noise, self._labels(x) if labels is None else labels, augment, told)
        h = image = x.reshape(-1, *self.shape)
        kept: list[Tensor] = []
        for name, part in self.enc.items():
            if name.endswith("aux_residual"):
                h = image = kept[-1] = (h + self._filtered(part, image)) / math.sqrt(2)
                continue
            h = part(h, e) if isinstance(part, Block) else part(h)
            kept.append(h)
        ends = []
        for name, part in self.dec.items():
            if not isinstance(part, Block):
                ends.append(part)
                continue
            h = part(torch.cat([h, kept.pop()], 1) if "_block" in name else h, e)
        last_norm, last_conv = ends or (self.out_norm, self.out_conv)
        out: Tensor = last_conv(F.silu(last_norm(h))).reshape(-1, prod(self.shape))
        return F.pad(out, (0, 1))

    def embedding(self, noise: Tensor, labels: Tensor | None, augment: Tensor | None, told: Tensor | None = None) -> Tensor:
        """e (B, 4 width) of the noise (B,), class labels (B, labels), parameters of an augmentation, a vector (B, 4 width)."""
        seen = self._sines(noise)
        if augment is not None:
            seen = seen + self.map_augment(augment)
        if labels is not None and not self.form.adaptive:
            seen = seen + self.map_label(labels * math.sqrt(self.keys.labels))
        e: Tensor = self.map_layer1(F.silu(self.map_layer0(seen)))
        if labels is not None and self.form.adaptive:
            e = e + self.map_label(labels)
        return F.silu(e if told is None else e + told)

    def _sines(self, noise: Tensor) -> Tensor:
        if self.form.fourier:
            angle = 2 * math.pi * noise[:, None] * self.map_noise.freqs
            return torch.cat([angle.sin(), angle.cos()], 1)
        if not self.form.adaptive:
            return positional_embedding(noise, self.width)
        half = self.width // 2
        angle = noise[:, None] * LONGEST_PERIOD ** -(torch.arange(half, dtype=noise.dtype, device=noise.device) / half)
        return torch.cat([angle.cos(), angle.sin()], 1)

    def _labels(self, x: Tensor) -> Tensor | None:
        """Zeros, or the class that the network was made for; None where it knows none."""
        if not self.keys.labels:
            return None
        made = torch.zeros(1, self.keys.labels, dtype=x.dtype, device=x.device)
        if self.keys.label is not None:
            made[:, self.keys.label] = 1
        return made

    def _filtered(self, layer: nn.Module, image: Tensor) -> Tensor:
        """The image at half the resolution: a convolution whose rim the filter takes away."""
        assert isinstance(layer, nn.Conv2d)
        rim = (len(self.form.filter) - 1) // 2
        wide = F.conv2d(image, layer.weight, layer.bias, padding=1 + rim)
        c = wide.shape[1]
        return F.conv2d(wide, self.kernel.expand(c, -1, -1, -1), stride=2, groups=c)


def _check(config: NetworkConfig, shape: tuple[int, ...], process: str) -> None:
    keys = EdmKeys.of(config)
    if len(shape) != 3 or shape[1] != shape[2]:
        raise Mistake("network.name", f"edm needs square images, the data have shape {shape}; use unet or mlp")
    halvings = len(keys.channel_mult) - 1
    if shape[1] % 2**halvings:
        raise Mistake("network.channel_mult", f"images of side {shape[1]} cannot be halved {halvings} times; name fewer")
    if config.head is None:
        raise Mistake("network.head", "edm is told the noise level alone, as the published heads do; give edm, vp or ve")
    levels = [config.width * m for m in (1, *keys.channel_mult)]
    if config.width % 4 or any(c % groups(c) for c in (*levels, *(a + b for a in levels for b in levels))):
        raise Mistake("network.width", f"edm normalises channels in groups, for which {config.width} is no good; use 32, 64, …")
    if keys.label is not None and keys.label >= keys.labels:
        raise Mistake("network.label", f"{keys.label} is none of the {keys.labels} classes that the network knows")


def _build(config: NetworkConfig, shape: tuple[int, ...], embedding: int) -> EdmUNet:
    return EdmUNet(shape, config.width, config.depth, EdmKeys.of(config))


EDM = NetworkKind(Keys=EdmKeys, build=_build, check=_check, embeds=False, told=lambda config: EMBEDDING * config.width)
