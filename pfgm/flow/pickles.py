"""What a pickle names, without running it: its opcodes are read one by one, and none is followed.

A pickle is a program. EDM's and PFGM++'s snapshots even carry the source code of their networks in it
(``torch_utils.persistence``), so that to load them is to run whatever they hold.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from pathlib import Path

MAX_CONTENT = 1 << 24
"""Bytes that are looked at: the names of classes come first."""
MAX_NAMES = 200


def named_globals(path: Path) -> list[str]:
    """Modules and names, joined by a dot, that a pickle, or the pickle in a file of torch.save, asks for, in their order."""
    found: list[str] = []
    texts: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(io.BytesIO(_content(path))):
            if opcode.name == "GLOBAL":
                found.append(str(argument).replace(" ", "."))
            elif opcode.name == "STACK_GLOBAL" and len(texts) > 1:
                found.append(f"{texts[-2]}.{texts[-1]}")
            elif isinstance(argument, str):
                texts.append(argument)
            if len(found) >= MAX_NAMES:
                break
    except (ValueError, IndexError, OverflowError, UnicodeError, zipfile.BadZipFile, OSError, KeyError):
        pass  # cut short, or no pickle any more: what was seen is what there is
    return list(dict.fromkeys(found))


def _content(path: Path) -> bytes:
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as handle:
            return handle.read(MAX_CONTENT)
    with zipfile.ZipFile(path) as archive:
        name = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
        if name is None:
            return b""
        with archive.open(name) as member:
            return member.read(MAX_CONTENT)
