"""Training: Adam with linear warm-up and cosine decay to zero, gradient clipping, a ramped average of the weights.

Streams of random numbers are separate by role (initial weights, data order, perturbation, dropout) and derive from (seed, role)
alone, never from the configuration. Their states are part of the training state. So a training that is stopped and continued
ends with the weights of one that never stopped, bit for bit (same machine type, one thread). The stream of dropout begins anew
at each step, from (seed, role, step): layers draw from torch's global generator, which is left as it was.

No step on a GPU waits for the device. The field must know how many rows of a target need exact distances; the device counts
them itself (`pfgm.field.target.Doubts`). The trainer reads the count every `REPORT_EVERY` steps. As long as it is zero, later
steps mend nothing. Where it was too large, the rest of the run waits for it at every step. These facts are part of the state.

A step that runs out of memory is repeated, on the batch that was drawn for it, with the network called in parts of the batch
(`InParts`), twice as many each time; the rest of the run keeps the parts. Its numbers are those of a whole step up to rounding;
with dropout, its masks are others.

A change to this file, the objectives or the networks that moves the numbers raises `TRAINING_VERSION`; one that moves them by
more than rounding raises `FIELD_VERSION` too (`pfgm.training.history`), and a golden test of twenty losses fails until it does.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, fields

import torch
from torch import Tensor

from pfgm.config import NetworkConfig, TrainConfig
from pfgm.data.dataset import Dataset
from pfgm.field.plane import Plane
from pfgm.field.target import SILENT_ROWS, Doubts
from pfgm.memory import is_out_of_memory, record_split
from pfgm.networks.base import FieldNetwork
from pfgm.networks.build import build_network, check_network, describe_network
from pfgm.process.make import make_process
from pfgm.process.resolve import resolve_train
from pfgm.training.adam import Adam
from pfgm.training.compiled import Compiled
from pfgm.training.conditional import batches_of
from pfgm.training.history import REPORT_EVERY, Progress, derive_seed, learning_rate
from pfgm.training.meter import Meter
from pfgm.training.objectives import Drawn
from pfgm.training.parts import InParts

logger = logging.getLogger(__name__)


def _global_generator(device: torch.device) -> torch.Generator:
    if device.type != "cuda":
        return torch.default_generator
    generators: tuple[torch.Generator, ...] = torch.cuda.default_generators
    return generators[torch.cuda.current_device() if device.index is None else device.index]


class Trainer:
    """One training run that can be advanced, saved and continued.

    Args:
        data: the points; moved to ``device`` once.
        network: architecture.
        train: training point; `rule` and `all` are resolved here.
        seed: train seed.
        device: where the network and the data live.
        compile: call a compiled network (`pfgm.training.compiled`); where that fails, the training goes on without.
        dtype: float64 shows what rounding does to a training; its random numbers are others.
    Raises:
        ValueError: a network, objective or device that does not go with the data or the process.
    """

    def __init__(
        self,
        data: Dataset,
        network: NetworkConfig,
        train: TrainConfig,
        seed: int,
        device: torch.device | str = "cpu",
        compile: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.process = make_process(resolve_train(train, data.info), data.info)
        self.train, self.network_config, self.seed = self.process.train, network, seed
        self.device = torch.device(device)
        if self.device.type == "mps":
            raise ValueError("device: mps has no float64, which the field needs; use cpu or cuda")
        check_network(network, data.info.shape, self.train.process, self.train.conditional)
        if logger.isEnabledFor(logging.INFO):
            logger.info(describe_network(network, data.info.shape))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "init"))
            made = build_network(network, data.info.shape, data.info.sd, self.process.noise_ratio, self.process.classes)
        self.network = made.to(self.device, dtype)
        self.compiled = Compiled(self.network) if compile else None
        self.parameters: list[torch.Tensor] = list(self.network.parameters())
        self.average = [p.detach().clone() for p in self.parameters]
        self.optimizer = Adam(self.parameters)
        points, asks = data.points.to(self.device), self.device.type == "cpu"
        plane = Plane(points, asks=asks, double=dtype is torch.float64)
        self.batches = batches_of(self.process, plane, data.labels, seed, dtype)
        self.doubts = None if self.device.type == "cpu" else Doubts(self.device)
        """Where the field counts what it does not ask; None where it asks."""
        self.step, self.elapsed_s = 0, 0.0
        self.together = 1
        """The most fields that it was trained together with so far, itself included (`pfgm.training.bundle`)."""
        self.parts = 1
        """Parts of the batch that the network is called on; doubles where a step does not fit into the memory."""
        self.history: list[Progress] = []
        self.keep_at: Collection[int] = ()
        """Steps after which the averaged weights are put into `kept`; nothing else of the run depends on it."""
        self.kept: dict[int, list[Tensor]] = {}
        """Averaged weights by step, until someone takes them."""

    def run(self, report_every: int = REPORT_EVERY) -> Iterator[Progress]:
        """Train to the last step, yielding a `Progress` every ``report_every`` steps and at the end.

        Raises:
            TrainingDiverged: when the mean loss since the last report is not finite.
        """
        meter, started = Meter(self.device), time.perf_counter()
        while self.step < self.train.steps:
            meter.add(*self._advance(self.rate))
            if self.step % REPORT_EVERY == 0:
                self.heed_doubts()
            if self.is_due(report_every):
                now = time.perf_counter()
                self.elapsed_s += now - started
                yield self.report(meter)
                started = time.perf_counter()

    @property
    def rate(self) -> float:
        """Learning rate of the next step."""
        return learning_rate(self.train, self.step)

    @property
    def decay(self) -> float:
        """What the average keeps of itself at the next step."""
        return min(self.train.ema_decay, (1 + self.step) / (10 + self.step))

    def is_due(self, report_every: int) -> bool:
        """Return whether a report follows the last step."""
        return self.step % report_every == 0 or self.step == self.train.steps

    def report(self, meter: Meter) -> Progress:
        """Add to the history what a meter has seen.

        Raises:
            TrainingDiverged: a mean loss that is not finite.
        """
        rate = learning_rate(self.train, self.step - 1)
        progress = Progress(self.step, self.train.steps, *meter.means(self.step), rate, self.elapsed_s)
        self.history.append(progress)
        return progress

    def _advance(self, rate: float) -> tuple[Tensor, Tensor]:
        started = self.compiled.clock(self.device) if self.compiled is not None else 0.0
        drawn = self.batches.draw(self.doubts)
        while (loss := self._differentiate(drawn)) is None:
            self.optimizer.zero_grad()
        norm = self.update(rate)
        if self.compiled is not None and self.compiled.timed(self.compiled.clock(self.device) - started):
            logger.info("compiling the network took %.1f s", self.compiled.cost_s)
        return loss, norm

    def update(self, rate: float) -> Tensor:
        """Take a step along the gradients that are in the parameters, and return their norm."""
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.train.gradient_clip)
        self.optimizer.step(rate)
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.parameters, 1 - self.decay)
        self.count_step()
        return norm.detach()

    def count_step(self) -> None:
        """Count a step that was taken, and keep the averaged weights where they are asked for."""
        self.step += 1
        if self.step in self.keep_at:
            self.kept[self.step] = [a.clone() for a in self.average]

    def heed_doubts(self) -> None:
        """From here on, mend rows only if some were doubtful; ask, if more were than are mended unasked."""
        if self.doubts is None:
            return
        self.doubts.mends = int(self.doubts.most) > 0
        if int(self.doubts.most) > SILENT_ROWS:
            logger.warning(
                "step %d: up to %d points of a batch lie between nearly equal sources, which takes exact distances;"
                " from here on every step waits for the device",
                self.step,
                int(self.doubts.most),
            )
            self.doubts = None

    def _differentiate(self, drawn: Drawn) -> Tensor | None:
        """Loss of a batch, whose gradients are left in the parameters.

        None where the memory ran out, or the compiler failed: the next attempt is in more parts, or without it.
        """
        try:
            network = self.network if self.compiled is None else self.compiled
            if self.parts > 1:
                network = InParts(self.network, self.parts)
            network = self.batches.tell(network)
            with self._dropout(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.train.bf16):
                loss = self.batches.objective.loss(network, self.process, *drawn).mean()
            self.optimizer.zero_grad()
            loss.backward()
            return loss.detach()
        except Exception as error:
            full = is_out_of_memory(error)
            split = full and self.parts < self.train.batch_size
            if not split and (full or self.compiled is None or not self.compiled.untried):
                raise
            reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        if split:
            self.parts *= 2
            record_split()
        else:
            self.compiled = None
            logger.warning("the network cannot be compiled, training goes on without (%s)", reason)
        return None

    @contextmanager
    def _dropout(self) -> Iterator[None]:
        """torch's global generator as the stream of this step's dropout; afterwards it is what it was."""
        if not getattr(self.network_config, "dropout", None):  # the key of any network that has dropout
            yield
            return
        generator = _global_generator(self.device)
        before = generator.get_state()
        generator.manual_seed(derive_seed(self.seed, f"dropout/{self.step}"))
        try:
            yield
        finally:
            generator.set_state(before)

    def averaged_network(self, average: Sequence[Tensor] | None = None) -> FieldNetwork:
        """A copy of the network with the averaged weights, or with some that were `kept`, in evaluation mode."""
        network = copy.deepcopy(self.network)
        with torch.no_grad():
            for parameter, value in zip(network.parameters(), average or self.average, strict=True):
                parameter.copy_(value)
        return network.eval().requires_grad_(False)

    def state(self) -> dict[str, Tensor]:
        """Everything that the rest of the run depends on, as plain tensors; take it right after a `Progress`."""
        moments = self.optimizer.state
        state = {
            "step": torch.tensor(self.step),
            "parts": torch.tensor(self.parts),
            "together": torch.tensor(self.together),
            "doubtful": torch.tensor(-1) if self.doubts is None else self.doubts.most,
            "mends": torch.tensor(self.doubts is not None and self.doubts.mends),
            "elapsed_s": torch.tensor(self.elapsed_s, dtype=torch.float64),
            "history": torch.tensor([astuple(p) for p in self.history], dtype=torch.float64).reshape(-1, len(fields(Progress))),
        }
        for k, (p, a) in enumerate(zip(self.parameters, self.average, strict=True)):
            state |= {f"weight.{k}": p.detach(), f"average.{k}": a}
            if p in moments:
                state |= {f"adam.{name}.{k}": moments[p][name] for name in ("exp_avg", "exp_avg_sq", "step")}
        return state | self.batches.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a `state`; the configuration must be the one that made it.

        Raises:
            ValueError: the state was made on another kind of device, whose random numbers are others.
        """
        self.batches.load_state(state)
        self.step, self.elapsed_s = int(state["step"]), float(state["elapsed_s"])
        self.parts, self.together = int(state.get("parts", 1)), int(state.get("together", 1))
        if self.doubts is not None and "doubtful" in state:
            self.doubts.most.copy_(state["doubtful"])
            self.doubts.mends = bool(state.get("mends", True))
            self.doubts = None if int(state["doubtful"]) < 0 else self.doubts
        self.history = [Progress(int(row[0]), int(row[1]), *row[2:]) for row in state["history"].tolist()]
        with torch.no_grad():
            for k, (p, a) in enumerate(zip(self.parameters, self.average, strict=True)):
                p.copy_(state[f"weight.{k}"])
                a.copy_(state[f"average.{k}"])
                if f"adam.step.{k}" in state:
                    moments = {name: torch.empty_like(p).copy_(state[f"adam.{name}.{k}"]) for name in ("exp_avg", "exp_avg_sq")}
                    step = state[f"adam.step.{k}"].to(self.device, copy=True)
                    self.optimizer.state[p] = {"step": step} | moments  # in the order of p's numbers: fused Adam goes by it
