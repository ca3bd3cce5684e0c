"""The report in a real browser: Debian's Chromium, driven by Playwright, judged by axe-core.

Skipped where Chromium or axe-core is missing, unless ``REPORT_BROWSER=required``: then their absence is a failure.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import chromium

from analysis import write_report
from analysis.report.write import write_reports
from analysis.testing.studies import write_study
from analysis.testing.truth import Truth

AXE = Path(__file__).parents[2] / "browser" / "node_modules" / "axe-core" / "axe.min.js"
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium(None if AXE.is_file() else "no axe-core: make test-tools") as opened:
        yield opened


def _diverged(row: dict[str, Any]) -> str:
    return "diverged" if row["sampler_rtol"] == 0.1 and row["seed_train"] == 1 else "complete"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with every kind of section: failures, pictures, fixed-step and adaptive solvers."""
    truth = Truth(train_axes=("sigma", "tau"), status=_diverged)
    return Path(write_report(write_study(tmp_path_factory.mktemp("one") / "digits", truth)))


@pytest.fixture(scope="module")
def side_by_side(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    small = Truth(train_axes=("sigma",), sampler_axes=("T_ratio",), samples=False)
    paths = [write_study(folder / name, small.changed(seed=i)) for i, name in enumerate(("digits", "others"))]
    return Path(write_reports(paths))


@pytest.fixture
def open_page(browser: Any) -> Iterator[Any]:
    """Opens a file in a new window, and afterwards fails on any console message, page error or request but for the file."""
    contexts, seen = [], []

    def open_(path: Path, viewport: dict[str, int] = WIDE, **settings: Any) -> Any:
        context = browser.new_context(viewport=viewport, **settings)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: seen.append(f"console {message.type}: {message.text}"))
        page.on("pageerror", lambda error: seen.append(f"error: {error}"))
        page.on("request", lambda request: None if request.url.startswith("data:") else seen.append(request.url))
        page.goto(path.as_uri(), wait_until="load")
        assert seen.pop(0) == path.as_uri()
        return page

    yield open_
    for context in contexts:
        context.close()
    assert seen == []


def column(page: Any, heading: str) -> list[str]:
    """The texts of one column of the full table, rows that are filtered out left out."""
    return page.evaluate(
        """(heading) => {
          const table = document.querySelector("table.full");
          const i = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === heading);
          return [...table.tBodies[0].rows].filter((row) => row.checkVisibility()).map((row) => row.cells[i].textContent);
        }""",
        heading,
    )  # fmt: skip


def tab_to(page: Any, selector: str) -> None:
    """Press Tab, as a reader without a mouse does, until the element has the focus."""
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"{selector}: not reached by the Tab key")


def numbers(texts: list[str]) -> list[float]:
    return [float(text) for text in texts if text != "–"]


def test_table_sorts_and_filters_by_mouse(report: Path, open_page: Any) -> None:
    page = open_page(report)
    planned = column(page, "fid")
    head = page.locator("table.full th", has_text="fid")
    head.locator("button").click()
    rising = column(page, "fid")
    assert head.get_attribute("aria-sort") == "ascending"
    assert numbers(rising) == sorted(numbers(planned)) != numbers(planned)
    assert rising[-planned.count("–") :] == ["–"] * planned.count("–") != []
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert numbers(column(page, "fid")) == sorted(numbers(planned), reverse=True)
    page.locator("input[type=search]").click()
    page.keyboard.type("diverged")
    assert set(column(page, "status")) == {"diverged"}
    shown = len(column(page, "status"))
    assert page.locator("output").inner_text() == f"{shown} of {len(planned)} rows"


def test_table_sorts_and_filters_by_keyboard(report: Path, open_page: Any) -> None:
    page = open_page(report)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    tab_to(page, "input[type=search]")
    page.keyboard.type("arm:steps")
    assert set(column(page, "sampler point")) == {"arm:steps", "arm:solver+arm:steps"}
    tab_to(page, "table.full th button")
    page.keyboard.press("Enter")
    cells = column(page, "cell")
    page.keyboard.press("Space")
    assert column(page, "cell") == cells[::-1] != cells
    tab_to(page, "table.full th button")
    page.keyboard.press("Enter")
    assert page.locator("table.full th[aria-sort]").count() == 1, "only one column is marked as sorted"


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["1280 px", "390 px"])
@pytest.mark.parametrize("name", ["report", "side_by_side"])
def test_nothing_overflows(name: str, viewport: dict[str, int], open_page: Any, request: pytest.FixtureRequest) -> None:
    page = open_page(request.getfixturevalue(name), viewport)
    wide = page.evaluate(
        """() => [...document.querySelectorAll("body *")].filter((element) => {
          const box = element.parentElement.closest(".scroll, .pan, pre");
          return !box && !element.matches(".skip") && element.getBoundingClientRect().right > innerWidth + 0.5;
        }).map((element) => element.outerHTML.slice(0, 80))"""
    )  # fmt: skip
    assert wide == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_images_are_described_and_drawn(report: Path, open_page: Any) -> None:
    page = open_page(report)
    images = page.evaluate("[...document.images].map((image) => [image.alt.length, image.naturalWidth])")
    assert len(images) >= 8
    assert all(described >= 20 and width > 300 for described, width in images)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["report", "side_by_side"])
def test_axe_finds_nothing_serious(name: str, scheme: str, open_page: Any, request: pytest.FixtureRequest) -> None:
    page = open_page(request.getfixturevalue(name), color_scheme=scheme, bypass_csp=True)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert len(found["passes"]) > 15, "the rules ran"
    bad = [f"{v['id']} ({v['impact']}): {v['nodes'][0]['html'][:120]}" for v in found["violations"]]
    assert bad == []


def test_axe_can_find_something(report: Path, open_page: Any) -> None:
    """The check above has been seen to fail: a picture without words, and grey on grey."""
    page = open_page(report, bypass_csp=True)
    page.evaluate("document.images[0].removeAttribute('alt'); document.querySelector('.lead').style.color = '#bbb'")
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert {"image-alt", "color-contrast"} <= {v["id"] for v in found["violations"] if v["impact"] in ("serious", "critical")}


def test_paper_shows_every_row(report: Path, open_page: Any) -> None:
    page = open_page(report)
    n = len(column(page, "cell"))
    page.locator("input[type=search]").fill("no such cell")
    assert column(page, "cell") == []
    page.emulate_media(media="print")
    assert len(column(page, "cell")) == n, "a filter on the screen leaves nothing out on paper"
    hidden = "[...document.querySelectorAll('.scroll')].filter((box) => box.scrollHeight > box.clientHeight + 1).length"
    assert page.evaluate(hidden) == 0, "no table is cut off by a scrolling box"
    assert not page.locator("nav").is_visible()
    assert len(page.pdf()) > 50_000
