"""Files given as checkpoints that are something else: called by what they are, and nothing in them is run."""

from __future__ import annotations

import os
import pickle
import re
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pfgm.flow.pickles import named_globals
from pfgm.flow.poisson_flow import CURE, from_poisson_flow


class Touch:
    """What makes a file if it is ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def persistent(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], object]:
    """Makes objects that are pickled as the EDM code pickles its networks, together with anything else."""
    module = types.ModuleType("torch_utils.persistence")

    def _reconstruct_persistent_obj(meta: object) -> object:
        raise SystemExit("ran")

    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    module._reconstruct_persistent_obj = _reconstruct_persistent_obj  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_utils", types.ModuleType("torch_utils"))
    monkeypatch.setitem(sys.modules, "torch_utils.persistence", module)

    def make(inner: object) -> object:
        class Persistent:
            def __reduce__(self) -> tuple[object, tuple[object, ...]]:
                return _reconstruct_persistent_obj, ({"module_src": "import os", "state": inner},)

        return Persistent()

    return make


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("form", ["snapshot", "training state", "command", "plain"])
def test_a_pickle_is_named_and_never_run(
    persistent: Callable[[object], object], tmp_path: Path, form: str, protocol: int
) -> None:
    mark = tmp_path / "ran"
    path = tmp_path / ("network-snapshot-000100.pkl" if form != "training state" else "training-state-000100.pt")
    if form == "snapshot":
        path.write_bytes(pickle.dumps({"ema": persistent(Touch(mark)), "augment_pipe": None}, protocol=protocol))
        words = r"it is a snapshot of the EDM or PFGM\+\+ code, which holds source code and would run it"
    elif form == "training state":
        torch.save({"net": persistent(Touch(mark)), "optimizer_state": {}}, path, pickle_protocol=protocol)
        words = r"it is a training state of the EDM or PFGM\+\+ code, which holds source code and would run it"
    elif form == "command":
        path.write_bytes(pickle.dumps(Touch(mark), protocol=protocol))
        words = r"it holds (posix|nt)\.system, neither tensor nor number"
    else:
        path.write_bytes(pickle.dumps([1.0, "two"], protocol=protocol))
        words = "it is a pickle, but none of torch.save|it is damaged, or cut short"
    with pytest.raises(ValueError, match=words) as error:
        from_poisson_flow(path)
    text = str(error.value)
    assert "\n" not in text and CURE in text
    assert "weights_only" not in text and "torch.load" not in text and "allow" not in text
    assert not mark.exists()


def test_a_pickle_of_commands_would_have_run(tmp_path: Path) -> None:
    """The counter-case: what the tests above refuse to do."""
    pickle.loads(pickle.dumps(Touch(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("page", "it is plain text: perhaps a web page"),
        ("safetensors", "it is a safetensors file; a field of this toolkit is given by its folder"),
        ("zip", "it is a zip"),
        ("npz", "it is an .npz file"),
        ("cut", "it is damaged, or cut short"),
        ("empty", "it is empty"),
    ],
)
def test_other_files_are_called_by_what_they_are(tmp_path: Path, name: str, words: str) -> None:
    path = tmp_path / "c.pth"
    if name == "page":
        path.write_text("<!DOCTYPE html><html>Google Drive can't scan this file</html>", encoding="utf-8")
    elif name == "safetensors":
        save_file({"x": torch.zeros(3)}, path)
    elif name in ("zip", "cut"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.txt", "hello" * 100)
        path.write_bytes(path.read_bytes()[: 100 if name == "cut" else None])
    else:
        path.write_bytes(b"")
        if name == "npz":
            np.savez(tmp_path / "x.npz", np.zeros(2))
            (tmp_path / "x.npz").rename(path)
    with pytest.raises(ValueError, match=rf"c\.pth: cannot be read \({re.escape(words)}") as error:
        from_poisson_flow(path)
    assert "weights_only" not in str(error.value) and CURE in str(error.value)


def test_names_are_read_from_any_pickle(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    for protocol in range(6):
        path.write_bytes(pickle.dumps({"a": Path("x"), "b": os.system}, protocol=protocol))
        assert {"posix.system"} < set(named_globals(path))
    path.write_bytes(path.read_bytes()[:-20])
    assert named_globals(path)
    path.write_bytes(b"\x80\x04nothing")
    assert named_globals(path) == []
