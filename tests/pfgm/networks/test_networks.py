"""DDPM++: sizes of the published networks, its parts against their formulas, numbers, dropout that resumes, refusals."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.folder import Folder
from torch import Tensor, nn

from pfgm.config import DataConfig, NetworkConfig, TrainConfig
from pfgm.data.dataset import Dataset, load_data
from pfgm.flow.packed import pack_tensors, unpack_tensors
from pfgm.flow.poisson_flow import AUTHORS
from pfgm.networks.build import build_network, describe_network
from pfgm.networks.cost import network_cost, with_prefix
from pfgm.networks.ddpmpp import Attention, ChannelMap, DDPMpp, ResidualBlock, positional_embedding
from pfgm.training.history import FIELD_VERSION
from pfgm.training.parts import InParts
from pfgm.training.trainer import Trainer
from study.config.yaml_source import ConfigError
from study.plan.identity import digest
from study.plan.make import make_plan

TINY = NetworkConfig(name="ddpmpp", width=8, depth=1, channel_mult=(1, 2), dropout=0.3)
TRAIN = TrainConfig(steps=6, batch_size=8, sigma=0.05, warmup_steps=2)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """24 images of 16 × 16, a bright square in each."""
    rng, values = np.random.default_rng(0), np.full((24, 16, 16), -1.0, np.float32)
    for image, (i, j) in zip(values, rng.integers(0, 12, (24, 2)), strict=True):
        image[i : i + 4, j : j + 4] = 1.0
    path = tmp_path_factory.mktemp("images") / "squares.npz"
    np.savez(path, x=values)
    return load_data(DataConfig(name="npz", path=str(path), center=False))


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def waves(network: nn.Module) -> None:
    """Weights by a formula: sines, of Kaiming's size, and numbers about 0.5 for vectors."""
    with torch.no_grad():
        for i, p in enumerate(network.parameters()):
            wave = torch.sin(0.7 * torch.arange(p.numel(), dtype=torch.float64) + i).reshape(p.shape)
            p.copy_(wave * math.sqrt(2 / p[0].numel()) if p.ndim > 1 else 0.5 + 0.3 * wave)


SIZES = {
    "cifar10_ddpmpp": (61_805_572, 564),
    "cifar10_ddpmpp_deep": (106_633_732, 956),
    "celeba64": (61_805_572, 564),
    "lsun_bedroom256": (124_076_292, 530),
}
"""Parameters and tensors of the authors' networks."""


@pytest.mark.parametrize("name", SIZES)
def test_published_networks_have_the_authors_sizes(name: str) -> None:
    with torch.device("meta"):
        network = build_network(AUTHORS[name].network, AUTHORS[name].shape, 1.0, 1.0)
    parameters = list(network.parameters())
    assert (sum(p.numel() for p in parameters), len(parameters)) == SIZES[name]
    assert list(network.state_dict()) == [name for name, _ in network.named_parameters()]  # no buffers


def test_numbers_of_the_authors_architecture() -> None:
    """Outputs computed with their layers (einsum attention, resampling by reshapes), weights by `waves`, float64."""
    network = DDPMpp((2, 32, 32), 8, 2, (1, 2, 2), 0.1).double().eval()
    waves(network)
    size = torch.tensor([1.0, 4.0, 30.0], dtype=torch.float64)
    x = torch.sin(1.3 * torch.arange(3 * 2048, dtype=torch.float64)).reshape(3, 2048) * size[:, None]
    expected = torch.tensor(
        [
            [0.534862909, 0.186385833, -0.201862968, -1.85232627, 0.351783098],
            [0.615236225, 0.276867622, 0.166189533, -1.8782835, 0.351495514],
            [1.28578771, 0.281692801, 0.516950399, -0.852559366, 0.330887037],
        ],
        dtype=torch.float64,
    )
    out = network(x, torch.tensor([0.001, 0.7, 35.0], dtype=torch.float64)).detach()
    assert out.shape == (3, 2049)
    torch.testing.assert_close(out[:, [0, 777, 1500, 2047, 2048]], expected, rtol=1e-4, atol=0)
    rms = torch.tensor([0.826573864, 0.820211827, 0.461474173], dtype=torch.float64)
    torch.testing.assert_close(out.square().mean(1).sqrt(), rms, rtol=1e-6, atol=0)


def test_positional_embedding_is_its_formula() -> None:
    t = [1e-3, 0.5, 43.0]
    made = positional_embedding(torch.tensor(t, dtype=torch.float64), 16)
    for row, height in zip(made.tolist(), t, strict=True):
        angles = [height * 10_000 ** (-k / 7) for k in range(8)]
        assert row == pytest.approx([math.sin(a) for a in angles] + [math.cos(a) for a in angles], rel=1e-12)


def normed(h: Tensor, groups: int) -> Tensor:
    """Group norm with unit weights by its definition."""
    parts = h.reshape(len(h), groups, -1)
    centred = parts - parts.mean(2, keepdim=True)
    return (centred / (centred.square().mean(2, keepdim=True) + 1e-6).sqrt()).reshape(h.shape)


def test_attention_is_its_formula() -> None:
    """Every pixel by itself: Σ_j softmax_j(q_i · k_j/√C) v_j."""
    torch.manual_seed(0)
    attention = Attention(8).double()
    for part in (attention.query, attention.key, attention.value, attention.out):
        nn.init.normal_(part.W)
        nn.init.normal_(part.b)
    h = torch.randn(2, 8, 3, 2, dtype=torch.float64)
    pixels = normed(h, 2).permute(0, 2, 3, 1).reshape(2, 6, 8)

    def channel_map(part: ChannelMap, rows: Tensor) -> Tensor:
        return rows @ part.W + part.b

    q, k, v = (channel_map(part, pixels) for part in (attention.query, attention.key, attention.value))
    mixed = torch.zeros_like(v)
    for b in range(2):
        for i in range(6):
            weights = (k[b] @ q[b, i] / math.sqrt(8)).exp()
            mixed[b, i] = weights @ v[b] / weights.sum()
    expected = h + channel_map(attention.out, mixed).reshape(2, 3, 2, 8).permute(0, 3, 1, 2)
    torch.testing.assert_close(attention(h), expected / math.sqrt(2), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("resample", [None, "down", "up"])
@pytest.mark.parametrize("c_out", [8, 12])
def test_a_block_is_its_formula(c_out: int, resample: str | None) -> None:
    """Resampled before the first convolution, on both branches; a fresh one is its shortcut over √2."""
    torch.manual_seed(0)
    block = ResidualBlock(8, c_out, 5, 0.0, resample).double()  # type: ignore[arg-type]
    h, e = torch.randn(2, 8, 4, 6, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)

    def resampled(image: Tensor) -> Tensor:
        if resample == "down":
            return (image[..., ::2, ::2] + image[..., 1::2, ::2] + image[..., ::2, 1::2] + image[..., 1::2, 1::2]) / 4
        return image.repeat_interleave(2, 2).repeat_interleave(2, 3) if resample == "up" else image

    def swish(image: Tensor) -> Tensor:
        return image / (1 + (-image).exp())

    shortcut = resampled(h)
    if c_out != 8 or resample:
        shortcut = torch.einsum("oi,bihw->bohw", block.skip.weight[:, :, 0, 0], shortcut)
    torch.testing.assert_close(block(h, e), shortcut / math.sqrt(2), rtol=0, atol=1e-3)
    nn.init.normal_(block.conv_2.weight)
    inner = F.conv2d(resampled(swish(normed(h, 2))), block.conv_1.weight, padding=1)
    inner = inner + (swish(e) @ block.level.weight.T)[:, :, None, None]
    branch = F.conv2d(swish(normed(inner, c_out // 4)), block.conv_2.weight, padding=1)
    torch.testing.assert_close(block(h, e), (shortcut + branch) / math.sqrt(2), rtol=1e-9, atol=1e-9)


def test_a_fresh_network_says_nothing_and_learns_everywhere() -> None:
    """Zero up to its nearly zero last layer; after a few steps every tensor has a gradient."""
    torch.manual_seed(0)
    network = build_network(TINY, (1, 16, 16), 1.0, 1.0)
    x, t = 3 * torch.randn(8, 256), torch.logspace(-3, 1.5, 8)
    assert float(network(x, t).detach().abs().max()) < 1e-3
    for _ in range(3):
        network.zero_grad()
        (network(x, t) + torch.cat([x, t[:, None]], 1)).square().mean().backward()
        with torch.no_grad():
            for p in network.parameters():
                assert p.grad is not None
                p -= 0.1 * p.grad
    unmoved = [name for name, p in network.named_parameters() if p.grad is None or float(p.grad.abs().max()) == 0]
    assert unmoved == []


def test_weights_start_with_glorot_s_variance() -> None:
    """Bound √(6 s/(fan in + fan out)): s = 1, 0.1 into attention, 1e-10 where a branch or the network ends; biases are 0."""
    torch.manual_seed(0)
    network = DDPMpp((3, 16, 16), 32, 1, (1, 2), 0.0)
    scale = {"conv_2": 1e-10, "out": 1e-10, "query": 0.1, "key": 0.1, "value": 0.1}
    last = f"all_modules.{len(network.all_modules) - 1}.weight"
    for name, p in network.named_parameters():
        if p.ndim > 1:
            s = 1e-10 if name == last else scale.get(name.split(".")[2], 1.0)
            bound = math.sqrt(6 * s / (p[0].numel() + p[:, 0].numel()))
            assert 0.95 * bound < float(p.detach().abs().max()) <= bound, name
        else:
            is_gain = isinstance(network.get_submodule(name.rpartition(".")[0]), nn.GroupNorm) and name.endswith("weight")
            assert torch.equal(p, torch.full_like(p, float(is_gain))), name


def test_channels_last_and_bfloat16_change_rounding_alone() -> None:
    network = build_network(TINY, (1, 16, 16), 1.0, 1.0).eval()
    waves(network)
    x, t = torch.randn(4, 256, generator=torch.Generator().manual_seed(0)), torch.logspace(-3, 1.5, 4)
    expected = network(x, t)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network(x, t)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, expected, rtol=0.1, atol=0.05)
    torch.testing.assert_close(network.to(memory_format=torch.channels_last)(x, t), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network.double()(x.double(), t.double()).float(), expected, rtol=1e-4, atol=1e-5)


def test_cost_counts_matrix_products_and_convolutions() -> None:
    """Residual MLP by hand; DDPM++ by a count of every layer that a real call meets."""
    network = build_network(NetworkConfig(width=32, depth=2), (10,), 1.0, 1.0)
    layers = [(10, 32), *[(32, 32), (128, 32), (32, 32)] * 2, (32, 11), (64, 128), (128, 128)]
    assert network_cost(network, (10,)) == (sum(p.numel() for p in network.parameters()), sum(2 * a * b for a, b in layers))

    images = build_network(TINY, (1, 16, 16), 1.0, 1.0)
    counted: list[int] = []

    def count(module: nn.Module, inputs: tuple[Tensor], out: Tensor) -> None:
        if isinstance(module, nn.Conv2d | nn.Linear):
            counted.append(2 * module.weight.numel() * (out[0, 0].numel() if out.ndim == 4 else 1))
        elif isinstance(module, Attention):
            channels, pixels = out.shape[1], out[0, 0].numel()
            counted.append(4 * 2 * pixels * channels**2 + 2 * 2 * pixels**2 * channels)

    for module in images.modules():
        module.register_forward_hook(count)  # type: ignore[arg-type]
    images(torch.zeros(1, 256), torch.ones(1))
    expected = sum(counted)
    state, mode = torch.get_rng_state(), images.training
    for module in images.modules():
        module._forward_hooks.clear()
    assert network_cost(images, (1, 16, 16)) == (sum(p.numel() for p in images.parameters()), expected)
    assert torch.equal(torch.get_rng_state(), state) and images.training is mode
    assert describe_network(AUTHORS["cifar10_ddpmpp"].network, (3, 32, 32)).startswith("ddpmpp: 61.8 M parameters, ")
    assert [with_prefix(n) for n in (64, 999.6, 61_805_572, 2.5e13)] == ["64 ", "1 k", "61.8 M", "25 T"]


def test_the_trainer_tells_what_it_trains(images: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="pfgm.training.trainer"):
        Trainer(images, TINY, TRAIN, seed=0)
    assert [record.message for record in caplog.records] == [describe_network(TINY, (1, 16, 16))]


@pytest.mark.parametrize("parts", [1, 2])
def test_resume_with_dropout_is_bit_identical(images: Dataset, parts: int) -> None:
    """As without dropout, also where the network is called in parts and their masks are drawn twice."""

    def trainer() -> Trainer:
        made = Trainer(images, TINY, TRAIN, seed=3)
        made.parts = parts
        return made

    whole, first = trainer(), trainer()
    with one_thread():
        list(whole.run(1))
        torch.rand(100)  # the global stream is somewhere else
        next(first.run(report_every=2))
        second = Trainer(images, TINY, TRAIN, seed=3)
        second.load_state(unpack_tensors(pack_tensors(first.state())))
        torch.rand(7)
        list(second.run(1))
    assert second.parts == parts
    for a, b in zip(whole.parameters + whole.average, second.parameters + second.average, strict=True):
        assert torch.equal(a, b)


def test_dropout_leaves_the_global_stream_alone_and_follows_the_seed(images: Dataset) -> None:
    """Its masks depend on (seed, step), not on the configuration; without it the loss is another."""

    def losses(seed: int = 3, train: TrainConfig = TRAIN, dropout: float = 0.3) -> list[float]:
        trainer = Trainer(images, TINY.model_copy(update={"dropout": dropout}), train, seed)
        waves(trainer.network)
        with one_thread():
            return [p.loss for p in trainer.run(1)]

    state = torch.get_rng_state()
    base = losses()
    assert torch.equal(torch.get_rng_state(), state)
    assert losses() == base
    assert losses(train=TRAIN.model_copy(update={"learning_rate": 1e-4}))[0] == base[0]
    assert len({base[0], losses(seed=4)[0], losses(dropout=0.0)[0], losses(dropout=0.2)[0]}) == 4


def test_every_step_has_masks_of_its_own(images: Dataset) -> None:
    trainer = Trainer(images, TINY, TRAIN, seed=0)

    def drawn(step: int) -> Tensor:
        trainer.step = step
        with trainer._dropout():
            return torch.rand(4)

    assert torch.equal(drawn(2), drawn(2)) and not torch.equal(drawn(2), drawn(3))


def test_parts_recompute_the_masks_they_drew(images: Dataset) -> None:
    """A gradient in parts is that of the masks of its own forward pass: a scaled sum of the network's output."""
    network = build_network(TINY, (1, 16, 16), 1.0, 1.0)
    waves(network)
    x, t, direction = images.points[:4].float(), torch.ones(4), torch.randn(4, 257)
    torch.manual_seed(5)
    halves = [(network(x[:2], t[:2]) * direction[:2]).sum(), (network(x[2:], t[2:]) * direction[2:]).sum()]
    expected = torch.autograd.grad(sum(halves), list(network.parameters()))  # type: ignore[arg-type]
    torch.manual_seed(5)
    loss = (InParts(network, 2)(x, t) * direction).sum()
    torch.rand(11)
    made = torch.autograd.grad(loss, list(network.parameters()))
    for a, b in zip(made, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_a_trained_field_does_not_drop(images: Dataset) -> None:
    trainer = Trainer(images, TINY, TRAIN, seed=0)
    list(trainer.run())
    x, t = images.points[:3].float(), torch.ones(3)
    average = trainer.averaged_network()
    assert torch.equal(average(x, t), average(x, t)) and not average.training
    assert not torch.equal(trainer.network(x, t), trainer.network(x, t))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dropout": 0.1}, "dropout: belongs to network ddpmpp, this one is mlp; remove it"),
        ({"name": "unet", "channel_mult": [1, 2]}, "channel_mult: belongs to network ddpmpp, this one is unet; remove it"),
        ({"name": "ddpmpp", "skip": True}, "skip: the output of ddpmpp is the field as it is"),
        ({"name": "ddpmpp", "channel_mult": []}, "at least 1 item"),
        ({"name": "ddpmpp", "channel_mult": [1, 0]}, "greater than 0"),
        ({"name": "ddpmpp", "dropout": 1.0}, "less than 1"),
    ],
)
def test_networks_refuse_the_keys_of_others(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkConfig.model_validate(values)


def test_the_defaults_of_ddpmpp() -> None:
    made = NetworkConfig(name="ddpmpp")
    assert (made.channel_mult, made.dropout, made.skip) == ((1, 2, 2, 2), 0.0, False)
    assert (NetworkConfig().channel_mult, NetworkConfig().dropout, NetworkConfig().skip) == (None, None, True)


@pytest.mark.parametrize(
    ("shape", "changes", "message"),
    [
        ((2,), {}, r"network.name: ddpmpp needs images, the data are vectors of shape \(2,\); use name: mlp"),
        ((1, 28, 28), {"channel_mult": (1, 2, 2, 2)}, r"28 × 28 images cannot be halved 3 times; name 3 .*, e.g. \[1, 2, 2\]"),
        ((1, 5, 4), {}, r"5 × 4 images cannot be halved 1 times; name 1 resolution, e.g. \[1\]"),
        ((1, 16, 16), {"width": 36}, r"network.width: .* for which 36 is no good; use 32, 64"),
        ((1, 16, 16), {"width": 2}, r"network.width: .* for which 2 is no good"),
    ],
)  # fmt: skip
def test_ddpmpp_refuses_what_it_cannot_take(shape: tuple[int, ...], changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_network(TINY.model_copy(update=changes), shape, 1.0, 1.0)


def test_ddpmpp_is_for_process_pfgm(images: Dataset) -> None:
    with pytest.raises(ValueError, match=r"network\.name: ddpmpp belongs to process pfgm, this run uses pfgmpp"):
        Trainer(images, TINY, TrainConfig(process="pfgmpp", steps=1, batch_size=8), seed=0)


def test_keys_of_one_network_move_no_identity_of_another(folder: Folder) -> None:
    """What a field of the first release is called: its network's name, width, depth and head, and no more."""
    config = folder.load()
    trial = make_plan(config)[0]
    numbers = {
        k: v for k, v in trial.train.model_dump(exclude={"height_ratio", "force"}).items() if v is not None and v is not False
    }
    network = {"name": "mlp", "width": 16, "depth": 1, "skip": True}
    assert trial.train_id == digest([FIELD_VERSION, config.info.hash, network, numbers, trial.seed], 32)


def test_a_study_of_ddpmpp(folder: Folder) -> None:
    """Its keys are columns, part of a field's identity, and survive the file; its mistakes name their line."""
    data = {"name": "digits"}
    network = {"name": "ddpmpp", "width": 8, "depth": 1, "channel_mult": [1, 2], "dropout": 0.1}
    config = folder.load(data=data, network=network)
    row = make_plan(config)[0].cells[0].to_row()
    assert {k: v for k, v in row.items() if k.startswith("network_")} == {
        "network_name": "ddpmpp", "network_width": 8, "network_depth": 1, "network_skip": False, "network_root_below": None,
        "network_patch": None, "network_channel_mult": "1,2", "network_dropout": 0.1,
        "network_head": None, "network_sigma_data": None, "network_form": None, "network_attention": None,
        "network_labels": None, "network_label": None, "network_augment_dim": None, "network_embedding": None,
    }  # fmt: skip
    identities = {row["train_id"]}
    for changes in ({"dropout": 0.2}, {"channel_mult": [1, 1]}, {"dropout": None}):
        identities.add(make_plan(folder.load(data=data, network=network | changes))[0].train_id)
    assert len(identities) == 4
    for section, message in (
        ({"network": network | {"channel_mult": [1, 2, 2, 2, 2]}}, r"network\.channel_mult: 8 × 8 images cannot be halved 4"),
        ({"network": network | {"width": 10}}, r"network\.width: .* for which 10 is no good"),
        ({"network": network, "data": {"name": "rings"}}, r"network\.name: ddpmpp needs images"),
        (
            {"network": network, "train": {"process": "pfgmpp"}, "search": {"train": {"P_std": {"choice": [1.0, 1.2]}}}},
            r"network\.name: ddpmpp belongs to process pfgm, this run uses pfgmpp",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            folder.load(**({"data": data} | section))
