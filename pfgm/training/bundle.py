"""Several trainings in one process, step by step beside each other: small networks cost as few calls together as one alone.

The networks have one architecture; their weights lie in stacks (`pfgm.networks.stacked`), and targets, forward and backward
pass of all are computed at once. σ, τ, M, γ, rates, the reference batch and the seed are each training's own. So are its
streams of random numbers, its clipping, its moments and its average. What a field becomes therefore depends on its companions
by rounding alone: they decide in how large a matrix its rows are multiplied.

Every field is a `Trainer`, whose state is one as any other: stored, continued in another bundle, or alone. Continued with the
same companions at the same steps, a bundle is bit for bit the one that was never stopped. A field that diverges, ends or is
dropped leaves the bundle; the others go on. Where a step does not fit into the memory, the run ends with `BundleTooLarge` and
every field stands where it stood before that step: smaller bundles, or each field alone, continue from there.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from pfgm.config import NetworkConfig, TrainConfig
from pfgm.data.dataset import Dataset
from pfgm.memory import is_out_of_memory
from pfgm.mistakes import Mistake
from pfgm.networks.base import FieldNetwork
from pfgm.networks.stacked import stack_networks
from pfgm.process.base import Process
from pfgm.registry import PROCESSES
from pfgm.training.adam import step_together
from pfgm.training.batches import Together
from pfgm.training.history import REPORT_EVERY, Progress, TrainingDiverged
from pfgm.training.meter import Meter
from pfgm.training.trainer import Trainer

CLIP_EPS = 1e-6
"""Added to a norm that is divided by, as `torch.nn.utils.clip_grad_norm_` does."""
Report = dict[int, Progress | TrainingDiverged]
"""By a field's place in the bundle: how far it is, or how it left."""


class BundleTooLarge(RuntimeError):
    """A step does not fit into the memory; every field stands where it stood before."""


class _Stack(NamedTuple):
    """The networks of some fields as one."""

    active: list[int]
    network: FieldNetwork
    parameters: list[Tensor]
    ones: list[tuple[Tensor, ...]]
    """By parameter, those of the fields: views of it."""
    limits: Tensor  # (K,) lengths that gradients may have
    batches: Together


def bundle_key(network: NetworkConfig, train: TrainConfig) -> Hashable:
    """Return what trainings must have in common to be a bundle, beside their data.

    Raises:
        Mistake: this one is trained alone.
    """
    if train.conditional:
        raise Mistake("conditional", "is not for bundles of fields; write false, or train this field alone")
    if train.bf16:
        raise Mistake("bf16", "is not for bundles of fields; write false, or train this field alone")
    if getattr(network, "dropout", None):
        raise Mistake("network.dropout", "is not for bundles of fields; write 0, or train this field alone")
    if getattr(network, "form", None) == "ncsnpp":
        raise Mistake("network.form", "ncsnpp draws frequencies, which a bundle cannot share; train this field alone")
    if PROCESSES[train.process].loss_weight is not Process.loss_weight:
        raise Mistake("process", f"{train.process} has a loss weight of its own, which a bundle cannot share; train it alone")
    return network, train.process, train.objective, getattr(train, "n_aug", None), train.batch_size


class Bundle:
    """K trainings that can be advanced together; each can be saved, continued and dropped.

    Args:
        data: the points; moved to ``device`` once.
        network: architecture of all.
        trains: training points, one a field.
        seeds: train seeds, one a field.
        device: where networks and data live.
        dtype: as `Trainer` takes it.
    Raises:
        Mistake: a training that is no bundle's, or trainings that have not in common what a bundle has.
        ValueError: as `Trainer`.
    """

    def __init__(
        self,
        data: Dataset,
        network: NetworkConfig,
        trains: Sequence[TrainConfig],
        seeds: Sequence[int],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if not trains or len(trains) != len(seeds):
            raise ValueError(f"a bundle has a seed for each training point, got {len(trains)} points and {len(seeds)} seeds")
        kinds = {bundle_key(network, train) for train in trains}
        if len(kinds) > 1:
            raise Mistake("train", "fields of a bundle share process, objective, n_aug and batch_size; train these apart")
        moved = replace(data, points=data.points.to(device))
        self.fields = [
            Trainer(moved, network, train, seed, device, dtype=dtype) for train, seed in zip(trains, seeds, strict=True)
        ]
        """The trainings, each with its state, history and averaged network; the bundle advances them."""
        first = self.fields[0]
        self.device, self._rows, self._doubts = first.device, first.train.batch_size, first.doubts
        for field in self.fields:
            field.batches.plane, field.doubts = first.batches.plane, first.doubts
        self._left: set[int] = set()
        self._stack: _Stack | None = None
        try:
            self._stacked(self.active)
        except TypeError as error:
            raise Mistake("network", f"is not for bundles of fields ({error}); train these apart") from None

    @property
    def active(self) -> list[int]:
        """Places of the fields that are trained on."""
        return [k for k, field in enumerate(self.fields) if k not in self._left and field.step < field.train.steps]

    def drop(self, k: int) -> None:
        """Train the k-th field no further; it stays as it is."""
        self._left.add(k)

    def load_state(self, k: int, state: Mapping[str, Tensor]) -> None:
        """Continue the k-th field from the state of a field in a bundle, or of a `Trainer`.

        Raises:
            ValueError: as `Trainer.load_state`, or a state of one whose steps did not fit into the memory as a whole.
        """
        if int(state.get("parts", 1)) > 1:
            raise ValueError("this training calls its network in parts of the batch, for want of memory; continue it alone")
        before = None if self._doubts is None else (self._doubts.most.clone(), self._doubts.mends)
        self.fields[k].load_state(state)
        if self._doubts is not None and before is not None:  # all fields count in one place
            self._doubts.most.copy_(torch.maximum(self._doubts.most, before[0]))
            self._doubts.mends |= before[1]
        self._ask_if(self.fields[k].doubts is None)

    def run(self, report_every: int = REPORT_EVERY) -> Iterator[Report]:
        """Train all to their last steps, yielding what is new of a field after ``report_every`` of its steps and its last.

        A field that diverged is told once, by the `TrainingDiverged` that `Trainer.run` would raise. Between two reports,
        fields may be saved or dropped.

        Raises:
            BundleTooLarge: a step does not fit into the memory.
        """
        meters = [Meter(self.device) for _ in self.fields]
        started = time.perf_counter()
        while active := self.active:
            for k, loss, norm in self._advance(active):
                meters[k].add(loss, norm)
                if self.fields[k].step % REPORT_EVERY == 0:
                    self._heed(self.fields[k])
            if due := [k for k in active if self.fields[k].is_due(report_every)]:
                now = time.perf_counter()
                for k in active:
                    self.fields[k].elapsed_s += (now - started) / len(active)
                yield {k: self._report(k, meters[k]) for k in due}
                started = time.perf_counter()

    def _report(self, k: int, meter: Meter) -> Progress | TrainingDiverged:
        try:
            return self.fields[k].report(meter)
        except TrainingDiverged as diverged:
            self.drop(k)
            return diverged

    def _heed(self, field: Trainer) -> None:
        if self._doubts is not None:
            field.heed_doubts()
            self._ask_if(field.doubts is None)

    def _ask_if(self, needed: bool) -> None:
        """From here on all targets ask the device, if one must: they are computed together."""
        if needed:
            self._doubts = None
            for field in self.fields:
                field.doubts = None

    def _advance(self, active: list[int]) -> list[tuple[int, Tensor, Tensor]]:
        """One step of the active fields: the place, the loss and the norm of the gradient of each."""
        fields, stack = [self.fields[k] for k in active], self._stacked(active)
        losses, parameters = self._differentiate(fields, stack), stack.parameters
        norms = _clip(parameters, stack.limits)
        for whole, ones in zip(parameters, stack.ones, strict=True):
            parts = [None] * len(ones) if whole.grad is None else whole.grad.unbind()
            for parameter, part in zip(ones, parts, strict=True):
                parameter.grad = part
            whole.grad = None
        _update(fields)
        return list(zip(active, losses.detach().unbind(), norms.unbind(), strict=True))

    def _differentiate(self, fields: Sequence[Trainer], stack: _Stack) -> Tensor:
        """The losses of all on their next batches, shape (K,), whose gradients are left in the stack."""
        before = [field.batches.state() for field in fields]
        loss_of = fields[0].batches.objective.loss
        try:
            rows = loss_of(stack.network, fields[0].process, *stack.batches.draw(self._doubts))
            losses: Tensor = rows.view(len(fields), self._rows).mean(1)
            losses.sum().backward()  # into .grad, which lies in memory as its weight does: fused Adam goes by it
            return losses
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        for field, state in zip(fields, before, strict=True):  # whoever trains it next draws this batch
            field.batches.load_state(state)
        for parameter in stack.parameters:
            parameter.grad = None
        raise BundleTooLarge(f"a step of {len(fields)} fields together does not fit into the memory")

    def _stacked(self, active: list[int]) -> _Stack:
        """The networks of the active fields as one; those that left keep weights of their own."""
        if self._stack is None or self._stack.active != active:
            for k, field in enumerate(self.fields):
                if k not in active:
                    for parameter in field.parameters:
                        parameter.data = parameter.data.clone()
            fields = [self.fields[k] for k in active]
            network = stack_networks([field.network for field in fields])
            limits = torch.tensor([field.train.gradient_clip for field in fields], device=self.device)
            ones = list(zip(*(field.parameters for field in fields), strict=True))
            together = Together([field.batches for field in fields])
            self._stack = _Stack(active, network, list(network.parameters()), ones, limits, together)
        return self._stack


@torch.no_grad()
def _clip(parameters: Sequence[Tensor], limits: Tensor) -> Tensor:
    """Scale each field's gradient to the length that it may have, and return what the lengths were, shape (K,)."""
    gradients = [whole.grad for whole in parameters if whole.grad is not None]
    lengths = torch.stack(torch._foreach_norm([part for g in gradients for part in g.unbind()]))
    norms: Tensor = torch.linalg.vector_norm(lengths.view(len(gradients), -1), dim=0)
    scale = (limits / (norms + CLIP_EPS)).clamp_(max=1.0)
    torch._foreach_mul_(gradients, [scale.view(-1, *[1] * (g.ndim - 1)) for g in gradients])
    return norms


@torch.no_grad()
def _update(fields: Sequence[Trainer]) -> None:
    """One step of each along its gradient; those of one rate in one call, and so the averages of one decay."""
    by_rate: dict[float, list[Trainer]] = defaultdict(list)
    by_decay: dict[float, list[Trainer]] = defaultdict(list)
    for field in fields:
        by_rate[field.rate].append(field)
        by_decay[field.decay].append(field)
    for rate, some in by_rate.items():
        step_together([field.optimizer for field in some], rate)
    for decay, some in by_decay.items():
        averages, weights = ([p for field in some for p in getattr(field, name)] for name in ("average", "parameters"))
        torch._foreach_lerp_(averages, weights, 1 - decay)
    for field in fields:
        field.count_step()
        field.together = max(field.together, len(fields))
