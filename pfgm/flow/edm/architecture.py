r"""The architecture of a U-Net of the EDM code, from the names and shapes of its tensors.

``enc.<n>x<n>_…`` are the layers on the way down at the resolution n, ``dec.<n>x<n>_…`` those on the way up, ``map_…`` those of
the embedding. Frequencies among the weights tell NCSN++, an output norm outside of ``dec`` tells ADM. Whatever else a network
has is then a tensor that is lacking, left over or of another shape, and is refused by its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pfgm.networks.edm.unet import EMBEDDING

Shapes = Mapping[str, tuple[int, ...]]


def architecture(shapes: Shapes) -> tuple[dict[str, Any], tuple[int, int, int]]:
    """(keys of ``network``, shape of an image) of a U-Net.

    Raises:
        ValueError: the tensors are not those of one.
    """
    try:
        return _architecture(shapes)
    except (KeyError, IndexError, ZeroDivisionError) as error:
        text = f"its {len(shapes)} tensors are not those of a DDPM++, NCSN++ or ADM of the EDM code ({error})"
        raise ValueError(text) from error


def _architecture(shapes: Shapes) -> tuple[dict[str, Any], tuple[int, int, int]]:
    def blocks(n: int) -> list[str]:
        return [name for name in shapes if re.fullmatch(rf"enc\.{n}x{n}_block\d+\.norm0\.weight", name)]

    found = (re.match(r"enc\.(\d+)x\1_block0\.norm0\.weight$", name) for name in shapes)
    sides = sorted((int(match[1]) for match in found if match), reverse=True)
    size, width = sides[0], shapes["map_layer0.weight"][0] // EMBEDDING
    keys = {
        "width": width,
        "depth": len(blocks(size)),
        "form": "ncsnpp" if "map_noise.freqs" in shapes else "adm" if "out_norm.weight" in shapes else "ddpmpp",
        "channel_mult": tuple(shapes[f"enc.{n}x{n}_block0.conv0.weight"][0] // width for n in sides),
        "attention": tuple(n for n in sides if f"enc.{n}x{n}_block0.qkv.weight" in shapes),
        "labels": shapes.get("map_label.weight", (0, 0))[1],
        "augment_dim": shapes.get("map_augment.weight", (0, 0))[1],
    }
    return keys, (shapes[f"enc.{size}x{size}_conv.weight"][1], size, size)
