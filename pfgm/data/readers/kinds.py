"""What a file is, by its first bytes, whatever it is called: so that an error can say it. Nothing in the file is run."""

from __future__ import annotations

import zipfile
from pathlib import Path

MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x93NUMPY", "npy"),
    (b"\x89PNG\r\n\x1a\n", "picture"),
    (b"\xff\xd8\xff", "picture"),
    (b"GIF8", "picture"),
    (b"BM", "picture"),
    (b"II*\0", "picture"),
    (b"MM\0*", "picture"),
    (b"PK", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!", "rar"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"PAR1", "parquet"),
    (b"MATLAB", "matlab"),
)
WORDS = {
    "npy": "an .npy file", "npz": "an .npz file", "torch": "a file of torch.save", "zip": "a zip", "tar": "a tar archive",
    "gzip": "a gzip archive", "bzip2": "a bzip2 archive", "xz": "an xz archive", "7z": "a 7z archive", "rar": "a rar archive",
    "hdf5": "an HDF5 file", "parquet": "a Parquet file", "matlab": "a MATLAB file", "picture": "a picture",
    "pickle": "a pickle", "safetensors": "a safetensors file", "text": "plain text", "empty": "empty",
}  # fmt: skip
"""Kind → how it is called."""
HEAD = 4096
ARCHIVES = frozenset({"tar", "gzip", "bzip2", "xz", "7z", "rar"})


def kind_of(path: Path) -> str | None:
    """One of `WORDS`, or None where the file is none of them.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as handle:
        head = handle.read(HEAD)
    kind = kind_of_bytes(head, path.stat().st_size)
    return _kind_of_zip(path) if kind == "zip" else kind


def kind_of_bytes(head: bytes, size: int) -> str | None:
    """Name the kind of a file by its first `HEAD` bytes and its ``size``; a zip is a zip whatever it holds."""
    if not head:
        return "empty"
    for magic, kind in MAGIC:
        if head.startswith(magic) and not (magic == b"BM" and _is_text(head)):
            return kind
    if head[8:12] == b"WEBP" and head[:4] == b"RIFF":
        return "picture"
    if head[257:262] == b"ustar":
        return "tar"
    if head[0] == 0x80 and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickle"
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= size - 8:
        return "safetensors"
    return "text" if _is_text(head) else None


def _is_text(head: bytes) -> bool:
    if any(byte < 32 and byte not in (9, 10, 12, 13) for byte in head):
        return False
    try:
        head[: len(head) - 3 if len(head) == HEAD else None].decode("utf-8")  # the last character may be cut
    except UnicodeDecodeError as error:
        return error.start > len(head) - 8
    return True


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return "zip"
    if any(name.endswith("/data.pkl") for name in names):
        return "torch"
    return "npz" if names and all(name.endswith(".npy") for name in names) else "zip"
