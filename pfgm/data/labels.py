"""The classes of a data set: a number for every item, and a name for every number.

Labels stand beside the points and change nothing of them: hash, order and units of a data set are those that it has without.
A conditional field (`pfgm.training.conditional`) is trained on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pfgm.data.errors import DataError

MOST = 10_000
"""Classes of a data set, at most: more are probably a number that was taken for a class."""


@dataclass(frozen=True)
class Labels:
    """Classes of items.

    Args:
        classes: names, by number.
        values: the class of every item to train on, (n,), int64.
        test: those of the test split, (m,); None where there is none, or they are not known.
    """

    classes: tuple[str, ...]
    values: np.ndarray
    test: np.ndarray | None = None

    @classmethod
    def of(cls, values: object, n: int, test: object = None, *, key: str = "data.labels") -> Labels:
        """Return the classes that an array of n numbers or words tells apart, in their order.

        Raises:
            DataError: another number of labels than of items, gaps, numbers with fractions, one class alone or too many.
        """
        told = [_told(part, key) for part in ([values] if test is None else [values, test])]
        if len(told[0]) != n:
            raise DataError(key, f"there are {len(told[0])} labels for {n} points; give one for each")
        classes = sorted(set(told[0].tolist()))
        if not 2 <= len(classes) <= MOST:
            raise DataError(key, f"there are {len(classes)} classes; need 2 to {MOST}: name what tells classes apart")
        number = {name: k for k, name in enumerate(classes)}
        if unknown := sorted({str(v) for part in told[1:] for v in part.tolist() if v not in number}):
            raise DataError(
                key, f"the test split has the class {unknown[0]!r}, which no point to train on has; remove its points"
            )
        numbers = [np.array([number[v] for v in part.tolist()], np.int64) for part in told]
        return cls(tuple(map(str, classes)), numbers[0], numbers[1] if len(numbers) > 1 else None)

    @classmethod
    def known(cls, classes: Sequence[str], values: np.ndarray, test: np.ndarray | None = None) -> Labels:
        """Return labels that are the numbers of classes already."""
        return cls(tuple(classes), values.astype(np.int64), None if test is None else test.astype(np.int64))

    def split(self, rows: tuple[Tensor, Tensor] | None, flip: bool) -> tuple[Tensor, Tensor | None]:
        """Return the classes of the points as trained, and of those kept apart: labels go where their points go.

        Args:
            rows: to train on, and to keep apart; None: all are trained on.
            flip: every point is there a second time, after all others.
        """
        labels, apart = torch.from_numpy(self.values), None if self.test is None else torch.from_numpy(self.test)
        if rows is not None:
            labels, apart = labels[rows[0]], labels[rows[1]]
        return (labels.repeat(2) if flip else labels), apart

    def counts(self, labels: Tensor) -> tuple[int, ...]:
        """Return how many of some labels are of each class."""
        return tuple(torch.bincount(labels, minlength=len(self.classes)).tolist())


def _told(values: object, key: str) -> np.ndarray:
    """Labels as whole numbers, or as words."""
    told = np.asarray(values)
    if told.ndim == 2 and told.shape[1] == 1:
        told = told[:, 0]
    if told.ndim != 1:
        raise DataError(key, f"labels have shape {told.shape}; give one number or word a point")
    if told.dtype.kind == "O":
        items = told.tolist()
        if any(v is None or v != v for v in items):
            raise DataError(key, "some points have no label; remove them, or give them a class of their own")
        told = np.array(items if all(isinstance(v, int | float) for v in items) else list(map(str, items)))
    if told.dtype.kind == "f":
        if not np.isfinite(told).all() or (told != np.round(told)).any():
            raise DataError(
                key, "labels must be whole numbers or words, got numbers with fractions or gaps; name another array"
            )
        return told.astype(np.int64)
    if told.dtype.kind not in "iubUS":
        raise DataError(key, f"labels have dtype {told.dtype}; give whole numbers or words")
    return told.astype(str) if told.dtype.kind == "S" else told.astype(np.int64) if told.dtype.kind == "b" else told
