"""Vectors whose columns float32 cannot hold as they are: stored about an offset, in units of a scale.

Training is in float32, which has seven digits. Seconds since 1970 spend them on the offset, and what varies is rounded away. Of
a column whose largest value is more than `FAR` times its standard deviation, an offset near its mean is therefore subtracted
in float64 before anything is rounded; `standardize` also divides every column by its standard deviation. Both are kept with the
field, and samples come back in the units of the file:

    data units = offset + scale · stored units

Fields, distances and metrics see stored units alone. Data that need neither are stored as they always were.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pfgm.data.errors import DataError

FAR = 1e-4 * 2.0**24
"""Largest value over standard deviation from which rounding to float32 moves points by more than 1e-4 of it."""
COARSE = 1e-2
"""Steps of the file's own numbers, over the standard deviation of their column, that are said."""
DIFFERENT = 1e3
"""Standard deviations of columns that differ by more than this are said."""
CONSTANT = 1e-12
"""A standard deviation below this part of the largest value is rounding: the column is constant."""
CHUNK_VALUES = 1 << 20
N_QUARTILES = 10_000
"""Rows whose quartiles are looked at."""


class Units(NamedTuple):
    """offset and scale (d,), float64, None for none, and what is to be said of the columns."""

    offset: np.ndarray | None
    scale: np.ndarray | None
    notes: tuple[str, ...] = ()


class Columns(NamedTuple):
    """Mean, standard deviation and largest absolute value of every column (d,), float64."""

    mean: np.ndarray
    sd: np.ndarray
    largest: np.ndarray


def units_of(
    values: np.ndarray, rows: np.ndarray | None, center: bool, standardize: bool, names: tuple[str, ...] = ()
) -> Units:
    """The units in which vectors are stored.

    Args:
        values: (n, d), floats or bytes.
        rows: those that are trained on; None: all.
        center: whether the mean may be subtracted.
        standardize: bring every column to unit variance.
        names: of the columns.
    Raises:
        DataError: an offset that must not be subtracted, but that float32 cannot hold.
    """
    if values.dtype == np.uint8 and not standardize:
        return Units(None, None)
    columns = _columns(values, rows)
    sd = np.where(columns.sd > CONSTANT * columns.largest, columns.sd, 0.0)
    varies = sd > 0
    far = varies & (columns.largest > FAR * sd)
    if far.any() and not center:
        k = int(far.argmax())
        raise DataError(
            "data.center",
            f"{_name(k, names)} reaches {columns.largest[k]:g} with a standard deviation of {sd[k]:.3g}, which"
            " float32 cannot hold; remove center: false",
        )
    moved = varies if standardize and center else far
    shift = np.where(moved, _near(columns.mean, sd), 0.0)
    offset = shift if shift.any() else None
    scale = None
    if standardize:
        scale = np.array([float(f"{s:.9g}") if s > 0 else 1.0 for s in sd])  # the last digits are the machine's
    elif varies.any():
        return Units(offset, None, tuple(_notes(values, columns.largest, sd, names, offset)))
    return Units(offset, scale, tuple(_coarse(values, columns.largest, sd, names)))


def stored(values: np.ndarray, units: Units) -> np.ndarray:
    """Vectors (n, d) in stored units, float32; as they are, bytes or floats, where there is nothing to do."""
    if units.offset is None and units.scale is None:
        return values if values.dtype == np.uint8 else values.astype(np.float32, copy=False)
    made = np.empty(values.shape, np.float32)
    for part in _parts(values):
        exact = _floats(values[part])
        exact = exact if units.offset is None else exact - units.offset
        made[part] = exact if units.scale is None else exact / units.scale
    return made


def _parts(values: np.ndarray) -> Iterator[slice]:
    size = max(1, CHUNK_VALUES // max(1, values.shape[1]))
    return (slice(start, start + size) for start in range(0, len(values), size))


def _floats(values: np.ndarray) -> np.ndarray:
    exact: np.ndarray = values.astype(np.float64)
    return exact / 127.5 - 1.0 if values.dtype == np.uint8 else exact


def _columns(values: np.ndarray, rows: np.ndarray | None) -> Columns:
    """Sums are about the mean of the first rows, so that an offset costs no digits."""
    n, d = len(values) if rows is None else len(rows), values.shape[1]
    centre, total, squares, largest = (np.zeros(d) for _ in range(4))
    for k, exact in enumerate(_blocks(values, rows)):
        largest = np.maximum(largest, np.abs(exact).max(0))
        if k == 0:
            centre = exact.mean(0)
        exact -= centre
        total += exact.sum(0)
        squares += np.square(exact).sum(0)
    mean = total / n
    return Columns(centre + mean, np.sqrt(np.maximum(squares / n - np.square(mean), 0.0)), largest)


def _blocks(values: np.ndarray, rows: np.ndarray | None) -> Iterator[np.ndarray]:
    """Some rows, or all, in float64, a part at a time."""
    if rows is None:
        return (_floats(values[part]) for part in _parts(values))
    size = max(1, CHUNK_VALUES // values.shape[1])
    return (_floats(values[rows[start : start + size]]) for start in range(0, len(rows), size))


def _near(mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """The mean to within half a standard deviation: a short number, equal on every machine."""
    with np.errstate(divide="ignore"):
        step = np.where(sd > 0, np.exp2(np.floor(np.log2(sd))), 1.0)
    return np.asarray(np.round(mean / step) * step)


def _notes(
    values: np.ndarray, largest: np.ndarray, sd: np.ndarray, names: tuple[str, ...], offset: np.ndarray | None
) -> Iterator[str]:
    yield from _coarse(values, largest, sd, names)
    if values.dtype == np.uint8:
        return
    varying = np.where(sd > 0, sd, np.inf)
    low, high = int(varying.argmin()), int(sd.argmax())
    if sd[high] > DIFFERENT * sd[low]:
        yield (
            f"columns differ in scale: {_name(low, names)} has a standard deviation of {sd[low]:.3g},"
            f" {_name(high, names)} of {sd[high]:.3g}, beside which it hardly counts; data.standardize: true gives all the same"
        )
    step = max(1, len(values) // N_QUARTILES)
    few = _floats(values[::step])
    quartiles = np.subtract(*np.quantile(few, [0.75, 0.25], axis=0))
    kept = np.abs(few if offset is None else few - offset).max(0)
    k = int(np.where(quartiles > 0, kept / np.where(quartiles > 0, quartiles, 1.0), 0.0).argmax())
    if quartiles[k] > 0 and kept[k] * 2.0**-24 > COARSE * quartiles[k]:
        yield (
            f"{_name(k, names)} reaches {kept[k]:.3g}, and half of its values lie within {quartiles[k]:.3g}, which float32"
            " rounds to few different ones; remove outliers, or take the logarithm"
        )


def _coarse(values: np.ndarray, largest: np.ndarray, sd: np.ndarray, names: tuple[str, ...]) -> Iterator[str]:
    """Warn where the file itself has too few digits, and nothing here can bring them back."""
    if values.dtype == np.uint8 or values.dtype.itemsize >= 8:
        return
    steps = largest * float(np.finfo(values.dtype).eps)
    k = int(np.where(sd > 0, steps / np.where(sd > 0, sd, 1.0), 0.0).argmax())
    if sd[k] > 0 and steps[k] > COARSE * sd[k]:
        yield (
            f"{_name(k, names)} reaches {largest[k]:g} with a standard deviation of {sd[k]:.3g}: as {values.dtype} the file"
            f" holds it in steps of up to {steps[k]:.2g}; save it as float64"
        )


def _name(k: int, names: tuple[str, ...]) -> str:
    return f"column {names[k]!r}" if names else f"column {k}"
