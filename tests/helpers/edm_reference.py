"""The U-Nets of the EDM code once more, as plain arithmetic on named tensors: what the toolkit's networks are compared with.

Written from the public code's behaviour, apart from `pfgm.networks.edm` and in another style: no modules, a walk over names.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Options:
    """What such a network is made with."""

    form: str = "ddpmpp"
    size: int = 8
    colours: int = 3
    width: int = 16
    mult: tuple[int, ...] = (1, 2)
    blocks: int = 1
    attention: tuple[int, ...] = (4,)
    labels: int = 0
    augment: int = 0

    @property
    def filter(self) -> tuple[float, ...]:
        return (1.0, 3.0, 3.0, 1.0) if self.form == "ncsnpp" else (1.0, 1.0)

    @property
    def noise(self) -> int:
        return self.width * (2 if self.form == "ncsnpp" else 1)


def shapes(o: Options) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every tensor of the U-Net, with its shape."""
    e, adm = 4 * o.width, o.form == "adm"
    k = len(o.filter)

    def linear(name: str, a: int, b: int, bias: bool = True) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", (b, a)
        if bias:
            yield f"{name}.bias", (b,)

    def conv(name: str, a: int, b: int, n: int, resamples: bool = False) -> Iterator[tuple[str, tuple[int, ...]]]:
        if n:
            yield f"{name}.weight", (b, a, n, n)
            yield f"{name}.bias", (b,)
        if resamples:
            yield f"{name}.resample_filter", (1, 1, k, k)

    def norm(name: str, a: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", (a,)
        yield f"{name}.bias", (a,)

    def block(name: str, a: int, b: int, attends: bool, resamples: bool = False) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield from norm(f"{name}.norm0", a)
        yield from conv(f"{name}.conv0", a, b, 3, resamples)
        yield from linear(f"{name}.affine", e, 2 * b if adm else b)
        yield from norm(f"{name}.norm1", b)
        yield from conv(f"{name}.conv1", b, b, 3)
        if a != b or resamples:
            yield from conv(f"{name}.skip", a, b, 0 if adm and a == b else 1, resamples)
        if attends and not (adm and b < 64):
            yield from norm(f"{name}.norm2", b)
            yield from conv(f"{name}.qkv", b, 3 * b, 1)
            yield from conv(f"{name}.proj", b, b, 1)

    if o.form == "ncsnpp":
        yield "map_noise.freqs", (o.noise // 2,)
    if o.labels and not adm:
        yield from linear("map_label", o.labels, o.noise)
    if o.augment:
        yield from linear("map_augment", o.augment, o.noise, bias=False)
    yield from linear("map_layer0", o.noise, e)
    yield from linear("map_layer1", e, e)
    if o.labels and adm:
        yield from linear("map_label", o.labels, e, bias=False)
    c = o.width * (o.mult[0] if adm else 1)
    yield from conv(f"enc.{o.size}x{o.size}_conv", o.colours, c, 3)
    kept, auxiliary = [c], o.colours
    for level, m in enumerate(o.mult):
        at = f"{o.size >> level}x{o.size >> level}"
        if level:
            yield from block(f"enc.{at}_down", c, c, False, True)
            if o.form == "ncsnpp":
                yield from conv(f"enc.{at}_aux_residual", auxiliary, c, 3, True)
                auxiliary = c
            kept.append(c)
        for i in range(o.blocks):
            yield from block(f"enc.{at}_block{i}", c, o.width * m, (o.size >> level) in o.attention)
            c = o.width * m
            kept.append(c)
    for level in reversed(range(len(o.mult))):
        r = o.size >> level
        if level == len(o.mult) - 1:
            yield from block(f"dec.{r}x{r}_in0", c, c, True)
            yield from block(f"dec.{r}x{r}_in1", c, c, False)
        else:
            yield from block(f"dec.{r}x{r}_up", c, c, False, True)
        for i in range(o.blocks + 1):
            attends = r in o.attention and (adm or i == o.blocks)
            yield from block(f"dec.{r}x{r}_block{i}", c + kept.pop(), o.width * o.mult[level], attends)
            c = o.width * o.mult[level]
    first, last = ("out_norm", "out_conv") if adm else (f"dec.{o.size}x{o.size}_aux_norm", f"dec.{o.size}x{o.size}_aux_conv")
    yield from norm(first, c)
    yield from conv(last, c, o.colours, 3)


def random_weights(o: Options, seed: int = 0) -> Weights:
    """Numbers of order one for every tensor; the filters are the form's."""
    g = torch.Generator().manual_seed(seed)
    f = torch.tensor(o.filter)
    made: Weights = {}
    for name, shape in shapes(o):
        if name.endswith("resample_filter"):
            made[name] = (torch.outer(f, f) / f.sum() ** 2)[None, None]
        elif len(shape) > 1:
            made[name] = torch.randn(shape, generator=g) * math.sqrt(2 / math.prod(shape[1:]))
        else:
            made[name] = torch.randn(shape, generator=g) * (16 if "freqs" in name else 0.1) + (0.5 if "norm" in name else 0)
    return made


def along(x: Tensor, axis: int, f: tuple[float, ...], up: bool) -> Tensor:
    """Half or twice the length of an axis, tap by tap: y_i = Σ f_k x_{2i + k − p}, or y_{2i + k − p} += 2 f_k x_i."""
    x = x.movedim(axis, 0)
    n, p = len(x), (len(f) - 1) // 2
    y = x.new_zeros(2 * n if up else n // 2, *x.shape[1:])
    for k, tap in enumerate(f):
        for i in range(n if up else n // 2):
            j = 2 * i + k - p
            if up and 0 <= j < len(y):
                y[j] += 2 * tap / sum(f) * x[i]
            elif not up and 0 <= j < n:
                y[i] += tap / sum(f) * x[j]
    return y.movedim(0, axis)


def forward(w: Weights, o: Options, x: Tensor, noise: Tensor, labels: Tensor | None, augment: Tensor | None = None) -> Tensor:
    """The U-Net's output at images x (B, C, H, W), noise labels (B,) and class labels (B, n)."""
    adm = o.form == "adm"

    def resampled(h: Tensor, up: bool) -> Tensor:
        return along(along(h, 2, o.filter, up), 3, o.filter, up)

    def linear(name: str, h: Tensor) -> Tensor:
        return h @ w[f"{name}.weight"].T + w.get(f"{name}.bias", torch.zeros((), dtype=h.dtype))

    def conv(name: str, h: Tensor, padding: int | None = None) -> Tensor:
        kernel = w[f"{name}.weight"]
        return F.conv2d(h, kernel, padding=kernel.shape[-1] // 2 if padding is None else padding) + w[f"{name}.bias"].view(
            1, -1, 1, 1
        )

    def norm(name: str, h: Tensor) -> Tensor:
        c = h.shape[1]
        grouped = h.reshape(len(h), min(32, c // 4), -1)
        mean, var = grouped.mean(2, keepdim=True), grouped.var(2, keepdim=True, unbiased=False)
        flat = ((grouped - mean) / (var + (1e-5 if adm else 1e-6)).sqrt()).reshape(h.shape)
        return flat * w[f"{name}.weight"].view(1, -1, 1, 1) + w[f"{name}.bias"].view(1, -1, 1, 1)

    def block(name: str, h: Tensor) -> Tensor:
        up = None if not name.endswith(("_up", "_down")) else name.endswith("_up")
        scale = 1.0 if adm else math.sqrt(0.5)
        inner = F.silu(norm(f"{name}.norm0", h))
        inner = conv(f"{name}.conv0", inner if up is None else resampled(inner, up))
        told = linear(f"{name}.affine", e)[:, :, None, None]
        if adm:
            gain, shift = told.chunk(2, 1)
            inner = F.silu(norm(f"{name}.norm1", inner) * (1 + gain) + shift)
        else:
            inner = F.silu(norm(f"{name}.norm1", inner + told))
        past = h if up is None else resampled(h, up)
        past = conv(f"{name}.skip", past) if f"{name}.skip.weight" in w else past
        h = (conv(f"{name}.conv1", inner) + past) * scale
        if f"{name}.qkv.weight" in w:
            heads = h.shape[1] // 64 if adm else 1
            q, k, v = conv(f"{name}.qkv", norm(f"{name}.norm2", h)).reshape(len(h), heads, h.shape[1] // heads, 3, -1).unbind(3)
            share = torch.einsum("bhcq,bhck->bhqk", q, k / math.sqrt(q.shape[2])).softmax(3)
            h = (conv(f"{name}.proj", torch.einsum("bhqk,bhck->bhcq", share, v).reshape(h.shape)) + h) * scale
        return h

    half = o.noise // 2
    if o.form == "ncsnpp":
        angle = noise[:, None] * 2 * math.pi * w["map_noise.freqs"]
    else:
        angle = noise[:, None] * 1e4 ** (-torch.arange(half, dtype=noise.dtype) / (half if adm else half - 1))
    e = torch.cat([angle.cos(), angle.sin()] if adm else [angle.sin(), angle.cos()], 1)
    if labels is not None and not adm:
        e = e + linear("map_label", labels * math.sqrt(o.labels))
    if augment is not None:
        e = e + linear("map_augment", augment)
    e = linear("map_layer1", F.silu(linear("map_layer0", e)))
    e = F.silu(e + linear("map_label", labels) if adm and labels is not None else e)

    stages = list(dict.fromkeys(".".join(name.split(".")[:2]) for name in w if name.startswith(("enc.", "dec."))))
    kept: list[Tensor] = []
    h, residual = x, x
    for name in stages:
        if name.endswith("aux_residual"):
            wide = conv(name, residual, 1 + (len(o.filter) - 1) // 2) - w[f"{name}.bias"].view(1, -1, 1, 1)
            inside = along_valid(wide, o.filter) + w[f"{name}.bias"].view(1, -1, 1, 1)
            h = residual = kept[-1] = (h + inside) / math.sqrt(2)
        elif name.startswith("enc"):
            h = conv(name, h) if name.endswith("_conv") else block(name, h)
            kept.append(h)
        elif "_aux_" not in name:
            h = block(name, torch.cat([h, kept.pop()], 1) if "_block" in name else h)
    ends = ("out_norm", "out_conv") if adm else tuple(s for s in stages if "_aux_" in s and s.startswith("dec"))
    return conv(ends[1], F.silu(norm(ends[0], h)))


def along_valid(h: Tensor, f: tuple[float, ...]) -> Tensor:
    """Every second place where the filter lies inside, in both directions."""
    for axis in (2, 3):
        n = (h.shape[axis] - len(f)) // 2 + 1
        h = sum(tap / sum(f) * h.narrow(axis, k, 2 * n - 1).index_select(axis, 2 * torch.arange(n)) for k, tap in enumerate(f))
    return h


def denoised(
    w: Weights, o: Options, head: str, x: Tensor, sigma: Tensor, labels: Tensor | None = None, sigma_data: float = 0.5
) -> Tensor:
    """D(x; σ) of the published preconditionings."""
    if labels is None and o.labels:
        labels = torch.zeros(1, o.labels, dtype=x.dtype)
    s = sigma.view(-1, 1, 1, 1)
    if head == "edm":
        skip, out = sigma_data**2 / (s**2 + sigma_data**2), s * sigma_data / (s**2 + sigma_data**2).sqrt()
        inside, noise = 1 / (sigma_data**2 + s**2).sqrt(), sigma.log() / 4
    elif head == "ve":
        skip, out, inside, noise = torch.ones_like(s), s, torch.ones_like(s), (0.5 * sigma).log()
    else:
        skip, out, inside = torch.ones_like(s), -s, 1 / (s**2 + 1).sqrt()
        noise = 999 * ((0.1**2 + 2 * 19.9 * (1 + sigma**2).log()).sqrt() - 0.1) / 19.9
    return skip * x + out * forward(w, o, inside * x, noise, labels)
