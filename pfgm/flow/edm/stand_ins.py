"""An unpickler that finds stand-ins alone: what a pickle of the EDM or PFGM++ code would build becomes inert records.

A pickle is a program. The networks in these files are even rebuilt by ``torch_utils.persistence`` from source code that lies
beside the weights. Here a few names are known, those of tensors, numbers and containers; each is replaced by a stand-in that
keeps what it is given. Modules become records, source code stays text, and any other name is refused. Nothing is imported, and
tensors are cut from the bytes of their storages when they are asked for.
"""

from __future__ import annotations

import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any, ClassVar, NoReturn

import numpy as np
import torch
from torch import Tensor

STORAGES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32, "ShortStorage": torch.int16,
    "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
"""torch's names of storages."""
MODULES = re.compile(r"torch\.nn\.modules(\.\w+)*|(training|torch_utils|dnnlib)(\.\w+)*")
"""Where the classes are defined whose objects become records: layers of torch, and parts of that code."""
PLAIN = {("torch", "device"), ("numpy", "ndarray"), *(("torch", str(d).removeprefix("torch.")) for d in STORAGES.values())}
"""Classes and words beside them that become records."""
NUMBER = re.compile(r"[<|=]?[biuf][1248]")


class Refused(pickle.UnpicklingError):
    """The file asks for something that is neither tensor, number nor module."""


class Record:
    """Stands for an object, and keeps its state."""

    name: ClassVar[str] = ""
    """Module and name of its class, or the name alone."""
    args: tuple[object, ...] = ()
    state: Any = None

    def __init__(self, *args: object) -> None:
        self.args = args

    def __setstate__(self, state: object) -> None:
        self.state = state

    @property
    def kind(self) -> str:
        """Return the name of its class, without the module."""
        return self.name.rpartition(".")[2]

    def part(self, key: str) -> dict[Any, Any]:
        """A dictionary of its state; empty where there is none."""
        found = self.state.get(key) if isinstance(self.state, dict) else None
        return found if isinstance(found, dict) else {}


class Table(dict[Any, Any]):
    """Stands for dictionaries of any class."""

    def __setstate__(self, state: object) -> None:
        """Attributes of a dictionary; there is nothing to keep."""


class _Fixed:
    """What a pickle cannot change once it is made."""

    def __setstate__(self, state: object) -> NoReturn:
        raise Refused("it changes what is fixed")


@dataclass(frozen=True)
class StandIn(_Fixed):
    """A function that is known."""

    call: Callable[..., object]

    def __call__(self, *args: object) -> object:
        """What it makes of its arguments."""
        return self.call(*args)


@dataclass(frozen=True)
class Storage(_Fixed):
    """Numbers that are read when they are asked for, one dimension."""

    read: Callable[[], Tensor]


@dataclass(frozen=True)
class StoredTensor(_Fixed):
    """A view of a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def load(self) -> Tensor:
        """The tensor, on the CPU, in memory of its own.

        Raises:
            ValueError: it reaches beyond its storage, or the storage is damaged.
        """
        flat = self.storage.read()
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        if prod(self.shape) and last >= len(flat):
            raise ValueError("a tensor reaches beyond its storage")
        return flat.as_strided(self.shape, self.strides, self.offset).clone()


@dataclass(frozen=True)
class _Entry:
    """The numbers of one entry of a torch archive."""

    archive: Path
    name: str
    dtype: torch.dtype
    n: int

    def __call__(self) -> Tensor:
        with zipfile.ZipFile(self.archive) as archive:
            size = archive.getinfo(self.name).file_size
            if size != self.n * self.dtype.itemsize or not size:
                raise ValueError(f"{self.name} has {size} bytes, not {self.n * self.dtype.itemsize}")
            return torch.frombuffer(bytearray(archive.read(self.name)), dtype=self.dtype)


def unpickled(path: Path) -> Any:
    """What a pickle, or the pickle in a file of torch.save, describes, made of stand-ins.

    Raises:
        Refused: it names what is not known.
        Exception: it is damaged; a broken pickle fails in as many ways as there are opcodes.
    """
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as handle:
            return _Reader(handle).load()
    with zipfile.ZipFile(path) as archive:
        inner = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
        if inner is None:
            raise Refused("it has no data.pkl")
        return _Reader(io.BytesIO(archive.read(inner)), path, inner.removesuffix("data.pkl")).load()


class _Reader(pickle.Unpickler):
    """Finds stand-ins.

    Args:
        file: the pickle.
        archive: torch's archive that it lies in, and before its name there; None: it lies alone.
    """

    def __init__(self, file: IO[bytes], archive: Path | None = None, prefix: str = "") -> None:
        super().__init__(file)
        self.archive, self.prefix = archive, prefix

    def find_class(self, module: str, name: str) -> object:
        """Never a real class."""
        if (known := STAND_INS.get((module, name))) is not None:
            return known
        if module in ("torch", "torch.storage") and name in STORAGES:
            return name
        if (module, name) in PLAIN or (MODULES.fullmatch(module) and name.isidentifier()):
            return type(name, (Record,), {"name": f"{module}.{name}"})
        raise Refused(f"it asks for {module}.{name}, neither tensor, number nor module; nothing was run")

    def persistent_load(self, pid: Any) -> Storage:
        """Stands for a storage that lies beside the pickle."""
        match pid:
            case ("storage", str(word), str(key), str(), int(n)) if word in STORAGES and self.archive is not None:
                return Storage(_Entry(self.archive, f"{self.prefix}data/{key}", STORAGES[word], n))
        raise Refused("it names a storage in another way than torch")


def _storage(content: object) -> Storage:
    """For `torch.storage._load_from_bytes`: a storage as torch's own file, read by torch's reader of tensors alone."""
    if not isinstance(content, bytes):
        raise Refused("it has a storage that is no bytes")

    def read() -> Tensor:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of the pickle's protocol: what cannot be read is said below
                storage = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
                flat: Tensor = torch.empty(0, dtype=storage.dtype).set_(storage)
        except Exception as error:  # a damaged storage raises anything, and torch then advises to run it
            raise ValueError("a storage is damaged, or holds more than numbers; nothing was run") from error
        return flat

    return Storage(read)


def _tensor(storage: object, offset: object, shape: object, strides: object, *_: object) -> StoredTensor:
    """For `torch._utils._rebuild_tensor_v2`."""
    match storage, offset, shape, strides:
        case Storage(), int(), tuple(), tuple() if all(type(n) is int and n >= 0 for n in (offset, *shape, *strides)):
            if len(shape) == len(strides):
                return StoredTensor(storage, offset, shape, strides)
    raise Refused("it has a tensor in another form than torch's")


def _parameter(tensor: object, *_: object) -> object:
    """For `torch._utils._rebuild_parameter`."""
    return tensor


def _persistent(meta: object) -> Record:
    """For the function that would run the source code: a record of the class's name and the state."""
    if not (isinstance(meta, dict) and isinstance(meta.get("class_name"), str)):
        raise Refused("it has an object of torch_utils.persistence without a class")
    made: Record = type("Persistent", (Record,), {"name": meta["class_name"]})()
    made.state = meta.get("state")
    return made


class _Dtype(Record):
    """For numpy's dtype."""


def _number(dtype: object, content: object) -> object:
    """For numpy's `scalar`."""
    word = dtype.args[0] if isinstance(dtype, _Dtype) and dtype.args else None
    if not (isinstance(word, str) and NUMBER.fullmatch(word) and isinstance(content, bytes)):
        raise Refused("it has a number of an unknown kind")
    return np.frombuffer(content, word, 1)[0].item()


def _bytes(text: object, encoding: object = "latin1") -> bytes:
    """For `_codecs.encode`, by which old protocols write bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise Refused("it has bytes in an unknown encoding")
    return text.encode("latin1")


STAND_INS: dict[tuple[str, str], object] = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): StandIn(_persistent),
    ("torch._utils", "_rebuild_tensor_v2"): StandIn(_tensor),
    ("torch._utils", "_rebuild_parameter"): StandIn(_parameter),
    ("torch.storage", "_load_from_bytes"): StandIn(_storage),
    ("torch", "Size"): StandIn(tuple),
    ("collections", "OrderedDict"): Table,
    ("dnnlib.util", "EasyDict"): Table,
    ("builtins", "set"): StandIn(set),
    ("__builtin__", "set"): StandIn(set),
    ("_codecs", "encode"): StandIn(_bytes),
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "scalar"): StandIn(_number),
    ("numpy._core.multiarray", "scalar"): StandIn(_number),
    ("numpy.core.multiarray", "_reconstruct"): Record,
    ("numpy._core.multiarray", "_reconstruct"): Record,
}
