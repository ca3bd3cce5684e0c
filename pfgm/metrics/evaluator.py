"""Measure one sampler point of one field: samples, distances, cost, and how far the solver is from the exact path.

Samples are brought back to stored units (data units, unless the data have an offset or a scale: `pfgm.data.units`) and clamped
to the data's range before anything is measured. What they are compared with
is computed once and kept (`pfgm.metrics.reference`).

The Fréchet distance hardly sees the solver, so its error is measured apart: the first latents are solved again with dopri8 in
float64 at a tolerance of 1e-7 (once per field and starting law), and the RMS difference per coordinate is reported.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from pfgm.config import EvaluateConfig, SamplerConfig
from pfgm.data.dataset import Dataset
from pfgm.flow.base import Flow
from pfgm.metrics.features.networks import default_features, default_space, feature_network
from pfgm.metrics.frechet import frechet_distance, moments
from pfgm.metrics.kernels import energy_distance, kernel_distance
from pfgm.metrics.likelihood import likelihood
from pfgm.metrics.neighbours import K_NEAREST, neighbour_gap, neighbour_statistics, precision_recall
from pfgm.metrics.reference import Cache, FeatureStatistics, data_radii, feature_statistics, kept_features, own_median
from pfgm.metrics.sliced import sliced_wasserstein
from pfgm.process.resolve import resolve_sampler
from pfgm.sampling.disturbances import StepNoise
from pfgm.sampling.integrate import Samples, sample

logger = logging.getLogger(__name__)
Kept = TypeVar("Kept")

REFERENCE_RTOL = 1e-7
"""Tolerance of the dopri8 solution that solver errors are measured against."""
SWITCHED_SD = 0.3
"""A sample has switched when it ends farther than this many data sd (RMS per coordinate) from the reference solution."""


@dataclass(frozen=True)
class Measured:
    """One row's measurements by column name, and the samples in stored units (n, d)."""

    row: dict[str, object]
    samples: Tensor


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
    _of_field: dict[tuple[object, ...], Any] = field(default_factory=dict)
    """What sampler points of one field share, by what it depends on."""

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
    def own(self) -> float:
        """Median distance of the data's points to their nearest other one."""
        return own_median(self.data, self.raw, self.cache)

    def measure(
        self, trained: Flow, sampler: SamplerConfig, seed: int, *, disturbed: bool = False, noise: StepNoise | None = None
    ) -> Measured:
        """Sample a field at one sampler point and measure; a solve that fails leaves the metrics null, never an exception.

        Args:
            disturbed: the field or its solver is, so that its exact solution tells nothing of the solver.
            noise: added before every step of the solver.
        """
        started = time.perf_counter()
        result = sample(
            trained.mean_source, trained.process, sampler, self.config.samples, seed, device=self.device,
            dtype=trained.dtype, noise=noise,
        )  # fmt: skip
        sampled = time.perf_counter()
        numbers = resolve_sampler(sampler, trained.process)
        prior = trained.process.prior(numbers.T, numbers.max_radius)
        free = trained.process.prior(numbers.T)
        row: dict[str, object] = {
            "status": result.status,
            "metric_n": self.config.samples,
            "metric_nonfinite_fraction": float((~torch.isfinite(result.x).all(1)).double().mean()),
            "cost_nfe": result.nfe,
            "cost_nfe_max": float(result.nfe_max),
            "diag_coverage": float(free.radius_cdf(torch.tensor(trained.process.R_max, dtype=torch.float64))),
            "diag_prior_truncated": float(prior.truncated_mass),
        }
        x = trained.process.info.to_stored_units(result.x).float()
        if result.status == "complete":
            row |= self.distances(x, result.radius_ratio)
            if "prior_error" in self.config.metrics and not disturbed:
                row |= self._prior_error(trained, numbers.T, seed)
            if "likelihood" in self.config.metrics and not disturbed:
                row |= self._likelihood(trained, sampler, seed)
            if "solver_error" in self.config.metrics and not disturbed:
                row |= self._solver_error(trained, sampler, seed, result)
        return Measured(row | {"cost_sample_s": sampled - started, "cost_metric_s": time.perf_counter() - sampled}, x.cpu())

    def distances(self, x: Tensor, radius_ratio: Tensor) -> dict[str, object]:
        """Every metric of the samples x (n, d), in stored units, that does not look at the solver.

        Args:
            radius_ratio: R/T of each sample's start (n,).
        """
        names = self.config.metrics
        row: dict[str, object] = {}
        if {"fid", "kid"} & set(names) or ("precision_recall" in names and self.space == "features"):
            row |= self._of_features(x)
        if "precision_recall" in names and self.space == "pixels":
            row |= self._precision_recall(x)
        if "neighbours" in names:
            row |= self._neighbours(x, radius_ratio)
        if "sliced_wasserstein" in names:
            row["metric_sliced_wasserstein"] = sliced_wasserstein(x, self.raw)
        if "energy" in names:
            row["metric_energy"] = energy_distance(x[: self.config.pr_samples], self.some)
        return row

    def _of_features(self, x: Tensor) -> dict[str, object]:
        names, features = self.config.metrics, self.network(x)
        row: dict[str, object] = {"metric_features": self.network.label}
        if "fid" in names:
            floor, half, gaussian = self.reference.anchors.tolist()
            own = moments(features)
            row |= {
                "metric_fid": frechet_distance(*own, *self.reference.train),
                "metric_fid_floor": floor,
                "metric_fid_half": half,
                "metric_fid_gaussian": gaussian if math.isfinite(gaussian) else None,
            }
            if self.test is not None and len(self.test) > features.shape[1]:  # else its covariance is singular
                assert self.reference.test is not None
                row |= {"metric_fid_test": frechet_distance(*own, *self.reference.test), "metric_n_test": len(self.test)}
        if "kid" in names:
            kid, error = kernel_distance(features, self.kept.to(features))
            row |= {"metric_kid": kid, "metric_kid_se": error}
        if "precision_recall" in names and self.space == "features":
            row |= self._precision_recall(features)
        return row

    def _precision_recall(self, points: Tensor) -> dict[str, object]:
        """points (n, ·): the samples in the space of precision and recall."""
        data, radius = self.balls
        found = precision_recall(points[: self.config.pr_samples], data, K_NEAREST, radius)
        return {f"metric_{name}": value for name, value in found._asdict().items()} | {
            "metric_pr_space": self.space,
            "metric_pr_k": K_NEAREST,
            "metric_pr_n": min(len(points), self.config.pr_samples),
            "metric_pr_n_data": len(data),
        }

    def _neighbours(self, x: Tensor, radius_ratio: Tensor) -> dict[str, object]:
        ratio, outliers = neighbour_statistics(x, self.raw, self.own)
        far = radius_ratio[outliers.cpu()]
        row: dict[str, object] = {
            "metric_nn_ratio": ratio if math.isfinite(ratio) else None,
            "metric_outlier_fraction": float(outliers.double().mean()),
            "diag_outlier_radius": float(far.median()) if len(far) else None,
        }
        if self.test is not None:
            gap = neighbour_gap(x, self.raw, self.test)
            row["metric_nn_gap"] = gap if math.isfinite(gap) else None
        return row

    def _prior_error(self, trained: Flow, T: float, seed: int) -> dict[str, object]:
        """Error of starting an exact field at T, which sampler points of one T share."""
        found = self._once(("prior", id(trained), T, seed), lambda: trained.prior_error(T, seed))
        return {f"metric_prior_{name}": value for name, value in found._asdict().items()}

    def _likelihood(self, trained: Flow, sampler: SamplerConfig, seed: int) -> dict[str, object]:
        """Likelihood of the field's ODE, which sampler points share that differ in no tolerance, T or t_min."""
        numbers = resolve_sampler(sampler, trained.process)
        key = ("likelihood", id(trained), numbers.T, sampler.t_min, numbers.rtol, numbers.atol, seed)
        return self._once(key, lambda: likelihood(trained, self.data, sampler, self.config.likelihood_samples, seed))

    def _once(self, key: tuple[object, ...], make: Callable[[], Kept]) -> Kept:
        """What ``make`` returned the first time."""
        if key not in self._of_field:
            self._of_field[key] = make()
        kept: Kept = self._of_field[key]
        return kept

    def _solver_error(self, trained: Flow, sampler: SamplerConfig, seed: int, result: Samples) -> dict[str, object]:
        """RMS per coordinate to the dopri8 solution from the same latents: median, 95 % quantile, share that switched."""
        n = min(self.config.solver_error_samples, self.config.samples)
        numbers = resolve_sampler(sampler, trained.process)

        def solve() -> Tensor:
            exact = SamplerConfig(
                T=numbers.T, t_min=sampler.t_min, solver="dopri8", rtol=REFERENCE_RTOL, denoise=sampler.denoise,
                max_radius_ratio=sampler.max_radius_ratio, batch_size=n,
            )  # fmt: skip
            precise = trained.double()  # float32 rounding of the network would defeat the tolerance
            solution = sample(precise.mean_source, trained.process, exact, n, seed, device=self.device, dtype=torch.float64)
            return solution.x if solution.status == "complete" else torch.full_like(solution.x, torch.nan)

        key = ("solution", id(trained), numbers.T, numbers.max_radius, sampler.t_min, sampler.denoise, seed)
        reference = self._once(key, solve)
        if not bool(torch.isfinite(reference).all()):  # the statistics count these rows as "solver_error missing"
            logger.warning("no solver error at T = %g: the reference solution did not come through", numbers.T)
            return {}
        error = (result.x[:n].double() - reference).square().mean(1).sqrt()
        return {
            "metric_solver_error": float(error.median()),
            "metric_solver_error_95": float(error.quantile(0.95)),
            "metric_solver_switched": float((error > SWITCHED_SD * trained.process.info.sd).double().mean()),
        }

    def forget_solutions(self) -> None:
        """Drop the reference solutions and likelihoods of a field that is done."""
        self._of_field.clear()
