"""What a study is doing, read from its folders as inotify tells it (Linux), for the campaign of kills.

A phase announces itself in the file system: `train` (a training state was saved), `publish` (the weights of a field are being
written), `row` (a row is being written), `gather` (rows are being put into a segment), `continuation` (a saved training state
is being read).
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import select
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SEGMENT = ".segment-"
"""How the file of a segment begins while it is written."""
PHASES = ("train", "publish", "row", "gather", "continuation")
IN_OPEN, IN_MOVED_TO, IN_CREATE = 0x20, 0x80, 0x100


class Event(NamedTuple):
    """A phase that announced itself, and the process that did, where its file's name tells."""

    phase: str
    pid: int | None


class Watch:
    """What happens in the folders of a study, as inotify tells it."""

    def __init__(self, results: Path, train_ids: list[str]) -> None:
        self.libc = ctypes.CDLL("libc.so.6", use_errno=True)
        self.fd = self.libc.inotify_init1(os.O_NONBLOCK)
        self.places: dict[int, Path] = {}
        self.fields = results / "fields"
        self.published: dict[str, str] = {}
        self.again = 0
        for folder in [results / "faults/evals", self.fields / ".training", *(self.fields / t for t in train_ids)]:
            folder.mkdir(parents=True)
            number = self.libc.inotify_add_watch(self.fd, os.fsencode(folder), IN_OPEN | IN_MOVED_TO | IN_CREATE)
            assert number > 0, os.strerror(ctypes.get_errno())
            self.places[number] = folder

    def close(self) -> None:
        """Stop watching."""
        os.close(self.fd)

    def events(self, seconds: float) -> Iterator[Event]:
        """Phases announced within so many seconds, as they come."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not select.select([self.fd], [], [], left)[0]:
                return
            content, at = os.read(self.fd, 65536), 0
            found = list[Event]()  # all are looked at before the first is told: who listens may leave at any of them
            while at < len(content):
                number, mask, _, length = struct.unpack_from("iIII", content, at)
                name = content[at + 16 : at + 16 + length].rstrip(b"\0").decode()
                at += 16 + length
                if (event := self._phase(self.places[number], mask, name)) is not None:
                    found.append(event)
            yield from found

    def _phase(self, folder: Path, mask: int, name: str) -> Event | None:
        found = re.search(r"\.(\d+)-\w+\.tmp$", name)
        pid = int(found.group(1)) if found else None
        if folder.name == "evals":
            return Event("gather" if SEGMENT in name else "row", pid) if mask & IN_CREATE and pid else None
        if folder.name == ".training":
            if mask & IN_CREATE and pid and name.split(".")[1] in self.published:
                self.again += 1  # the state of a training whose field is there
            if mask & IN_MOVED_TO and name.endswith(".state"):
                return Event("train", None)
            return Event("continuation", None) if mask & IN_OPEN and name.endswith(".state") else None
        if mask & IN_MOVED_TO and name == "field.json":
            self.again += folder.name in self.published
            self.published[folder.name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        return Event("publish", pid) if mask & IN_CREATE and pid and ".safetensors" in name else None

    def changed(self) -> int:
        """Published fields that are not what they were when they were published."""
        now = {t: hashlib.sha256((self.fields / t / "field.json").read_bytes()).hexdigest() for t in self.published}
        return sum(now[t] != self.published[t] for t in self.published)
