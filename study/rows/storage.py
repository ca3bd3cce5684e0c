"""Files and folders of a study: on a local or shared directory, or in an object store (``s3://bucket/prefix``).

One rule for both: a file is there whole or not at all. On a directory it is written under a temporary name, flushed to the
disk and renamed; in an object store it is one PUT. What nobody may see half-done and takes several files is published by
writing the file that announces it last. Needs pyarrow alone, so that rows can be written and read without torch or ray.

Credentials come from the usual AWS environment variables or configuration files, never from the study file; another server
than Amazon's is named by ``AWS_ENDPOINT_URL``, or by ``s3://bucket/prefix?endpoint_override=host:9000&scheme=http``.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from pyarrow import fs as pafs

T_ = TypeVar("T_")
Stamp = tuple[int, int, int]
"""What changes when a file is replaced: its size (bytes), its time (ns), and its number in a directory (0 elsewhere)."""
OPTIONS = ("endpoint_override", "scheme", "region")
READERS = 16
"""Objects of an object store that are read at the same time."""


class StorageError(OSError):
    """The storage refused, is full, or cannot be reached; the message is one line with the place and the reason."""


@dataclass(frozen=True)
class Place:
    """A file or folder, wherever it is. ``options``: the query part of an object store's URI."""

    path: str
    remote: bool = False
    options: str = ""

    @classmethod
    def of(cls, where: str | os.PathLike[str] | Place) -> Place:
        """From a path or an ``s3://`` URI.

        Raises:
            ValueError: another kind of URI, an unknown option, or credentials in it.
        """
        if isinstance(where, Place):
            return where
        text = os.fspath(where)
        if "://" not in text:
            return cls(text)
        uri = urlsplit(text)
        if uri.scheme != "s3" or not uri.hostname:
            raise ValueError("must be a directory such as `results`, or s3://bucket/prefix")
        if uri.username or uri.password:
            raise ValueError("must not hold credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        unknown = sorted(set(parse_qs(uri.query, keep_blank_values=True)) - set(OPTIONS))
        if unknown:
            raise ValueError(f"unknown option {unknown[0]!r} in the URI; use {', '.join(OPTIONS)}")
        return cls(f"{uri.netloc}/{uri.path.strip('/')}".rstrip("/"), True, uri.query)

    def __truediv__(self, name: str) -> Place:
        return Place(f"{self.path.rstrip('/')}/{name}" if self.path != "." else name, self.remote, self.options)

    def __str__(self) -> str:
        return f"s3://{self.path}" if self.remote else self.path

    @property
    def uri(self) -> str:
        """Return what `of` reads back."""
        return f"{self}?{self.options}" if self.options else str(self)

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def local(self) -> Path:
        """The path of a local place."""
        assert not self.remote
        return Path(self.path)

    def absolute(self) -> Place:
        """Return this place for a process with another working directory."""
        return self if self.remote else Place(str(self.local.absolute()))

    def write(self, content: bytes) -> None:
        """Put the file there, whole; its folder is made when missing.

        Raises:
            StorageError: it cannot be written; an older file of that name is then as it was.
        """
        if self.remote:
            self._on_store(lambda fs: _put(fs, self.path, content), "write")
            return
        temporary = self.local.with_name(f".{self.name}.{os.getpid()}-{uuid.uuid4().hex[:6]}.tmp")
        try:
            self.local.parent.mkdir(parents=True, exist_ok=True)
            try:
                with open(temporary, "wb") as handle:
                    handle.write(content)
                    handle.flush()
                    os.fsync(handle.fileno())
                os.replace(temporary, self.local)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"cannot write {self} ({error.strerror or error})") from error

    def read(self) -> bytes:
        """The file's content.

        Raises:
            FileNotFoundError: no such file.
            StorageError: it cannot be read.
        """
        if self.remote:
            return self._on_store(lambda fs: _get(fs, self.path), "read")
        try:
            return self.local.read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StorageError(f"cannot read {self} ({error.strerror or error})") from error

    def is_file(self) -> bool:
        """Return whether there is such a file; errors as `read`."""
        return self.local.is_file() if not self.remote else self._info().is_file

    def modified(self) -> float | None:
        """When the file was written, in seconds since 1970 by the storage's own clock; None when there is none."""
        if self.remote:
            time_ns = self._info().mtime_ns
            return None if time_ns is None else time_ns / 1e9
        try:
            return self.local.stat().st_mtime
        except FileNotFoundError:
            return None

    def files(self) -> dict[str, int]:
        """Names and sizes (bytes) of the files in a folder, sorted; none when there is no such folder."""
        return {name: stamp[0] for name, stamp in self._entries() if stamp is not None}

    def stamps(self) -> dict[str, Stamp]:
        """Names and stamps of the files in a folder, sorted; none when there is no such folder."""
        return {name: stamp for name, stamp in self._entries() if stamp is not None}

    def folders(self) -> list[str]:
        """Names of the folders in a folder, sorted."""
        return [name for name, stamp in self._entries() if stamp is None]

    def delete(self) -> None:
        """Remove a file; nothing happens when there is none.

        Raises:
            StorageError: it cannot be removed.
        """
        if self.remote:
            if self.is_file():
                self._on_store(lambda fs: fs.delete_file(self.path), "delete")
            return
        try:
            self.local.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"cannot delete {self} ({error.strerror or error})") from error

    def delete_all(self, names: Iterable[str]) -> None:
        """Remove several files of a folder, many at a time in an object store; errors as `delete`."""
        if not self.remote:
            for name in names:
                (self / name).delete()
            return
        with ThreadPoolExecutor(READERS) as pool:
            list(pool.map(lambda name: (self / name).delete(), names))

    def delete_folder(self) -> None:
        """Remove a folder with everything in it; nothing happens when there is none."""
        if self.remote and self._info().type is pafs.FileType.Directory:
            self._on_store(lambda fs: fs.delete_dir(self.path), "delete")
        elif not self.remote and self.local.is_dir():
            shutil.rmtree(self.local)

    def set_aside(self) -> Place:
        """Move a file that cannot be used out of the way, keeping it for whoever wants to look; where it went."""
        aside = Place(f"{self.path}.unreadable", self.remote, self.options)
        if self.remote:
            self._on_store(lambda fs: fs.move(self.path, aside.path), "move")
        else:
            os.replace(self.path, aside.path)
        return aside

    def read_all(self, names: Iterable[str]) -> list[bytes | None]:
        """The contents of several files of a folder, in the order of ``names``; None for one that is not there."""

        def read(name: str) -> bytes | None:
            with contextlib.suppress(FileNotFoundError):
                return (self / name).read()
            return None

        if not self.remote:
            return [read(name) for name in names]
        with ThreadPoolExecutor(READERS) as pool:
            return list(pool.map(read, names))

    def _entries(self) -> list[tuple[str, Stamp | None]]:
        """(name, stamp), stamp None for a folder."""
        if self.remote:
            selector = pafs.FileSelector(self.path, allow_not_found=True)
            found = self._on_store(lambda fs: fs.get_file_info(selector), "list")
            return sorted((i.base_name, (i.size, i.mtime_ns or 0, 0) if i.is_file else None) for i in found)
        try:
            with os.scandir(self.path) as entries:
                return sorted(_known(e for e in entries if not _temporary(e.name)))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StorageError(f"cannot read {self} ({error.strerror or error})") from error

    def _info(self) -> Any:
        return self._on_store(lambda fs: fs.get_file_info(self.path), "read")

    def _on_store(self, act: Callable[[Any], T_], verb: str) -> T_:
        try:
            return act(_file_system(self.options, os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")))
        except FileNotFoundError:
            raise
        except OSError as error:
            if re.search(r"AWS Error (RESOURCE_NOT_FOUND|NO_SUCH_KEY)", str(error)):  # removed between two requests
                raise FileNotFoundError(str(self)) from error
            raise StorageError(f"cannot {verb} {self} ({_reason(error)})") from error


def _known(entries: Iterable[os.DirEntry[str]]) -> Iterator[tuple[str, Stamp | None]]:
    """Yield (name, stamp), stamp None for a folder; what is removed while it is listed is not there."""
    for entry in entries:
        with contextlib.suppress(FileNotFoundError):
            known = None if entry.is_dir() else entry.stat()
            yield entry.name, known and (known.st_size, known.st_mtime_ns, known.st_ino)


def _temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(".tmp")


def clean_temporary(folder: Place, older_than_s: float = 3600.0) -> None:
    """Remove files that a killed process left half-written in a local folder."""
    if folder.remote or not folder.local.is_dir():
        return
    for path in folder.local.iterdir():
        if _temporary(path.name) and time.time() - path.lstat().st_mtime > older_than_s:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@functools.lru_cache(maxsize=8)
def _file_system(options: str, endpoint: str | None) -> Any:
    given = {key: values[0] for key, values in parse_qs(options).items()}
    if endpoint and "endpoint_override" not in given:
        server = urlsplit(endpoint)
        given |= {"endpoint_override": server.netloc, "scheme": server.scheme}
    return pafs.S3FileSystem(
        **given,
        connect_timeout=5.0,
        request_timeout=60.0,
        background_writes=False,
        allow_delayed_open=True,  # small files: a single PUT
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=4),
    )


def _put(fs: Any, path: str, content: bytes) -> None:
    with fs.open_output_stream(path) as stream:
        stream.write(content)


def _get(fs: Any, path: str) -> bytes:
    with fs.open_input_file(path) as stream:
        content: bytes = stream.read()
        return content


def _reason(error: OSError) -> str:
    """The part of the AWS library's message that a person can use, without request numbers."""
    text = " ".join(str(error).split())
    found = re.search(r"AWS Error (.*)", text)
    return re.sub(r" *\(Request ID: [^)]*\)", "", found.group(1) if found else text)
