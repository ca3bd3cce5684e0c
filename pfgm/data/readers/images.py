"""A folder of pictures, searched with its subfolders, or a zip of them, read without being extracted.

Files are known by their suffix; other files are named and counted, hidden ones passed over, and a picture among them, known by
its first bytes, is refused: passing it over would lose data. A zip is judged by its directory before any
member is read: no member may name a place outside, be encrypted, or expand out of all proportion.
"""

from __future__ import annotations

import functools
import io
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from pfgm.config import DataConfig
from pfgm.data.errors import DataError
from pfgm.data.items import PICTURE_KEYS, Items, Reader
from pfgm.data.labels import MOST, Labels
from pfgm.data.pictures.cache import cached
from pfgm.data.pictures.gallery import Picture, decoded, shortened
from pfgm.data.pictures.picture import BadPicture
from pfgm.data.readers.kinds import ARCHIVES, HEAD, WORDS, kind_of, kind_of_bytes

SUFFIXES = {
    ".apng", ".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff",
    ".webp",
}  # fmt: skip
FOREIGN = {".avif", ".cr2", ".dng", ".heic", ".heif", ".ico", ".j2k", ".jp2", ".jxl", ".nef", ".psd", ".tga"}
"""Pictures in formats that are not read: they are named as unusable, since passing them over would lose data."""
COMPANIONS = {
    ".cfg", ".csv", ".db", ".html", ".ini", ".json", ".jsonl", ".log", ".md", ".npy", ".npz", ".parquet", ".pdf", ".py", ".rst",
    ".tsv", ".txt", ".xml", ".yaml", ".yml",
}  # fmt: skip
"""Files that go with pictures and are none: they are not looked into."""
CURES = {
    **dict.fromkeys(ARCHIVES, "unpack it and give the folder, or make it a zip"),
    "picture": "give the folder it is in: a data set has several",
    "parquet": "use name: parquet",
    "npy": "use name: npz",
}
"""What to do with a file that is no zip."""
MAX_MEMBER = 256 << 20
"""Bytes that one member of a zip may have."""
MAX_RATIO = 100
"""What a zip holds may be this many times its own size; pictures are compressed, and hardly expand."""
MAX_EXPANDED = 1 << 20
"""Bytes below which the ratio does not matter."""


def read_images(config: DataConfig) -> Items:
    """Pictures of a folder or zip, (N, C, H, W) uint8, in the order of their names."""
    if config.path is None:
        raise DataError("data.path", "images need a folder or a zip of pictures, e.g. path: my_pictures")
    path = Path(config.path).expanduser()
    if path.is_dir():
        return _from_folder(path, config)
    if path.is_file():
        return _from_zip(path, config)
    raise DataError("data.path", f"nothing at {path}; give a folder of pictures, with or without subfolders, or a zip of them")


def _from_folder(folder: Path, config: DataConfig) -> Items:
    names = sorted(_walk(str(folder)))
    left = _left_alone(names, lambda name: _open_file(folder / name), folder)
    files = [(name, folder / name) for name in names if is_picture(name)]
    others = len(names) - len(files)
    facts = ("folder", str(folder.resolve()), [(name, *_size_and_time(path)) for name, path in files], _options(config))
    note = f"{others} other files left alone" if others else ""

    def pictures() -> Iterator[Picture]:
        return ((name, functools.partial(_open_file, path)) for name, path in files)

    values, how = cached(facts, lambda: decoded(pictures, config, note))
    return Items(values, how=how, notes=left, labels=_labels([name for name, _ in files]))


def _labels(names: Sequence[str]) -> Labels | None:
    """Classes by the first folder in each name, below one that all share; None where some picture is in none."""
    shared = len(os.path.commonpath([os.path.dirname(name) for name in names])) if names else 0
    rest = [name[shared:].lstrip("/") for name in names]
    folders = [name.partition("/")[0] for name in rest if "/" in name]
    known = len(folders) == len(names) and 2 <= len(set(folders)) <= MOST
    return Labels.of(folders, len(names)) if known else None


def _left_alone(names: Sequence[str], open_it: Callable[[str], BinaryIO], where: Path) -> tuple[str, ...]:
    """Return what is to be said of files that are no pictures by their names.

    Raises:
        DataError: some of them are pictures.
    """
    others = [name for name in names if not is_picture(name) and not is_hidden(name)]
    pictures, closed = [], []
    for name in others:
        if os.path.splitext(name)[1].lower() in COMPANIONS:
            continue
        try:
            with open_it(name) as handle:
                if kind_of_bytes(handle.read(HEAD), HEAD) == "picture":
                    pictures.append(name)
        except (BadPicture, OSError):
            closed.append(name)
    if pictures:
        raise DataError(
            "data.path",
            f"{len(pictures)} files in {where} are pictures without a picture's suffix, such as .png; rename them,"
            f" or move them away: {shortened(pictures)}",
        )
    notes = [f"{len(others)} other files beside the pictures are left alone: {shortened(others)}"] if others else []
    if closed:
        notes.append(f"{len(closed)} of them cannot be read, and may be pictures: {shortened(closed)}")
    return tuple(notes)


def is_hidden(name: str) -> bool:
    """Return whether a name with slashes is of a file that systems put beside others."""
    return name.startswith((".", "__MACOSX/")) or "/." in name or "/__MACOSX/" in name


def is_picture(name: str) -> bool:
    """Return whether a name with slashes is that of a picture, whether or not its format is one that is read."""
    return not is_hidden(name) and os.path.splitext(name)[1].lower() in SUFFIXES | FOREIGN


def _options(config: DataConfig) -> tuple[object, ...]:
    return (config.size, config.crop, config.channels)


def _walk(folder: str) -> Iterator[str]:
    """All files below, by their names from there; links are followed, but into no folder twice."""

    def refuse(error: OSError) -> None:
        raise DataError("data.path", f"{error.filename} cannot be read ({error.strerror}); make it readable, or move it away")

    seen = set()
    for here, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        below = os.path.relpath(here, folder)
        yield from (name if below == "." else f"{below}/{name}" for name in names)


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        facts = path.stat()
    except OSError:  # a link to nowhere: opening it will tell
        return (0, 0)
    return (facts.st_size, facts.st_mtime_ns)


def _open_file(path: Path) -> BinaryIO:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadPicture("no plain file")
        return path.open("rb")
    except OSError as error:
        raise BadPicture(f"cannot be read ({error.strerror})") from error


def _from_zip(path: Path, config: DataConfig) -> Items:
    try:
        if (kind := kind_of(path)) in CURES:
            raise DataError("data.path", f"{path} is {WORDS[str(kind)]}; {CURES[str(kind)]}")
        archive = zipfile.ZipFile(path)
    except DataError:
        raise
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise DataError("data.path", f"{path} is neither a folder nor a readable zip ({error}); make the zip anew") from error
    with archive:
        members = [info for info in archive.infolist() if not info.is_dir()]
        _refuse_dangerous(members, path)
        wanted = sorted((m for m in members if is_picture(m.filename)), key=lambda m: m.filename)
        others = len(members) - len(wanted)
        by_name = {m.filename: m for m in members}
        left = _left_alone(sorted(by_name), lambda name: _open_member(archive, by_name[name]), path)

        def pictures() -> Iterator[Picture]:
            return ((info.filename, functools.partial(_open_member, archive, info)) for info in wanted)

        facts = ("zip", str(path.resolve()), *_size_and_time(path), _options(config))
        values, how = cached(facts, lambda: decoded(pictures, config, f"{others} other files left alone" if others else ""))
        return Items(values, how=how, notes=left, labels=_labels([info.filename for info in wanted]))


def _refuse_dangerous(members: list[zipfile.ZipInfo], path: Path) -> None:
    for info in members:
        name = info.orig_filename.replace("\\", "/")
        if name.startswith("/") or ".." in PurePosixPath(name).parts or name[1:2] == ":":
            raise DataError("data.path", f"{path} holds {info.orig_filename!r}, a place outside the zip; make the zip anew")
        if info.flag_bits & 1:
            raise DataError("data.path", f"{path} is encrypted ({info.filename}); make it anew without a password")
        if info.file_size > MAX_MEMBER:
            raise DataError(
                "data.path",
                f"{info.filename} in {path} has {info.file_size / 1e6:.0f} MB, the limit for a picture is"
                f" {MAX_MEMBER / 1e6:.0f} MB; leave it out",
            )
    expanded, size = sum(info.file_size for info in members), path.stat().st_size
    if expanded > max(MAX_EXPANDED, MAX_RATIO * size):
        raise DataError(
            "data.path",
            f"{path} expands {expanded / size:.0f} times, to {expanded / 1e6:.0f} MB; the limit is {MAX_RATIO}"
            " times, which pictures hardly reach; unpack it, and give the folder",
        )


def _open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> BinaryIO:
    try:
        with archive.open(info) as member:
            return io.BytesIO(member.read(info.file_size + 1))  # a size is given, so no more is ever decompressed
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, OSError, EOFError, RuntimeError) as error:
        raise BadPicture(f"cannot be read from the zip ({error})") from error


IMAGES = Reader(read_images, PICTURE_KEYS)
