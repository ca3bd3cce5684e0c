"""Short memory: work whose rows do not depend on each other is done in parts that fit, and the splits are counted.

D(x, t) of a network and the mean source of a data set are functions of one row at a time. A call that does not fit into the
memory is therefore halved until it does. The batch of the solve stays whole, because its error norm sets an adaptive solver's
step. Results differ from an unsplit call's by rounding, since a matrix product may sum in another order. A training step is
split in `pfgm.training.trainer`. `n_splits` is the record: a result made while it rose was made in parts.

Where the bytes of a row are known, nothing needs to fail first: `fitting_rows` says how many rows the free memory holds, and
`in_tiles` makes the calls. On a host this is the only way, because its kernel lends more memory than there is, and ends the
process that uses it. Sizes are powers of two, so that a little more or less free memory changes no result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar, cast

import psutil
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
SHARE = 0.5
"""Part of the free memory that a call may take: kernels have workspaces that nobody counts, and other processes grow."""
CHEAP = 2**28
"""Bytes up to which nobody looks how much memory is free."""
CGROUP = Path("/sys/fs/cgroup")
"""Where a container's limit stands (cgroup v2)."""
_splits = 0
_limit: int | None = None
_on_host = 1.0


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


def share_host(processes: float) -> None:
    """Count on a part of the host's free memory only: so many processes like this one may work at once, 1 or more."""
    global _on_host
    _on_host = 1 / max(processes, 1.0)


@contextmanager
def limited_to(n_bytes: int) -> Iterator[None]:
    """Let calls that are made in tiles take at most so many bytes, however much memory is free.

    Raises:
        ValueError: n_bytes < 1.
    """
    global _limit
    if n_bytes < 1:
        raise ValueError(f"n_bytes must be at least 1, got {n_bytes}")
    before, _limit = _limit, n_bytes
    try:
        yield
    finally:
        _limit = before


def free_bytes(device: torch.device | str) -> int:
    """Bytes that this process can still have on a device: what its allocator keeps unused too; on a host its part
    (`share_host`) of what the machine, or the container, has left."""
    device = torch.device(device)
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    return int(_on_host * min(psutil.virtual_memory().available, _left_in_container()))


def _left_in_container() -> int:
    """Bytes below the container's limit, its cached files counted as free; a very large number where there is none."""
    try:
        most = (CGROUP / "memory.max").read_text(encoding="ascii").strip()
        used = int((CGROUP / "memory.current").read_text(encoding="ascii"))
        facts = dict(line.split() for line in (CGROUP / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return 2**62
    return 2**62 if most == "max" else int(most) - used + int(facts.get("inactive_file", 0))


def fitting_rows(rows: int, row_bytes: float, device: torch.device | str) -> int:
    """Rows that are worked on together: all where the memory holds them, else a power of two, counted as one split.

    Args:
        rows: of the whole.
        row_bytes: memory that one takes.
        device: where.
    """
    global _splits
    needed = rows * row_bytes
    if needed <= (CHEAP if _limit is None else _limit):
        return rows
    there = SHARE * free_bytes(device) if _limit is None else float(_limit)
    if needed <= there:
        return rows
    fitting = 1 << max(int(there / row_bytes), 1).bit_length() - 1
    _splits += fitting < rows
    return min(rows, fitting)


def in_tiles(f: Callable[..., Tensor], rows: Sequence[Tensor], size: int) -> Tensor:
    """f(*rows) by parts of at most ``size`` rows.

    Args:
        f: maps tensors of n rows to a tensor of n rows.
        rows: tensors with the same first dimension.
        size: as `fitting_rows` gives it.
    """
    n = len(rows[0])
    if size >= n:
        return f(*rows)
    return torch.cat([f(*(r[k : k + size] for r in rows)) for k in range(0, n, size)])


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
