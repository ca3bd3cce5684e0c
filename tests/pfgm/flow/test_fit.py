"""A field in three lines: what can be given, what is chosen, what stops a training, and the command line."""

from __future__ import annotations

import _thread
import importlib
import json
import logging
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

import pfgm
from pfgm.__main__ import main
from pfgm.config import DataConfig, NetworkConfig, TrainConfig
from pfgm.data.dataset import load_data
from pfgm.data.given import IN_UNIT_RANGE, dataset
from pfgm.flow.fit import _network
from pfgm.mistakes import Mistake
from pfgm.training.trainer import Trainer

fit_module = importlib.import_module("pfgm.flow.fit")  # pfgm.flow has a function of that name
BYTES = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
TINY = {"network": {"width": 16, "depth": 1}, "steps": 12, "batch_size": 16, "progress": False}


class Labelled(TorchDataset[tuple[Tensor, int]]):
    """Images in [0, 1] with labels, as torchvision gives them."""

    def __len__(self) -> int:
        return len(BYTES)

    def __getitem__(self, k: int) -> tuple[Tensor, int]:
        return torch.from_numpy(BYTES[k : k + 1]).float() / 255, k % 10


def test_three_lines(tmp_path: Path) -> None:
    field = pfgm.fit("rings", seed=3, **TINY)
    assert field.sample(16, solver="heun2", steps=4).shape == (16, 2)
    field.save(tmp_path / "field")
    again = pfgm.load_field(tmp_path / "field")
    assert torch.equal(again.sample(5), field.sample(5)) and again.seed == 3
    with pytest.raises(FileExistsError, match="holds a field already; name another folder"):
        field.save(tmp_path / "field")


def test_it_is_the_training_of_a_study() -> None:
    """Equal keys and seeds give the weights of `Trainer`, bar or not."""
    field = pfgm.fit("rings", seed=1, **{**TINY, "progress": True})
    trainer = Trainer(load_data(DataConfig(name="rings")), field.network_config, TrainConfig(steps=12, batch_size=16), 1)
    for _ in trainer.run():
        pass
    expected = trainer.averaged_network().state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in field.network.state_dict().items())


@pytest.mark.parametrize(
    ("x", "shape"),
    [
        (BYTES, (1, 8, 8)),
        (torch.from_numpy(BYTES)[:, None].float() / 127.5 - 1, (1, 8, 8)),
        (np.stack([BYTES] * 3, axis=3), (3, 8, 8)),
        (torch.from_numpy(np.stack([BYTES] * 3, axis=1)), (3, 8, 8)),
        (Labelled(), (1, 8, 8)),
        ([Image.fromarray(image) for image in BYTES], (1, 8, 8)),
        (np.arange(80).reshape(20, 4), (4,)),
        (torch.randn(20, 3, dtype=torch.float64), (3,)),
    ],
    ids=["bytes", "tensor", "last axis", "second axis", "torch Dataset", "pictures", "integers", "vectors"],
)
def test_what_can_be_given(x: object, shape: tuple[int, ...]) -> None:
    found = dataset(x)
    assert found.info.shape == shape
    if len(shape) == 3:
        exact = torch.from_numpy(BYTES).flatten(1).float() / 127.5 - 1
        torch.testing.assert_close(found.raw[:][:, :64] if shape[0] == 1 else found.raw[:][:, 64:128], exact, atol=1e-6, rtol=0)


def test_images_in_the_unit_range_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        pfgm.fit(Labelled(), **TINY)
    assert [record.message for record in caplog.records] == [IN_UNIT_RANGE]


def test_files_are_read_with_the_keys_of_a_study(tmp_path: Path) -> None:
    for k, image in enumerate(BYTES[:6]):
        Image.fromarray(image).save(tmp_path / f"{k}.png")
    field = pfgm.fit(tmp_path, data={"size": 4}, **TINY)
    assert field.sample(2).shape == (2, 1, 4, 4)
    (tmp_path / "table.csv").write_text("a,b\n" + "\n".join(f"{k},{k * k}" for k in range(30)))
    assert pfgm.fit(str(tmp_path / "table.csv"), data={"standardize": True}, **TINY).sample(2).shape == (2, 2)


def test_pictures_of_a_newcomer_are_made_alike(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of many sizes, grey and in colour: what a folder of photos is; evaluate brings them to the field's size."""
    for k, image in enumerate(BYTES[:12]):
        made = Image.fromarray(image).resize((40 + k, 50 - k))
        (made if k % 2 else made.convert("RGB")).save(tmp_path / f"{k}.png")
    with caplog.at_level(logging.WARNING):
        field = pfgm.fit(tmp_path, **{**TINY, "steps": 1})
    assert field.process.info.shape == (3, 32, 32)
    assert [record.message for record in caplog.records] == [
        f"the pictures differ in {key} and were made alike; data={{'{key}': {value}}} says the same"
        for key, value in (("channels", 3), ("size", 32))
    ]
    smaller = pfgm.fit(tmp_path, data={"size": 8, "channels": 1}, **{**TINY, "steps": 1})
    found = pfgm.evaluate(smaller, tmp_path, samples=50, metrics=["neighbours"], data={"channels": 1}, solver="euler", steps=1)
    assert found["status"] == "complete"
    (tmp_path / "broken.png").write_bytes(b"none")  # which no size cures
    with pytest.raises(Mistake, match=r"12 of 13 pictures in .* cannot be used"):
        pfgm.fit(tmp_path, **TINY)


def test_columns_of_different_scale_are_trained_alike(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And samples are compared with data in the field's units, whatever units these are read in."""
    x = np.random.default_rng(0).normal(size=(60, 3)) * [1e4, 1.0, 0.0] + [0.0, 5.0, 3.0]
    np.savetxt(tmp_path / "table.csv", x, delimiter=",", header="a,b,c", comments="")
    with caplog.at_level(logging.WARNING):
        field = pfgm.fit(tmp_path / "table.csv", **TINY)
    scale = field.process.info.scale
    assert scale is not None and float(scale[0] / scale[1]) == pytest.approx(x[:, 0].std() / x[:, 1].std(), rel=1e-5)
    (record,) = caplog.records
    assert "trained as if all had 1; data={'standardize': False} leaves them" in record.message
    keys = {"samples": 60, "metrics": ["fid"], "solver": "heun2", "steps": 3}
    plain = pfgm.evaluate(field, tmp_path / "table.csv", **keys)
    units = pfgm.evaluate(field, tmp_path / "table.csv", data={"standardize": True}, **keys)
    for name in ("fid", "fid_half", "fid_gaussian"):
        assert plain[name] == pytest.approx(units[name], rel=1e-4), name
    assert pfgm.fit(x, data={"standardize": False}, **TINY).process.info.scale is None
    assert pfgm.fit(x[:, 1:], **TINY).process.info.scale is None  # a constant column is no small one
    assert pfgm.fit(x[:, 1:2] / 100, **TINY).process.info.scale is not None


@pytest.mark.parametrize(
    ("shape", "name"), [((2,), "mlp"), ((1, 8, 8), "mlp"), ((3, 32, 32), "unet"), ((1, 28, 28), "unet"), ((1, 30, 30), "mlp")]
)
def test_the_network_follows_the_shape(shape: tuple[int, ...], name: str) -> None:
    x = torch.rand(5, *shape, generator=torch.Generator().manual_seed(0))
    chosen = _network(dataset(x), None)
    assert chosen.name == name
    assert _network(dataset(x), "mlp").name == "mlp"
    if name == "unet":
        assert pfgm.fit(x, **{**TINY, "network": None, "steps": 1, "batch_size": 2}).sample(1, steps=1).shape == (1, *shape)


@pytest.mark.parametrize(
    ("shape", "network", "sizes"),
    [
        ((1, 28, 28), "unet", (32, 2, 2)), ((3, 8, 8), "unet", (32, 2, 1)), ((1, 30, 30), "unet", (32, 2, 1)),
        ((1, 9, 15), "unet", (32, 1, 1)), ((1, 28, 28), "mlp", (256, 2, None)), ((2,), "mlp", (256, 2, None)),
    ],
)  # fmt: skip
def test_a_network_asked_for_by_name_has_a_size_for_the_data(shape: tuple[int, ...], network: str, sizes: Any) -> None:
    x = torch.rand(8, *shape, generator=torch.Generator().manual_seed(0))
    made = pfgm.fit(x, steps=1, network=network, batch_size=4, progress=False).network_config
    assert (made.width, made.depth, made.patch) == sizes


def test_little_time_takes_an_mlp_for_images(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the speed of this machine: the steps that fit are given."""
    asked = []

    def few(points: object, network: NetworkConfig, *rest: object) -> tuple[int, int]:
        asked.append(network.name)
        return (2, 1)

    monkeypatch.setattr(fit_module, "_steps", few)
    x, keys = torch.rand(8, 1, 20, 20, generator=torch.Generator().manual_seed(0)) * 2 - 1, {"batch_size": 4, "progress": False}
    with caplog.at_level(logging.WARNING):
        assert pfgm.fit(x, minutes=1, **keys).network_config.name == "mlp"
    assert asked == ["unet", "mlp"]
    assert "a U-Net would take 2 steps in this time" in caplog.records[0].message
    assert pfgm.fit(x, minutes=1, network="unet", **keys).network_config.name == "unet"
    monkeypatch.setattr(fit_module, "FEW", 2)
    assert pfgm.fit(x, minutes=1, **keys).network_config.name == "unet"


def test_minutes_give_the_steps() -> None:
    """More minutes, more steps; and it ends by the time, however slow the machine becomes."""
    started = time.perf_counter()
    keys = {key: value for key, value in TINY.items() if key != "steps"}
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        field = pfgm.fit("rings", minutes=0.02, **keys)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert field.process.train.steps >= 1
    assert time.perf_counter() - started < 60


def test_a_stopped_training_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    threading.Timer(1.5, _thread.interrupt_main).start()
    try:
        with caplog.at_level(logging.WARNING):
            field = pfgm.fit("rings", **{**TINY, "steps": 10**7})
    finally:
        signal.signal(signal.SIGINT, before)
    (record,) = caplog.records
    assert "the field is what was trained so far" in record.message
    assert field.sample(3).isfinite().all()


def test_evaluate_gives_the_metrics_with_their_anchors() -> None:
    field = pfgm.fit("rings", **TINY)
    found = pfgm.evaluate(field, "rings", samples=60, metrics=["fid", "sliced_wasserstein"], solver="heun2", steps=3)
    assert {"fid", "fid_floor", "fid_half", "fid_gaussian", "sliced_wasserstein", "nfe", "status"} <= found.keys()
    assert (found["n"], found["nfe"], found["status"]) == (60, 7.0, "complete")
    with pytest.raises(ValueError, match=r"items of shape \(1, 8, 8\), the field makes \(2,\)"):
        pfgm.evaluate(field, "digits")


@pytest.mark.parametrize(
    ("x", "keys", "words"),
    [
        ("rings", {"stepz": 3}, "train.stepz: no such key; use steps"),
        ("rings", {"network": {"widht": 3}}, "network.widht: no such key; use width"),
        ("rings", {"sigma": -1.0}, "train.sigma: "),
        ("digits", {"data": {"siez": 3}}, "data.siez: no such key; use size"),
        ("rings", {"minutes": 1, "steps": 4}, "minutes: must be above 0, and alone without steps"),
        ("rings", {"minutes": 0}, "minutes: must be above 0"),
        ("no such thing", {}, "data.path: 'no such thing' is neither a file or folder nor a data set"),
        (np.full((9, 2), np.nan), {}, "x: has 18 values that are not finite"),
        (np.ones(9), {}, r"x: has shape \(9,\)"),
        (np.array([["a", "b"]] * 5), {}, "x: has dtype <U1; give numbers"),
        (np.linspace(0, 200, 250).reshape(10, 5, 5), {}, "x: holds images between 0 and 200; .* convert them to uint8"),
        ([torch.ones(2), torch.ones(3)], {}, r"x: has items of 2 shapes, such as \(2,\) and \(3,\)"),
        (3, {}, "x: is int; give a tensor"),
    ],
)
def test_mistakes_are_one_line_with_the_cure(x: object, keys: dict[str, object], words: str) -> None:
    with pytest.raises(Mistake, match=words) as raised:
        pfgm.fit(x, **keys)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = [
        "--set",
        "network.width=16",
        "--set",
        "train.steps=12",
        "--set",
        "train.batch_size=16",
        "--set",
        "train.sigma=1e-1",
    ]
    assert main(["fit", "rings", "field", "--seed", "2", *small]) == 0
    assert json.loads((tmp_path / "field/field.json").read_text())["seed"] == 2
    assert main(["sample", "field", "x.npy", "--n", "7", "--set", "solver=euler", "--set", "steps=3"]) == 0
    assert np.load("x.npy").shape == (7, 2)
    assert main(["sample", "field", "x.png", "--n", "7"]) == 0
    assert Image.open("x.png").size[0] > 100
    assert main(["evaluate", "field", "rings", "--samples", "60"]) == 0
    assert "fid_floor" in capsys.readouterr().out
    for arguments, words in (
        (["fit", "rings", "field"], "field holds a field already"),
        (["fit", "rings", "other", "--set", "trian.steps=3"], "--set: got trian.steps=3; write data.KEY=VALUE or network"),
        (["sample", "field", "x.txt"], "x.txt: write a .png or a .npy file"),
        (["sample", "nowhere", "x.npy"], "no field at nowhere"),
        (["evaluate", "field", "digits"], "x has items of shape"),
    ):
        assert main(arguments) == 2
        err = capsys.readouterr().err
        assert words in err and err.count("\n") == 1
    assert not (tmp_path / "other").exists()
