"""Files in the layout of the EDM and PFGM++ code, made for tests by a writer of its own: modules that pickle as theirs do."""

from __future__ import annotations

import pickle
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers.edm_reference import Options, Weights, random_weights
from torch import nn

CLASSES = {"edm": "EDMPrecond", "vp": "VPPrecond", "ve": "VEPrecond"}
HEADS: dict[str, dict[str, Any]] = {
    "edm": {"sigma_min": 0, "sigma_max": float("inf"), "sigma_data": 0.5},
    "vp": {"beta_d": 19.9, "beta_min": 0.1, "M": 1000, "epsilon_t": 1e-5, "sigma_min": 0.0014, "sigma_max": 152.17},
    "ve": {"sigma_min": 0.02, "sigma_max": 100},
}


def _reconstruct_persistent_obj(meta: object) -> object:
    raise SystemExit("ran")


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


class EasyDict(dict):
    __module__ = "dnnlib.util"


@contextmanager
def their_modules() -> Iterator[None]:
    """Modules of the names of theirs, as long as a file is written."""
    made = {name: types.ModuleType(name) for name in ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util")}
    made["torch_utils.persistence"]._reconstruct_persistent_obj = _reconstruct_persistent_obj  # type: ignore[attr-defined]
    made["dnnlib.util"].EasyDict = EasyDict  # type: ignore[attr-defined]
    before = {name: sys.modules.get(name) for name in made}
    sys.modules.update(made)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class Persistent(nn.Module):
    """A module that is pickled with source code in place of its class."""

    def __init__(self, class_name: str, **attributes: object) -> None:
        super().__init__()
        self.class_name_there = class_name
        for key, value in attributes.items():
            setattr(self, key, value)

    def __reduce__(self) -> Any:
        state = {key: value for key, value in self.__dict__.items() if key != "class_name_there"}
        meta = {
            "type": "class", "version": 6, "module_src": "import os\nos.system('touch ran')\n",
            "class_name": self.class_name_there, "state": state,
        }  # fmt: skip
        return _reconstruct_persistent_obj, (meta,), None


class Loss:
    """A loss of theirs: persistent too, and no module."""

    def __reduce__(self) -> Any:
        state = {"P_mean": -1.2, "P_std": 1.2, "sigma_data": 0.5, "_init_args": (), "_init_kwargs": EasyDict()}
        meta = {"type": "class", "version": 6, "module_src": "1/0", "class_name": "EDMLoss", "state": state}
        return _reconstruct_persistent_obj, (meta,), None


def _class_of(name: str) -> str:
    leaf = name.rpartition(".")[2]
    if "norm" in leaf:
        return "GroupNorm"
    if leaf.startswith("map_noise"):
        return "FourierEmbedding"
    return "Linear" if leaf.startswith(("map_", "affine")) else "UNetBlock" if name.count(".") == 2 else "Conv2d"


def network(o: Options, weights: Weights, head: str = "edm", **more: Any) -> Persistent:
    """The module that their code would hold for these weights; ``more``: attributes of the preconditioned network."""
    unet = Persistent("DhariwalUNet" if o.form == "adm" else "SongUNet", label_dropout=0)
    unet.enc, unet.dec = nn.ModuleDict(), nn.ModuleDict()
    for name, tensor in weights.items():
        *path, leaf = name.split(".")
        at: nn.Module = unet
        for k, part in enumerate(path):
            if not hasattr(at, part) and part not in getattr(at, "_modules", {}):
                made = Persistent(_class_of(".".join(["", *path[: k + 1]])), skip_scale=np.sqrt(0.5), resample=[1, 1])
                at.add_module(part, made)
            at = at._modules[part]  # type: ignore[assignment]
        if leaf in ("resample_filter", "freqs"):
            at.register_buffer(leaf, tensor.clone())
        else:
            at.register_parameter(leaf, nn.Parameter(tensor.clone()))
            at.register_buffer("resample_filter", at._buffers.get("resample_filter"))
    plain = {
        "img_resolution": o.size, "img_channels": o.colours, "label_dim": o.labels, "use_fp16": False, **HEADS[head], **more,
    }  # fmt: skip
    made = {
        **{k: v for k, v in plain.items() if k != "sigma_min"},
        "model_type": unet.class_name_there,
        "augment_dim": o.augment,
    }
    top = Persistent(CLASSES[head], **plain, _init_args=(), _init_kwargs=EasyDict(made))
    top.model = unet
    return top


def snapshot(path: Path, module: nn.Module, protocol: int | None = None, **more: object) -> Path:
    """Write a ``network-snapshot-*.pkl``."""
    content = {"ema": module.eval().requires_grad_(False), "loss_fn": Loss(), "augment_pipe": None}
    content |= {"dataset_kwargs": EasyDict(class_name="training.dataset.ImageFolderDataset", resolution=8), **more}
    with their_modules():
        path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def training_state(path: Path, module: nn.Module, key: str = "net") -> Path:
    """Write a ``training-state-*.pt``: EDM's has ``net``, PFGM++'s ``ema`` and the step."""
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3 * np.minimum(0.5, 1.0))
    content = {key: module, "optimizer_state": optimizer.state_dict(), "step": 1024}
    with their_modules():
        torch.save(content, path)
    return path


def written(path: Path, o: Options, seed: int = 0, head: str = "edm", **more: Any) -> tuple[Path, Weights]:
    """A snapshot of random weights, and the weights."""
    weights = random_weights(o, seed)
    return snapshot(path, network(o, weights, head, **more)), weights
