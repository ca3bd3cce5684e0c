"""Arithmetic of the network during sampling: float32, or what a GPU has tensor cores for.

Only the network's products are in fewer bits. The state of the ODE, the head that reads D from the network's output, and the
solver stay in float32, so that rounding does not add up from step to step. What it costs in quality is the solver error, whose
reference is solved in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from pfgm.mistakes import Mistake
from pfgm.sampling.solvers import MeanSource


def at_precision(mean_source: MeanSource, precision: str | None, device: torch.device, dtype: torch.dtype) -> MeanSource:
    """Return D(x, t) computed at a precision.

    Args:
        mean_source: a network's.
        precision: ``tf32``, ``bf16``, or None for float32, which returns D itself.
        device: where it is computed.
        dtype: of the state.
    Raises:
        ValueError: a state in float64, or tf32 elsewhere than on a GPU.
    """
    if precision is None:
        return mean_source
    if dtype is not torch.float32:
        raise Mistake("precision", "is of a network in float32, and this field is computed in float64; remove it")
    if precision == "tf32" and device.type != "cuda":
        raise Mistake("precision", f"tf32 is an arithmetic of NVIDIA's GPUs, and this is {device.type}; use bf16, or remove it")
    if precision == "bf16":

        def rounded(x: Tensor, t: Tensor) -> Tensor:
            with torch.autocast(device.type, torch.bfloat16):
                return mean_source(x, t)

        return rounded

    def in_tf32(x: Tensor, t: Tensor) -> Tensor:
        with _tf32():
            return mean_source(x, t)

    return in_tf32


@contextmanager
def _tf32() -> Iterator[None]:
    """Allow TF32 in matrix products and convolutions while the block lasts."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
