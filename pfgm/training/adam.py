"""Adam (Kingma & Ba, 2015), arXiv 1412.6980, in one fused call for all weights.

The numbers are those of ``torch.optim.Adam(fused=True)``, bit for bit. That class loads torch's compiler when it is made, which
takes a second of every worker; the function it calls does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam

BETAS, EPS = (0.9, 0.999), 1e-8


class Adam:
    """Weights and their moments.

    Args:
        parameters: the weights, on one or several devices.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = list(parameters)
        self.state: dict[Tensor, dict[str, Tensor]] = {}
        """For each weight that had a gradient: "step" (a float32 number), "exp_avg" and "exp_avg_sq", shaped as the weight."""

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for p in self.parameters:
            p.grad = None

    def step(self, learning_rate: float) -> None:
        """Move the weights that have a gradient."""
        step_together([self], learning_rate)

    def moments(self, p: Tensor) -> dict[str, Tensor]:
        """The state of a weight, made where there is none."""
        if p not in self.state:
            start = torch.zeros((), dtype=torch.float32, device=p.device)
            self.state[p] = {"step": start, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        return self.state[p]


@torch.no_grad()
def step_together(optimizers: Sequence[Adam], learning_rate: float) -> None:
    """One step of several at one rate, in one call: the numbers of one after the other."""
    moved = [(p, p.grad, own.moments(p)) for own in optimizers for p in own.parameters if p.grad is not None]
    weights, grads = [p for p, _, _ in moved], [grad for _, grad, _ in moved]
    steps, means, squares = ([moments[key] for _, _, moments in moved] for key in ("step", "exp_avg", "exp_avg_sq"))
    adam(
        weights, grads, means, squares, [], steps, fused=True, amsgrad=False, beta1=BETAS[0], beta2=BETAS[1],
        lr=learning_rate, weight_decay=0.0, eps=EPS, maximize=False,
    )  # fmt: skip
