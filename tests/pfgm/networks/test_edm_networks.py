"""EDM's U-Nets and the published heads, against the same written once more (`helpers.edm_reference`)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from helpers.edm_reference import Options, Weights, denoised, forward, random_weights, shapes
from torch import Tensor

from pfgm.config import NetworkConfig, TrainConfig
from pfgm.data.dataset import DataInfo
from pfgm.mistakes import Mistake
from pfgm.networks.base import FieldNetwork
from pfgm.networks.build import build_network, check_network, network_cost
from pfgm.networks.edm.unet import EdmKeys, EdmUNet
from pfgm.networks.published import EdmHead, VeHead, VpHead
from pfgm.networks.stacked import stack_networks
from pfgm.process.make import make_process
from pfgm.training.bundle import bundle_key
from pfgm.training.objectives import denoise
from pfgm.training.parts import InParts

ADM = Options(form="adm", width=64, mult=(1, 2), attention=(8, 4))
FORMS = {"ddpmpp": Options(), "ncsnpp": Options(form="ncsnpp", mult=(1, 2, 2), attention=(8,)), "adm": ADM}


def unet(o: Options, weights: Weights, label: int | None = None) -> EdmUNet:
    keys = EdmKeys(form=o.form, channel_mult=o.mult, attention=o.attention, labels=o.labels, label=label, augment_dim=o.augment)  # type: ignore[arg-type]
    made = EdmUNet((o.colours, o.size, o.size), o.width, o.blocks, keys).double().eval()
    made.load_state_dict({name: w for name, w in weights.items() if not name.endswith("resample_filter")}, strict=True)
    return made


def _info(shape: tuple[int, ...]) -> DataInfo:
    d = math.prod(shape)
    return DataInfo("noise", shape, torch.zeros(d), None, 100, 1.0, 1.0, "", False)


def inputs(o: Options, n: int = 3) -> tuple[Tensor, Tensor, Weights]:
    g = torch.Generator().manual_seed(7)
    weights = {name: w.double() for name, w in random_weights(o).items()}
    x = torch.randn(n, o.colours, o.size, o.size, generator=g, dtype=torch.float64)
    return x, torch.tensor([0.3, -1.1, 0.02], dtype=torch.float64)[:n], weights


@pytest.mark.parametrize("labels", [0, 4])
@pytest.mark.parametrize("form", FORMS)
def test_outputs_are_those_of_the_public_code(form: str, labels: int) -> None:
    """Without a label (zeros), with labels, with an augmentation: all forms, in float64."""
    o = Options(**{**vars(FORMS[form]), "labels": labels, "augment": 9})
    x, noise, weights = inputs(o)
    ours = unet(o, weights)
    none = torch.zeros(1, labels, dtype=torch.float64) if labels else None
    expected = forward(weights, o, x, noise, none)
    with torch.no_grad():
        out = ours(x.flatten(1), noise)
        assert out.shape == (3, 3 * 8 * 8 + 1) and not out[:, -1].any()
        torch.testing.assert_close(out[:, :-1], expected.flatten(1), rtol=1e-10, atol=1e-10)
        assert expected.std() > 0.1
        told = torch.eye(9, dtype=torch.float64)[:3]
        torch.testing.assert_close(
            ours(x.flatten(1), noise, None, told)[:, :-1], forward(weights, o, x, noise, none, told).flatten(1)
        )
        if labels:
            classes = torch.eye(4, dtype=torch.float64)[[1, 3, 0]]
            theirs = forward(weights, o, x, noise, classes).flatten(1)
            torch.testing.assert_close(ours(x.flatten(1), noise, classes)[:, :-1], theirs)
            assert (theirs - expected.flatten(1)).abs().max() > 0.01
            fixed = unet(o, weights, label=3)(x.flatten(1), noise)[:, :-1]
            torch.testing.assert_close(fixed[1], theirs[1])


def test_float32_is_near() -> None:
    o = FORMS["ncsnpp"]
    x, noise, weights = inputs(o)
    with torch.no_grad():
        out = unet(o, weights).float()(x.flatten(1).float(), noise.float())[:, :-1]
    expected = forward(weights, o, x, noise, None).flatten(1)
    assert (out - expected).abs().max() / expected.abs().max() <= 1e-5


@pytest.mark.parametrize(
    ("form", "labels", "parameters"),
    [("ddpmpp", 0, 55_733_891), ("ddpmpp", 10, 55_735_299), ("ncsnpp", 0, 56_397_827), ("adm", 1000, 295_899_267)],
)
def test_the_published_sizes(form: Any, labels: int, parameters: int) -> None:
    """CIFAR-10: 55.7 million weights (DDPM++); ImageNet at 64 × 64: 296 million (ADM). Names and shapes are all theirs."""
    if form == "adm":
        o = Options("adm", 64, 3, 192, (1, 2, 3, 4), 3, (32, 16, 8), labels)
    else:
        o = Options(form, 32, 3, 128, (2, 2, 2), 4, (16,), labels, 9)
    keys = EdmKeys(form=form, channel_mult=o.mult, attention=o.attention, labels=labels, augment_dim=o.augment)
    with torch.device("meta"):
        made = EdmUNet((3, o.size, o.size), o.width, o.blocks, keys)
    assert sum(p.numel() for p in made.parameters()) == parameters
    theirs = {name: shape for name, shape in shapes(o) if not name.endswith("resample_filter")}
    assert {name: tuple(t.shape) for name, t in made.state_dict().items()} == theirs


@pytest.mark.parametrize("head", ["edm", "vp", "ve"])
@pytest.mark.parametrize("form", ["ddpmpp", "ncsnpp"])
def test_denoisers_are_those_of_the_public_code(form: str, head: str) -> None:
    """D(x; σ) over all levels, with labels and without, in float64 and in float32."""
    o = Options(**{**vars(FORMS[form]), "labels": 3})
    x, _, weights = inputs(o)
    made = {"edm": EdmHead(), "vp": VpHead(), "ve": VeHead()}[head]
    network = FieldNetwork(unet(o, weights), None, math.nan, 1.0, True, head=made)
    for level in (0.002, 0.5, 80.0):
        t = torch.tensor([level, 1.1 * level, 0.9 * level], dtype=torch.float64)
        noisy = x * (1 + level)
        theirs = denoised(weights, o, head, noisy, t).flatten(1)
        with torch.no_grad():
            torch.testing.assert_close(network.denoise(noisy.flatten(1), t), theirs, rtol=1e-9, atol=1e-9)
            asked = FieldNetwork(unet(o, weights, label=1), None, math.nan, 1.0, True, head=made)
            label = torch.eye(3, dtype=torch.float64)[[1]]
            told = denoised(weights, o, head, noisy, t, label).flatten(1)
            torch.testing.assert_close(asked.denoise(noisy.flatten(1), t), told, rtol=1e-9, atol=1e-9)
        assert (told - theirs).abs().max() > 1e-4


def test_a_network_learns_under_a_published_head() -> None:
    """Another network, too; the loss at once is that of EDM's weight, and a step lowers it."""
    info = _info((3, 8, 8))
    for head, process in (("edm", "pfgmpp"), ("ve", "ve"), ("vp", "vp")):
        for name, more in (("edm", {"width": 16, "depth": 1, "channel_mult": (1, 2)}), ("mlp", {"width": 16, "depth": 1})):
            torch.manual_seed(0)
            config = NetworkConfig(name=name, head=head, **more)
            check_network(config, info.shape, process)
            network = build_network(config, info.shape, info.sd, 1.0)
            made = make_process(TrainConfig(process=process), info)
            y, t = torch.randn(4, 192), torch.tensor([0.05, 0.5, 2.0, 30.0])
            x = y + t[:, None] * torch.randn(4, 192)
            loss = denoise.loss(network, made, x, t, y)
            weight = (t**2 + 0.25) / (t * 0.5) ** 2 if head == "edm" else 1 / t**2
            torch.testing.assert_close(loss, weight * (network.denoise(x, t) - y).square().mean(1))
            optimizer = torch.optim.Adam(network.parameters(), 1e-3)
            for _ in range(5):
                optimizer.zero_grad()
                step = denoise.loss(network, made, x, t, y).mean()
                step.backward()
                optimizer.step()
            assert float(step.detach()) < float(loss.detach().mean())
            assert network_cost(network, info.shape)[1] > 0


def test_a_published_head_stays_where_a_batch_is_taken_in_parts() -> None:
    network = build_network(NetworkConfig(name="mlp", width=16, head="edm"), (5,), 0.5, 1.0)
    x, t = torch.randn(6, 5), torch.rand(6) + 0.1
    torch.nn.init.normal_(network.backbone.last.weight)
    torch.testing.assert_close(InParts(network, 3).denoise(x, t), network.denoise(x, t))
    assert (network.denoise(x, t) - network.head.coefficients(t).skip[:, None] * x).abs().max() > 0.01


@pytest.mark.parametrize(
    ("keys", "shape", "process", "message"),
    [
        ({"name": "edm", "width": 32}, (3, 32, 32), "pfgmpp", r"network\.head: edm is told the noise level alone"),
        ({"name": "edm", "head": "edm"}, (5,), "pfgmpp", r"network\.name: edm needs square images"),
        ({"name": "edm", "head": "edm"}, (3, 30, 30), "pfgmpp", r"cannot be halved 2 times"),
        ({"name": "edm", "head": "edm", "width": 30}, (3, 32, 32), "pfgmpp", r"network\.width: .* use 32, 64"),
        ({"name": "edm", "head": "edm", "label": 3, "labels": 3}, (3, 32, 32), "pfgmpp", r"network\.label: 3 is none of the 3"),
        (
            {"name": "mlp", "head": "edm"},
            (5,),
            "pfgm",
            r"network\.head: edm is for process pfgmpp or ve or vp, this run uses pfgm",
        ),
        ({"name": "mlp", "head": "vp"}, (5,), "pfgmpp", r"network\.head: vp is for process vp, this run uses pfgmpp"),
    ],
)
def test_what_does_not_go_together(keys: dict[str, Any], shape: tuple[int, ...], process: str, message: str) -> None:
    with pytest.raises(Mistake, match=message):
        check_network(NetworkConfig(**keys), shape, process)


def test_keys_of_heads() -> None:
    assert NetworkConfig(head="edm").sigma_data == 0.5 and NetworkConfig().head is None
    with pytest.raises(ValueError, match="sigma_data: belongs to head edm"):
        NetworkConfig(sigma_data=0.5)
    with pytest.raises(ValueError, match="head: reads a denoiser, and skip: false"):
        NetworkConfig(head="edm", skip=False)


def test_random_frequencies_are_not_for_bundles() -> None:
    config = NetworkConfig(name="edm", head="edm", form="ncsnpp")
    with pytest.raises(Mistake, match=r"network\.form: ncsnpp draws frequencies"):
        bundle_key(config, TrainConfig(process="pfgmpp"))


def test_networks_of_a_bundle_are_those_alone() -> None:
    config = NetworkConfig(name="edm", head="edm", width=16, depth=1, channel_mult=(1, 2), attention=(4,))
    ones = [build_network(config, (3, 8, 8), 0.5, 1.0) for _ in range(2)]
    x, t = torch.randn(6, 192), torch.rand(6) + 0.1
    with torch.no_grad():
        alone = torch.cat([one.denoise(x[3 * k : 3 * k + 3], t[3 * k : 3 * k + 3]) for k, one in enumerate(ones)])
        torch.testing.assert_close(stack_networks(ones).denoise(x, t), alone, rtol=1e-4, atol=1e-5)
