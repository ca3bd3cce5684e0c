"""What the store of trained fields holds, in words: ``python -m study.fields ls``, without torch."""

from __future__ import annotations

import json
import time
from typing import Any

from study.rows.storage import Place


def listing(storage: Place) -> list[dict[str, Any]]:
    """Every field and unfinished training on a storage, oldest first: name, size (bytes), age (s), what it was trained from."""
    found = []
    root, now = storage / "fields", time.time()
    for name in root.folders():
        place = root / name / "field.json"
        written = place.modified()
        if name.startswith(".") or written is None:
            continue
        told = described(storage, name)
        train, data = told.get("train", {}), told.get("data", {})
        keys = ("process", "objective", "sigma", "tau", "M", "reference_batch_size", "steps")
        words = [f"{k}={_shown(train[k])}" for k in keys if train.get(k) is not None]
        folders = [root / name, *(root / name / inner for inner in (root / name).folders())]
        size = sum(sum(folder.files().values()) for folder in folders)
        text = f"{data.get('name', '?')}, seed {told.get('seed', '?')}, {' '.join(words)}" if told else "damaged"
        found.append({"train_id": name, "size": size, "age_s": now - written, "configuration": text})
    for name, size in (root / ".training").files().items():
        if name.endswith(".state"):
            written = (root / ".training" / name).modified() or now
            text = "a training in progress, stopped, or to be continued to more steps"
            found.append({"train_id": name.split(".")[0], "size": size, "age_s": now - written, "configuration": text})
    return sorted(found, key=lambda entry: -entry["age_s"])


def described(storage: Place, name: str) -> dict[str, Any]:
    """What the file of a field says of it; nothing where there is none or it is damaged."""
    try:
        told: dict[str, Any] = json.loads((storage / "fields" / name / "field.json").read())
    except (ValueError, FileNotFoundError):
        return {}
    return told


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def age(seconds: float) -> str:
    """90 → 1 min, 8000 → 2 h, 200000 → 2 d."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
