"""Places of both kinds: a directory, and a bucket of a real S3 server on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.s3_server import Gate, s3_server

from study.rows.storage import Place


@pytest.fixture(scope="module")
def gate() -> Iterator[Gate]:
    """The way to the server, which can be closed."""
    with s3_server() as gate:
        yield gate


@pytest.fixture(params=["directory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty place of each kind."""
    if request.param == "directory":
        return Place.of(tmp_path / "results")
    request.getfixturevalue("gate")
    return Place.of(f"s3://bucket/{tmp_path.name}")
