"""Objectives: what is drawn for a batch, its target, and the loss of a network on it; three functions an objective.

The first two know no network, so what was drawn is kept where a step must be repeated. Only the first one uses random numbers:
targets and losses of several trainings can be computed together. What they must know of a training's own numbers therefore
stands in what was drawn, a row for each point. Where the points are a function of x, t, y and γ alone (`around`), they too are
made together. The targets over a reference batch take ``doubts`` on to `pfgm.field.target`, so
that a step on a GPU waits for nothing.

A loss weight may depend on the training point (x, t) only, never on the source y that produced it, or the regression's
minimiser is no longer the mean source. The table of targets is in `pfgm.process.base`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pfgm.field.plane import Plane
from pfgm.field.sources import Sources
from pfgm.field.target import Doubts, training_source, training_target
from pfgm.networks.base import FieldNetwork
from pfgm.networks.heads import denoiser_head, field_head, raw_field_head
from pfgm.process.base import Process

Drawn = tuple[Tensor, ...]
"""x (B, d), t (B,), and what the objective adds: tensors of B rows."""
Around = Callable[[Tensor, Tensor, Tensor, float | Tensor | None], Drawn]
"""(x, t, y, γ or one a row) → drawn."""


def _as_drawn(process: Process, drawn: Drawn, sources: Sources | Sequence[Plane], doubts: Doubts | None) -> Drawn:
    return drawn


@dataclass(frozen=True)
class Objective:
    """What a network is trained for."""

    points: Callable[[Process, Tensor, Sources, torch.Generator], Drawn]
    """(process, data points y (B, d), sources (N_ref, d), generator) → training points."""
    loss: Callable[..., Tensor]
    """(network, process, *drawn) → the loss of each row, shape (B,); of the process it may read what its keys do not change."""
    target: Callable[[Process, Drawn, Sources | Sequence[Plane], Doubts | None], Drawn] = _as_drawn
    """(process, drawn, sources or a plane for each equal block of rows, uncertain rows) → drawn, with the target.

    Of the process it may read ``n_aug``."""
    around: Around | None = None
    """What is drawn, where ``points`` does no more with the process's training points."""
    processes: tuple[str, ...] = ()
    """Of an objective from outside this package: the processes that may be trained for it."""

    def __call__(
        self,
        network: FieldNetwork,
        process: Process,
        y: Tensor,
        sources: Sources,
        g: torch.Generator,
        doubts: Doubts | None = None,
    ) -> Tensor:
        """Return the mean loss at points drawn around y."""
        drawn = self.target(process, self.points(process, y, sources, g), sources, doubts)
        return self.loss(network, process, *drawn).mean()


def _points(around: Around) -> Callable[[Process, Tensor, Sources, torch.Generator], Drawn]:
    def points(process: Process, y: Tensor, sources: Sources, g: torch.Generator) -> Drawn:
        return around(*process.training_points(y, g), y, process.train.gamma)

    return points


def _with_gamma(x: Tensor, t: Tensor, y: Tensor, gamma: float | Tensor | None) -> Drawn:
    """x, t, γ (B,)."""
    assert gamma is not None
    return x, t, gamma if isinstance(gamma, Tensor) else torch.full_like(t, gamma, dtype=torch.float64)


def _normalized_target(process: Process, drawn: Drawn, sources: Sources | Sequence[Plane], doubts: Doubts | None) -> Drawn:
    """x, t, the normalised field v (B, d + 1) of the sources, γ."""
    x, t, gamma = drawn
    return x, t, training_target(x, t, sources, gamma, doubts=doubts), gamma


def _normalized_loss(network: FieldNetwork, process: Process, x: Tensor, t: Tensor, target: Tensor, gamma: Tensor) -> Tensor:
    v = field_head(network.denoise(x, t), x, t, gamma.to(x)[:, None]) if network.skip else network(x, t)
    return (v - target).square().sum(1) / x.shape[1]


def _points_of_another(process: Process, y: Tensor, sources: Sources, g: torch.Generator) -> Drawn:
    """x, t, the field −t^d (x − y', t)/ρ^{d+1} of a source y' each."""
    x, t = process.training_points(y, g)
    index = torch.randint(len(sources), (len(y),), generator=g, device=y.device)
    difference = torch.cat([x - sources[index], t[:, None]], 1).double()  # (B, d + 1)
    rho: Tensor = difference.norm(dim=1, keepdim=True)
    return x, t, (-(difference / rho) * (t[:, None].double() / rho) ** y.shape[1]).to(x)


def _raw_loss(network: FieldNetwork, process: Process, x: Tensor, t: Tensor, target: Tensor) -> Tensor:
    output: Tensor = network(x, t)
    if network.skip:
        level = network.level(x, t)
        output = raw_field_head(output, denoiser_head(output, x, level, network.sd), x, t, level)
    return (output - target).square().sum(1) / x.shape[1]


def _with_data(x: Tensor, t: Tensor, y: Tensor, gamma: float | Tensor | None) -> Drawn:
    """x, t, y."""
    return x, t, y


def _plain(x: Tensor, t: Tensor, y: Tensor, gamma: float | Tensor | None) -> Drawn:
    return x, t


def _reference_target(process: Process, drawn: Drawn, sources: Sources | Sequence[Plane], doubts: Doubts | None) -> Drawn:
    """x, t, the mean source (B, d) over the sources."""
    x, t = drawn
    return x, t, training_source(x, t, sources, n_aug=process.n_aug, doubts=doubts)


def _denoising_loss(network: FieldNetwork, process: Process, x: Tensor, t: Tensor, target: Tensor) -> Tensor:
    own = process.loss_weight(t, network.level(x, t), network.sd) if network.head is None else network.head.weight(t)
    error = network.denoise(x, t) - target
    return own * error.square().mean(1)


normalized = Objective(_points(_with_gamma), _normalized_loss, _normalized_target, _with_gamma)
"""Mean ‖v̂ − v‖²/d over the batch, v the normalised field of the sources at points around y."""
raw = Objective(_points_of_another, _raw_loss)
"""Mean ‖o + t^d (x − y', t)/ρ^{d+1}‖²/d, y' drawn from the data independently of y: no reference batch, no bias."""
denoise = Objective(_points(_with_data), _denoising_loss, around=_with_data)
"""Mean of the process's weight, or that of a published head, times ‖D(x, t) − y‖²/d."""
reference = Objective(_points(_plain), _denoising_loss, _reference_target, _plain)
"""The loss of `denoise` with the mean source over the sources as its target: less variance."""
