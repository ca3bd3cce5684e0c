"""Checkpoints of the EDM and PFGM++ code as fields: whole, equal to the public code's numbers, or refused by name."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.edm_layout import network, snapshot, training_state, written
from helpers.edm_reference import Options, Weights, denoised, random_weights
from safetensors.torch import save_file
from torch import Tensor

import pfgm
from pfgm.field.empirical import mean_source
from pfgm.flow.checkpoint import load_field
from pfgm.flow.edm.field import from_edm, from_pfgmpp
from pfgm.flow.trained import Field
from pfgm.flow.written import save_field
from pfgm.sampling.integrate import integrate

D = 3 * 8 * 8
ADM = Options(form="adm", width=64, mult=(1, 2), attention=(8, 4), labels=3)
FORMS = {"ddpmpp": Options(augment=9), "ncsnpp": Options(form="ncsnpp", augment=9), "adm": ADM}
HEUN = {"solver": "heun2", "steps": 17, "grid": "rho", "T": 80.0, "t_min": 2e-3, "denoise": True}
"""EDM's 18 steps, 35 calls."""


def points(level: float = 1.0) -> tuple[Tensor, Tensor]:
    x = torch.randn(3, D, generator=torch.Generator().manual_seed(1)) * (1 + level)
    return x, torch.tensor([level, 1.2 * level, 0.8 * level])


def differs(field: Field, weights: Weights, o: Options, head: str = "edm", label: int | None = None, **more: float) -> float:
    """The largest error of D, over the largest D, at three levels."""
    worst = 0.0
    for level in (0.01, 1.0, 50.0):
        x, t = (numbers.to(field.dtype) for numbers in points(level))
        told = None if label is None else torch.eye(o.labels)[[label]]
        theirs = denoised(weights, o, head, x.view(3, 3, 8, 8), t, told, **more).flatten(1)
        worst = max(worst, float((field.mean_source(x, t) - theirs).abs().max() / theirs.abs().max()))
    return worst


@pytest.mark.parametrize("label", [None, 2])
@pytest.mark.parametrize("form", FORMS)
def test_a_checkpoint_computes_what_the_public_code_does(form: str, label: int | None, tmp_path: Path) -> None:
    o = replace(FORMS[form], labels=3 if label is not None else FORMS[form].labels)
    path, weights = written(tmp_path / "network-snapshot-000001.pkl", o)
    field = from_edm(path, label=label)
    path.unlink()  # nothing is left to be read
    assert differs(field, weights, o, label=label) <= 1e-5
    assert not field.network.training and not any(p.requires_grad for p in field.network.parameters())
    assert field.process.n_aug == math.inf and field.process.rule_T == 80.0 and field.process.info.shape == (3, 8, 8)
    if label is not None:
        assert differs(field, weights, o) > 1e-4, "with another label it is another field"
    save_field(field, tmp_path / "field")
    again = load_field(tmp_path / "field")
    x, t = points()
    assert torch.equal(again.mean_source(x, t), field.mean_source(x, t))
    images = again.sample(2, **{**HEUN, "steps": 2})
    assert images.shape == (2, 3, 8, 8) and float(images.abs().max()) <= 1


@pytest.mark.parametrize("n_aug", [64.0, 128.0, 2048.0, math.inf])
def test_pfgmpp_has_its_extra_dimensions(n_aug: float, tmp_path: Path) -> None:
    """Read from the file, or given; they decide kernel and prior, and the network is EDM's."""
    o = FORMS["ddpmpp"]
    more = {"pfgmpp": not math.isinf(n_aug), "D": 128 if math.isinf(n_aug) else int(n_aug)}
    path, weights = written(tmp_path / "n.pkl", o, **more)
    state = training_state(tmp_path / "training-state-000001.pt", network(o, weights, **more), "ema")
    for field in (from_pfgmpp(path), from_pfgmpp(state, n_aug=n_aug)):
        assert field.process.n_aug == n_aug and field.process.train.process == "pfgmpp"
        assert differs(field, weights, o) <= 1e-5
    with pytest.raises(ValueError, match=r"n_aug: .* was trained with D = .*, got 32; remove it"):
        from_pfgmpp(path, n_aug=32.0)
    if not math.isinf(n_aug):
        with pytest.raises(ValueError, match=rf"it is of PFGM\+\+, with D = {int(n_aug)}; use format: pfgmpp"):
            from_edm(path)
    silent, _ = written(tmp_path / "silent.pkl", o)
    assert from_pfgmpp(silent, n_aug=n_aug).process.n_aug == n_aug
    with pytest.raises(ValueError, match=r"n_aug: .* does not say its D; give the one"):
        from_pfgmpp(silent)


@pytest.mark.parametrize(("head", "process", "top"), [("vp", "vp", 152.17), ("ve", "ve", 100.0)])
def test_networks_for_the_sdes(head: str, process: str, top: float, tmp_path: Path) -> None:
    o = FORMS["ncsnpp" if head == "ve" else "ddpmpp"]
    path, weights = written(tmp_path / "baseline.pkl", o, head=head)
    field = from_edm(path)
    assert field.process.train.process == process and field.network_config.head == head
    assert field.process.rule_T == pytest.approx(top, rel=1e-3)
    assert differs(field.double(), {n: w.double() for n, w in weights.items()}, o, head) <= 1e-5
    with pytest.raises(ValueError, match=r"which has no extra dimensions; use format: edm"):
        from_pfgmpp(path)


def test_what_a_file_says_is_kept(tmp_path: Path) -> None:
    path, weights = written(tmp_path / "n.pkl", FORMS["ncsnpp"], sigma_data=0.3, dropout=0.13)
    field = from_edm(path)
    config = field.network_config.model_dump()
    expected = {
        "width": 16, "depth": 1, "channel_mult": (1, 2), "attention": (4,), "form": "ncsnpp", "labels": 0, "augment_dim": 9,
        "dropout": 0.13,
    }  # fmt: skip
    assert {key: config[key] for key in expected} == expected
    assert (config["head"], config["sigma_data"], field.process.info.sd) == ("edm", 0.3, 0.3)
    assert differs(field, weights, FORMS["ncsnpp"], sigma_data=0.3) <= 1e-5
    train = field.process.train
    assert (train.batch_size, train.learning_rate, train.steps) == (512, 1e-3, 390_625)
    assert pfgm.from_edm is from_edm and pfgm.from_pfgmpp is from_pfgmpp


def test_a_training_state_of_edm_has_the_last_weights(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = random_weights(FORMS["ddpmpp"])
    field = from_edm(training_state(tmp_path / "training-state-000001.pt", network(FORMS["ddpmpp"], weights)))
    assert differs(field, weights, FORMS["ddpmpp"]) <= 1e-5
    assert "has the weights of the last step, not averaged ones" in caplog.text


@pytest.mark.parametrize("prefix", ["", "model."])
def test_an_export_to_safetensors(prefix: str, tmp_path: Path) -> None:
    weights = random_weights(FORMS["ddpmpp"])
    save_file({f"{prefix}{name}": w for name, w in weights.items()}, tmp_path / "w.safetensors")
    assert differs(from_edm(tmp_path / "w.safetensors"), weights, FORMS["ddpmpp"]) <= 1e-5
    assert from_pfgmpp(tmp_path / "w.safetensors", n_aug=2048.0).process.n_aug == 2048


def without(name: str) -> Callable[[Weights], object]:
    return lambda w: w.pop(name)


def put(name: str, tensor: Tensor) -> Callable[[Weights], object]:
    return lambda w: w.update({name: tensor})


DAMAGE = {
    "a tensor is missing": (without("enc.8x8_block0.norm1.bias"), r"lacks enc\.8x8_block0\.norm1\.bias; take a"),
    "a filter is missing": (without("dec.8x8_up.skip.resample_filter"), r"lacks dec\.8x8_up\.skip\.resample_filter"),
    "a tensor too many": (put("pyramid.weight", torch.zeros(2)), r"has tensors too many: pyramid\.weight; take a"),
    "many too many": (
        lambda w: w.update({f"x{k}.weight": torch.zeros(1) for k in range(5)}), r"too many: x0\.weight, .* and 2 more;"
    ),
    "another shape": (put("map_layer1.bias", torch.zeros(3)), r"has other shapes at map_layer1\.bias"),
    "not a number": (lambda w: w["map_layer1.bias"].fill_(math.nan), r"is not finite at map_layer1\.bias"),
    "another filter": (
        lambda w: w["enc.4x4_down.conv0.resample_filter"].mul_(2), r"has other filters at enc\.4x4_down\.conv0\.resample_filter"
    ),
    "no blocks": (
        lambda w: [w.pop(n) for n in [*w] if "block" in n], r"its \d+ tensors are not those of a DDPM\+\+, NCSN\+\+ or ADM"
    ),
    "no first layer": (without("enc.8x8_conv.weight"), r"are not those of a DDPM\+\+, NCSN\+\+ or ADM of the EDM code"),
    "an encoder with skips": (put("enc.4x4_aux_skip.weight", torch.zeros(32, 3, 1, 1)), r"too many: enc\.4x4_aux_skip\.weight"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_every_tensor_is_accounted_for(kind: str, tmp_path: Path) -> None:
    damage, message = DAMAGE[kind]
    weights = random_weights(FORMS["ddpmpp"])
    damage(weights)
    with pytest.raises(ValueError, match=message) as error:
        from_edm(snapshot(tmp_path / "n.pkl", network(FORMS["ddpmpp"], weights)))
    assert "\n" not in str(error.value) and "n.pkl: " in str(error.value)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"img_resolution": 16}, "it says img_resolution = 16, and is read as 8"),
        ({"label_dim": 4}, "it says label_dim = 4, and is read as 0"),
        ({"sigma_data": -1.0}, "sigma_data: .*greater than 0"),
    ],
)
def test_what_a_file_says_must_be_true(more: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = snapshot(tmp_path / "n.pkl", network(FORMS["ddpmpp"], random_weights(FORMS["ddpmpp"]), **more))
    with pytest.raises(ValueError, match=message) as error:
        from_edm(path)
    assert "\n" not in str(error.value)


def test_other_networks_labels_and_data_are_refused(tmp_path: Path) -> None:
    o = replace(FORMS["ddpmpp"], labels=3)
    path, weights = written(tmp_path / "n.pkl", o)
    with pytest.raises(ValueError, match=r"label: .*n\.pkl knows classes 0 to 2, got 3; take one"):
        from_edm(path, label=3)
    with pytest.raises(ValueError, match=r"label: .* knows no classes, got 0; remove it"):
        from_edm(written(tmp_path / "m.pkl", FORMS["ddpmpp"])[0], label=0)
    info = from_edm(path).process.info
    with pytest.raises(ValueError, match=r"data\.center: .*; set center: false"):
        from_edm(path, replace(info, center=True))
    with pytest.raises(
        ValueError, match=r"the checkpoint is of items of shape \(3, 8, 8\), those of images have \(3, 16, 16\)"
    ):
        from_edm(path, replace(info, shape=(3, 16, 16)))
    made = network(o, weights)
    made.class_name_there = "iDDPMPrecond"
    with pytest.raises(ValueError, match="it is a iDDPMPrecond, which is not read; of these networks, EDMPrecond"):
        from_edm(snapshot(tmp_path / "i.pkl", made))
    with pytest.raises(ValueError, match=r"it says beta_d = 5\.0, and is read as 19\.9"):
        from_edm(written(tmp_path / "b.pkl", o, head="vp", beta_d=5.0)[0])


def published(denoiser: Callable[[Tensor, float], Tensor], latents: Tensor, steps: int = 18) -> tuple[Tensor, int]:
    """EDM's deterministic sampler, Algorithm 1 at σ(t) = t, s(t) = 1, written from the paper: x_0 … x_N and the calls."""
    ends = 80.0 ** (1 / 7), 0.002 ** (1 / 7)
    sigma = [(ends[0] + i / (steps - 1) * (ends[1] - ends[0])) ** 7 for i in range(steps)] + [0.0]
    x, calls = sigma[0] * latents, 0
    for i, (now, then) in enumerate(itertools.pairwise(sigma)):
        d, calls = (x - denoiser(x, now)) / now, calls + 1
        ahead = x + (then - now) * d
        if then != 0:
            d_ahead, calls = (ahead - denoiser(ahead, then)) / then, calls + 1
            ahead = x + (then - now) * (d + d_ahead) / 2
        assert i < steps
        x = ahead
    return x, calls


@pytest.mark.parametrize("n_aug", [64.0, 2048.0, math.inf])
def test_heun_at_18_steps_is_the_published_algorithm(n_aug: float) -> None:
    """On the exact denoiser of 40 points, in float64: the same 35 points at which it is called, and the same end, to 1e-10."""
    g = torch.Generator().manual_seed(3)
    data = torch.randn(40, 12, generator=g, dtype=torch.float64) * 0.5
    latents = torch.randn(16, 12, generator=g, dtype=torch.float64)

    def recorded(run: Callable[[Callable[[Tensor, Tensor], Tensor]], Tensor]) -> Tensor:
        seen: list[Tensor] = []

        def exact(x: Tensor, t: Tensor) -> Tensor:
            seen.append(x.clone())
            return mean_source(x, t, data, n_aug=n_aug)

        end = run(exact)
        return torch.stack([*seen, end])

    def theirs(denoiser: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        end, calls = published(lambda x, sigma: denoiser(x, torch.full((len(x),), sigma, dtype=x.dtype)), latents)
        assert calls == 35
        return end

    def ours(**changed: object) -> Tensor:
        def run(denoiser: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
            solution = integrate(denoiser, 80.0 * latents, **{**HEUN, **changed})  # type: ignore[arg-type]
            assert solution.nfe == 35 and solution.status == "complete"
            return solution.x

        return recorded(run)

    expected = recorded(theirs)
    assert expected.shape == (36, 16, 12)
    assert float((ours() - expected).abs().max()) <= 1e-10
    assert float((ours(grid="rho5") - expected).abs().max()) > 0.1, "other levels are another algorithm"


def test_the_sampler_of_a_field_is_that_algorithm(tmp_path: Path) -> None:
    """From the field's own prior, through its network in float64."""
    path, _ = written(tmp_path / "n.pkl", FORMS["ddpmpp"])
    field = from_edm(path).double()
    latents = pfgm.prior.latents(4, D, 0)
    start = field.prior(T=80.0).from_latent(*latents)
    theirs, _ = published(lambda x, s: field.mean_source(x, torch.full((len(x),), s, dtype=x.dtype)), start / 80.0)
    ours = field.sample(4, latents=latents, **HEUN).flatten(1)
    assert float((ours - theirs.clamp(-1, 1)).abs().max()) <= 1e-10
