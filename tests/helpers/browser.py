"""A real browser for the tests of pages: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
REQUIRED = os.environ.get("REPORT_BROWSER") == "required"
"""Whether a missing browser is a failure."""
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@contextmanager
def chromium(missing: str | None = None) -> Iterator[Any]:
    """Start Chromium for the block, and skip the test where it cannot be had.

    With ``REPORT_BROWSER=required`` the test fails instead.

    Args:
        missing: what else the tests need and do not have, with the command that brings it.
    """
    why = "no Chromium: apt-get install chromium" if CHROMIUM is None else missing
    if why is not None and REQUIRED:
        pytest.fail(why)
    if why is not None:
        pytest.skip(why)
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()
