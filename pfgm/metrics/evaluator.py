"""Measure one sampler point of one field: samples, distances, cost, and how far the solver is from the exact path.

Samples are brought back to stored units (data units, unless the data have an offset or a scale: `pfgm.data.units`) and clamped
to the data's range before anything is measured. What they are compared with
is computed once and kept (`pfgm.metrics.reference`).

What is measured is a list of cards (`pfgm.metrics.card`, `pfgm.registry.METRICS`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pfgm.config import EvaluateConfig, SamplerConfig
from pfgm.data.dataset import Dataset
from pfgm.flow.base import Flow
from pfgm.metrics.card import Seen, Solved
from pfgm.metrics.classes import ClassMoments
from pfgm.metrics.features.judge import Judge, fitted_judge, shipped_judge
from pfgm.metrics.features.networks import default_features, default_space, feature_network
from pfgm.metrics.reference import N_KEPT, Cache, FeatureStatistics, data_radii, feature_statistics, kept_features, own_median
from pfgm.process.resolve import resolve_sampler
from pfgm.registry import METRICS
from pfgm.sampling.asked import Asked
from pfgm.sampling.disturbances import StepNoise
from pfgm.sampling.integrate import sample
from pfgm.sampling.own_levels import TunedLevels


@dataclass(frozen=True)
class Measured:
    """One row's measurements by column name, the samples in stored units (n, d), and their classes (n,) where they have any."""

    row: dict[str, object]
    samples: Tensor
    labels: Tensor | None = None


@dataclass
class Evaluator:
    """Reference statistics of one data set, shared by every row and computed when a metric first needs them.

    Args:
        cache: keeps them beyond this process.
    Raises:
        ValueError: the features do not fit the data, or inception's weights cannot be had.
    """

    data: Dataset
    config: EvaluateConfig
    device: torch.device | str = "cpu"
    cache: Cache | None = None
    anchors: bool = True
    """False: leave the anchors of the Fréchet distance out; for timings."""

    def __post_init__(self) -> None:
        info = self.data.info
        name = self.config.features or default_features(info.name, info.shape)
        self.network = feature_network(name, info.shape, self.device, self.config.weights)
        self.raw = self.data.raw.to(self.device)
        self.test = None if self.data.test is None else self.data.test.to(self.device)
        self.space = self.config.pr_space or default_space(info.dim)

    @cached_property
    def reference(self) -> FeatureStatistics:
        """Moments, kept features and anchors of the data."""
        return feature_statistics(self.data, self.network, self.config.samples, self.cache, self.anchors)

    @cached_property
    def kept(self) -> Tensor:
        """Features of some of the data (m, k)."""
        return kept_features(self.data, self.network, self.cache)

    @cached_property
    def some(self) -> Tensor:
        """Data that samples are compared with one by one, at most ``pr_samples`` (m, d): data may come sorted, so drawn."""
        limit = self.config.pr_samples
        order = torch.randperm(len(self.raw), generator=torch.Generator().manual_seed(0))[:limit]
        return self.raw[:] if len(self.raw) <= limit else self.raw[order.to(self.raw.device)]

    @cached_property
    def balls(self) -> tuple[Tensor, Tensor]:
        """(points (m, ·) in the space of precision and recall, their radii (m,))."""
        points = self.some if self.space == "pixels" else self.network(self.some)
        label = "pixels" if self.space == "pixels" else self.network.label
        key = (self.data.info.hash, label, self.config.pr_samples)
        return points, data_radii(points, key, self.cache).to(points.device)

    @cached_property
    def labelled(self) -> tuple[Tensor, Tensor]:
        """Features (m, k) and classes (m,) of some of the data, at most `N_KEPT`, in random order."""
        assert self.data.raw_labels is not None  # `study.checks` and `pfgm.metrics.measure` refuse data without
        rows = torch.randperm(len(self.raw), generator=torch.Generator().manual_seed(0))[:N_KEPT]
        return self.network(self.raw[rows.to(self.raw.device)]), self.data.raw_labels[rows]

    @cached_property
    def judge(self) -> Judge:
        """Classifier of features."""
        found = shipped_judge(self.network.label, self.data.info.name)
        return fitted_judge(*self.labelled, len(self.data.info.classes)) if found is None else found

    @cached_property
    def class_moments(self) -> ClassMoments:
        """Features of some of the data, class by class."""
        return ClassMoments.of(*self.labelled, len(self.data.info.classes))

    @cached_property
    def own(self) -> float:
        """Median distance of the data's points to their nearest other one."""
        return own_median(self.data, self.raw, self.cache)

    def of(self, flow: Flow) -> Measurement:
        """Return the measurement of one field; what its sampler points share is dropped with it."""
        return Measurement(self, flow)

    def distances(self, x: Tensor, radius_ratio: Tensor) -> dict[str, object]:
        """Every metric of the samples x (n, d), in stored units, that does not look at the field or the solver.

        Args:
            radius_ratio: R/T of each sample's start (n,).
        """
        return self.values(Seen(self, x, radius_ratio), of_field=False)

    def values(self, seen: Seen, of_field: bool) -> dict[str, object]:
        """Return the columns of the study's metrics, of those that look at the field or of the others."""
        row: dict[str, object] = {}
        for name in METRICS:  # in the order of the registry, whatever that of the study file
            if name in self.config.metrics and METRICS[name].of_field == of_field:
                row |= METRICS[name].measure(seen)
        return row


@dataclass(frozen=True)
class Measurement:
    """Measure one field at its sampler points, and own the reference solutions and likelihoods that they share."""

    evaluator: Evaluator
    flow: Flow
    kept: dict[tuple[object, ...], Any] = field(default_factory=dict, init=False)
    """What sampler points share, by what it depends on."""

    def at(
        self, sampler: SamplerConfig, seed: int, *, disturbed: bool = False, noise: StepNoise | None = None,
        tuned: TunedLevels | None = None,
    ) -> Measured:  # fmt: skip
        """Sample at one sampler point and measure; a solve that fails leaves the metrics null, never an exception.

        Args:
            disturbed: the field or its solver is, so that its exact solution tells nothing of the solver.
            noise: added before every step of the solver.
            tuned: the levels of the grid tuned; without them they are found here.
        """
        flow, process, evaluator, n = self.flow, self.flow.process, self.evaluator, self.evaluator.config.samples
        levels, asked = flow.tuned(sampler) if tuned is None else tuned, flow.asked(sampler)
        started = time.perf_counter()
        result = sample(asked, process, sampler, n, seed, device=evaluator.device, dtype=flow.dtype, noise=noise, tuned=levels)
        sampled = time.perf_counter()
        numbers = resolve_sampler(sampler, process)
        row: dict[str, object] = {
            "status": result.status,
            "metric_n": n,
            "metric_nonfinite_fraction": float((~torch.isfinite(result.x).all(1)).double().mean()),
            "cost_nfe": result.nfe,
            "cost_nfe_max": float(result.nfe_max),
            "diag_coverage": float(process.prior(numbers.T).radius_cdf(torch.tensor(process.R_max, dtype=torch.float64))),
            "diag_prior_truncated": float(process.prior(numbers.T, numbers.max_radius).truncated_mass),
        }
        x = process.info.to_stored_units(result.x).float()
        labels = asked.labels(0, n) if isinstance(asked, Asked) else None
        if result.status == "complete":
            seen = Seen(evaluator, x, result.radius_ratio, Solved(flow, sampler, seed, result, self.kept), labels)
            row |= evaluator.values(seen, of_field=False)
            if not disturbed:
                row |= evaluator.values(seen, of_field=True)
        row |= {"cost_sample_s": sampled - started, "cost_metric_s": time.perf_counter() - sampled}
        return Measured(row, x.cpu(), labels)
