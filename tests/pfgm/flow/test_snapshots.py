"""Files of the EDM and PFGM++ code: read whole by names, or refused in one line; nothing in them is run."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.edm_layout import Persistent, network, snapshot, their_modules, training_state
from helpers.edm_reference import Options, random_weights
from safetensors.torch import save_file

from pfgm.flow.edm.snapshots import CURE, read_snapshot
from pfgm.flow.edm.stand_ins import STAND_INS, Record

SMALL = Options(form="ncsnpp", labels=3, augment=9)


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return random_weights(SMALL)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_tensor_of_a_snapshot_is_read(weights: dict[str, torch.Tensor], tmp_path: Path, protocol: int) -> None:
    path = snapshot(tmp_path / "n.pkl", network(SMALL, weights, D=128, pfgmpp=True), protocol)
    read = read_snapshot(path)
    assert read.kind == "EDMPrecond" and read.averaged and read.facts["model_type"] == "SongUNet"
    assert {k: read.facts[k] for k in ("img_resolution", "img_channels", "label_dim", "sigma_data", "D", "pfgmpp")} == {
        "img_resolution": 8, "img_channels": 3, "label_dim": 3, "sigma_data": 0.5, "D": 128, "pfgmpp": True,
    }  # fmt: skip
    assert read.facts["augment_dim"] == 9, "of the keywords that it was made with"
    assert (read.loss["P_mean"], read.loss["P_std"]) == (-1.2, 1.2)
    assert {name.removeprefix("model.") for name in read.shapes} == set(weights)
    for name, tensor in weights.items():
        assert read.shapes[f"model.{name}"] == tuple(tensor.shape)
        assert torch.equal(read.load[f"model.{name}"](), tensor), name


@pytest.mark.parametrize(("key", "averaged"), [("net", False), ("ema", True)])
def test_a_training_state_is_read(weights: dict[str, torch.Tensor], tmp_path: Path, key: str, averaged: bool) -> None:
    read = read_snapshot(training_state(tmp_path / "training-state-000001.pt", network(SMALL, weights), key))
    assert read.averaged is averaged and not read.loss
    assert all(torch.equal(read.load[f"model.{name}"](), tensor) for name, tensor in weights.items())


def test_an_export_is_read(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(weights, tmp_path / "w.safetensors", {"class_name": "EDMPrecond", "sigma_data": "0.5", "D": "2048"})
    read = read_snapshot(tmp_path / "w.safetensors")
    assert read.facts == {"sigma_data": 0.5, "D": 2048.0}
    assert all(torch.equal(read.load[f"model.{name}"](), tensor) for name, tensor in weights.items())


class Call:
    """What runs a function if it is ever unpickled."""

    def __init__(self, function: object, *args: object) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


def _commands(mark: Path) -> dict[str, object]:
    return {
        "a command": Call(os.system, f"touch {mark}"),
        "a file": Call(open, str(mark), "w"),
        "code": Call(exec, f"open({str(mark)!r}, 'w')"),
        "an attribute": Call(getattr, os, "system"),
        "torch's loader": Call(torch.load, str(mark)),
        "a path": mark,
    }


@pytest.mark.parametrize("place", ["beside", "in a module", "as the network", "in a storage"])
@pytest.mark.parametrize("kind", ["a command", "a file", "code", "torch's loader", "a path"])
def test_what_would_run_something_is_refused(weights: dict[str, torch.Tensor], tmp_path: Path, kind: str, place: str) -> None:
    mark, path = tmp_path / "ran", tmp_path / "n.pkl"
    hidden = _commands(mark)[kind]
    made = network(SMALL, weights)
    if place == "beside":
        snapshot(path, made, extra=hidden)
    elif place == "in a module":
        made.model.hidden = hidden
        snapshot(path, made)
    elif place == "as the network":
        path.write_bytes(pickle.dumps({"ema": hidden}))
    else:
        blob = pickle.dumps(hidden)
        stored = Call(torch.storage._load_from_bytes, blob)
        made.model.register_buffer("hidden", None)
        made.model._buffers["hidden"] = Call(torch._utils._rebuild_tensor_v2, stored, 0, (1,), (1,), False, {})  # type: ignore[assignment]
        with their_modules():
            path.write_bytes(pickle.dumps({"ema": made}))
    if place == "in a storage":
        read = read_snapshot(path)
        with pytest.raises(ValueError, match="a storage is damaged, or holds more than numbers; nothing was run"):
            read.load["model.hidden"]()
    else:
        with pytest.raises(ValueError, match=r"n\.pkl: cannot be read \(it asks for .*; nothing was run\); take a") as error:
            read_snapshot(path)
        assert "\n" not in str(error.value)
    assert not mark.exists()


def test_a_training_state_that_would_run_something_is_refused(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    made = network(SMALL, weights)
    made.hidden = Call(os.system, f"touch {tmp_path / 'ran'}")
    with pytest.raises(ValueError, match=r"it asks for (posix|nt)\.system, neither tensor, number nor module"):
        read_snapshot(training_state(tmp_path / "t.pt", made))
    assert not (tmp_path / "ran").exists()


def test_the_commands_would_have_run(tmp_path: Path) -> None:
    """The counter-case, and their source code too."""
    pickle.loads(pickle.dumps(Call(os.system, f"touch {tmp_path / 'ran'}")))
    assert (tmp_path / "ran").exists()
    with their_modules():
        content = pickle.dumps(Persistent("Net"))
        with pytest.raises(SystemExit, match="ran"):
            pickle.loads(content)


def test_stand_ins_cannot_be_changed_by_a_pickle(tmp_path: Path) -> None:
    """The opcode BUILD sets attributes of what was made, or of a function that was found."""
    before = dict(STAND_INS)
    path = tmp_path / "n.pkl"
    for content in (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x04\x00\x00\x00callNsb.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x04\x00\x00\x00callNs\x86b.",
        b"\x80\x02ccollections\nOrderedDict\n}X\x01\x00\x00\x00aNsb.",
        b"\x80\x02ctorch.nn.modules.linear\nLinear\n}X\x01\x00\x00\x00aNsb.",
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot be read"):
            read_snapshot(path)
    assert before == STAND_INS and Record.state is None


def test_what_a_file_says_is_shown_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "n.pkl").write_bytes(b"\x80\x04\x8c\x04o\x1bs\n\x8c\x04ru\nn\x93.")
    with pytest.raises(ValueError, match=r"it asks for o\?s \.ru n, neither tensor") as error:
        read_snapshot(tmp_path / "n.pkl")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"model": 1, "step": 2}, "it holds model, step, not the `ema` or `net`"),
        ([1.0], "it holds list, not the"),
        ({}, "it holds nothing, not the"),
        ({"ema": {"shadow_params": []}}, "it holds ema, not the"),
    ],
)
def test_other_pickles_are_refused(tmp_path: Path, content: object, words: str) -> None:
    (tmp_path / "n.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=words):
        read_snapshot(tmp_path / "n.pkl")


def test_damaged_files_are_refused(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = snapshot(tmp_path / "n.pkl", network(SMALL, weights))
    whole = path.read_bytes()
    state = training_state(tmp_path / "t.pt", network(SMALL, weights)).read_bytes()
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*none\.pkl; give the path"):
        read_snapshot(tmp_path / "none.pkl")
    for junk in (b"", b"\x80\x04nothing", whole[: len(whole) // 2], whole[:-5], b"<!DOCTYPE html>", state[: len(state) // 2]):
        path.write_bytes(junk)
        with pytest.raises(ValueError, match=r"n\.pkl: cannot be read \(it is .*\); take a") as error:
            read_snapshot(path)
        assert "\n" not in str(error.value) and CURE in str(error.value)


def test_a_tensor_may_not_reach_beyond_its_storage(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = training_state(tmp_path / "t.pt", network(SMALL, weights))
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, entry in entries.items():
            archive.writestr(name, entry[:-4] if "/data/" in name else entry)
    load = next(iter(read_snapshot(path).load.values()))
    with pytest.raises(ValueError, match=r"data/\d+ has \d+ bytes, not \d+"):
        load()
