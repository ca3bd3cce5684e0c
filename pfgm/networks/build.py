"""Field networks: (x, t) → (B, d + 1) numbers that a process reads as a mean source (see `pfgm.process.base`).

At a point of Poisson flow the noise is not determined by t: ‖x − y‖/t has infinite variance. So the input is scaled by
x itself, 1/√(sd² + ‖x‖²/d), and the network is told two numbers: log t, and the log of the noise level that x shows,
n̂ (`pfgm.networks.heads.noise_level`). DDPM++ is the exception: it takes x and t as they are, as in the PFGM papers. With
`network.head` a network is given what a published head gives it (`pfgm.networks.published`).

Weights of convolutions lie in channels-last order, which convolutions on CPU and GPU prefer; activations follow, files do not:
what is saved is contiguous.
"""

from __future__ import annotations

import torch

from pfgm.config import NetworkConfig
from pfgm.mistakes import Mistake
from pfgm.networks.base import EMBEDDING, FieldNetwork
from pfgm.networks.cost import network_cost, with_prefix
from pfgm.networks.embedding import LevelEmbedding
from pfgm.networks.labels import LabelEmbedding
from pfgm.networks.published import head_of
from pfgm.registry import NETWORKS

__all__ = ["FieldNetwork", "build_network", "check_labels", "check_network", "describe_network", "network_cost"]


def check_network(config: NetworkConfig, shape: tuple[int, ...], process: str = "pfgm", conditional: bool = False) -> None:
    """Refuse a network or head for items of ``shape``, or a ``process``, that it is not made for.

    Raises:
        Mistake: names the key at fault.
    """
    NETWORKS[config.name].check(config, shape, process)
    if conditional:
        check_labels(config)
    head = head_of(config)
    if head is not None and (process == "pfgm" or process not in (head.processes or (process,))):
        able = " or ".join(head.processes or ("pfgmpp", "ve", "vp"))
        raise Mistake("network.head", f"{config.head} is for process {able}, this run uses {process}; remove it")


def check_labels(config: NetworkConfig) -> None:
    """Refuse a network that cannot be told classes.

    Raises:
        Mistake: names the key at fault.
    """
    kind = NETWORKS[config.name]
    if not kind.embeds and kind.told is None:
        able = ", ".join(name for name, other in NETWORKS.items() if other.embeds or other.told is not None)
        raise Mistake("network.name", f"{config.name} takes no classes, and the field is conditional; use {able}")
    if getattr(config, "labels", None):
        text = "is for published checkpoints; a conditional field counts the classes of its data by itself: remove it"
        raise Mistake("network.labels", text)


def build_network(
    config: NetworkConfig, shape: tuple[int, ...], sd: float, noise_ratio: float, classes: int = 0
) -> FieldNetwork:
    """A freshly initialised network for items of ``shape`` ((d,) or (C, H, W)); draws from torch's global generator.

    Args:
        classes: of the data of a conditional field; 0: it is told none.
    Raises:
        ValueError: the U-Net or DDPM++ is asked for vectors, or for images it cannot halve; or a network takes no classes.
    """
    kind = NETWORKS[config.name]
    labels = None
    if classes:
        check_labels(config)
        labels = LabelEmbedding(classes, EMBEDDING if kind.told is None else kind.told(config))
    embedding = LevelEmbedding(EMBEDDING) if kind.embeds else None
    head = head_of(config)
    backbone = kind.build(config, shape, EMBEDDING)
    return FieldNetwork(backbone, embedding, sd, noise_ratio, config.skip, config.root_below, head, labels)


def describe_network(config: NetworkConfig, shape: tuple[int, ...]) -> str:
    """Size and cost in words, e.g. "ddpmpp: 61.8 M parameters, 21.7 GFLOPs a call"; nothing is allocated.

    Raises:
        ValueError: as `build_network`.
    """
    with torch.device("meta"):
        network = build_network(config, shape, 1.0, 1.0)
    parameters, flops = network_cost(network, shape)
    return f"{config.name}: {with_prefix(parameters)} parameters, {with_prefix(flops)}FLOPs a call"
