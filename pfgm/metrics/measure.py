"""Measure a field against data: the metrics of a study's row, with the values that say how to read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pfgm.config import EvaluateConfig
from pfgm.data.dataset import in_units_of
from pfgm.data.given import dataset
from pfgm.flow.base import Flow
from pfgm.kinds import checked
from pfgm.metrics.classes import check_classes
from pfgm.metrics.evaluator import Evaluator
from pfgm.process.resolve import sampler_point

PREFIXES = ("metric_", "cost_")
MOST = 2000
"""Samples that are drawn where nothing is said; a data set of fewer points gets as many as it has, but at least 50."""


def evaluate(
    flow: Flow, x: object, *, samples: int | None = None, metrics: Sequence[str] = ("fid", "precision_recall", "neighbours"),
    seed: int = 0, data: Mapping[str, object] | None = None, **sampler: Any,
) -> dict[str, object]:  # fmt: skip
    """Sample from a field and measure the samples against data.

    ``fid_floor`` is the FID of the data's own resamplings: no model is expected below it. ``fid_half`` is that of one half of
    the data against the other, ``fid_gaussian`` that of a Gaussian with the data's covariance.

    Args:
        flow: from `fit`, `pfgm.load_field`, or known exactly.
        x: what it should be like; as for `fit`. Vectors are compared in the units that the field was trained in.
        samples: how many to draw; default: as many as there are data, between 50 and 2,000.
        metrics: names of ``evaluate.metrics`` in a study file.
        seed: of the latents.
        data: keys of ``data`` in a study file.
        sampler: keys of ``sampler`` in a study file.
    Returns:
        Numbers by name, without the prefix of a row's columns; ``status``, ``nfe`` (network calls a sample) and seconds too.
    Raises:
        Mistake: a key or value that is refused, or data of another shape than the field's.
    """
    info = flow.process.info
    points = dataset(x, data, side=info.shape[-1] if len(info.shape) == 3 else None)
    if points.info.shape != info.shape:
        raise ValueError(f"x has items of shape {points.info.shape}, the field makes {info.shape}")
    points = in_units_of(points, info)
    check_classes(metrics, flow.process, points.info.classes)
    n = max(50, min(MOST, len(points.raw))) if samples is None else samples
    config = checked(EvaluateConfig, "evaluate", {"samples": n, "metrics": tuple(metrics)})
    row = Evaluator(points, config, flow.device).of(flow).at(sampler_point(sampler), seed).row
    names = {name: name.split("_", 1)[1] if name.startswith(PREFIXES) else name for name in row if not name.startswith("diag_")}
    return {names[name]: row[name] for name in names}
