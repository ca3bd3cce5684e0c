"""Measure one sampler point of one field: samples, distances, cost, and how far the solver is from the exact path.

Every Fréchet distance comes with three anchors for the same data and features: `floor`, n points of a bootstrap of the data;
`half`, one random half of the data against the other; `gaussian`, n samples of the full-covariance Gaussian fitted to them.

The Fréchet distance hardly sees the solver, so its error is measured apart: the first latents are solved again with dopri8 in
float64 at a tolerance of 1e-7 (once per field and starting law), and the RMS difference per coordinate is reported.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pfgm.checkpoint import Field
from pfgm.config import EvaluateConfig, SamplerConfig
from pfgm.data import Dataset
from pfgm.metrics.features import default_features, extract
from pfgm.metrics.frechet import frechet_distance, moments
from pfgm.metrics.neighbours import neighbour_statistics, precision_recall
from pfgm.metrics.sliced import sliced_wasserstein
from pfgm.process import resolve_sampler
from pfgm.sampling import Samples, sample

logger = logging.getLogger(__name__)

REFERENCE_RTOL = 1e-7
"""Tolerance of the dopri8 solution that solver errors are measured against."""
SWITCHED_SD = 0.3
"""A sample has switched when it ends farther than this many data sd (RMS per coordinate) from the reference solution."""
N_BOOTSTRAP, N_HALVES, N_GAUSSIANS = 10, 5, 3


@dataclass(frozen=True)
class Anchors:
    """Fréchet distances that give the scale: see the module's docstring."""

    floor: float
    half: float
    gaussian: float


@dataclass(frozen=True)
class Measured:
    """One row's measurements by column name, and the samples in data units (n, d)."""

    row: dict[str, object]
    samples: Tensor


@dataclass
class Evaluator:
    """Reference statistics of one data set, computed once and shared by every row.

    Raises:
        ValueError: the features do not fit the data.
    """

    data: Dataset
    config: EvaluateConfig
    device: torch.device | str = "cpu"
    _references: dict[tuple[object, ...], Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.features = self.config.features or default_features(self.data.info.name)
        self.raw = self.data.raw.to(self.device)[:]
        if "fid" in self.config.metrics:
            self.reference = moments(extract(self.features, self.raw))
            self.anchors = self._anchors()

    def _distance(self, x: Tensor) -> float:
        return frechet_distance(*moments(extract(self.features, x)), *self.reference)

    def _anchors(self) -> Anchors:
        n, total = self.config.samples, len(self.raw)
        g = torch.Generator().manual_seed(0)
        bootstrap = [self._distance(self.raw[torch.randint(total, (n,), generator=g)]) for _ in range(N_BOOTSTRAP)]
        halves = []
        for _ in range(N_HALVES):
            order = torch.randperm(total, generator=g)
            a, b = (moments(extract(self.features, self.raw[i])) for i in (order[: total // 2], order[total // 2 :]))
            halves.append(frechet_distance(*a, *b))
        mean, covariance = moments(self.raw)
        values, vectors = torch.linalg.eigh(covariance)
        root = vectors * values.clamp(min=0).sqrt()
        gaussians = []
        for _ in range(N_GAUSSIANS):
            noise = torch.randn(n, len(mean), generator=g, dtype=torch.float64).to(root)
            x = (mean + noise @ root.T).to(self.raw)
            gaussians.append(self._distance(x if self.data.info.bounds is None else x.clamp(*self.data.info.bounds)))
        return Anchors(_mean(bootstrap), _mean(halves), _mean(gaussians))

    def measure(
        self,
        trained: Field,
        sampler: SamplerConfig,
        seed: int,
    ) -> Measured:
        """Sample a field at one sampler point and measure; a solve that fails leaves the metrics null, never an exception."""
        started = time.perf_counter()
        result = sample(
            trained.mean_source,
            trained.process,
            sampler,
            self.config.samples,
            seed,
            device=self.device,
        )
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
        x = trained.process.info.to_data_units(result.x)
        if result.status == "complete":
            row |= self._distances(x, result.radius_ratio)
            if "solver_error" in self.config.metrics:
                row |= self._solver_error(trained, sampler, seed, result)
        return Measured(row | {"cost_sample_s": sampled - started, "cost_metric_s": time.perf_counter() - sampled}, x.cpu())

    def _distances(self, x: Tensor, radius_ratio: Tensor) -> dict[str, object]:
        names = self.config.metrics
        row: dict[str, object] = {}
        if "fid" in names:
            row |= {
                "metric_fid": self._distance(x),
                "metric_features": self.features,
                "metric_fid_floor": self.anchors.floor,
                "metric_fid_half": self.anchors.half,
                "metric_fid_gaussian": self.anchors.gaussian,
            }
        if "precision_recall" in names:
            limit = self.config.pr_samples
            order = torch.randperm(len(self.raw), generator=torch.Generator().manual_seed(0))  # data may come sorted
            some = self.raw if len(self.raw) <= limit else self.raw[order[:limit]]
            row["metric_precision"], row["metric_recall"] = precision_recall(x[:limit], some)
        if "neighbours" in names:
            ratio, outliers = neighbour_statistics(x, self.raw)
            far = radius_ratio[outliers.cpu()]
            row |= {
                "metric_nn_ratio": ratio if math.isfinite(ratio) else None,
                "metric_outlier_fraction": float(outliers.double().mean()),
                "diag_outlier_radius": float(far.median()) if len(far) else None,
            }
        if "sliced_wasserstein" in names:
            row["metric_sliced_wasserstein"] = sliced_wasserstein(x, self.raw)
        return row

    def _solver_error(self, trained: Field, sampler: SamplerConfig, seed: int, result: Samples) -> dict[str, object]:
        """RMS per coordinate to the dopri8 solution from the same latents: median, 95 % quantile, share that switched."""
        n = min(self.config.solver_error_samples, self.config.samples)
        numbers = resolve_sampler(sampler, trained.process)
        key = (id(trained), numbers.T, numbers.max_radius, sampler.t_min, sampler.denoise, seed)
        if key not in self._references:
            exact = SamplerConfig(
                T=numbers.T, t_min=sampler.t_min, solver="dopri8", rtol=REFERENCE_RTOL, denoise=sampler.denoise,
                max_radius_ratio=sampler.max_radius_ratio, batch_size=n,
            )  # fmt: skip
            precise = trained.double()  # float32 rounding of the network would defeat the tolerance
            solution = sample(precise.mean_source, trained.process, exact, n, seed, device=self.device, dtype=torch.float64)
            self._references[key] = solution.x if solution.status == "complete" else torch.full_like(solution.x, torch.nan)
        reference = self._references[key]
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
        """Drop the reference solutions of a field that is done."""
        self._references.clear()


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
