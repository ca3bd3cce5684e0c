"""The content-addressed store of trained fields, shared by every study on the same storage.

``<storage>/fields/<train_id>/`` holds a published field; a training in progress keeps its state beside it, in
``<storage>/fields/.training/<train_id>.safetensors``, so that a retry or a later start continues it. A field is published
by one rename, and its name says what it was trained from: two processes that train the same one publish the same thing.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from pfgm.checkpoint import Field, load_field, save_field, save_tensors


class FieldStore:
    """Fields by ``train_id`` under ``<storage>/fields``."""

    def __init__(self, storage: Path) -> None:
        self.root = storage / "fields"

    def __contains__(self, train_id: str) -> bool:
        return (self.root / train_id / "field.json").is_file()

    def load(self, train_id: str, device: torch.device | str) -> Field:
        """A published field, on ``device``; errors are those of `pfgm.checkpoint.load_field`."""
        return load_field(self.root / train_id, device)

    def publish(self, train_id: str, field: Field) -> None:
        """Make a field visible to everyone, and drop its training state."""
        self.root.mkdir(parents=True, exist_ok=True)
        save_field(field, self.root / train_id)
        self._training(train_id).unlink(missing_ok=True)

    def _training(self, train_id: str) -> Path:
        return self.root / ".training" / f"{train_id}.safetensors"

    def save_training(self, train_id: str, state: dict[str, Tensor]) -> None:
        """Keep the state of an unfinished training."""
        path = self._training(train_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(path, state)

    def load_training(self, train_id: str) -> dict[str, Tensor] | None:
        """The state of an unfinished training, if there is one."""
        path = self._training(train_id)
        return load_file(path) if path.is_file() else None
