"""Which studies of a storage refer to which fields, and the removal of fields that none refers to; without torch.

A study refers to every field of its written plan and of its rows. A file of it that cannot be read may name any field, so then
nothing is removed. A field or a training that was written within `GRACE_S` is left: a study that is about to begin may want it,
and a training that goes on writes its state again and again.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from pfgm.mistakes import Mistake
from study.fields.listing import listing
from study.rows.folders import read_folder
from study.rows.planned import read_plan
from study.rows.storage import Place

GRACE_S = 3600.0
"""Seconds that a field is left after it was written."""


def referring(storage: Place) -> dict[str, list[str]]:
    """Return the names of the studies that refer to each field, by the name of the field.

    Raises:
        Mistake: a file of a study cannot be read.
    """
    found = defaultdict[str, list[str]](list)
    for name in storage.folders():
        for field in _named_by(storage / name):
            found[field].append(name)
    return dict(found)


def _named_by(study: Place) -> set[str]:
    damaged: list[Place] = []
    tables = read_folder(study / "evals", damaged, ["train_id"])
    with contextlib.suppress(FileNotFoundError):  # a study without a plan has rows, or it is no study
        tables += read_plan(study, ["train_id"], damaged)
    if damaged:
        raise Mistake("storage", f"{damaged[0]} cannot be read, and it may name any field; continue that study, or remove it")
    return {str(field) for table in tables for field in table["train_id"].to_pylist() if field is not None}


def unused(storage: Place) -> list[dict[str, Any]]:
    """Return the entries of `study.fields.listing` that no study refers to and that may go, oldest first.

    Raises:
        Mistake: as `referring`.
    """
    entries = listing(storage)  # before the plans are read: a study that begins in between is seen
    known = referring(storage)
    return [entry for entry in entries if entry["train_id"] not in known and entry["age_s"] > GRACE_S]


def chosen(storage: Place, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the entries that were named, each by its name or by the only one that begins so.

    Raises:
        Mistake: none, or several, begin so.
    """
    entries = listing(storage)
    found = []
    for name in names:
        begin = sorted({entry["train_id"] for entry in entries if entry["train_id"].startswith(name)})
        if len(begin) != 1:
            what = f"{len(begin)} fields begin so" if begin else f"no such field in {storage / 'fields'}"
            raise Mistake("field", f"{name}: {what}; `ls` names them")
        found += [entry for entry in entries if entry["train_id"] == begin[0]]
    return found


def removable(storage: Place, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the entries that were named, which may go.

    Raises:
        Mistake: as `chosen` and `referring`; a study refers to one, or one was written just now.
    """
    entries = chosen(storage, names)
    known = referring(storage)
    for entry in entries:
        name = entry["train_id"]
        if name in known:
            raise Mistake("field", f"{name} is a field of {', '.join(known[name])}; it stays as long as that study does")
        if entry["age_s"] <= GRACE_S:
            raise Mistake("field", f"{name} was written {entry['age_s'] / 60:.0f} min ago and may be in use; wait for an hour")
    return entries


def remove(storage: Place, entries: Iterable[dict[str, Any]]) -> None:
    """Remove fields and training states; a field that is half removed is none."""
    names = list(dict.fromkeys(str(entry["train_id"]) for entry in entries))
    for name in names:
        (storage / "fields" / name / "field.json").delete()
        (storage / "fields" / name).delete_folder()
    states = storage / "fields" / ".training"
    states.delete_all([file for file in states.files() if file.split(".")[0] in names])
