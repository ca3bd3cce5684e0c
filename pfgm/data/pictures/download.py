"""Files from the web: resumed where they were cut, and taken only if their checksum is the published one.

What has arrived is kept in ``<name>.part``; the next try asks for the rest. A lock lets one process fetch for all.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

from pfgm.data.pictures.cache import locked
from pfgm.data.pictures.progress import progress

logger = logging.getLogger(__name__)

TIMEOUT_S = 30.0
"""Seconds without a byte after which a connection is given up."""
TRIES = 5
"""Connections in a row that may bring nothing new."""
WAIT_S = 1.0
"""Seconds before the second try, doubled at each further one."""
BLOCK = 1 << 16


class DownloadError(OSError):
    """A file that could not be fetched; the message says why."""


class Remote(NamedTuple):
    """A published file: where it is, and its checksum as its authors give it."""

    url: str
    algorithm: str
    checksum: str


def fetch(remote: Remote, target: Path) -> Path:
    """Download to ``target``, unless it is there; returns it.

    Raises:
        DownloadError: the server refuses, stays silent, or sends something else.
    """
    if target.is_file():
        return target
    try:
        with locked(target):
            if not target.is_file():
                logger.info("downloading %s to %s", remote.url, target)
                part = target.with_name(target.name + ".part")
                _complete(remote, part)
                _verify(remote, part)
                os.replace(part, target)
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(f"{target} cannot be made ({error})") from error
    return target


def _complete(remote: Remote, part: Path) -> None:
    """Connect until all has arrived, or several connections in a row brought nothing."""
    idle = 0
    while True:
        before = _size(part)
        try:
            if _advance(remote.url, part):
                return
            reason = "the connection was cut"
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):  # not a matter of waiting
                raise DownloadError(f"{remote.url} answers {error.code} {error.reason}") from error
            reason = f"{error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
            reason = str(getattr(error, "reason", None) or error) or type(error).__name__
        idle = 0 if _size(part) > before else idle + 1
        if idle == TRIES:
            raise DownloadError(f"{remote.url} does not come through ({reason}), {_size(part)} bytes of it are in {part}")
        logger.info("%s: %s after %d bytes; trying again", remote.url, reason, _size(part))
        time.sleep(WAIT_S * 2 ** max(idle - 1, 0) if idle else 0.0)


def _advance(url: str, part: Path) -> bool:
    """One connection: append what it brings; whether the file is complete."""
    have = _size(part)
    request = urllib.request.Request(url, headers={"User-Agent": "pfgm-study", **({"Range": f"bytes={have}-"} if have else {})})
    if request.type not in ("http", "https"):
        raise DownloadError(f"{url} is not a web address")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing beyond what we have, or another file by now: the checksum will tell
            if (error.headers.get("Content-Range") or "").rpartition("/")[2] == str(have):
                return True
            part.unlink()
            return False
        raise
    with response:
        resumed = response.status == 206 and _starts_at(response.headers.get("Content-Range"), have)
        if not resumed:
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else None
        with open(part, "ab" if resumed else "wb") as out, progress(part.stem, total, in_bytes=True) as tell:
            while block := response.read(BLOCK):
                out.write(block)
                have += len(block)
                tell(have)
    return total is None or have == total


def _starts_at(content_range: str | None, start: int) -> bool:
    return (content_range or "").replace("bytes", "").strip().startswith(f"{start}-")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _verify(remote: Remote, part: Path) -> None:
    with open(part, "rb") as handle:
        found = hashlib.file_digest(handle, remote.algorithm).hexdigest()
    if found != remote.checksum:
        part.unlink()
        raise DownloadError(
            f"{remote.url} sent another file than was published: {remote.algorithm.upper()} {found}, not {remote.checksum};"
            " what came was deleted"
        )
