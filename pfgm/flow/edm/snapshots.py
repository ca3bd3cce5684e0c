r"""Snapshots and training states of the EDM and PFGM++ code (github.com/NVlabs/edm, github.com/Newbeeer/pfgmpp) as data.

=========================  =================================  ===========================================================
file                       layout                             holds
=========================  =================================  ===========================================================
network-snapshot-*.pkl,    a pickled dictionary               ``ema``, the averaged network; ``loss_fn``
and published .pkl
training-state-*.pt        torch's archive of a dictionary    ``net``, that of the last step (EDM), or ``ema`` (PFGM++)
*.safetensors              an export: tensors by name         the weights alone, as of ``ema`` or of the U-Net in it
=========================  =================================  ===========================================================

What is read of a network is a tree of modules: its tensors by name, and its attributes that are plain numbers and words, among
them those that it was made with (``_init_kwargs``). None of it is run (`pfgm.flow.edm.stand_ins`).
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from safetensors import safe_open
from torch import Tensor

from pfgm.data.readers.kinds import WORDS, kind_of
from pfgm.flow.edm.stand_ins import Record, Refused, StoredTensor, unpickled
from pfgm.flow.foreign import one_line

CURE = "take a network-snapshot-*.pkl, a training-state-*.pt or a published .pkl, and download it again if it is one"
MAX_DEPTH = 32
"""Modules within modules; the published networks have 5."""
Fact: TypeAlias = bool | int | float | str


@dataclass(frozen=True)
class Snapshot:
    """What is known of a network in a file."""

    kind: str
    """The class of the preconditioned network: EDMPrecond, VPPrecond or VEPrecond."""
    shapes: dict[str, tuple[int, ...]]
    """Of every tensor, by its name."""
    load: Mapping[str, Callable[[], Tensor]]
    """Reads a tensor, by its name."""
    facts: dict[str, Fact]
    """Plain attributes of the network and, unless it has one of the name, of the U-Net in it (``model_type`` its class)."""
    loss: dict[str, Fact]
    """Plain attributes of the loss, where the file has it."""
    averaged: bool = True
    """Whether the weights are the averaged ones."""


def read_snapshot(path: Path) -> Snapshot:
    """Read a file of the EDM or PFGM++ code, or an export of its weights to safetensors.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another file, a damaged one, or one that asks for more than tensors, numbers and modules. One line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; give the path of a .pkl or .pt file")
    kind = kind_of(path)
    if kind not in ("torch", "pickle", "safetensors"):
        what = WORDS[kind] if kind in WORDS and (kind != "zip" or zipfile.is_zipfile(path)) else "damaged, or cut short"
        raise ValueError(f"{path}: cannot be read (it is {what}); {CURE}")
    try:
        return _of_safetensors(path) if kind == "safetensors" else _of_content(unpickled(path))
    except MemoryError:
        raise ValueError(f"{path}: cannot be read (it asks for more memory than there is); {CURE}") from None
    except Refused as error:
        raise ValueError(f"{path}: cannot be read ({one_line(error)}); {CURE}") from None
    except Exception as error:  # a broken pickle fails in as many ways as there are opcodes
        raise ValueError(f"{path}: cannot be read (it is damaged, or cut short: {one_line(error)}); {CURE}") from error


def _of_content(content: Any) -> Snapshot:
    network = next((content[key] for key in ("ema", "net") if content.get(key)), None) if isinstance(content, dict) else None
    if not isinstance(network, Record):
        keys = ", ".join(map(str, list(content)[:3])) if isinstance(content, dict) else type(content).__name__
        raise Refused(f"it holds {keys or 'nothing'}, not the `ema` or `net` of the EDM or PFGM++ code")
    found = dict(_tensors(network, "", 0))
    inner = network.part("_modules").get("model")
    facts = {**_facts(inner), "model_type": inner.kind} if isinstance(inner, Record) else {}
    return Snapshot(
        network.kind,
        shapes={name: tensor.shape for name, tensor in found.items()},
        load={name: tensor.load for name, tensor in found.items()},
        facts={**facts, **_facts(network)},
        loss=_facts(loss) if isinstance(loss := content.get("loss_fn"), Record) else {},
        averaged=content.get("ema") is network,
    )


def _facts(module: Record) -> dict[str, Fact]:
    """The plain attributes of a module, and what it was made with where no attribute has the name."""
    known = {**module.part("_init_kwargs"), **(module.state if isinstance(module.state, dict) else {})}
    return {str(key): value for key, value in known.items() if type(value) in (bool, int, float, str)}


def _tensors(module: object, prefix: str, depth: int) -> Iterator[tuple[str, StoredTensor]]:
    """Every tensor of a module and of those in it."""
    if not isinstance(module, Record) or depth > MAX_DEPTH:
        raise Refused(f"{prefix.rstrip('.') or 'the network'} is not a module of torch")
    for name, tensor in {**module.part("_parameters"), **module.part("_buffers")}.items():
        if isinstance(tensor, StoredTensor):
            yield f"{prefix}{name}", tensor
        elif tensor is not None:
            raise Refused(f"{prefix}{name} is no tensor")
    for name, inner in module.part("_modules").items():
        if inner is not None:
            yield from _tensors(inner, f"{prefix}{name}.", depth + 1)


def _of_safetensors(path: Path) -> Snapshot:
    """Weights alone; what else is known stands in the metadata: ``class_name``, and numbers such as ``sigma_data``."""
    with safe_open(path, "pt") as opened:
        listed: list[str] = opened.keys()
        names = {name if name.startswith("model.") else f"model.{name}": name for name in listed}
        shapes = {name: tuple(opened.get_slice(own).get_shape()) for name, own in names.items()}
        told: dict[str, str] = opened.metadata() or {}
    facts: dict[str, Fact] = {key: float(text) for key, text in told.items() if re.fullmatch(r"\d+(\.\d+)?", text)}
    load = {name: partial(_read, path, own) for name, own in names.items()}
    return Snapshot(told.get("class_name", "EDMPrecond"), shapes, load, facts, {})


def _read(path: Path, name: str) -> Tensor:
    with safe_open(path, "pt") as opened:
        tensor: Tensor = opened.get_tensor(name)
        return tensor
