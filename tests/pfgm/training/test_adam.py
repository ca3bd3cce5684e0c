"""Adam: the numbers of torch's own class, without what that class loads."""

from __future__ import annotations

import subprocess
import sys

import torch
from torch import nn

from pfgm.training.adam import Adam

TRAINS = """
import sys
from pfgm.config import DataConfig, NetworkConfig, TrainConfig
from pfgm.data import load_data
from pfgm.training.trainer import Trainer

data = load_data(DataConfig(name="rings", n=50))
list(Trainer(data, NetworkConfig(width=8, depth=1), TrainConfig(steps=2, batch_size=8), 0).run())
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""


def test_the_numbers_are_those_of_torchs_class() -> None:
    """Weights and moments, bit for bit; the rate changes, one weight has no gradient, the order in memory is channels last."""
    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 16, 2)).to(memory_format=torch.channels_last)
    second = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 16, 2)).to(memory_format=torch.channels_last)
    second.load_state_dict(first.state_dict())
    idle = [nn.Parameter(torch.ones(2)) for _ in range(2)]
    weights = [[*network.parameters(), extra] for network, extra in zip((first, second), idle, strict=True)]
    ours, theirs = Adam(weights[0]), torch.optim.Adam(weights[1], fused=True)
    for rate in (0.0, 0.1, 0.01, 0.01):
        x = torch.randn(5, 3, 6, 6)
        ours.zero_grad()
        theirs.zero_grad()
        first(x).square().sum().backward()
        second(x).square().sum().backward()
        ours.step(rate)
        theirs.param_groups[0]["lr"] = rate
        theirs.step()
    for a, b in zip(*weights, strict=True):
        assert torch.equal(a, b)
        assert (a in ours.state) == (b in theirs.state) == (a is not idle[0])
        for name in theirs.state.get(b, {}):
            assert torch.equal(ours.state[a][name], theirs.state[b][name]), name
            assert ours.state[a][name].stride() == theirs.state[b][name].stride()


def test_training_loads_no_compiler() -> None:
    """It would take a second of every worker."""
    done = subprocess.run([sys.executable, "-c", TRAINS], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
