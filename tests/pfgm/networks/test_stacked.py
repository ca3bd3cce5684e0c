"""K networks as one: outputs, gradients, shared weights and their order in memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pfgm.config import NetworkConfig
from pfgm.networks.base import FieldNetwork
from pfgm.networks.build import build_network
from pfgm.networks.stacked import stack_networks

pytestmark = pytest.mark.usefixtures("one_thread")
K, B = 3, 5
NETWORKS = {
    "mlp": NetworkConfig(width=16, depth=2),
    "plain mlp": NetworkConfig(width=16, depth=1, skip=False),
    "unet": NetworkConfig(name="unet", width=8, depth=2),
    "unet, patch": NetworkConfig(name="unet", width=8, depth=2, patch=2),
    "ddpmpp": NetworkConfig(name="ddpmpp", width=8, depth=1, channel_mult=(1, 2)),
}


def some(name: str, count: int = K) -> list[FieldNetwork]:
    """Networks whose weights are away from their zeros, in float64."""
    torch.manual_seed(0)
    networks = [build_network(NETWORKS[name], (1, 8, 8), 0.7, 1.48).double() for _ in range(count)]
    with torch.no_grad():
        for network in networks:
            for p in network.parameters():
                p += 0.1 * torch.randn_like(p)
    return networks


def points() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    x = torch.randn(K * B, 64, dtype=torch.float64, generator=g)
    return x, torch.rand(K * B, dtype=torch.float64, generator=g) + 0.1


def order(p: Tensor) -> list[int]:
    """Strides of the dimensions that have more than one number."""
    return [stride for stride, size in zip(p.stride(), p.shape, strict=True) if size > 1]


@pytest.mark.parametrize("name", NETWORKS)
def test_each_block_goes_through_its_own_weights(name: str) -> None:
    """Outputs, D and gradients to 1e-10 of one network after the other; in the wrong order they are others."""
    networks, (x, t) = some(name), points()
    apart = torch.cat([n(a, b) for n, a, b in zip(networks, x.split(B), t.split(B), strict=True)])
    apart.square().sum().backward()
    gradients = [[p.grad for p in n.parameters()] for n in networks]
    whole = stack_networks(networks)
    together = whole(x, t)
    torch.testing.assert_close(together, apart, rtol=1e-10, atol=1e-10)
    together.square().sum().backward()
    for p, *ones in zip(whole.parameters(), *gradients, strict=True):
        assert p.grad is not None and order(p.grad) == order(p)
        for k, one in enumerate(ones):
            torch.testing.assert_close(p.grad[k], one, rtol=1e-9, atol=1e-8)
    assert float((whole(x.roll(B, 0), t.roll(B, 0)).roll(-B, 0) - apart).abs().max().detach()) > 1e-3
    d = torch.cat([n.denoise(a, b) for n, a, b in zip(networks, x.split(B), t.split(B), strict=True)])
    torch.testing.assert_close(whole.denoise(x, t), d, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_are_shared_and_lie_in_memory_as_before(name: str) -> None:
    networks = some(name)
    values, strides = (
        [[f(p) for p in n.parameters()] for n in networks] for f in (lambda p: p.detach().clone(), Tensor.stride)
    )
    whole = stack_networks(networks)
    for k, network in enumerate(networks):
        assert all(torch.equal(p, value) for p, value in zip(network.parameters(), values[k], strict=True))
        assert [p.stride() for p in network.parameters()] == strides[k]
        for p, stack in zip(network.parameters(), whole.parameters(), strict=True):
            p.detach().fill_(k)
            assert bool((stack[k] == k).all())


def test_layers_that_cannot_be_stacked_are_named() -> None:
    networks = some("mlp", 2)
    for network in networks:
        network.backbone.norm = nn.BatchNorm1d(16)
    with pytest.raises(TypeError, match="layers of kind BatchNorm1d cannot be stacked"):
        stack_networks(networks)
