"""Checkpoints in the layout of the PFGM authors' code, made for tests."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from pfgm.networks.ddpmpp import Attention, DDPMpp, ResidualBlock
from pfgm.networks.ncsnpp.unet import FilteredBlock, Frequencies, HalvedImage, NCSNpp

BLOCK = ("GroupNorm_0", "Conv_0", "Dense_0", "GroupNorm_1", "Conv_1", "Conv_2")
PARTS = {
    ResidualBlock: BLOCK,
    FilteredBlock: BLOCK,
    Attention: ("GroupNorm_0", "NIN_0", "NIN_1", "NIN_2", "NIN_3"),
    HalvedImage: ("Conv2d_0",),
}
"""Names of the authors' parts of a module, in the order of their definition."""

Content = dict[str, Any]
Network = TypeVar("Network", bound=DDPMpp)


def contents(network: DDPMpp, optimizer: bool = True) -> Content:
    """The dictionary that the authors' code saves for a network: names, order, optimizer (if asked) and average as there."""
    model: dict[str, Tensor] = {"module.sigmas": torch.logspace(2, -2, 10, dtype=torch.float64)}
    frequencies = set()
    for k, module in enumerate(network.all_modules):
        if isinstance(module, Frequencies):  # theirs are a parameter that is not trained
            model[f"module.all_modules.{k}.W"] = module.W
            frequencies.add(f"module.all_modules.{k}.W")
        if type(module) not in PARTS:
            model |= {f"module.all_modules.{k}.{name}": p.detach() for name, p in module.named_parameters()}
            continue
        parts = [part for part in module.children() if any(True for _ in part.parameters())]
        for name, part in zip(PARTS[type(module)], parts, strict=False):
            model |= {f"module.all_modules.{k}.{name}.{leaf}": p.detach() for leaf, p in part.named_parameters()}
    shadow = [p.detach() * 0.5 for name, p in model.items() if name not in {"module.sigmas", *frequencies}]
    ema = {"decay": 0.9999, "num_updates": 7, "shadow_params": shadow}
    own = {"optimizer": _optimizer_state(network)} if optimizer else {}
    return {**own, "model": model, "ema": ema, "step": 7}


def _optimizer_state(network: DDPMpp) -> Content:
    """Adam's state after one step."""
    copies = [p.detach().clone() for p in network.parameters()]
    adam = torch.optim.Adam(copies, lr=2e-4)
    for p in copies:
        p.grad = torch.ones_like(p)
    adam.step()
    adam.param_groups[0]["lr"] = 2e-4 * np.minimum(7 / 5000, 1.0)  # their warm-up makes it a numpy number
    return adam.state_dict()


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def random_network(shape: tuple[int, int, int] = (1, 16, 16)) -> DDPMpp:
    """Two resolutions of 32 and 64 channels, attention at 16 × 16: random weights of order one."""
    torch.manual_seed(0)
    return _random(DDPMpp(shape, 32, 1, (1, 2), 0.1))


def random_ncsnpp(shape: tuple[int, int, int], embedding: Literal["fourier", "positional"]) -> NCSNpp:
    """Three resolutions, attention at 16 × 16; random weights of order one."""
    torch.manual_seed(0)
    return _random(NCSNpp(shape, 32, 1, (1, 2, 2), 0.1, embedding))


def _random(made: Network) -> Network:
    made.eval()
    with torch.no_grad():
        for p in made.parameters():
            p.copy_(torch.randn_like(p) * math.sqrt(2 / p[0].numel()) if p.ndim > 1 else 0.5 + 0.1 * torch.randn_like(p))
    return made
