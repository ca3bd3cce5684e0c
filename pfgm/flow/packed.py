"""Tensors as bytes behind a checksum; never pickle."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from safetensors.torch import load, save
from torch import Tensor

if TYPE_CHECKING:
    from pfgm.flow.poisson_flow import from_poisson_flow as from_poisson_flow


class Damaged(ValueError):
    """Stored weights or training state that do not match their checksum; the message is one line, ``text`` and a cure."""

    def __init__(self, text: str, cure: str = "") -> None:
        super().__init__(f"{text}; {cure}" if cure else text)
        self.text = text


def pack_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    """Tensors as bytes: 32 bytes of SHA-256, then safetensors."""
    content: bytes = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    return hashlib.sha256(content).digest() + content


def unpack_tensors(content: bytes) -> dict[str, Tensor]:
    """Read what `pack_tensors` made.

    Raises:
        Damaged: truncated, or changed since.
    """
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        raise Damaged("the checksum does not match: the file is truncated or damaged")
    tensors: dict[str, Tensor] = load(content[32:])
    return tensors
