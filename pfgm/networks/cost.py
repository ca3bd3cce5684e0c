"""What a network costs: parameters, and floating-point operations and memory of one call on one item.

Operations are counted where the time goes, in matrix products, convolutions and attention, a multiplication and an addition as
two; a training step takes three times as many. The network is called once, but its products are left out: each is counted and
returns zeros of its shape, and its weights are one zero seen from every place. A network of a billion weights costs no memory.
(`torch.utils.flop_counter` counts the same; to start it takes two seconds, as it loads torch's compiler.)

Memory is counted in the same call: the bytes of results are alive from when a function returns them to when nobody holds them.
What a function makes and drops within itself is not seen; `pfgm.training.footprint` sees it, and takes those two seconds.
"""

from __future__ import annotations

import copy
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode


def network_cost(network: nn.Module, shape: tuple[int, ...]) -> tuple[int, int]:
    """(parameters, operations a call on one item).

    Args:
        network: maps x (B, d) and t (B,) to field numbers; neither changed nor run.
        shape: of one item, (d,) or (C, H, W).
    """
    counter = _Counter()
    _call(network, shape, counter)
    return sum(p.numel() for p in network.parameters()), counter.operations


def row_bytes(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Most bytes at a time that a call on one item takes besides the weights, at their precision.

    Args:
        network, shape: as of `network_cost`.
    """
    held = _Held()
    _call(network, shape, held)
    return held.storages.peak


def row_bytes_at_most(network: nn.Module, shape: tuple[int, ...]) -> int:
    """More bytes than a call on one item makes besides the weights in float32, dropped or kept, at once.

    Twice what its functions return; and a byte an operation of attention, whose weights nobody sees.

    Args:
        network, shape: as of `network_cost`.
    """
    returned = _Returned()
    _call(network, shape, returned)
    return returned.bytes


def _call(network: nn.Module, shape: tuple[int, ...], mode: _Counter) -> None:
    tensors = {
        name: torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
        for name, tensor in (*network.named_parameters(), *network.named_buffers())
    }
    dtype = next((p.dtype for p in network.parameters()), torch.float32)
    with torch.no_grad(), torch.random.fork_rng(devices=[]), mode:  # dropout draws
        functional_call(
            _without_hooks(network), tensors, (torch.zeros(1, prod(shape), dtype=dtype), torch.ones(1, dtype=dtype))
        )


def _without_hooks(module: nn.Module) -> nn.Module:
    """The same layers and tensors, without what others have hooked to a call: this one is no call of theirs."""
    bare = copy.copy(module)
    bare._forward_hooks, bare._forward_pre_hooks = OrderedDict(), OrderedDict()
    bare._modules = {name: None if child is None else _without_hooks(child) for name, child in module._modules.items()}
    return bare


class Storages:
    """Bytes of storages that are alive."""

    def __init__(self) -> None:
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def know(self, values: Iterable[Any], made: bool) -> None:
        """Count the storages of tensors, and of tensors in lists; what was not ``made`` counts nothing, nor do its views."""
        for storage in _storages(values):
            key, size = storage._cdata, storage.nbytes() if made else 0
            if key not in self._sizes:
                self._sizes[key] = size
                self.now += size
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


def _storages(values: Iterable[Any]) -> Iterator[torch.UntypedStorage]:
    """Yield the storages of tensors, and of tensors in lists."""
    for value in values:
        if isinstance(value, Tensor):
            yield value.untyped_storage()
        elif isinstance(value, tuple | list):
            yield from _storages(value)


class _Counter(TorchFunctionMode):
    """Counts products in place of computing them."""

    operations = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if (product := _PRODUCTS.get(func)) is None:
            out = func(*args, **(kwargs or {}))
            self.look(func, args, out)
            return out
        out, terms = product(*args, **(kwargs or {}))
        self.operations += 2 * terms
        self.look(func, args, out)
        return out

    def look(self, func: Callable[..., Any], given: tuple[Any, ...], out: Any) -> None:
        """Called with a function, what it was given and what it returned."""


class _Held(_Counter):
    """Counts the bytes of what functions return, too."""

    def __init__(self) -> None:
        super().__init__()
        self.storages = Storages()

    def look(self, func: Callable[..., Any], given: tuple[Any, ...], out: Any) -> None:
        """Know both; what was given first, for a function may return it."""
        self.storages.know(given, made=False)
        self.storages.know((out,), made=True)


class _Returned(_Counter):
    """Adds up twice the bytes of what functions return, and the operations of attention."""

    bytes = 0

    def look(self, func: Callable[..., Any], given: tuple[Any, ...], out: Any) -> None:
        """Views count again."""
        self.bytes += 2 * sum(storage.nbytes() for storage in _storages((out,)))
        if func is F.scaled_dot_product_attention:
            q, k, *_ = given
            self.bytes += 2 * (q.numel() + out.numel()) * k.shape[-2]


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, int]:
    return x.new_zeros(*x.shape[:-1], len(weight)), x.numel() * len(weight)


def _matmul(a: Tensor, b: Tensor) -> tuple[Tensor, int]:
    """Batched or not, without vectors."""
    out = a.new_zeros(*torch.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    return out, out.numel() * a.shape[-1]


def _baddbmm(bias: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, int]:
    return _matmul(a, b)


def _conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> tuple[Tensor, int]:
    """The pixels that come out are those of a convolution of two tensors of one channel."""
    one = F.conv2d(x[:1, :1], weight[:1, :1], None, stride, padding, dilation)
    out = x.new_zeros(x.shape[0], len(weight), *one.shape[2:])
    return out, out.numel() * weight[0].numel()


def _attention(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> tuple[Tensor, int]:
    out = q.new_zeros(*q.shape[:-1], v.shape[-1])
    return out, (q.numel() + out.numel()) * k.shape[-2]


_PRODUCTS: dict[Callable[..., Any], Callable[..., tuple[Tensor, int]]] = {
    F.linear: _linear,
    F.conv2d: _conv2d,
    F.scaled_dot_product_attention: _attention,
    torch.baddbmm: _baddbmm,
    **dict.fromkeys((torch.matmul, torch.bmm, torch.mm, Tensor.matmul, Tensor.bmm, Tensor.mm, Tensor.__matmul__), _matmul),
}
"""Functions that multiply matrices: from their arguments to zeros of the result's shape, and the multiplications."""


def with_prefix(number: float) -> str:
    """Three digits and a decimal prefix: 61805572 → "61.8 M"; none below a thousand: "64 "."""
    for prefix in ("", "k", "M", "G"):
        if number < 999.5:
            return f"{number:.3g} {prefix}"
        number /= 1000
    return f"{number:.3g} T"
