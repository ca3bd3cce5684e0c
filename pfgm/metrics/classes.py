"""Whether samples are of the class that was asked for, and how good each class is.

Class accuracy is the share of samples that a classifier on frozen features takes for the class that was asked. Where the
feature network is a shipped classifier of this very data set, it is its own last layer. Else a linear layer is fitted to the
features of labelled data by least squares, and judged on a fifth that it has not seen (`pfgm.metrics.features.judge`). Beside
it stands what the classifier reaches on real held-out data.

The Fréchet distance is taken class by class too, samples of the class against data of the class. A class has fewer samples
than all together, so its distance is larger by the error of few samples; ``class_fid_floor`` is that of the data's own
resamplings of the same size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pfgm.metrics.card import Metric, Seen
from pfgm.metrics.columns import columns_of
from pfgm.metrics.frechet import Moments, frechet_distance, moments
from pfgm.mistakes import Mistake
from pfgm.process.base import Process

FLOORS = 3
"""Resamplings of a class, whose mean distance is the floor."""
FEWEST = 2
"""Samples or points of a class, without which it has no distance."""


OF_CLASSES = ("class_accuracy", "class_fid")
"""Metrics of conditional fields alone."""


def check_classes(metrics: Sequence[str], process: Process, classes: Sequence[str]) -> None:
    """Refuse metrics of classes for a field that knows none, or for data of other ones.

    Args:
        metrics: what is measured.
        process: the field's.
        classes: of the data that samples are compared with.
    Raises:
        Mistake: names a metric.
    """
    named = [name for name in metrics if name in OF_CLASSES]
    if named and not process.classes:
        raise Mistake("metrics", f"'{named[0]}' is of conditional fields; train one with conditional: true, or remove it")
    if named and tuple(classes) != process.info.classes:
        raise Mistake(
            "metrics", f"'{named[0]}' needs data with the field's classes; give the data with their labels, or remove it"
        )


@dataclass(frozen=True)
class ClassMoments:
    """Mean and covariance of the features of each class of the data, and those features."""

    features: tuple[Tensor, ...]
    moments: tuple[Moments | None, ...]

    @classmethod
    def of(cls, features: Tensor, labels: Tensor, classes: int) -> ClassMoments:
        """Take the features (n, k) of points with these labels (n,) apart."""
        parts = tuple(features[(labels == k).to(features.device)] for k in range(classes))
        return cls(parts, tuple(moments(part) if len(part) >= FEWEST else None for part in parts))

    def floor(self, label: int, n: int) -> float:
        """Return the mean distance of ``n`` points of a class, drawn anew with repetition, to all of them."""
        own, g = self.features[label], torch.Generator().manual_seed(label)
        reference = self.moments[label]
        assert reference is not None
        found = []
        for _ in range(FLOORS):
            rows = torch.randint(len(own), (n,), generator=g).to(own.device)
            found.append(frechet_distance(*moments(own[rows]), *reference))
        return sum(found) / len(found)


def class_accuracy(labels: Tensor, guesses: Tensor) -> float:
    """Return the share of guesses (n,) that are the labels (n,)."""
    return float((guesses.cpu() == labels.cpu()).double().mean())


def class_distances(features: Tensor, labels: Tensor, data: ClassMoments) -> dict[int, float]:
    """Return the Fréchet distance of each class that has samples and data."""
    found = {}
    for label in labels.unique().tolist():
        own, reference = features[(labels == label).to(features.device)], data.moments[label]
        if len(own) >= FEWEST and reference is not None:
            found[label] = frechet_distance(*moments(own), *reference)
    return found


def _class_accuracy(seen: Seen) -> dict[str, object]:
    if seen.labels is None:
        return {}
    judge = seen.data.judge
    return {
        "metric_features": seen.data.network.label,
        "metric_class_accuracy": class_accuracy(seen.labels, judge.guesses(seen.features)),
        "metric_class_accuracy_real": judge.accuracy,
    }


def _class_fid(seen: Seen) -> dict[str, object]:
    if seen.labels is None:
        return {}
    data = seen.data.class_moments
    found = class_distances(seen.features, seen.labels, data)
    if not found:
        return {}
    worst = max(found, key=found.__getitem__)
    floors = [data.floor(label, int((seen.labels == label).sum())) for label in found]
    return {
        "metric_features": seen.data.network.label,
        "metric_class_fid": sum(found.values()) / len(found),
        "metric_class_fid_floor": sum(floors) / len(floors),
        "metric_class_fid_worst": found[worst],
        "metric_class_worst": seen.data.data.info.classes[worst],
    }


CLASS_ACCURACY = Metric(_class_accuracy, columns_of("class_accuracy"))
CLASS_FID = Metric(_class_fid, columns_of("class_fid"))
