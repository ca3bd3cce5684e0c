"""Trajectories of the ODE, seen at given heights."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from pfgm.sampling.integrate import integrate


def trajectories(
    mean_source: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    heights: Tensor,
    *,
    solver: str = "dopri5",
    rtol: float = 1e-6,
    atol: float | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Trajectories of dx/dt = (x − D(x, t))/t from the first of the heights down to the last, seen at each of them.

    Args:
        mean_source: D(x, t) of points (B, d) and heights (B,): `pfgm.field.analytic`'s, a network's, or
            `pfgm.field.empirical.mean_source` with its data bound.
        x: where they start, at ``heights[0]``, shape (B, d), in data units.
        heights: falling and positive, shape (K,), K ≥ 2, as `pfgm.sampling.integrate.heights` makes them.
        solver, rtol, atol: as in `pfgm.sampling.integrate.integrate`; a fixed-step solver takes one step from height to height.
    Returns:
        (heights, shape (K,); paths, shape (K, B, d)), in the dtype of ``x``.
    Raises:
        ValueError: if the heights do not fall to a positive last one.
        RuntimeError: if a solve does not end: D is not finite, or a tolerance is out of reach.
    Source: PFGM (arXiv 2209.11178), the backward ODE anchored in the height.
    """
    levels = heights.double().tolist() if heights.ndim == 1 else []
    if len(levels) < 2 or any(not a > b > 0 for a, b in itertools.pairwise(levels)):
        raise ValueError(f"heights must be at least two, falling and positive, got {levels or tuple(heights.shape)}")
    paths = [x]
    for T, t_min in itertools.pairwise(levels):
        found = integrate(mean_source, paths[-1], T=T, t_min=t_min, solver=solver, rtol=rtol, atol=atol, steps=1)
        if found.status != "complete":
            raise RuntimeError(f"the trajectory from t = {T:g} to {t_min:g} ended as {found.status}: raise rtol, or look at D")
        paths.append(found.x)
    return heights.to(x.dtype), torch.stack(paths)
