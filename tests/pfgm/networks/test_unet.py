"""The U-Net: squares of pixels as channels, the order of its numbers in memory, refusals, a study of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.folder import Folder

from pfgm.config import DataConfig, NetworkConfig, TrainConfig
from pfgm.data.dataset import load_data
from pfgm.flow.checkpoint import load_field
from pfgm.flow.packed import pack_tensors, unpack_tensors
from pfgm.flow.trained import Field
from pfgm.flow.written import save_field
from pfgm.networks.build import build_network, check_network
from pfgm.training.history import FIELD_VERSION
from pfgm.training.trainer import Trainer
from study.config.yaml_source import ConfigError
from study.plan.identity import digest
from study.plan.make import make_plan

PATCHED = NetworkConfig(name="unet", width=8, depth=2, patch=2)
PLAIN = NetworkConfig(name="unet", width=8, depth=2)
DDPMPP = NetworkConfig(name="ddpmpp", width=8, depth=1, channel_mult=(1, 2), dropout=0.3)


def made(config: NetworkConfig, shape: tuple[int, ...]) -> torch.nn.Module:
    """A network away from its zeros."""
    torch.manual_seed(0)
    network = build_network(config, shape, 1.0, 1.48)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return network


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 12, 8)])
@pytest.mark.parametrize("patch", [1, 2, None])
def test_shapes(shape: tuple[int, int, int], patch: int | None) -> None:
    d = int(np.prod(shape))
    network = made(PATCHED.model_copy(update={"patch": patch}), shape)
    x, t = torch.randn(5, d), torch.logspace(-2, 1, 5)
    assert network(x, t).shape == (5, d + 1)
    first = network.get_submodule("backbone.first").weight
    assert first.shape == (8, shape[0] * (patch or 1) ** 2, 3, 3)


def test_a_patch_of_one_is_none() -> None:
    x, t = torch.randn(2, 64), torch.ones(2)
    plain, one = made(PLAIN, (1, 8, 8)), made(PLAIN.model_copy(update={"patch": 1}), (1, 8, 8))
    assert torch.equal(plain(x, t), one(x, t))


def test_squares_become_channels_and_pixels_again() -> None:
    """With a first layer that takes one pixel of each square and a last that returns it, that pixel comes back in its place."""
    network = build_network(PATCHED, (1, 8, 12), 1.0, 1.0)
    unet = network.backbone
    seen: list[torch.Tensor] = []
    unet.get_submodule("first").register_forward_hook(lambda _m, inputs, _out: seen.append(inputs[0]))
    unet.get_submodule("last").register_forward_hook(lambda _m, _inputs, out: torch.cat([seen[0], out[:, -1:]], 1))
    x = torch.arange(96.0).reshape(1, 96)
    out = unet(x, torch.zeros(1, 128))
    assert torch.equal(out[:, :-1], x)
    squares = x.reshape(4, 2, 6, 2).permute(1, 3, 0, 2).reshape(1, 4, 4, 6)
    assert torch.equal(seen[0], squares)


@pytest.mark.parametrize("config", [PLAIN, PATCHED, DDPMPP], ids=lambda c: f"{c.name}-{c.patch}")
def test_channels_last_is_rounding_alone_and_stays_in_memory(config: NetworkConfig) -> None:
    network = made(config, (1, 16, 16)).eval()
    x, t = torch.randn(3, 256), torch.logspace(-2, 1, 3)
    kernels = [p for p in network.parameters() if p.ndim == 4]
    assert kernels and all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)
    inner = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    orders: list[bool] = []
    for module in inner[1:]:
        module.register_forward_hook(
            lambda _m, inputs, _out: orders.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
        )
    expected = network(x, t)
    assert orders and all(orders)
    orders.clear()
    last = network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    torch.testing.assert_close(last(x, t), expected, rtol=1e-4, atol=1e-5)
    assert sum(orders) < len(orders) / 2  # activations follow the weights; attention has an order of its own


@pytest.mark.parametrize("config", [PATCHED, DDPMPP], ids=lambda c: c.name)
def test_training_continues_and_fields_are_kept(config: NetworkConfig, tmp_path: Path) -> None:
    """Adam's moments must lie as the weights do, which files do not say: fused Adam goes by the order in memory."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    data, train = load_data(DataConfig(name="digits")), TrainConfig(steps=6, batch_size=8, sigma=0.05, warmup_steps=2)
    whole, first, second = (Trainer(data, config, train, 3) for _ in range(3))
    list(whole.run(2))
    next(first.run(2))
    second.load_state(unpack_tensors(pack_tensors(first.state())))
    for parameter, moments in second.optimizer.state.items():
        assert moments["exp_avg"].stride() == moments["exp_avg_sq"].stride() == parameter.stride()
    list(second.run(2))
    for a, b in zip(whole.parameters + whole.average, second.parameters + second.average, strict=True):
        assert torch.equal(a, b)
    field = Field.from_trainer(second)
    save_field(field, tmp_path / "f")
    again = load_field(tmp_path / "f")
    x, t = data.points[:4], torch.ones(4)
    assert torch.equal(again.network(x, t), field.network(x, t))
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("shape", "changes", "message"),
    [
        ((2,), {}, r"network\.name: unet needs images, the data are vectors of shape \(2,\); use name: mlp"),
        ((1, 28, 28), {"patch": 3}, r"network\.patch: 28 × 28 images have no squares of 3 × 3; use 1, 2, 4 or 7"),
        ((1, 5, 7), {}, r"network\.patch: 5 × 7 images have no squares of 2 × 2; remove it"),
        ((1, 28, 28), {"depth": 3}, r"network\.depth: 28 × 28 images in squares of 2 × 2 cannot be halved 2 times; lower it"),
        ((1, 12, 12), {"depth": 4, "patch": None}, r"network\.depth: 12 × 12 images cannot be halved 3 times; lower it"),
    ],
)
def test_refusals(shape: tuple[int, ...], changes: dict[str, object], message: str) -> None:
    config = PATCHED.model_copy(update=changes)
    for refuse in (lambda: build_network(config, shape, 1.0, 1.0), lambda: check_network(config, shape)):
        with pytest.raises(ValueError, match=message):
            refuse()


def test_a_study_of_patches(folder: Folder) -> None:
    """The patch is part of a field's identity, and its absence is not; mistakes name their line."""
    data, network = {"name": "digits"}, {"name": "unet", "width": 8, "depth": 2}
    config = folder.load(data=data, network=network)
    trial = make_plan(config)[0]
    numbers = {
        k: v for k, v in trial.train.model_dump(exclude={"height_ratio", "force"}).items() if v is not None and v is not False
    }
    known = [FIELD_VERSION, config.info.hash, {**network, "skip": True}, numbers, trial.seed]
    assert trial.train_id == digest(known, 32)
    patched = make_plan(folder.load(data=data, network=network | {"patch": 2}))[0]
    assert patched.train_id != trial.train_id
    assert patched.cells[0].to_row()["network_patch"] == 2
    for section, message in (
        ({"network": network | {"patch": 3}}, r"yaml:\d+: network\.patch: 8 × 8 images have no squares of 3 × 3; use 1"),
        ({"network": network | {"patch": 2, "depth": 4}}, r"network\.depth: 8 × 8 images in squares of 2 × 2 cannot be"),
        ({"network": network, "data": {"name": "rings"}}, r"network\.name: unet needs images"),
        ({"network": {"patch": 2}}, r"network\.patch: belongs to network unet, this one is mlp"),
    ):
        with pytest.raises(ConfigError, match=message):
            folder.load(**({"data": data} | section))
