"""The metrics of this package as cards (`pfgm.metrics.card`).

The Fréchet distance hardly sees the solver, so the solver's error is measured apart: the first latents are solved again with
dopri8 in float64 at a tolerance of 1e-7 (once a field and starting law). Reported are the RMS difference per coordinate, and
the Fréchet distance between the two sets of samples: they are paired, so it is small where the solver is right.
"""

from __future__ import annotations

import logging
import math

import torch
from torch import Tensor

from pfgm.config import SamplerConfig
from pfgm.metrics.card import Metric, Seen
from pfgm.metrics.columns import columns_of
from pfgm.metrics.frechet import frechet_at_infinity, frechet_distance, moments
from pfgm.metrics.kernels import energy_distance, kernel_distance
from pfgm.metrics.likelihood import likelihood
from pfgm.metrics.neighbours import K_NEAREST, neighbour_gap, neighbour_statistics, precision_recall
from pfgm.metrics.sliced import sliced_wasserstein
from pfgm.process.resolve import resolve_sampler
from pfgm.sampling.integrate import sample

logger = logging.getLogger(__name__)

REFERENCE_RTOL = 1e-7
"""Tolerance of the dopri8 solution that solver errors are measured against."""
SWITCHED_SD = 0.3
"""A sample has switched when it ends farther than this many data sd (RMS per coordinate) from the reference solution."""


def _fid(seen: Seen) -> dict[str, object]:
    data, features = seen.data, seen.features
    floor, half, gaussian = data.reference.anchors.tolist()
    own = moments(features)
    row: dict[str, object] = {
        "metric_features": data.network.label,
        "metric_fid": frechet_distance(*own, *data.reference.train),
        "metric_fid_floor": floor,
        "metric_fid_half": half,
        "metric_fid_gaussian": gaussian if math.isfinite(gaussian) else None,
    }
    if data.test is not None and len(data.test) > features.shape[1]:  # else its covariance is singular
        assert data.reference.test is not None
        row |= {"metric_fid_test": frechet_distance(*own, *data.reference.test), "metric_n_test": len(data.test)}
    return row


def _kid(seen: Seen) -> dict[str, object]:
    kid, error = kernel_distance(seen.features, seen.data.kept.to(seen.features))
    return {"metric_features": seen.data.network.label, "metric_kid": kid, "metric_kid_se": error}


def _fid_infinity(seen: Seen) -> dict[str, object]:
    """Measure FID less its error of few samples; null where the samples are too few to tell."""
    halves, infinity = frechet_at_infinity(seen.features, seen.data.reference.train)
    return {"metric_features": seen.data.network.label, "metric_fid_halves": halves, "metric_fid_infinity": infinity}


def _precision_recall(seen: Seen) -> dict[str, object]:
    """Precision and recall in the space of pixels, or in that of features."""
    data, in_features = seen.data, seen.data.space == "features"
    points, limit = seen.features if in_features else seen.x, seen.data.config.pr_samples
    reference, radius = data.balls
    found = precision_recall(points[:limit], reference, K_NEAREST, radius)
    return {f"metric_{name}": value for name, value in found._asdict().items()} | {
        "metric_pr_space": data.space,
        "metric_pr_k": K_NEAREST,
        "metric_pr_n": min(len(points), limit),
        "metric_pr_n_data": len(reference),
        **({"metric_features": data.network.label} if in_features else {}),
    }


def _neighbours(seen: Seen) -> dict[str, object]:
    data = seen.data
    ratio, outliers = neighbour_statistics(seen.x, data.raw, data.own)
    far = seen.radius_ratio[outliers.cpu()]
    row: dict[str, object] = {
        "metric_nn_ratio": ratio if math.isfinite(ratio) else None,
        "metric_outlier_fraction": float(outliers.double().mean()),
        "diag_outlier_radius": float(far.median()) if len(far) else None,
    }
    if data.test is not None:
        gap = neighbour_gap(seen.x, data.raw, data.test)
        row["metric_nn_gap"] = gap if math.isfinite(gap) else None
    return row


def _sliced_wasserstein(seen: Seen) -> dict[str, object]:
    return {"metric_sliced_wasserstein": sliced_wasserstein(seen.x, seen.data.raw)}


def _energy(seen: Seen) -> dict[str, object]:
    return {"metric_energy": energy_distance(seen.x[: seen.data.config.pr_samples], seen.data.some)}


def _prior_error(seen: Seen) -> dict[str, object]:
    """Measure the error of starting an exact field at T, which sampler points of one T share."""
    assert seen.solved is not None
    flow, seed = seen.solved.flow, seen.solved.seed
    T = resolve_sampler(seen.solved.sampler, flow.process).T
    found = seen.solved.once(("prior", T, seed), lambda: flow.prior_error(T, seed))
    return {f"metric_prior_{name}": value for name, value in found._asdict().items()}


def _likelihood(seen: Seen) -> dict[str, object]:
    """Measure the likelihood of the field's ODE, which sampler points of one T, t_min and tolerance share."""
    assert seen.solved is not None
    flow, sampler, seed, data = seen.solved.flow, seen.solved.sampler, seen.solved.seed, seen.data
    numbers = resolve_sampler(sampler, flow.process)
    key = ("likelihood", numbers.T, sampler.t_min, numbers.rtol, numbers.atol, seed)
    return seen.solved.once(key, lambda: likelihood(flow, data.data, sampler, data.config.likelihood_samples, seed))


def _solver_error(seen: Seen) -> dict[str, object]:
    """Compare samples with the dopri8 solution from the same latents."""
    assert seen.solved is not None
    flow, sampler, seed, data = seen.solved.flow, seen.solved.sampler, seen.solved.seed, seen.data
    n = min(data.config.solver_error_samples, data.config.samples)
    numbers = resolve_sampler(sampler, flow.process)

    def solve() -> Tensor:
        exact = SamplerConfig(
            T=numbers.T, t_min=sampler.t_min, solver="dopri8", rtol=REFERENCE_RTOL, denoise=sampler.denoise,
            max_radius_ratio=sampler.max_radius_ratio, batch_size=n, label=sampler.label, guidance=sampler.guidance,
        )  # fmt: skip
        precise = flow.double()  # float32 rounding of the network would defeat the tolerance
        solution = sample(precise.asked(exact), flow.process, exact, n, seed, device=data.device, dtype=torch.float64)
        return solution.x if solution.status == "complete" else torch.full_like(solution.x, torch.nan)

    key = ("solution", numbers.T, numbers.max_radius, sampler.t_min, sampler.denoise, sampler.label, sampler.guidance, seed)
    reference = seen.solved.once(key, solve)
    if not bool(torch.isfinite(reference).all()):  # the statistics count these rows as "solver_error missing"
        logger.warning("no solver error at T = %g: the reference solution did not come through", numbers.T)
        return {}
    error = (seen.solved.result.x[:n].double() - reference).square().mean(1).sqrt()
    converged = seen.solved.once(
        ("moments", *key), lambda: moments(data.network(flow.process.info.to_stored_units(reference).float()))
    )
    return {
        "metric_fid_converged": frechet_distance(*moments(seen.features[:n]), *converged),
        "metric_solver_error": float(error.median()),
        "metric_solver_error_95": float(error.quantile(0.95)),
        "metric_solver_switched": float((error > SWITCHED_SD * flow.process.info.sd).double().mean()),
    }


FID = Metric(_fid, columns_of("fid"))
FID_INFINITY = Metric(_fid_infinity, columns_of("fid_infinity"))
KID = Metric(_kid, columns_of("kid"))
PRECISION_RECALL = Metric(_precision_recall, columns_of("precision_recall"), pairs=True)
NEIGHBOURS = Metric(_neighbours, columns_of("neighbours"))
SLICED_WASSERSTEIN = Metric(_sliced_wasserstein, columns_of("sliced_wasserstein"))
ENERGY = Metric(_energy, columns_of("energy"), pairs=True)
PRIOR_ERROR = Metric(_prior_error, columns_of("prior_error"))
LIKELIHOOD = Metric(_likelihood, columns_of("likelihood"))
SOLVER_ERROR = Metric(_solver_error, columns_of("solver_error"))
