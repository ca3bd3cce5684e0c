"""A network whose forward and backward pass `torch.compile` turns into fewer, larger kernels, and what that cost.

Compiling takes seconds to minutes and happens in the first step, once for every process that trains. Its results are cached on
the machine, so a later process may find them. The numbers of a step move by rounding; with dropout, its masks are others.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from pfgm.networks.base import FieldNetwork


class Compiled(FieldNetwork):
    """A network, sharing its weights, that is compiled at the first call."""

    def __init__(self, network: FieldNetwork) -> None:
        numbers = network.sd, network.noise_ratio, network.skip, network.root_below
        super().__init__(network.backbone, network.embedding, *numbers, network.head, network.labels)
        import torch._inductor.config as inductor  # two seconds that only those who compile pay

        # No more processes than the trial has CPUs; with one, it compiles in this process, and a killed worker leaves none.
        inductor.compile_threads = torch.get_num_threads()
        self._call = torch.compile(network.forward, dynamic=False)
        self._first_s: float | None = None
        self.cost_s: float | None = None
        """Seconds that compiling took, once two steps were timed: the first less the second."""

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        out: Tensor = self._call(x, t) if labels is None else self._call(x, t, labels)
        return out

    @property
    def untried(self) -> bool:
        """Return whether no step has succeeded yet."""
        return self._first_s is None

    def clock(self, device: torch.device) -> float:
        """The time when all work on ``device`` is done; 0 once the cost is known, and nothing waits."""
        if self.cost_s is not None:
            return 0.0
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    def timed(self, seconds: float) -> bool:
        """Take note of a step's length; whether the cost has become known by it."""
        if self.cost_s is not None:
            return False
        if self._first_s is None:
            self._first_s = seconds
            return False
        self.cost_s = max(self._first_s - seconds, 0.0)
        return True
