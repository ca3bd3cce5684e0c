"""The content-addressed store of trained fields, shared by every study on the same storage.

``<storage>/fields/<train_id>/`` holds a published field, and in ``step-<k>/`` the same as it was at step k of its training,
where a study measures that (``evaluate.at_steps``); ``<storage>/fields/.training/`` the state of trainings in progress, so
that a retry, a later start or another machine continues them. There too, under a name of its own, lies the last state of a
training at a constant rate, from which one of more steps goes on. A field's name says what it was trained from: whoever trains
the same one publishes the same thing, and the first stays. The state of a training is kept in two files in turn, so that there
is a good one whatever happens to the other. Files that fail their checksum are set aside and what they held is made again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from pfgm.flow.checkpoint import unpack_field
from pfgm.flow.packed import Damaged, pack_tensors, unpack_tensors
from pfgm.flow.trained import Field
from pfgm.flow.written import pack_field
from study.rows.storage import READERS, Place

logger = logging.getLogger(__name__)
SLOTS = (0, 1)


def on_the_way(train_id: str, step: int) -> str:
    """Return the name under which the store has a field as it was at a step of its training."""
    return f"{train_id}/step-{step}"


class FieldStore:
    """Fields by ``train_id`` under ``<storage>/fields``."""

    def __init__(self, storage: Place) -> None:
        self.root = storage / "fields"
        self.next_slot: dict[str, int] = {}

    def __contains__(self, train_id: str) -> bool:
        return (self.root / train_id / "field.json").is_file()

    def published(self, train_ids: Collection[str]) -> set[str]:
        """Return those of some fields that are there; an object store is asked for those alone that have a folder."""
        if not self.root.remote:
            return {train_id for train_id in train_ids if train_id in self}
        begun = sorted(set(train_ids) & set(self.root.folders())) if train_ids else []
        with ThreadPoolExecutor(READERS) as pool:
            return {train_id for train_id, is_there in zip(begun, pool.map(self.__contains__, begun), strict=True) if is_there}

    def gone(self, steps: Collection[tuple[str, int]]) -> set[tuple[str, int]]:
        """Return those of some fields at steps on the way that nobody can have any more: trained, and not kept there."""
        trained = self.published({train_id for train_id, _ in steps})
        return {(name, step) for name, step in steps if name in trained and on_the_way(name, step) not in self}

    def load(self, train_id: str, device: torch.device | str) -> Field | None:
        """A published field, on ``device``; None when there is none. A damaged one is set aside, and there is none.

        Raises:
            ValueError: it was written by a newer version.
        """
        folder = self.root / train_id
        if train_id not in self:
            return None
        try:
            return unpack_field(lambda name: (folder / name).read(), folder, device)
        except Damaged as error:
            logger.warning("%s; it is set aside and trained again", error.text)
            (folder / "field.json").set_aside()
            return None

    def publish(self, train_id: str, field: Field) -> None:
        """Make a field visible to everyone, and drop its training state; one that is already there stays."""
        self._write(train_id, field)
        self.forget_training(train_id)

    def publish_on_the_way(self, train_id: str, step: int, field: Field) -> None:
        """Keep a field as it was at a step of its training; one that is already there stays."""
        self._write(on_the_way(train_id, step), field)

    def _write(self, place: str, field: Field) -> None:
        if place not in self:
            for name, content in pack_field(field).items():  # field.json last
                (self.root / place / name).write(content)

    def forget_training(self, train_id: str) -> None:
        """Drop the state of a training that is over."""
        for slot in SLOTS:
            self._training(train_id, slot).delete()

    def _training(self, train_id: str, slot: int) -> Place:
        return self.root / ".training" / f"{train_id}.{slot}.state"

    def save_training(self, train_id: str, state: Mapping[str, Tensor]) -> None:
        """Keep the state of an unfinished training, beside the one before."""
        slot = self.next_slot.get(train_id, 0)
        self._training(train_id, slot).write(pack_tensors(state))
        self.next_slot[train_id] = 1 - slot

    def load_training(self, train_id: str) -> dict[str, Tensor] | None:
        """The newest good state of an unfinished training, if there is one."""
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
