"""Reference statistics of data sets, kept under ``<storage>/references`` for every study on the same storage.

They are named by what they depend on (`pfgm.metrics.reference`), so whoever computes the same ones writes the same file; a
damaged file is computed again.
"""

from __future__ import annotations

from dataclasses import dataclass

from study.rows.storage import Place


@dataclass(frozen=True)
class References:
    """The `pfgm.metrics.reference.Cache` of a storage."""

    folder: Place

    def load(self, name: str) -> bytes | None:
        """Return what was saved under ``name``, if anything; StorageError if it cannot be read."""
        try:
            return (self.folder / name).read()
        except FileNotFoundError:
            return None

    def save(self, name: str, content: bytes) -> None:
        """Keep ``content`` under ``name``; StorageError if it cannot be written."""
        (self.folder / name).write(content)
