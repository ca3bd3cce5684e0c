"""K networks of one architecture as one, whose rows are K blocks of B rows: block k goes through the k-th network's weights.

Most of a network looks at one row after the other and knows no weights: it is left as it is. Only the layers that have weights
are replaced, by layers that hold those of all K: a linear layer becomes one batched matrix product, a convolution one with K
groups. So K small networks cost as few calls as one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pfgm.networks.base import FieldNetwork
from pfgm.networks.ddpmpp import ChannelMap


def stacked_like(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors as one (K, …), each with its numbers in the order in memory that it had."""
    one = tensors[0]
    stack = torch.empty_strided((len(tensors), *one.shape), (one.numel(), *one.stride()), dtype=one.dtype, device=one.device)
    for k, tensor in enumerate(tensors):
        stack[k] = tensor
    return stack


class _Product(torch.autograd.Function):
    """rows W^T + b, whose gradients lie in memory as the weights do."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return torch.baddbmm(bias[:, None], rows, weight.mT)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """Gradients of rows, weight and bias."""
        (rows, weight), (g,) = ctx.saved_tensors, gradients
        return g @ weight if ctx.needs_input_grad[0] else None, g.mT @ rows, g.sum(1)


class StackedLinear(nn.Module):
    """K linear layers, or maps of channels: rows (K B, …, n_in) → (K B, …, n_out).

    Args:
        weight: (K, n_out, n_in).
        bias: (K, n_out).
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(len(self.weight), -1, x.shape[-1])
        out: Tensor = _Product.apply(rows, self.weight, self.bias)  # type: ignore[no-untyped-call]  # torch's stub has none
        return out.reshape(*x.shape[:-1], -1)


class StackedChannelMap(nn.Module):
    """K maps of channels, y = x W + b: the layer of DDPM++'s attention, with its names."""

    def __init__(self, W: Tensor, b: Tensor) -> None:
        super().__init__()
        self.W, self.b = nn.Parameter(W), nn.Parameter(b)

    def forward(self, pixels: Tensor) -> Tensor:
        rows = pixels.reshape(len(self.W), -1, pixels.shape[-1])
        return torch.baddbmm(self.b[:, None], rows, self.W).reshape(pixels.shape)


class StackedNorm(nn.Module):
    """A norm of rows without weights, then K scales and shifts of the dimension ``axis``: the last of vectors, 1 of images.

    Args:
        norm: maps rows to normalised rows.
        axis: the dimension of size n.
        weight: (K, n).
        bias: (K, n).
    """

    def __init__(self, norm: Callable[[Tensor], Tensor], axis: int, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.norm, self.axis = norm, axis
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        k, normed = len(self.weight), self.norm(x)
        shape = [k, 1] + [1] * (x.ndim - 1)
        shape[1 + self.axis % x.ndim] = x.shape[self.axis]
        blocks = normed.unflatten(0, (k, -1))
        return torch.addcmul(self.bias.view(shape), blocks, self.weight.view(shape)).flatten(0, 1)


class StackedConv2d(nn.Module):
    """K convolutions as one with K groups: images (K B, c_in, H, W) → (K B, c_out, H, W).

    Args:
        like: one of them, for its padding.
        weight: (K, c_out, c_in, h, w).
        bias: (K, c_out).
    """

    def __init__(self, like: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.padding, self.k = like.padding, len(weight)
        self.stack, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    @property
    def weight(self) -> Tensor:
        """(K c_out, c_in, h, w), in the order in memory that one has (`pfgm.networks.order`)."""
        return self.stack.flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        side_by_side = x.unflatten(0, (self.k, -1)).transpose(0, 1).flatten(1, 2)
        out = F.conv2d(side_by_side, self.weight, self.bias.flatten(), padding=self.padding, groups=self.k)
        images: Tensor = out.unflatten(1, (self.k, -1)).transpose(0, 1).flatten(0, 1)
        return images


def _stacked(layers: Sequence[nn.Module]) -> nn.Module:
    """K layers of one kind as one.

    Raises:
        TypeError: there is no stacked layer of this kind.
    """
    one = layers[0]
    weight, *others = [
        stacked_like([p.detach() for p in column]) for column in zip(*(layer.parameters() for layer in layers), strict=True)
    ]
    if type(one) is nn.Linear and one.bias is not None:
        return StackedLinear(weight, *others)
    if type(one) is ChannelMap:
        return StackedChannelMap(weight, *others)
    if type(one) is nn.LayerNorm and one.bias is not None:
        shape, eps = tuple(one.normalized_shape), one.eps
        return StackedNorm(lambda x: F.layer_norm(x, shape, eps=eps), -1, weight, *others)
    if type(one) is nn.GroupNorm and one.affine:
        groups, eps = one.num_groups, one.eps
        return StackedNorm(lambda x: F.group_norm(x, groups, eps=eps), 1, weight, *others)
    if type(one) is nn.Conv2d and one.bias is not None and one.groups == 1 and one.stride == (1, 1):
        return StackedConv2d(one, weight, *others)
    raise TypeError(f"layers of kind {type(one).__name__} cannot be stacked")


def stack_networks(networks: Sequence[FieldNetwork]) -> FieldNetwork:
    """K networks as one, that shares its weights with them: theirs become views of its own.

    Args:
        networks: of one architecture and one data set.
    Returns:
        maps x (K B, d), t (K B,) to (K B, d + 1); its parameters are theirs in their order, with a first dimension K.
    Raises:
        TypeError: a layer with weights of a kind that cannot be stacked.
    """
    shell = copy.deepcopy(networks[0])
    for name, module in list(networks[0].named_modules()):
        own = list(module.parameters(recurse=False))
        if own:
            shell.set_submodule(name, _stacked([network.get_submodule(name) for network in networks]))
    for stack, *ones in zip(shell.parameters(), *(network.parameters() for network in networks), strict=True):
        for k, parameter in enumerate(ones):
            parameter.data = stack.data[k]
    return shell
