"""Out of memory: work whose rows do not depend on each other is done again in smaller parts, and the splits are counted.

D(x, t) of a network and the mean source of a data set are functions of one row at a time. A call that does not fit into the
memory is therefore halved until it does. The batch of the solve stays whole, because its error norm sets an adaptive solver's
step. Results differ from an unsplit call's by rounding, since a matrix product may sum in another order. A training step is
split in `pfgm.training.trainer`. `n_splits` is the record: a result made while it rose was made in parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor

MESSAGES = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""Words of the plain RuntimeErrors that torch raises when an allocation fails."""

Result = TypeVar("Result", bound="Tensor | tuple[Tensor, ...]")
_splits = 0


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an allocation failed, on the host or on a CUDA device; smaller parts may then succeed."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in MESSAGES)


def n_splits() -> int:
    """Splits that this process has made so far; a caller takes differences."""
    return _splits


def record_split() -> None:
    """Count one split and free what the failed attempt left; call it outside the ``except`` block, whose traceback keeps
    the tensors of every frame alive."""
    global _splits
    _splits += 1
    torch.cuda.empty_cache()  # does nothing where CUDA is not in use


class ByRows(Generic[Result]):
    """A function whose rows are independent, called in halves, quarters, … of the rows once the memory did not hold more.

    Args:
        f: maps tensors of n rows to a tensor, or a NamedTuple of tensors, of n rows; called again after a failure.
    """

    def __init__(self, f: Callable[..., Result]) -> None:
        self.f = f
        self.size: int | None = None
        """Rows of a call that fits, once one did not."""

    def __call__(self, *rows: Tensor) -> Result:
        """f(*rows) of tensors with the same first dimension.

        Raises:
            Exception: what f raised, unless it is out of memory and there is more than one row to split.
        """
        n, start = len(rows[0]), 0
        parts: list[Result] = []
        while start < n or not parts:
            part = [r[start : start + (self.size or n)] for r in rows]
            done = self._attempt(part)
            if done is None:
                record_split()
                self.size = (len(part[0]) + 1) // 2
            else:
                parts.append(done)
                start += len(part[0])
        return parts[0] if len(parts) == 1 else _joined(parts)

    def _attempt(self, rows: Sequence[Tensor]) -> Result | None:
        """f(*rows), or None where more than one row was too much for the memory."""
        try:
            return self.f(*rows)
        except Exception as error:
            if len(rows[0]) < 2 or not is_out_of_memory(error):
                raise
        return None


def _joined(parts: Sequence[Result]) -> Result:
    if isinstance(parts[0], Tensor):
        return cast(Result, torch.cat(cast(list[Tensor], parts)))
    return type(parts[0])(*(torch.cat(column) for column in zip(*parts, strict=True)))
