"""The content-addressed store of trained fields, shared by every study on the same storage.

``<storage>/fields/<train_id>/`` holds a published field; ``<storage>/fields/.training/`` the state of trainings in progress, so
that a retry, a later start or another machine continues them. A field's name says what it was trained from: whoever trains the
same one publishes the same thing, and the first stays. The state of a training is kept in two files in turn, so that there is
a good one whatever happens to the other. Files that fail their checksum are set aside and what they held is made again.

    python -m study.fields ls [STORAGE]      what is there: size, age, configuration
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from study.rows.storage import READERS, Place

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pfgm.flow.trained import Field

logger = logging.getLogger(__name__)
SLOTS = (0, 1)


class FieldStore:
    """Fields by ``train_id`` under ``<storage>/fields``."""

    def __init__(self, storage: Place) -> None:
        self.root = storage / "fields"
        self.next_slot: dict[str, int] = {}

    def __contains__(self, train_id: str) -> bool:
        return (self.root / train_id / "field.json").is_file()

    def published(self, train_ids: Collection[str]) -> set[str]:
        """Those of some fields that are there; an object store is asked for many at a time."""
        if not self.root.remote:
            return {train_id for train_id in train_ids if train_id in self}
        with ThreadPoolExecutor(READERS) as pool:
            there = pool.map(self.__contains__, train_ids)
        return {train_id for train_id, is_there in zip(train_ids, there, strict=True) if is_there}

    def load(self, train_id: str, device: torch.device | str) -> Field | None:
        """A published field, on ``device``; None when there is none. A damaged one is set aside, and there is none.

        Raises:
            ValueError: it was written by a newer version.
        """
        from pfgm.flow.checkpoint import unpack_field
        from pfgm.flow.packed import Damaged

        folder = self.root / train_id
        if train_id not in self:
            return None
        try:
            return unpack_field(lambda name: (folder / name).read(), folder, device)
        except Damaged as error:
            logger.warning("%s; it is set aside and trained again", str(error).partition(";")[0])
            (folder / "field.json").set_aside()
            return None

    def publish(self, train_id: str, field: Field) -> None:
        """Make a field visible to everyone, and drop its training state; one that is already there stays."""
        from pfgm.flow.checkpoint import pack_field

        if train_id not in self:
            for name, content in pack_field(field).items():  # field.json last
                (self.root / train_id / name).write(content)
        self.forget_training(train_id)

    def forget_training(self, train_id: str) -> None:
        """Drop the state of a training that is over."""
        for slot in SLOTS:
            self._training(train_id, slot).delete()

    def _training(self, train_id: str, slot: int) -> Place:
        return self.root / ".training" / f"{train_id}.{slot}.state"

    def save_training(self, train_id: str, state: Mapping[str, Tensor]) -> None:
        """Keep the state of an unfinished training, beside the one before."""
        from pfgm.flow.packed import pack_tensors

        slot = self.next_slot.get(train_id, 0)
        self._training(train_id, slot).write(pack_tensors(state))
        self.next_slot[train_id] = 1 - slot

    def load_training(self, train_id: str) -> dict[str, Tensor] | None:
        """The newest good state of an unfinished training, if there is one."""
        from pfgm.flow.packed import Damaged, unpack_tensors

        best: dict[str, Tensor] | None = None
        self.next_slot[train_id] = 0
        for slot in SLOTS:
            place = self._training(train_id, slot)
            try:
                state = unpack_tensors(place.read())
            except FileNotFoundError:
                continue
            except Damaged as error:
                logger.warning("%s: %s; it is set aside", place, error)
                place.set_aside()
                continue
            if best is None or int(state["step"]) > int(best["step"]):
                best, self.next_slot[train_id] = state, 1 - slot
        return best


def listing(storage: Place) -> list[dict[str, Any]]:
    """Every field and unfinished training on a storage, oldest first: name, size (bytes), age (s), what it was trained from."""
    found = []
    root, now = storage / "fields", time.time()
    for name in root.folders():
        place = root / name / "field.json"
        written = place.modified()
        if name.startswith(".") or written is None:
            continue
        try:
            described: dict[str, Any] = json.loads(place.read())
        except ValueError:
            described = {}
        train, data = described.get("train", {}), described.get("data", {})
        keys = ("process", "objective", "sigma", "tau", "M", "reference_batch_size", "steps")
        words = [f"{k}={_shown(train[k])}" for k in keys if train.get(k) is not None]
        size = sum((root / name).files().values())
        text = f"{data.get('name', '?')}, seed {described.get('seed', '?')}, {' '.join(words)}" if described else "damaged"
        found.append({"train_id": name, "size": size, "age_s": now - written, "configuration": text})
    for name, size in (root / ".training").files().items():
        if name.endswith(".state"):
            written = (root / ".training" / name).modified() or now
            text = "training in progress, or stopped"
            found.append({"train_id": name.split(".")[0], "size": size, "age_s": now - written, "configuration": text})
    return sorted(found, key=lambda entry: -entry["age_s"])


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def age(seconds: float) -> str:
    """90 → 1 min, 8000 → 2 h, 200000 → 2 d."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
