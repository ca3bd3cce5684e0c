"""What is in a data set: the numbers that decide how a field of it is trained."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pfgm.config import DataConfig
from pfgm.data.dataset import DataInfo, Dataset, chunks, load_data
from pfgm.data.errors import DataError
from pfgm.data.points import Points
from pfgm.data.readers.cifar import is_cifar_folder
from pfgm.data.readers.idx import is_idx_folder
from pfgm.data.readers.parquet import has_pictures
from pfgm.data.readers.tables import is_table
from pfgm.registry import PROCESSES, READERS
from pfgm.rules import height_max, rule_M, rule_R_max, rule_T

AUTHORS = (0.01, 0.03)
"""σ and τ of PFGM's experiments (arXiv 2209.11178)."""


@dataclass(frozen=True)
class Recommended:
    """The numbers of the authors' rules for one σ and τ; None where σ is too large for the rule."""

    sigma: float
    tau: float
    M: float | None
    T: float | None
    R_max: float | None


@dataclass(frozen=True)
class Description:
    """Facts of a data set."""

    name: str
    how: str
    n: int  # as trained, flips included
    shape: tuple[int, ...]
    dtype: str
    megabytes: float
    low: float
    high: float
    mean_norm: float
    sd: float
    pixel_sd: tuple[float, float, float]  # smallest, mean and largest of the coordinates' standard deviations
    duplicates: int
    n_test: int
    test_duplicates: int
    center: bool
    hash: str
    recommended: tuple[Recommended, ...]
    units: str  # how points are stored, where that is not in data units
    notes: tuple[str, ...]


def describe(data: Dataset) -> Description:
    """Look at every point once, in chunks."""
    info, raw = data.info, data.raw
    sd = _coordinate_sd(data.points)
    low, high = _range(data)
    seen: set[bytes] = set()
    duplicates = _seen_before(raw, seen)
    defaults = PROCESSES["pfgm"].Keys.defaults()
    sizes = [AUTHORS, (float(str(defaults["sigma"])), float(str(defaults["tau"])))]
    return Description(
        name=info.name,
        how=data.how,
        n=info.n,
        shape=info.shape,
        dtype=str(raw.stored.dtype).removeprefix("torch."),
        megabytes=raw.n_stored * info.dim * raw.stored.element_size() / 1e6,
        low=low,
        high=high,
        mean_norm=info.mean_norm,
        sd=info.sd,
        pixel_sd=(float(sd.min()), float(sd.mean()), float(sd.max())),
        duplicates=duplicates,
        n_test=0 if data.test is None else len(data.test),
        test_duplicates=0 if data.test is None else sum(row in seen for row in _digests(data.test)),
        center=info.center,
        hash=info.hash,
        recommended=tuple(recommend(info.mean_norm, info.dim, sigma, tau) for sigma, tau in sizes),
        units=_units(info),
        notes=data.notes,
    )


def recommend(mean_norm: float, dim: int, sigma: float, tau: float) -> Recommended:
    """M, T and R_max by the authors' rules, for points of this mean norm."""
    try:
        M = rule_M(mean_norm, dim, sigma, tau)
    except ValueError:  # σ too large for the rule, or points without a spread
        return Recommended(sigma, tau, None, None, None)
    height = height_max(sigma, tau, M)
    return Recommended(sigma, tau, M, rule_T(height), rule_R_max(height, dim))


def read(what: str, reader: str | None, options: Mapping[str, object]) -> Dataset:
    """Read the data set of a name, or of a path whose reader is given or guessed.

    Raises:
        DataError: it cannot be used, or nothing reads the path.
        pydantic.ValidationError: an option is refused.
    """
    named = what in READERS and reader is None
    where = {"name": what} if named else {"name": reader or guess(Path(what).expanduser()), "path": what}
    return load_data(DataConfig.model_validate({**where, **options}))


def guess(path: Path) -> str:
    """The reader of a file or folder, by what it looks like.

    Raises:
        DataError: nothing there, or nothing that is known.
    """
    if path.is_dir():
        if is_idx_folder(path):
            return "fashion_mnist"
        if is_cifar_folder(path) or is_cifar_folder(path / "cifar-10-batches-py"):
            return "cifar10"
        return "parquet" if next(path.rglob("*.parquet"), None) else "images"
    by_suffix = {
        ".npz": "npz", ".npy": "npz", ".csv": "vectors", ".tsv": "vectors", ".parquet": "parquet", ".zip": "images",
        ".gz": "cifar10", ".tgz": "cifar10",
    }  # fmt: skip
    if not path.is_file():
        raise DataError("data.path", f"'{path}' is neither a file or folder nor a data set; use one of {', '.join(READERS)}")
    if path.suffix.lower() in (".tar", ".7z", ".rar", ".bz2", ".xz"):
        raise DataError("data.path", f"{path} is an archive that is not read; unpack it and give the folder, or make it a zip")
    if path.suffix.lower() not in by_suffix:
        raise DataError("data.path", f"{path} has a suffix that is not known; use one of {', '.join(by_suffix)}, or a folder")
    if is_table(path) and (path.suffix.lower() != ".parquet" or not has_pictures(path)):
        return "vectors"
    return by_suffix[path.suffix.lower()]


def _coordinate_sd(points: Points) -> Tensor:
    """Standard deviation of every coordinate, (d,), float64, about the mean of the points."""
    total, squares = torch.zeros(points.shape[1], dtype=torch.float64), torch.zeros(points.shape[1], dtype=torch.float64)
    for rows in chunks(points):
        y = points[rows].double()
        total += y.sum(0)
        squares += y.square().sum(0)
    mean = total / len(points)
    return (squares / len(points) - mean.square()).clamp(min=0).sqrt()


def _range(data: Dataset) -> tuple[float, float]:
    """Smallest and largest number, in data units."""
    ends = [torch.aminmax(data.raw[rows], dim=0) for rows in chunks(data.raw)]
    low = data.info.restored(torch.stack([end.min for end in ends]).amin(0, keepdim=True))
    high = data.info.restored(torch.stack([end.max for end in ends]).amax(0, keepdim=True))
    return float(low.min()), float(high.max())


def _units(info: DataInfo) -> str:
    parts = []
    if info.offset is not None:
        parts.append(f"less an offset in {int((info.offset != 0).sum())} columns, up to {float(info.offset.abs().max()):.4g}")
    if info.scale is not None:
        low, high = float(info.scale.min()), float(info.scale.max())
        parts.append(f"over the standard deviation of each column, {low:.4g} … {high:.4g}")
    return ", ".join(parts)


def _digests(points: Points) -> Iterator[bytes]:
    """A hash of every stored row."""
    for rows in chunks(points.unflipped()):
        stored: np.ndarray = points.bytes_stored(rows).contiguous().numpy()
        yield from (hashlib.blake2b(row.data, digest_size=16).digest() for row in stored)


def _seen_before(points: Points, seen: set[bytes]) -> int:
    """Rows that equal an earlier one; ``seen`` is filled."""
    for row in _digests(points):
        seen.add(row)
    return len(points) - len(seen)


def text(d: Description) -> str:
    """A description, a line a fact."""
    lines = [
        ("data set", f"{d.name}{f' ({d.how})' if d.how else ''}"),
        ("points", f"{d.n:,} of shape {' × '.join(str(k) for k in d.shape)}"),
        ("stored as", f"{d.dtype}, {d.megabytes:,.1f} MB"),
        ("range", f"{d.low:.10g} … {d.high:.10g}" if d.units else f"{d.low:.4g} … {d.high:.4g}"),
        *([("units", d.units)] if d.units else []),
        ("mean norm", f"{d.mean_norm:.4g} ({'centred' if d.center else 'not centred'})"),
        ("sd", f"{d.sd:.4g}; of a coordinate {d.pixel_sd[0]:.4g} … {d.pixel_sd[2]:.4g}, {d.pixel_sd[1]:.4g} on average"),
        ("duplicates", f"{d.duplicates:,} points equal an earlier one"),
        ("test points", f"{d.n_test:,}, {d.test_duplicates:,} of them among the points" if d.n_test else "none"),
        ("hash", d.hash[:16]),
    ]
    for r, whose in zip(d.recommended, ("the authors'", "default"), strict=True):
        rule = "the rule gives none: lower sigma" if r.M is None else f"M = {r.M:g}, T = {r.T:.4g}, R_max = {r.R_max:.4g}"
        lines.append((f"σ = {r.sigma:g}, τ = {r.tau:g}", f"{rule} ({whose})"))
    lines += [("note", note) for note in d.notes]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:{width}}  {value}" for name, value in lines)
