"""Memory that training and sampling one field take on a device, without a device: the work is played with tensors that have a
shape and no content, and the bytes that are alive at a time are counted.

A training step holds the weights five times (themselves, gradients, Adam's two moments, the average) and what the forward pass
keeps for the backward pass; the target, computed before, needs less or the same memory again, and keeps some of it. Sampling
holds the activations of one call at a time, in float64 where the solver's error is measured, and the stages of the solver.
Data are counted at four bytes a number: as bytes, they are there twice, for training and for evaluation. Not counted: what
metrics take, whose work is done in parts where memory is short (`pfgm.memory`), and what an allocator leaves unused.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from pfgm.config import NetworkConfig, TrainConfig
from pfgm.field.distances import chunk_elements
from pfgm.field.plane import LEAST_ROWS, Plane
from pfgm.field.target import Doubts, training_target
from pfgm.networks.build import build_network
from pfgm.networks.cost import Storages, row_bytes_at_most

CONTEXT = 512 * 2**20
"""Bytes that a process takes on a GPU before it computes: the driver's context, code of the libraries, their workspaces."""
COPIES = 5
"""Weights, gradients, two moments, average."""
STAGES = 15
"""States of a batch that the largest solver, dopri8, keeps."""
DOUBLES = 8
"""Numbers of a pair, a point or a source that a target has at most at a time, were it computed in one chunk."""


@dataclass(frozen=True)
class Footprint:
    """Bytes, by what they are for."""

    data: int
    training: int
    sampling: int

    @property
    def total(self) -> int:
        """Training and sampling follow each other in one process: the larger counts, the allocator keeps it."""
        return CONTEXT + self.data + max(self.training, self.sampling)


class Alive(TorchDispatchMode):
    """Counts the bytes of the storages that operations make, from when they are made to when nobody holds them."""

    def __init__(self) -> None:
        TorchDispatchMode.__init__(self)
        self.storages = Storages()

    @property
    def now(self) -> int:
        """Return the bytes that are alive."""
        return self.storages.now

    @property
    def peak(self) -> int:
        """Return the most bytes that were alive at a time."""
        return self.storages.peak

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.storages.know(args, made=False)  # what was there before, and what may be returned as a view
        out = func(*args, **(kwargs or {}))
        self.storages.know((out,), made=True)
        return out


class _NormsInFloat32(TorchFunctionMode):
    """Norms as CUDA's autocast computes them; the CPU's, by which the work is played, leaves them in bfloat16."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (F.group_norm, F.layer_norm, torch.group_norm, torch.layer_norm):
            args = (args[0].float(), *args[1:])
        return func(*args, **(kwargs or {}))


def activations(network: nn.Module, shape: tuple[int, ...], rows: int, bf16: bool = False, as_on_cuda: bool = True) -> int:
    """Bytes that a forward pass of ``rows`` rows leaves for the backward pass, its output among them.

    Args:
        network: maps x (B, d) and t (B,) to field numbers; only the shapes of its weights are used.
        shape: of one item.
        rows: B.
        bf16: under autocast.
        as_on_cuda: with the precisions that CUDA's autocast chooses.
    """
    with ExitStack() as stack:
        stack.enter_context(FakeTensorMode())
        tensors = _without_content(network)
        x, t = torch.empty(rows, prod(shape)), torch.empty(rows)
        alive: Alive = stack.enter_context(Alive())
        if bf16 and as_on_cuda:
            stack.enter_context(_NormsInFloat32())
        stack.enter_context(torch.autocast("cpu", torch.bfloat16, enabled=bf16))
        out = functional_call(network, tensors, (x, t))
        assert out.requires_grad
        return alive.now


def call_peak(network: nn.Module, shape: tuple[int, ...], rows: int) -> int:
    """Most bytes at a time within one call that nobody differentiates, in float32."""
    with FakeTensorMode(), torch.no_grad():
        tensors = _without_content(network)
        x, t = torch.empty(rows, prod(shape)), torch.empty(rows)
        alive = Alive()
        with alive:
            functional_call(network, tensors, (x, t))
        return alive.peak


def target_bytes(dim: int, rows: int, sources: int, device: str = "cuda") -> tuple[int, int]:
    """Most bytes at a time while the target of ``rows`` points over ``sources`` sources is computed, and those kept afterwards.

    Args:
        dim: d.
        rows: B.
        sources: N.
        device: whose chunks are played; on a GPU some rows are computed again unasked, which is.
    """
    elements = chunk_elements(device)
    size = max(LEAST_ROWS, elements // max(rows, dim))
    played = sources if sources * dim <= elements else min(sources, max(elements // dim + 1, 2 * size))
    with FakeTensorMode():
        x, t, data = torch.empty(rows, dim), torch.empty(rows), torch.empty(played, dim)
        doubts, alive = Doubts("cpu"), Alive()
        with alive:
            plane = Plane(data, asks=False, elements=elements)
            training_target(x, t, plane, 1.0, doubts=doubts)
        return alive.peak, alive.now


@lru_cache(maxsize=64)
def footprint(
    network: NetworkConfig, shape: tuple[int, ...], n: int, train: TrainConfig, sample_rows: int, double_rows: int = 0
) -> Footprint:
    """The memory that one field takes.

    Args:
        network: architecture.
        shape: of one item, (d,) or (C, H, W).
        n: stored items.
        train: training point; its batch, reference batch and precision count.
        sample_rows: rows of a batch of the sampler.
        double_rows: rows of the batch of which the solver's error is measured, in float64; 0 for none.
    Raises:
        ValueError: as `build_network`.
    """
    with torch.device("meta"):
        made = build_network(network, shape, 1.0, 1.0)
    weights, d, rows = _bytes(made.parameters()), prod(shape), train.batch_size
    kept = activations(made, shape, rows, train.bf16)
    batch = reference = 4 * rows * d
    target = held = 0
    if train.reference_batch_size is not None:
        sources = n if train.reference_batch_size == "all" else int(train.reference_batch_size)
        reference = 4 * d * sources if sources < n else batch
        target, held = target_bytes(d, rows, sources)
    called = call_peak(made, shape, sample_rows) / sample_rows
    state = 8 * STAGES * d
    sampling = max(weights + sample_rows * (called + state), 3 * weights + double_rows * (2 * called + state))
    return Footprint(4 * n * d, COPIES * weights + reference + max(kept + batch + held, target), int(sampling))


@lru_cache(maxsize=64)
def at_most(
    network: NetworkConfig, shape: tuple[int, ...], n: int, train: TrainConfig, sample_rows: int, double_rows: int = 0
) -> Footprint:
    """More memory than `footprint` counts, with the same arguments: for who asks only whether a field is small.

    It is there at once; to count takes two seconds, as the tensors without content load torch's compiler.
    """
    with torch.device("meta"):
        made = build_network(network, shape, 1.0, 1.0)
    weights, d, rows = _bytes(made.parameters()), prod(shape), train.batch_size
    row, state = row_bytes_at_most(made, shape), 8 * STAGES * d
    training, target = (COPIES + 1) * weights + rows * (row + 8 * d), 0  # autocast keeps copies of the weights
    if train.reference_batch_size is not None:
        sources = n if train.reference_batch_size == "all" else int(train.reference_batch_size)
        target = 8 * DOUBLES * (rows * sources + (rows + sources) * d)
    sampling = max(weights + sample_rows * (row + state), 3 * weights + double_rows * (2 * row + state))
    return Footprint(4 * n * d, training + target, sampling)


def _without_content(network: nn.Module) -> dict[str, Tensor]:
    """Weights and buffers that have the shape, order and precision of the network's; call it in a `FakeTensorMode`."""
    named = [*network.named_parameters(), *network.named_buffers()]
    return {
        name: torch.empty_strided(p.shape, p.stride(), dtype=p.dtype).requires_grad_(isinstance(p, nn.Parameter))
        for name, p in named
    }


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)
