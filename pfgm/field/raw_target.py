r"""How much the raw target scatters: why the first, unbiased objective is refused in high dimension.

The objective `pfgm.training.objectives.raw` regresses on the field of one source y' drawn independently of the point,
v = t^d (x − y', t)/ρ^{d+1}, ρ² = ‖x − y'‖² + t². Its mean over y' is the field, so nothing is biased. But ρ^{−d} of one source
in a thousand may exceed that of all others together, and the variance counted in squares of the mean, (E‖v‖² − ‖E v‖²)/‖E v‖²,
grows exponentially with d. Where one of N sources decides alone it is N − 1, the most that N sources can show there, and all
other draws say nothing. This is why the normalised target over a reference batch replaces it.

Sources: Su, Scientific Spaces 9305, the first objective; PFGM (arXiv 2209.11178), the reference batch.
"""

import torch
from torch import Tensor

from pfgm.prior.law import PoissonPrior

CHUNK = 2**22
"""Distances held at once."""


def relative_variance(x: Tensor, t: Tensor | float, sources: Tensor) -> Tensor:
    r"""Variance of the raw target over its random source, in squared means: (E‖v‖² − ‖E v‖²)/‖E v‖².

    Args:
        x: points, shape (B, d), in data units.
        t: heights, shape (B,) or a number, positive.
        sources: y', shape (N, d), each drawn with probability 1/N.
    Returns:
        shape (B,), float64; 0 for one source.
    Raises:
        ValueError: if shapes disagree or some t ≤ 0.
    Source: Su, Scientific Spaces 9305, the first objective; exact over the given sources, in log space.
    """
    if x.ndim != 2 or sources.ndim != 2 or x.shape[1] != sources.shape[1] or not len(sources):
        raise ValueError(f"x and sources must have shapes (B, d) and (N, d), got {tuple(x.shape)} and {tuple(sources.shape)}")
    heights = torch.as_tensor(t, dtype=torch.float64, device=x.device)
    if heights.shape not in ((), (1,), (len(x),)) or not bool((heights > 0).all()):
        raise ValueError(f"t must be a positive number or {len(x)} of them, got shape {tuple(heights.shape)}, {heights.min()}")
    rows = max(1, CHUNK // len(sources))
    parts = zip(x.double().split(rows), heights.expand(len(x)).split(rows), strict=True)
    return torch.cat([_relative_variance(points, level, sources.double()) for points, level in parts])


def raw_target_variance(
    d: int, *, t: float = 1.0, n_points: int = 256, n_sources: int = 4096, generator: torch.Generator | None = None
) -> Tensor:
    r"""Return `raw_target`'s variance for standard normal data: points are drawn from the Poisson kernel at height t.

    Args:
        d: dimension.
        t: height, in standard deviations of a coordinate.
        n_points: points of the Monte Carlo.
        n_sources: sources y' that stand for the law of the data; above about a tenth of it a result is their number's.
        generator: source of randomness, of the CPU.
    Returns:
        shape (n_points,), float64, one variance a point: heavy-tailed, so a median says more than a mean.
    Raises:
        ValueError: if d, t, n_points or n_sources is not positive.
    Source: Su, Scientific Spaces 9305, the first objective.
    """
    if n_points < 1 or n_sources < 1:
        raise ValueError(f"n_points and n_sources must be at least 1, got {n_points} and {n_sources}")
    prior = PoissonPrior(d, t)  # the kernel of one source; refuses d and t that are not positive
    y = torch.randn(n_points, d, dtype=torch.float64, generator=generator)
    sources = torch.randn(n_sources, d, dtype=torch.float64, generator=generator)
    return relative_variance(y + prior.sample([n_points], generator), t, sources)


def _relative_variance(x: Tensor, t: Tensor, sources: Tensor) -> Tensor:
    """Every v over its largest, whose square leaves the quotient."""
    log_rho = torch.cdist(x, sources, compute_mode="donot_use_mm_for_euclid_dist").square().add(t.square()[:, None]).log() / 2
    d = x.shape[1]
    log_size = d * (log_rho.amin(1, keepdim=True) - log_rho)  # log ‖v‖ against the largest
    square = (2.0 * log_size).exp().mean(1)
    weight = (log_size - log_rho).exp() / len(sources)
    total = weight.sum(1)
    mean = torch.cat([total[:, None] * x - weight @ sources, (total * t)[:, None]], dim=1)
    return (square / mean.square().sum(1) - 1.0).clamp(min=0.0)
