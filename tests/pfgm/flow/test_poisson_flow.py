"""Checkpoints of the PFGM authors' code: files in their layout, made here, are read whole or refused."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.authors_layout import Content, contents, random_network, saved
from torch import Tensor

import pfgm
from pfgm.config import NetworkConfig
from pfgm.field.empirical import mean_source, normalized_target
from pfgm.flow.checkpoint import load_field
from pfgm.flow.poisson_flow import AUTHORS, from_poisson_flow
from pfgm.flow.trained import Field
from pfgm.flow.written import save_field
from pfgm.networks.base import FieldNetwork
from pfgm.networks.ddpmpp import DDPMpp
from pfgm.networks.heads import plain_length, root_magnitude


@pytest.fixture(scope="module")
def network() -> DDPMpp:
    """Attention at 16 × 16, the first resolution."""
    return random_network()


@pytest.fixture
def content(network: DDPMpp) -> Content:
    return contents(network)


def outputs(field: Field) -> Tensor:
    x = torch.randn(3, field.process.info.dim, generator=torch.Generator().manual_seed(1))
    return field.network(x, torch.tensor([0.01, 1.0, 20.0]))


def test_a_checkpoint_is_read_whole(network: DDPMpp, content: Content, tmp_path: Path) -> None:
    path = saved(tmp_path / "checkpoint_26.pth", content)
    field = from_poisson_flow(path, weights="model")
    path.unlink()  # nothing is left to be read
    config = field.network_config
    assert (config.width, config.depth, config.channel_mult, config.skip) == (32, 1, (1, 2), False)
    assert field.process.info.shape == (1, 16, 16) and field.process.info.bounds == (-1.0, 1.0)
    assert not field.network.training and not any(p.requires_grad for p in field.network.parameters())
    assert all(torch.equal(a, b) for a, b in zip(field.network.parameters(), network.parameters(), strict=True))
    same = replace(field, network=FieldNetwork(network, None, math.nan, 1.0, skip=False))
    assert torch.equal(outputs(field), outputs(same))


def test_averaged_weights_are_the_default(content: Content, tmp_path: Path) -> None:
    path = saved(tmp_path / "c.pth", content)
    average, last = from_poisson_flow(path), from_poisson_flow(path, weights="model")
    assert all(torch.equal(a, 0.5 * b) for a, b in zip(average.network.parameters(), last.network.parameters(), strict=True))
    assert not torch.allclose(outputs(average), outputs(last))
    assert pfgm.from_poisson_flow is from_poisson_flow
    with pytest.raises(ValueError, match="weights: must be ema or model, got 'best'"):
        from_poisson_flow(path, weights="best")  # type: ignore[arg-type]


def test_the_field_is_read_in_both_ways_and_samples(content: Content, tmp_path: Path) -> None:
    field = from_poisson_flow(saved(tmp_path / "c.pth", content))
    x, t = torch.randn(3, 256), torch.tensor([0.01, 1.0, 20.0])
    v = field.network(x, t)
    v_x, size = v[:, :-1], plain_length(v, t, 5.0, 5.0)[:, None]
    torch.testing.assert_close(field.mean_source(x, t), (x + size * v_x / 16).float())
    images = field.sample(4, solver="heun2", steps=3)
    assert images.shape == (4, 1, 16, 16) and float(images.abs().max()) <= 1
    save_field(field, tmp_path / "field")
    assert torch.equal(load_field(tmp_path / "field").sample(4, solver="heun2", steps=3), images)


def test_their_target_is_what_the_head_reads() -> None:
    """v = √d Σ_j w_j (y_j − x, −t)/(‖Σ‖ + γ), w_j ∝ (min ρ/ρ_j)^{d+1}, by plain sums: sign and scale of ours; and the root of
    it is ‖Ê‖, of which their substitute at low heights is the limit t → 0."""
    g = torch.Generator().manual_seed(0)
    y, x = torch.randn(20, 6, generator=g, dtype=torch.float64), torch.randn(5, 6, generator=g, dtype=torch.float64)
    for height in (1e-3, 0.5, 30.0):
        t = torch.full((5,), height, dtype=torch.float64)
        lifted = torch.cat([x, t[:, None]], 1)[:, None] - torch.cat([y, torch.zeros(20, 1)], 1)
        rho = lifted.square().sum(2).sqrt()
        w = (rho.min(1, keepdim=True).values / rho) ** 7
        field = -(w[:, :, None] * lifted).sum(1) / w.sum(1, keepdim=True)
        v = math.sqrt(6) * field / (field.norm(dim=1, keepdim=True) + 5.0)
        torch.testing.assert_close(normalized_target(x, t, y, 5.0), v, rtol=1e-9, atol=1e-12)
        root = root_magnitude(v[:, :-1], t, 5.0)
        torch.testing.assert_close(root, field.norm(dim=1), rtol=1e-9, atol=0)
        torch.testing.assert_close(x + (root + 5)[:, None] * v[:, :-1] / math.sqrt(6), mean_source(x, t, y))
        n = v[:, :-1].norm(dim=1) / math.sqrt(6)
        theirs = ((5 * n / (1 - n)) ** 2 + height**2).sqrt()
        assert (theirs <= root).all() and (height > 0.01 or torch.allclose(theirs, root, rtol=1e-4))


def without(name: str) -> Callable[[Content], object]:
    return lambda c: c["model"].pop(name)


def changed(name: str, tensor: Tensor) -> Callable[[Content], object]:
    return lambda c: c["model"].update({name: tensor})


def average(change: Callable[[list[Tensor]], object]) -> Callable[[Content], object]:
    return lambda c: change(c["ema"]["shadow_params"])


NORM = "module.all_modules.3.GroupNorm_1.bias"
DAMAGE = {
    "a tensor is missing": (without(NORM), r"lacks all_modules\.3\.GroupNorm_1\.bias; take a file"),
    "a block is missing": (without("module.all_modules.3.Conv_1.weight"), "in an order that is not DDPM\\+\\+'s"),
    "the attention is missing": (
        lambda c: [c["model"].pop(n) for n in [*c["model"]] if "NIN_0" in n], "in an order that is not DDPM\\+\\+'s"
    ),
    "the first layer is missing": (without("module.all_modules.0.weight"), "in an order that is not DDPM\\+\\+'s"),
    "a tensor too many": (changed("module.pyramid.weight", torch.zeros(2)), r"has tensors too many: pyramid\.weight"),
    "many too many": (
        lambda c: c["model"].update({f"module.x{k}": torch.zeros(1) for k in range(5)}), "too many: x0, x1, x2 and 2 more;"
    ),
    "another shape": (changed(NORM, torch.zeros(3)), r"has other shapes at all_modules\.3\.GroupNorm_1\.bias"),
    "not a number": (average(lambda s: s[5].fill_(math.nan)), r"is not finite at all_modules\.2\.bias"),
    "a short average": (average(list.pop), r"ema\.shadow_params has 153 tensors, not 154; .* or use weights='model'"),
    "an average in another order": (average(list.reverse), "has averages of other shapes at all_modules"),
    "no average": (lambda c: c.pop("ema"), "holds optimizer, model, step, not the `model` and `ema`"),
    "text for a tensor": (changed(NORM, "text"), "holds optimizer, model, ema, not the"),  # type: ignore[arg-type]
    "no weights": (lambda c: c["model"].clear(), "`model` has 0 tensors"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_refused(kind: str, content: Content, tmp_path: Path) -> None:
    damage, message = DAMAGE[kind]
    damage(content)
    with pytest.raises(ValueError, match=message) as error:
        from_poisson_flow(saved(tmp_path / "c.pth", content))
    assert "\n" not in str(error.value)


class Command:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('ran')",)


def test_what_is_no_checkpoint_is_refused(content: Content, tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*c\.pth"):
        from_poisson_flow(path)
    buffer = io.BytesIO()
    np.savez(buffer, x=np.zeros(3))
    whole = saved(path, content).read_bytes()
    for junk in (b"", b"junk", b"\x80\x02junk", whole[: len(whole) // 2], whole[:-10], buffer.getvalue()):
        path.write_bytes(junk)
        with pytest.raises(ValueError, match=r"c\.pth: cannot be read \(.*\); take a file that") as error:
            from_poisson_flow(path)
        assert "\n" not in str(error.value)
    for value, holds in (([1, 2], "list"), ({}, "nothing"), ({"state_dict": {}}, "state_dict"), (torch.zeros(2), "Tensor")):
        with pytest.raises(ValueError, match=f"holds {holds}, not the `model`"):
            from_poisson_flow(saved(path, value))
    for name, hidden in (("exec", content | {"step": Command()}), ("Path", content | {"step": Path("x")})):
        with pytest.raises(ValueError, match=rf"cannot be read \(it holds \S*{name}, neither tensor nor number\)"):
            from_poisson_flow(saved(path, hidden))


def test_files_of_older_libraries_are_read(content: Content, tmp_path: Path) -> None:
    """Numbers pickled under numpy 1's module names; the format before zip archives."""
    path = saved(tmp_path / "c.pth", content)
    expected = outputs(from_poisson_flow(path))
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, entry in entries.items():
            archive.writestr(name, entry.replace(b"numpy._core.", b"numpy.core.") if name.endswith("data.pkl") else entry)
    assert b"numpy.core.multiarray" in path.read_bytes()
    assert torch.equal(outputs(from_poisson_flow(path)), expected)
    torch.save(content, path, _use_new_zipfile_serialization=False)
    assert torch.equal(outputs(from_poisson_flow(path)), expected)


def test_the_data_must_be_those_of_the_checkpoint(content: Content, tmp_path: Path) -> None:
    path = saved(tmp_path / "c.pth", content)
    info = from_poisson_flow(path).process.info
    mine = replace(info, name="mine", n=60_000, sd=0.5, mean_norm=7.0)
    assert from_poisson_flow(path, mine).process.info is mine
    with pytest.raises(ValueError, match=r"data\.center: .* not centred; set center: false"):
        from_poisson_flow(path, replace(mine, center=True))
    with pytest.raises(ValueError, match=r"items of shape \(1, 16, 16\), those of mine have \(1, 32, 32\)"):
        from_poisson_flow(path, replace(mine, shape=(1, 32, 32)))


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 32, 32), (3, 16, 16), (3, 64, 64)])
@pytest.mark.parametrize(("depth", "channel_mult"), [(1, (1,)), (2, (1, 2, 2)), (3, (1, 1, 3))])
def test_the_architecture_is_inferred(
    shape: tuple[int, ...], depth: int, channel_mult: tuple[int, ...], tmp_path: Path
) -> None:
    """Width, depth, multiples, channels and size; a size that no attention tells must be given."""
    network = DDPMpp(shape, 8, depth, channel_mult, 0.0)
    path = saved(tmp_path / "c.pth", contents(network))
    told = shape[1] in [16 * 2**k for k in range(len(channel_mult))]
    info = None
    if not told:
        with pytest.raises(ValueError, match="the size of its images cannot be told from the weights; give `info`"):
            from_poisson_flow(path)
        torch_file = saved(tmp_path / "other.pth", contents(DDPMpp((1, 16, 16), 8, 1, (1,), 0.0)))
        info = replace(from_poisson_flow(torch_file).process.info, shape=shape, mean=torch.zeros(math.prod(shape)))
    field = from_poisson_flow(path, info)
    made = field.network_config
    assert (made.width, made.depth, made.channel_mult, field.process.info.shape) == (8, depth, channel_mult, shape)


def test_another_number_of_channels_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "c.pth", contents(DDPMpp((3, 8, 8), 8, 1, (1, 2), 0.0)))
    info = from_poisson_flow(saved(tmp_path / "d.pth", contents(DDPMpp((1, 16, 16), 8, 1, (1,), 0.0)))).process.info
    with pytest.raises(ValueError, match=r"has other shapes at all_modules\.2\.weight"):
        from_poisson_flow(path, replace(info, shape=(1, 8, 8)))


def test_published_settings() -> None:
    """Numbers of the authors' configurations."""
    deep = AUTHORS["cifar10_ddpmpp_deep"]
    assert deep.network == NetworkConfig(name="ddpmpp", width=128, depth=8, dropout=0.1, skip=False, root_below=5.0)
    assert {s.train.gamma for s in AUTHORS.values()} == {5.0} and {s.train.sigma for s in AUTHORS.values()} == {0.01}
    assert [s.train.M for s in AUTHORS.values()] == [291, 291, 291, 291, 356]
    assert [s.network.root_below for s in AUTHORS.values()] == [5.0, 5.0, 5.0, 1.0, 0.1]
    assert [round(s.train.gradient_clip, 7) for s in AUTHORS.values()] == [6.510e-4, 6.510e-4, 6.510e-4, 1.628e-4, 1.0]
    assert [s.sampler.T for s in AUTHORS.values()] == [40, 40, 40, 60, 100]
    assert [s.train.reference_batch_size for s in AUTHORS.values()] == [4096, 4096, 4096, 512, 32]
    assert all(s.train.restrict_M and s.train.tau == 0.03 and s.sampler.t_min == 1e-3 for s in AUTHORS.values())
    assert [round((s.sampler.max_radius_ratio or 0) * float(s.sampler.T)) for s in AUTHORS.values()] == [
        3000,
        3000,
        3000,
        6000,
        30_000,
    ]


def test_a_checkpoint_of_the_published_size(tmp_path: Path) -> None:
    """CIFAR-10's DDPM++, 61.8 million weights: recognised as the authors'."""
    with torch.device("meta"):
        network = DDPMpp((3, 32, 32), 128, 4, (1, 2, 2, 2), 0.1)
    network.to_empty(device="cpu")
    with torch.no_grad():
        for p in network.parameters():
            p.fill_(0.01)
    field = from_poisson_flow(saved(tmp_path / "c.pth", contents(network, optimizer=False)))
    assert field.process.train == AUTHORS["cifar10_ddpmpp"].train and field.network_config.dropout == 0.1
    assert sum(p.numel() for p in field.network.parameters()) == 61_805_572
    assert field.process.rule_T == pytest.approx(43.4, abs=0.1)
