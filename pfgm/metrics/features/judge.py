"""A classifier on frozen features: the last layer of a shipped network, or one that is fitted to labelled data.

Fitted is a linear map from standardised features to one number a class, 1 for the own class and 0 for the others, by least
squares with a small ridge; the largest number wins. It has one solution, needs no steps, and is judged on every fifth point,
which it has not seen.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pfgm.metrics.features.classifiers import CLASSIFIERS, HERE, shipped_classifier

RIDGE = 1e-3
"""Added to the squares of standardised features, per point."""
APART = 5
"""One point of so many is kept to judge by."""


@dataclass(frozen=True)
class Judge:
    """A classifier of features, and the share of held-out real points that it takes for what they are."""

    scores: Callable[[Tensor], Tensor]
    accuracy: float

    def guesses(self, features: Tensor) -> Tensor:
        """Return the classes (n,) that features (n, k) are taken for."""
        return self.scores(features).argmax(1)


def shipped_judge(features: str, data_name: str) -> Judge | None:
    """Return the last layer of a shipped classifier, for the data that it was trained on; else None."""
    if features != data_name or features not in CLASSIFIERS:
        return None
    network = shipped_classifier(features)
    accuracy = json.loads((HERE / f"{features}_features.json").read_text(encoding="utf-8"))["test_accuracy"]
    return Judge(lambda x: network.head(x.to(network.head.weight)), float(accuracy))


def fitted_judge(features: Tensor, labels: Tensor, classes: int) -> Judge:
    """Fit a classifier to the features (n, k) of points of known classes (n,).

    The points must be in random order, for every fifth is held out.
    """
    features, labels = features.double(), labels.to(features.device)
    apart = torch.arange(len(features), device=features.device) % APART == 0
    known = features[~apart]
    mean, sd = known.mean(0), known.std(0).clamp(min=1e-12)

    def standard(x: Tensor) -> Tensor:
        scaled = (x.to(mean) - mean) / sd
        return torch.cat([scaled, torch.ones_like(scaled[:, :1])], 1)

    rows, wanted = standard(known), torch.nn.functional.one_hot(labels[~apart], classes).double()
    ridge = RIDGE * len(rows) * torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
    weight = torch.linalg.solve(rows.T @ rows + ridge, rows.T @ wanted)
    judge = Judge(lambda x: standard(x) @ weight, 0.0)
    return Judge(judge.scores, float((judge.guesses(features[apart]) == labels[apart]).double().mean()))
