"""A data set in the units it is trained in, and what is known of it.

Images are in [−1, 1]. Every data set is centred by default: its mean is subtracted, stored, and added back to samples. The
error of starting from the prior at a finite height is then of order T^−4; with a mean it is of order T^−2. The shape of
one item is kept beside the flat points. Means and norms are sums in float64 over chunks, never a copy of the whole.
Vectors may be stored about an offset and in units of a scale (`pfgm.data.units`), so that float32 can hold them.
A data set's identity is the hash of what is trained on: stored values and their units, shape, whether it is centred and
flipped. Its name and path do not count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch
from torch import Tensor

from pfgm.config import DataConfig
from pfgm.data.errors import DataError
from pfgm.data.items import Items
from pfgm.data.points import Points
from pfgm.data.units import Units, stored, units_of
from pfgm.registry import READERS

IMAGE_RANGE = (-1.0, 1.0)
MIN_POINTS = 4
"""Fewest points of a data set: precision and recall look at third nearest neighbours."""
HOLDOUT_SEED = 20221
"""Which rows are held out must not depend on the configuration."""
KEYS = ("path", "download", "n", "dim", "size", "crop", "channels", "column", "key", "standardize", "labels")
"""Keys of ``data`` that only some data sets have."""
CHUNK_VALUES = 1 << 20
"""Values that are decoded at a time."""


@dataclass(frozen=True)
class DataInfo:
    """The facts of its data that a trained field must know: units, shape and scale (no points)."""

    name: str
    shape: tuple[int, ...]  # of one item: (d,) for vectors, (C, H, W) for images
    mean: Tensor  # (d,), zero when not centred
    bounds: tuple[float, float] | None  # data range samples are clamped to; None for vectors
    n: int  # points as trained, flips included
    mean_norm: float  # mean ‖y‖ of the points as trained
    sd: float  # root mean square of the coordinates as trained
    hash: str
    center: bool
    offset: Tensor | None = None  # (d,) float64, subtracted before points are stored
    scale: Tensor | None = None  # (d,) float64, by which they are then divided
    classes: tuple[str, ...] = ()  # names of the classes, where points have labels
    class_counts: tuple[int, ...] = ()  # points of each class, flips included

    @property
    def dim(self) -> int:
        """d, the number of coordinates of an item."""
        return prod(self.shape)

    @property
    def rescaled(self) -> bool:
        """Return whether stored units are others than data units."""
        return self.offset is not None or self.scale is not None

    def to_stored_units(self, x: Tensor, clamp: bool = True) -> Tensor:
        """Add the mean back to samples (n, d) and clamp them to the data's range, if it has one and ``clamp``."""
        x = x + self.mean.to(x)
        return x.clamp(*self.bounds) if clamp and self.bounds is not None else x

    def to_data_units(self, x: Tensor, clamp: bool = True) -> Tensor:
        """Samples (n, d) in the units of the file; float64 where these are others than the stored ones."""
        return self.restored(self.to_stored_units(x, clamp))

    def restored(self, x: Tensor) -> Tensor:
        """Points (n, d) in stored units, such as `Dataset.raw`, in data units."""
        if self.scale is not None:
            x = x.double() * self.scale.to(x.device)
        return x if self.offset is None else x.double() + self.offset.to(x.device)

    def to_training_units(self, x: Tensor) -> Tensor:
        """Points (n, d) in data units as they are trained on."""
        if self.rescaled:
            exact = x.double()
            exact = exact if self.offset is None else exact - self.offset.to(x.device)
            x = (exact if self.scale is None else exact / self.scale.to(x.device)).to(x)
        return x - self.mean.to(x)


@dataclass(frozen=True)
class Dataset:
    """Points as trained; the same without flips, not centred; the test split or what was held out, likewise.

    ``raw`` and ``test`` are in stored units, which are data units wherever the data set has neither offset nor scale.
    """

    points: Points
    raw: Points
    test: Points | None
    info: DataInfo
    how: str = ""
    """What was done to read them, in a sentence."""
    notes: tuple[str, ...] = ()
    """What a user should know before training on them, a sentence each."""
    labels: Tensor | None = None
    """The class of every point as trained (N,), int64, where it is known; names are in ``info``."""
    test_labels: Tensor | None = None
    """Those of the test split, or of what was held out."""

    @property
    def raw_labels(self) -> Tensor | None:
        """Return the classes of ``raw``."""
        return None if self.labels is None else self.labels[: self.raw.n_stored]


def load_data(config: DataConfig) -> Dataset:
    """Read a data set and bring it to the units it is trained in.

    Raises:
        DataError: an unknown name, a key the data set does not have, or a file that cannot be used.
    """
    if config.name not in READERS:
        raise DataError("data.name", f"unknown data set '{config.name}'; use one of {', '.join(READERS)}")
    _refuse_foreign_keys(config)
    return dataset_of(config, READERS[config.name].read(config))


def dataset_of(config: DataConfig, items: Items) -> Dataset:
    """Bring items that were read to the units they are trained in.

    Raises:
        DataError: they cannot be used.
    """
    if 0 in items.values.shape[1:]:
        raise DataError(
            "data", f"every point has shape {items.values.shape[1:]}, without a number; give points with coordinates"
        )
    if config.standardize and items.values.ndim != 2:
        raise DataError("data.standardize", f"{config.path} has images, which are in [−1, 1]; remove it, or use name: vectors")
    raw, test, units = _split(config, items)
    if raw.n_stored < MIN_POINTS:
        raise DataError("data", f"{raw.n_stored} points; at least {MIN_POINTS} are needed, for the third nearest neighbour")
    if _all_equal(raw):
        raise DataError("data", f"all {raw.n_stored} points are equal; give data that differ")
    if config.flip and len(raw.item) != 3:
        raise DataError("data.flip", f"{config.name} has vectors, and only images can be mirrored; remove flip")
    centre = _mean(raw)
    if config.flip:
        centre = (centre + centre.reshape(raw.item).flip(-1).flatten()) / 2
    mean = centre.float() if config.center else torch.zeros_like(centre).float()
    centred = Points(raw.stored, raw.item, mean if config.center else None, raw.rows)
    mean_norm, sd = _scale(centred)  # a mirrored image is as far from a mirrored mean
    points = Points(raw.stored, raw.item, centred.shift, raw.rows, config.flip)
    info = DataInfo(
        name=config.name,
        shape=raw.item,
        mean=mean,
        bounds=IMAGE_RANGE if len(raw.item) == 3 else None,
        n=len(points),
        mean_norm=mean_norm,
        sd=sd,
        hash=_identity(points, config.center, units),
        center=config.center,
        offset=None if units.offset is None else torch.from_numpy(units.offset),
        scale=None if units.scale is None else torch.from_numpy(units.scale),
    )
    data = Dataset(points, raw, test, info, items.how, items.notes + units.notes)
    if items.labels is None:
        return data
    apart = None if config.holdout is None else _drawn_apart(config.holdout, len(items.values))
    labels, test_labels = items.labels.split(apart, config.flip)
    info = replace(info, classes=items.labels.classes, class_counts=items.labels.counts(labels))
    return replace(data, info=info, labels=labels, test_labels=test_labels)


def in_units_of(data: Dataset, info: DataInfo) -> Dataset:
    """Return the data to compare samples of a field with, stored in the units of the field's data.

    Args:
        info: the facts of the data that the field was trained on.
    """
    if not (data.info.rescaled or info.rescaled):
        return data

    def moved(points: Points) -> Points:
        exact = data.info.restored(points[:]).double()
        exact = exact if info.offset is None else exact - info.offset
        exact = exact if info.scale is None else exact / info.scale
        return Points(exact.float(), points.item)

    raw, test = moved(data.raw), None if data.test is None else moved(data.test)
    return replace(data, raw=raw, test=test, info=replace(data.info, offset=info.offset, scale=info.scale))


def _refuse_foreign_keys(config: DataConfig) -> None:
    """Every key that is given belongs to some data sets; the message names them."""
    owners = {key: [name for name, reader in READERS.items() if key in reader.keys] for key in KEYS}
    for key, names in owners.items():
        if getattr(config, key) in (None, False) or config.name in names:
            continue
        if key == "path":
            raise DataError("data.path", f"{config.name} has no file; remove path, or use name: npz")
        whose = f"the toys {', '.join(names)}" if key in ("n", "dim") else ", ".join(names)
        raise DataError(f"data.{key}", f"belongs to {whose}; remove it")


def _split(config: DataConfig, items: Items) -> tuple[Points, Points | None, Units]:
    """Points in stored units to train on, those kept apart, and the units."""
    kept = apart = None
    if config.holdout is not None:
        if items.test is not None:
            raise DataError("data.holdout", f"{config.name} comes with a test split, which is used as such; remove holdout")
        kept, apart = _drawn_apart(config.holdout, len(items.values))
    units = Units(None, None)
    if items.values.ndim == 2 and len(items.values):
        rows = None if kept is None else kept.numpy()
        units = units_of(items.values, rows, config.center, config.standardize, items.columns)
    everything = _points(items.values, units)
    if kept is None:
        return everything, None if items.test is None else _points(items.test, units), units
    return (
        Points(everything.stored, everything.item, rows=kept),
        Points(everything.stored, everything.item, rows=apart),
        units,
    )


def _drawn_apart(fraction: float, n: int) -> tuple[Tensor, Tensor]:
    """Rows to train on, and rows kept apart."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(HOLDOUT_SEED))
    n_test = round(fraction * n)
    if n_test < MIN_POINTS:
        raise DataError("data.holdout", f"keeps {n_test} of {n} points apart, at least {MIN_POINTS} are needed; raise it")
    apart, kept = (rows.sort().values for rows in order.split([n_test, n - n_test]))
    return kept, apart


def _points(values: np.ndarray, units: Units) -> Points:
    shape = tuple(int(k) for k in values.shape[1:])
    if len(shape) == 1:
        values = stored(values, units)
    flat = np.ascontiguousarray(values).reshape(len(values), prod(shape))
    return Points(torch.from_numpy(flat), shape)


def chunks(points: Points) -> Iterator[slice]:
    """Slices that cover the points, each of about `CHUNK_VALUES` numbers."""
    size = max(1, CHUNK_VALUES // points.shape[1])
    return (slice(start, start + size) for start in range(0, len(points), size))


def _all_equal(points: Points) -> bool:
    first = points[0]
    return all(bool((points[rows] == first).all()) for rows in chunks(points))


def _mean(points: Points) -> Tensor:
    """Mean of the points, (d,), float64."""
    total = torch.zeros(points.shape[1], dtype=torch.float64)
    for rows in chunks(points):
        total += points[rows].double().sum(0)
    return total / len(points)


def _scale(points: Points) -> tuple[float, float]:
    """(mean ‖y‖, root mean square of the coordinates)."""
    norms = squares = torch.zeros((), dtype=torch.float64)
    for rows in chunks(points):
        y = points[rows].double()
        norms = norms + y.norm(dim=1).sum()
        squares = squares + y.square().sum()
    n, d = points.shape
    return float(norms / n), float((squares / (n * d)).sqrt())


def _identity(points: Points, center: bool, units: Units) -> str:
    """Hash of what is trained on."""
    facts: tuple[object, ...] = (points.item, center)
    if points.stored.dtype == torch.uint8:
        facts += ("uint8",)
    if points.flip:
        facts += ("flip",)
    for name, numbers in (("offset", units.offset), ("scale", units.scale)):
        if numbers is not None:
            facts += (name, numbers.tobytes())
    digest = hashlib.sha256(repr(facts).encode())
    points.feed(digest)
    return digest.hexdigest()
