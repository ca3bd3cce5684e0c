"""The data that a user has at hand, as a data set: an array, a tensor, a torch Dataset, a name, a file or a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pfgm.config import DataConfig
from pfgm.data.dataset import Dataset, dataset_of
from pfgm.data.describe import read
from pfgm.data.errors import DataError, Unlike
from pfgm.data.items import Items
from pfgm.data.labels import MOST, Labels
from pfgm.kinds import checked

SLACK = 1e-6
IN_UNIT_RANGE = "the images lie in [0, 1] and were brought to [−1, 1], where samples will lie"


def dataset(x: object, options: Mapping[str, object] | None = None, side: int | None = None, labels: object = None) -> Dataset:
    """Return the data set that x holds.

    Args:
        x: a `pfgm.data.dataset.Dataset`; the name of a data set; the path of a file or folder; a tensor or array, of vectors
            (N, d) or of images (N, H, W), (N, C, H, W) or (N, H, W, C), as bytes or as floats in [−1, 1] or [0, 1]; or a torch
            Dataset of such items, alone or first in a tuple.
        options: keys of ``data`` in a study file: ``size``, ``flip``, ``standardize``, ``holdout``, … Pictures of a path that
            differ in size or channels are made alike where nothing is said of it, and a note tells how.
        side: to which pictures of several sizes are then brought, in pixels; 32 by default.
        labels: the class of every item of an array, tensor or torch Dataset, N whole numbers or words. A torch Dataset of
            (item, class) pairs needs none.
    Raises:
        DataError: it cannot be used as it is; the message says what to do.
    """
    options = dict(options or {})
    if labels is not None and isinstance(x, Dataset | str | Path):
        raise DataError("labels", "go with an array, a tensor or a torch Dataset; for a file write data={'labels': NAME}")
    if isinstance(x, Dataset):
        if options:
            raise DataError("data", "is a data set already; give these keys where it is read")
        return x
    if isinstance(x, str | Path):
        return _read(str(x), options, side)
    if isinstance(x, Tensor | np.ndarray):
        values = x.detach().cpu().numpy() if isinstance(x, Tensor) else x
    elif hasattr(x, "__len__") and hasattr(x, "__getitem__"):
        values = _stacked(x)
        labels = _second(x) if labels is None else labels
    else:
        raise DataError("x", f"is {type(x).__name__}; give a tensor, an array, a name, a path or a torch Dataset")
    items = _items(values)
    if labels is not None:
        told = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
        items = replace(items, labels=Labels.of(told, len(items.values), key="labels"))
    name = "vectors" if items.values.ndim == 2 else "npz"
    return dataset_of(checked(DataConfig, "data", {"name": name, **options}), items)


def _read(where: str, options: dict[str, object], side: int | None) -> Dataset:
    """Return the data set of a name or path, its pictures made alike."""
    checked(DataConfig, "data", options)
    notes: list[str] = []
    while True:
        try:
            found = read(where, None, options)
        except Unlike as error:
            ((key, value),) = error.cure.items()
            if options.get(key) is not None:
                raise
            options[key] = side if key == "size" and side else value
            notes.append(f"the pictures differ in {key} and were made alike; data={{'{key}': {options[key]}}} says the same")
        else:
            return replace(found, notes=(*notes, *found.notes))


def _stacked(x: Any) -> np.ndarray:
    """Return the items of a sequence as one array, without what comes with them."""
    if not len(x):
        raise DataError("x", "has no items; give at least 4")
    first = [x[i][0] if isinstance(x[i], tuple | list) else x[i] for i in range(len(x))]
    arrays = [item.detach().cpu().numpy() if isinstance(item, Tensor) else np.asarray(item) for item in first]
    if len(shapes := {array.shape for array in arrays}) > 1:
        raise DataError("x", f"has items of {len(shapes)} shapes, such as {min(shapes)} and {max(shapes)}; make them alike")
    return np.stack(arrays)


def _second(x: Any) -> list[int] | None:
    """Return the classes of (item, class) pairs; None where these are no pairs with whole numbers of two or more kinds."""
    pairs = [x[i] for i in range(len(x))]
    if not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs):
        return None
    second = [pair[1].item() if isinstance(pair[1], Tensor) and pair[1].numel() == 1 else pair[1] for pair in pairs]
    whole = all(isinstance(label, int | np.integer) for label in second)
    return [int(label) for label in second] if whole and 2 <= len(set(second)) <= MOST else None


def _items(values: np.ndarray) -> Items:
    """Check numbers and axes, and bring images to (N, C, H, W)."""
    if values.dtype.kind not in "fiub":
        raise DataError("x", f"has dtype {values.dtype}; give numbers: floats, or bytes for images")
    if values.ndim not in (2, 3, 4):
        raise DataError("x", f"has shape {values.shape}; give vectors (N, d) or images (N, H, W), (N, C, H, W), (N, H, W, C)")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise DataError("x", f"has {bad} values that are not finite; remove their rows, or put numbers in their place")
    if values.ndim == 2:
        return Items(values if values.dtype.kind == "f" else values.astype(np.float64))
    if values.ndim == 3:
        values = values[:, None]
    elif values.shape[1] not in (1, 3, 4) and values.shape[3] in (1, 3, 4):
        values = values.transpose(0, 3, 1, 2)
    if values.dtype == np.uint8:
        return Items(values)
    low, high = float(values.min()), float(values.max())
    if max(-low, high) > 1 + SLACK:
        cure = "convert them to uint8" if low >= 0 and high <= 255 else "scale them, or reshape them to vectors (N, d)"
        raise DataError("x", f"holds images between {low:.4g} and {high:.4g}; floats must lie in [−1, 1]: {cure}")
    in_unit = low >= 0
    values = values.astype(np.float32)
    return Items(2 * values - 1 if in_unit else values, notes=(IN_UNIT_RANGE,) if in_unit else ())
