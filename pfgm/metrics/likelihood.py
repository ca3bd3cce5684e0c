"""Bits per dimension of a field at one sampler point, on held-out points where there are any.

Likelihood is of the ODE, not of the solver. It always starts from the whole prior, with dopri5 at an adaptive sampler's
tolerances. Where the sampler has fixed steps, the tolerance is `FIXED_RTOL`. Data of grey levels are dequantised
(`pfgm.sampling.dequantization`), and every configuration sees the same points, the same u and the same probes of a seed:
differences between configurations are less noisy.

Fields are trained on the grey levels themselves. Far below their spacing 1/a the density is one of narrow peaks. Between two of
them it tells the tail of a process's kernel, not what was learned: at t = 1e-3 a Gaussian kernel gives hundreds of bits.
The density of grey data is therefore taken at `LEVEL`/a where t_min is lower, for every process alike.
"""

from __future__ import annotations

import logging
import math

import torch
from torch import Tensor

from pfgm.config import SamplerConfig
from pfgm.data.dataset import Dataset
from pfgm.flow.base import Flow
from pfgm.process.resolve import resolve_sampler
from pfgm.registry import SOLVERS
from pfgm.sampling.dequantization import Quantization, dequantize, quantization
from pfgm.sampling.likelihood import LogLikelihood, bits_per_dim, log_likelihood

logger = logging.getLogger(__name__)

LEVEL = 0.5
"""Lowest level t that grey data are looked at, in spacings of the grey levels: the width of u, up to a factor."""
FIXED_RTOL = 1e-4
"""Relative and absolute tolerance where the sampler has none."""


def likelihood(flow: Flow, data: Dataset, sampler: SamplerConfig, n: int, seed: int) -> dict[str, object]:
    """Columns of the likelihood of at most ``n`` points; none where the solve did not come through.

    Args:
        data: its held-out points are taken, or those trained on where none are.
        sampler: gives T, t_min and the tolerances.
        seed: of u and of the probes.
    Raises:
        ValueError: a process whose ODE cannot be followed upwards.
    """
    numbers = resolve_sampler(sampler, flow.process)
    grey = _quantization(data)
    x = some_points(data, n)
    if grey is not None:
        x = dequantize(x, grey.levels, seed)
    level = sampler.t_min if grey is None else max(sampler.t_min, LEVEL / grey.levels)
    if level >= numbers.T:
        logger.warning("no likelihood at T = %g: it is not above half a grey level, %g", numbers.T, level)
        return {}
    rtol, atol = (numbers.rtol, numbers.atol) if SOLVERS[sampler.solver].adaptive else (FIXED_RTOL, FIXED_RTOL)
    assert rtol is not None
    found = log_likelihood(flow, x, T=numbers.T, t_min=level, rtol=rtol, atol=atol, seed=seed)
    if found.status != "complete":
        logger.warning("no likelihood at T = %g: its solve ended as %s", numbers.T, found.status)
        return {}
    return _columns(found, grey, data.info.dim) | {"metric_likelihood_t": level}


def some_points(data: Dataset, n: int) -> Tensor:
    """At most ``n`` held-out points, else points trained on, in data units (m, d), float64; the same ones every time."""
    points = data.raw if data.test is None else data.test
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[:n]
    return data.info.restored(points[order.to(points.stored.device)].double().cpu())


def _quantization(data: Dataset) -> Quantization | None:
    """None where the data are no grey levels."""
    try:
        return quantization(data)
    except ValueError:  # their nats are still worth a column
        return None


def _columns(found: LogLikelihood, grey: Quantization | None, dim: int) -> dict[str, object]:
    row: dict[str, object] = {
        "metric_nats_per_dim": float(-found.log_prob.mean() / dim),
        "metric_n_likelihood": len(found.log_prob),
        "metric_divergence": found.divergence,
        "metric_dequantization": "none" if grey is None else grey.words,
    }
    if grey is not None:
        bits = bits_per_dim(found.log_prob, dim, grey.levels)
        error = float(bits.std()) / math.sqrt(len(bits)) if len(bits) > 1 else None
        row |= {"metric_bits_per_dim": float(bits.mean()), "metric_bits_per_dim_se": error}
    return row
