"""NCSN++ of the PFGM authors against a transcription of its forward pass, and its checkpoints."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from helpers.authors_layout import Content, contents, random_ncsnpp, saved
from torch import Tensor

from pfgm.config import NetworkConfig, TrainConfig
from pfgm.flow.checkpoint import load_field
from pfgm.flow.poisson_flow import AUTHORS, from_poisson_flow
from pfgm.flow.written import save_field
from pfgm.networks.build import build_network, check_network
from pfgm.networks.ncsnpp.unet import NCSNpp
from pfgm.training.footprint import call_peak

Embedding = Literal["fourier", "positional"]
FIR = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
SHAPE = (3, 32, 32)


class Transcribed:
    """The authors' forward pass, written down layer by layer from their configuration, over tensors by their names."""

    def __init__(self, tensors: dict[str, Tensor], width: int, blocks: int, mults: tuple[int, ...], size: int) -> None:
        self.tensors = {name.removeprefix("module.all_modules."): t for name, t in tensors.items()}
        self.width, self.blocks, self.mults, self.size, self.at = width, blocks, mults, size, 0
        self.used: set[str] = set()

    def get(self, name: str) -> Tensor:
        self.used.add(f"{self.at}.{name}")
        return self.tensors[f"{self.at}.{name}"]

    def has(self, name: str) -> bool:
        return f"{self.at}.{name}" in self.tensors

    def norm(self, h: Tensor, name: str) -> Tensor:
        prefix, channels = f"{name}." if name else "", h.shape[1]
        parts = h.reshape(len(h), min(channels // 4, 32), -1)
        centred = parts - parts.mean(2, keepdim=True)
        unit = (centred / (centred.square().mean(2, keepdim=True) + 1e-6).sqrt()).reshape(h.shape)
        return unit * self.get(f"{prefix}weight")[None, :, None, None] + self.get(f"{prefix}bias")[None, :, None, None]

    def conv(self, h: Tensor, name: str, padding: int) -> Tensor:
        prefix = f"{name}." if name else ""
        return F.conv2d(h, self.get(f"{prefix}weight"), self.get(f"{prefix}bias"), padding=padding)

    def dense(self, e: Tensor, name: str = "") -> Tensor:
        prefix = f"{name}." if name else ""
        return e @ self.get(f"{prefix}weight").T + self.get(f"{prefix}bias")

    def up(self, h: Tensor) -> Tensor:
        """Zeros between the pixels, then the filter, whose sum is 4."""
        spread = h.new_zeros(*h.shape[:2], 2 * h.shape[2], 2 * h.shape[3])
        spread[:, :, ::2, ::2] = h
        return 4 * filtered(spread, 2, 1)

    def block(self, h: Tensor, e: Tensor, change: str = "") -> Tensor:
        inner = swish(self.norm(h, "GroupNorm_0"))
        if change == "down":
            inner, h = filtered(inner, 1, 1)[:, :, ::2, ::2], filtered(h, 1, 1)[:, :, ::2, ::2]
        elif change == "up":
            inner, h = self.up(inner), self.up(h)
        inner = self.conv(inner, "Conv_0", 1) + self.dense(swish(e), "Dense_0")[:, :, None, None]
        inner = self.conv(swish(self.norm(inner, "GroupNorm_1")), "Conv_1", 1)
        if self.has("Conv_2.weight"):
            h = self.conv(h, "Conv_2", 0)
        self.at += 1
        return (h + inner) / math.sqrt(2)

    def attention(self, h: Tensor) -> Tensor:
        normed = self.norm(h, "GroupNorm_0")
        q, k, v = (
            torch.einsum("bchw,cd->bdhw", normed, self.get(f"NIN_{i}.W")) + self.get(f"NIN_{i}.b")[None, :, None, None]
            for i in range(3)
        )
        weights = torch.einsum("bchw,bcij->bhwij", q, k) / math.sqrt(h.shape[1])
        weights = weights.flatten(3).softmax(3).reshape(weights.shape)
        mixed = torch.einsum("bhwij,bcij->bchw", weights, v)
        out = torch.einsum("bchw,cd->bdhw", mixed, self.get("NIN_3.W")) + self.get("NIN_3.b")[None, :, None, None]
        self.at += 1
        return (h + out) / math.sqrt(2)

    def pyramid(self, image: Tensor) -> Tensor:
        """The filter over the image with two zeros around, then a convolution without any, every second pixel."""
        out = F.conv2d(filtered(image, 2, 2), self.get("Conv2d_0.weight"), stride=2)
        out = out + self.get("Conv2d_0.bias")[None, :, None, None]
        self.at += 1
        return out

    def embedded(self, z: Tensor) -> Tensor:
        if self.has("W"):
            angle = z.log()[:, None] * self.get("W")[None] * 2 * math.pi
            self.at += 1
        else:
            half = self.width // 2
            angle = z[:, None] * torch.exp(-torch.arange(half).to(z) * math.log(10_000) / (half - 1))
        e = self.dense(torch.cat([angle.sin(), angle.cos()], 1))
        self.at += 1
        e = self.dense(swish(e))
        self.at += 1
        return e

    def __call__(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        self.at = 0
        e, pyramid = self.embedded(z), x
        kept, n = [self.conv(x, "", 1)], self.size
        self.at += 1
        for level in range(len(self.mults)):
            for _ in range(self.blocks):
                h = self.block(kept[-1], e)
                kept.append(self.attention(h) if n == 16 else h)
            if level < len(self.mults) - 1:
                h, n = self.block(kept[-1], e, "down"), n // 2
                pyramid = (self.pyramid(pyramid) + h) / math.sqrt(2)
                kept.append(pyramid)
        h = self.block(self.attention(self.block(kept[-1], e)), e)
        for level in reversed(range(len(self.mults))):
            for _ in range(self.blocks + 1):
                h = self.block(torch.cat([h, kept.pop()], 1), e)
            h = self.attention(h) if n == 16 else h
            if level:
                h, n = self.block(h, e, "up"), 2 * n
        h = swish(self.norm(h, ""))
        self.at += 1
        h = self.conv(h, "", 1)
        return h[:, :-1], h[:, -1].mean((1, 2))


def swish(h: Tensor) -> Tensor:
    return h / (1 + (-h).exp())


def filtered(h: Tensor, before: int, after: int) -> Tensor:
    """The filter of both axes at every place, by shifted sums, with so many zeros before and after."""
    wide = F.pad(h, (before, after, before, after))
    rows = sum(FIR[k].to(h) * wide[:, :, k : wide.shape[2] - 3 + k] for k in range(4))
    assert isinstance(rows, Tensor)
    both = sum(FIR[k].to(h) * rows[:, :, :, k : rows.shape[3] - 3 + k] for k in range(4))
    assert isinstance(both, Tensor)
    return both


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("embedding", ["fourier", "positional"])
def test_the_network_is_the_authors_layer_for_layer(embedding: Embedding, dtype: torch.dtype) -> None:
    """Random weights, three resolutions with attention at the second: 1e-5 of the output's size, no tensor unused."""
    network = random_ncsnpp(SHAPE, embedding).to(dtype)
    theirs = Transcribed({k: t for k, t in contents(network)["model"].items() if "sigmas" not in k}, 32, 1, (1, 2, 2), 32)
    x, t = torch.randn(2, 3072, dtype=dtype), torch.tensor([0.02, 7.0], dtype=dtype)
    with torch.no_grad():
        out, (direction, height) = network(x, t), theirs(x.reshape(2, *SHAPE), t)
    assert theirs.used == set(theirs.tensors)
    expected = torch.cat([direction.flatten(1), height[:, None]], 1)
    for part in (slice(0, 3072), slice(3072, 3073)):
        error = float((out[:, part] - expected[:, part]).norm() / expected[:, part].norm())
        assert error < {torch.float32: 1e-5, torch.float64: 1e-12}[dtype]


@pytest.mark.parametrize("embedding", ["fourier", "positional"])
@pytest.mark.parametrize("weights", ["ema", "model"])
def test_a_checkpoint_is_read_whole(embedding: Embedding, weights: Literal["ema", "model"], tmp_path: Path) -> None:
    """Averages of all that is trained; the frequencies, which are not, are those of the file either way."""
    network = random_ncsnpp(SHAPE, embedding)
    path = saved(tmp_path / "checkpoint_26.pth", contents(network))
    field = from_poisson_flow(path, weights=weights)
    path.unlink()
    config = field.network_config
    assert (config.name, config.width, config.depth, config.channel_mult) == ("ncsnpp", 32, 1, (1, 2, 2))
    assert config.embedding == embedding and field.process.info.shape == SHAPE
    factor = {"ema": 0.5, "model": 1.0}[weights]
    for (name, mine), (_, theirs) in zip(
        field.network.backbone.state_dict().items(), network.state_dict().items(), strict=True
    ):
        assert torch.equal(mine, theirs if name == "all_modules.0.W" else factor * theirs), name
    images = field.sample(2, solver="heun2", steps=2)
    assert images.shape == (2, *SHAPE)
    save_field(field, tmp_path / "field")
    assert torch.equal(load_field(tmp_path / "field").sample(2, solver="heun2", steps=2), images)


DAMAGE = {
    "no frequencies": ("module.all_modules.0.W", r"in an order that is not DDPM\+\+'s or NCSN\+\+'s"),
    "no image beside": ("module.all_modules.6.Conv2d_0.bias", r"lacks all_modules\.6\.Conv2d_0\.bias"),
    "no norm": ("module.all_modules.4.GroupNorm_0.weight", r"lacks all_modules\.4\.GroupNorm_0\.weight"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_refused(kind: str, tmp_path: Path) -> None:
    name, message = DAMAGE[kind]
    content: Content = contents(random_ncsnpp(SHAPE, "fourier"))
    del content["model"][name]
    with pytest.raises(ValueError, match=message):
        from_poisson_flow(saved(tmp_path / "c.pth", content))


def test_averages_of_the_frequencies_are_one_too_many(tmp_path: Path) -> None:
    content = contents(random_ncsnpp(SHAPE, "fourier"))
    content["ema"]["shadow_params"].insert(0, torch.zeros(32))
    with pytest.raises(ValueError, match=r"ema\.shadow_params has \d+ tensors, not \d+; "):
        from_poisson_flow(saved(tmp_path / "c.pth", content))


def test_the_published_network_has_the_authors_size() -> None:
    """By hand: DDPM++ of the same layout, a wider first layer, frequencies, and three convolutions of the image."""
    published = AUTHORS["cifar10_ncsnpp"]
    sizes = {}
    for name in ("cifar10_ddpmpp", "cifar10_ncsnpp"):
        with torch.device("meta"):
            network = build_network(AUTHORS[name].network, AUTHORS[name].shape, 1.0, 1.0)
        sizes[name] = sum(t.numel() for t in network.state_dict().values())
    beside = sum(9 * a * b + b for a, b in ((3, 128), (128, 256), (256, 256)))
    assert sizes["cifar10_ncsnpp"] - sizes["cifar10_ddpmpp"] == beside + 128 * 512 + 128
    assert (published.train.ema_decay, published.train.reference_batch_size, published.sampler.T) == (0.999, 4096, 40.0)
    assert isinstance(network.backbone, NCSNpp) and call_peak(network, published.shape, 1) > 0


def test_a_fresh_network_says_nothing_and_learns_everywhere() -> None:
    torch.manual_seed(0)
    config = NetworkConfig.model_validate({"name": "ncsnpp", "width": 8, "depth": 1, "channel_mult": (1, 2)})
    network = build_network(config, (1, 16, 16), 1.0, 1.0)
    x, t = 3 * torch.randn(8, 256), torch.logspace(-3, 1.5, 8)
    assert float(network(x, t).detach().abs().max()) < 1e-3
    frequencies = network.backbone.get_buffer("all_modules.0.W").clone()
    for _ in range(3):
        network.zero_grad()
        (network(x, t) + torch.cat([x, t[:, None]], 1)).square().mean().backward()
        with torch.no_grad():
            for p in network.parameters():
                assert p.grad is not None
                p -= 0.1 * p.grad
    assert [name for name, p in network.named_parameters() if p.grad is None or float(p.grad.abs().max()) == 0] == []
    assert torch.equal(network.backbone.get_buffer("all_modules.0.W"), frequencies)


def test_what_it_cannot_take_is_refused() -> None:
    config = NetworkConfig(name="ncsnpp", width=32)
    with pytest.raises(ValueError, match="ncsnpp belongs to process pfgm, this run uses ve; use edm with form: ncsnpp"):
        check_network(config, SHAPE, TrainConfig(process="ve").process)
    with pytest.raises(ValueError, match="ncsnpp needs images, the data are vectors"):
        check_network(config, (12,), "pfgm")
    with pytest.raises(ValueError, match="embedding: belongs to network ncsnpp, this one is mlp; remove it"):
        NetworkConfig.model_validate({"embedding": "fourier"})
