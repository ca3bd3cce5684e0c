"""The documentation in a real browser: no page is wider than its window, on a desk and on a phone, light and dark.

Skipped where Chromium is missing, unless ``REPORT_BROWSER=required``: then its absence is a failure.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import chromium

import analysis

ROOT = Path(__file__).resolve().parents[2]
WIDTHS = (1280, 390)
"""Pixels: a desk and a phone."""
WIDTH = "[document.documentElement.scrollWidth, window.innerWidth]"
LOST = "[...document.images].filter(i => i.complete && i.naturalWidth === 0).map(i => i.src)"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: a broken link is an error."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def pages(site: Path) -> list[Path]:
    return sorted(path for path in site.rglob("*.html") if path.name != "404.html")


def test_the_gallery_has_a_picture_of_every_plot(site: Path) -> None:
    drawn = {path.stem: path.read_bytes() for path in (site / "gallery").glob("*.png")}
    assert {name for name in analysis.__all__ if name.startswith("plot_")} <= drawn.keys()
    assert all(content.startswith(b"\x89PNG") for content in drawn.values())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_its_window(browser: Any, site: Path, scheme: str) -> None:
    page = browser.new_page(color_scheme=scheme)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    problems = []
    step = 1 if scheme == "light" else 10  # colours move nothing; a sample of dark pages is enough
    for path in pages(site)[::step]:
        page.set_viewport_size({"width": WIDTHS[0], "height": 900})  # a page that grows moves its menus for a moment
        page.goto(path.as_uri())
        lost = page.evaluate(LOST)
        problems += [f"{path.relative_to(site)}: pictures lost: {lost}"] if lost else []
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            needed, given = page.evaluate(WIDTH)
            problems += [f"{path.relative_to(site)}: {needed} px of {given}"] if needed > given else []
    page.close()
    assert not problems, "\n".join(problems)
    assert {url.split(":")[0] for url in asked} <= {"file", "data", "blob"}, "a page asks the network"


def test_the_search_finds_a_key_in_pages_from_the_disk(browser: Any, site: Path) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto((site / "index.html").as_uri())
    page.click(".md-search__input")
    page.keyboard.type("height_ratio")
    page.wait_for_selector(".md-search-result__link", timeout=20_000)
    found = page.eval_on_selector_all(".md-search-result__link", "links => links.map(link => link.href)")
    page.close()
    assert any("reference/keys.html" in link for link in found)
