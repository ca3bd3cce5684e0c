"""Objectives: network, process, batch, generator → loss; one function an objective.

The targets over a reference batch take ``doubts`` on to `pfgm.field.empirical`, so that a step on a GPU waits for nothing.

A loss weight may depend on the training point (x, t) only, never on the source y that produced it, or the regression's
minimiser is no longer the mean source. The table of targets is in `pfgm.process.base`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pfgm.field.empirical import Doubts, mean_source, normalized_target
from pfgm.field.sources import Sources
from pfgm.networks.base import FieldNetwork
from pfgm.networks.heads import denoiser_head, field_head, raw_field_head
from pfgm.process.base import Process


def normalized(
    network: FieldNetwork, process: Process, y: Tensor, sources: Sources, g: torch.Generator, doubts: Doubts | None = None
) -> Tensor:
    """Mean ‖v̂ − v‖²/d over the batch, v the normalised field of ``sources`` (N_ref, d) at points around y (B, d)."""
    x, t = process.training_points(y, g)
    assert process.train.gamma is not None
    target = normalized_target(x, t, sources, process.train.gamma, doubts=doubts)
    v = field_head(network.denoise(x, t), x, t, process.train.gamma) if network.skip else network(x, t)
    return (v - target).square().sum(1).mean() / y.shape[1]


def raw(
    network: FieldNetwork, process: Process, y: Tensor, sources: Sources, g: torch.Generator, doubts: Doubts | None = None
) -> Tensor:
    """Mean ‖o + t^d (x − y', t)/ρ^{d+1}‖²/d, y' drawn from the data independently of y: no reference batch, no bias."""
    x, t = process.training_points(y, g)
    index = torch.randint(len(sources), (len(y),), generator=g, device=y.device)
    difference = torch.cat([x - sources[index], t[:, None]], 1).double()  # (B, d + 1)
    rho: Tensor = difference.norm(dim=1, keepdim=True)
    d = y.shape[1]
    target = -(difference / rho) * (t[:, None].double() / rho) ** d  # = −t^d (x − y', t)/ρ^{d+1}
    output: Tensor = network(x, t)
    if network.skip:
        level = network.level(x, t)
        output = raw_field_head(output, denoiser_head(output, x, level, network.sd), x, t, level)
    return (output - target.to(x)).square().sum(1).mean() / d


def denoise(
    network: FieldNetwork, process: Process, y: Tensor, sources: Sources, g: torch.Generator, doubts: Doubts | None = None
) -> Tensor:
    """Mean of the process's weight times ‖D(x, t) − y‖²/d."""
    x, t = process.training_points(y, g)
    return _denoising_loss(network, process, x, t, y)


def reference(
    network: FieldNetwork, process: Process, y: Tensor, sources: Sources, g: torch.Generator, doubts: Doubts | None = None
) -> Tensor:
    """Return the loss of `denoise` with the mean source over ``sources`` (N_ref, d) as its target: less variance."""
    x, t = process.training_points(y, g)
    return _denoising_loss(network, process, x, t, mean_source(x, t, sources, n_aug=process.n_aug, doubts=doubts))


def _denoising_loss(network: FieldNetwork, process: Process, x: Tensor, t: Tensor, target: Tensor) -> Tensor:
    weight = process.loss_weight(t, network.level(x, t), network.sd)
    error = network.denoise(x, t) - target
    return (weight * error.square().mean(1)).mean()


Objective = Callable[[FieldNetwork, Process, Tensor, Sources, torch.Generator, Doubts | None], Tensor]
"""(network, process, data points, sources, generator, uncertain rows) → loss."""
