"""The HTML page in headless Chromium; skipped where playwright or a browser is not installed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reports.board import build_boards
from reports.html.drawings import NO_PLOTS
from reports.html.page import page
from reports.record import ProtocolCard, Record

sync_api = pytest.importorskip("playwright.sync_api")
Make = Callable[..., Record]
Page = Any
SERIES = [[90, 60, 50], [90, 50, 40, 30], [90, 40, 30, 30, 20]]
HOSTILE = "<img src=x onerror=alert(1)></noscript><b>"
MAIN = "#board-pets-2-1 table.main"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    installed = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome", "chrome"))
    with sync_api.sync_playwright() as playwright:
        path = next(filter(None, installed), playwright.chromium.executable_path)
        if not Path(path).exists():
            pytest.skip("no Chromium is installed")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def file(board: list[Record], make: Make, protocol: ProtocolCard, tmp_path: Path) -> Path:
    """Three boards: `board` with a failed method of hostile name, and two small ones."""
    names = ("background", f"cat {HOSTILE}", *protocol.class_names[2:])
    board = [replace(each, protocol=replace(protocol, class_names=names)) for each in board]
    hostile = make([], "evil", protocol=board[0].protocol, reason=HOSTILE)
    hostile = replace(hostile, method=replace(hostile.method, name=HOSTILE, provenance="paper only"))
    others = [make(SERIES, "mib", protocol=replace(protocol, name=name)) for name in ("one-1-1", "two-2-2")]
    synthetic = [replace(each, data=replace(each.data, synthetic=True)) for each in others]
    path = tmp_path / "leaderboards.html"
    path.write_text(page(build_boards([*board, hostile, *synthetic]), NO_PLOTS), encoding="utf-8")
    return path


@pytest.fixture
def tab(browser: Any, file: Path) -> Iterator[Page]:
    """The page, opened at its first board. After the test: nothing was fetched, reported or popped up."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    faults: list[str] = []
    tab.on("console", lambda message: faults.append(message.text))
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("dialog", lambda dialog: (faults.append("dialog"), dialog.dismiss()))
    url = file.as_uri()
    tab.on(
        "request",
        lambda request: request.url.partition("#")[0] in (url, "about:blank") or faults.append(request.url),
    )
    tab.set_default_timeout(3000)
    tab.goto(f"{url}#board-pets-2-1")
    yield tab
    tab.close()
    assert not faults


def methods(tab: Page) -> list[str]:
    rows = tab.locator(f"{MAIN} > tbody > tr[data-row]:not([hidden]) .method")
    return [name.partition("[")[0] for name in rows.all_inner_texts()]


def column(tab: Page, name: str) -> Any:
    return tab.locator(f"{MAIN} > thead").get_by_role("button", name=name, exact=True)


def sorted_by(tab: Page) -> list[tuple[str, str]]:
    heads = tab.locator(f"{MAIN} > thead th[aria-sort]").all()
    return [(head.inner_text().strip(), head.get_attribute("aria-sort")) for head in heads]


def test_a_column_sorts_both_ways_and_failures_stay_last(tab: Page) -> None:
    failed = [HOSTILE, "plop"]
    assert methods(tab) == ["joint", "flaky", "mib", "finetune", *failed]
    assert sorted_by(tab) == [("all ↑", "descending")]
    column(tab, "new higher is better").click()
    assert methods(tab) == ["joint", "mib", "finetune", "flaky", *failed]
    column(tab, "new higher is better").click()
    assert methods(tab) == ["flaky", "finetune", "mib", "joint", *failed]
    assert sorted_by(tab) == [("new ↑", "ascending")]
    column(tab, "forgetting lower is better").click()
    assert methods(tab) == ["flaky", "mib", "finetune", "joint", *failed]
    column(tab, "method").click()
    assert methods(tab) == ["finetune", "flaky", "joint", "mib", *failed]


def test_the_filter_finds_names_networks_and_provenance(tab: Page) -> None:
    field = tab.get_by_label("Filter methods")
    field.fill("FCDL94 port")
    assert methods(tab) == ["mib"]
    assert tab.locator("#matches").inner_text() == "1 of 6 rows of the open tables"
    visible = "#board-pets-2-1 section tr[data-row]:not([hidden])"
    assert tab.locator(visible).count() == 3, "one row in each of the section's tables"
    field.fill("deeplabv3")
    assert len(methods(tab)) == 5
    field.fill("")
    assert len(methods(tab)) == 6 and tab.locator("#matches").inner_text() == ""


def test_a_protocol_is_found(tab: Page) -> None:
    tab.get_by_label("Find a protocol").fill("two-2")
    assert tab.locator(".overview tbody tr:visible").count() == 1
    assert tab.locator(".board:visible h2").all_inner_texts() == ["two-2-2"]


def test_boards_are_drawn_when_opened(tab: Page) -> None:
    assert tab.locator(".board[open] h2").all_inner_texts() == ["pets-2-1"]
    assert tab.locator("#board-two-2-2 table").count() == 0
    tab.get_by_role("link", name="two-2-2").click()
    tab.locator("#board-two-2-2 table.main").wait_for()
    assert tab.locator("#board-two-2-2 .stand-in").is_visible()
    tab.get_by_role("button", name="Close all").click()
    assert tab.locator("table:visible").count() == 1, "the overview alone"
    tab.get_by_role("button", name="Open all").click()
    tab.locator("#board-one-1-1 table.main").wait_for()


def test_a_row_opens_to_its_classes(tab: Page) -> None:
    button = tab.get_by_role("button", name="Classes of mib")
    button.click()
    classes = tab.locator(f"{MAIN} .drill tbody tr")
    assert button.get_attribute("aria-expanded") == "true" and classes.count() == 5
    assert classes.nth(1).locator("th").inner_text() == f"cat {HOSTILE}"
    cells = [classes.nth(row).locator("td").all_inner_texts() for row in (1, 3, 4)]
    assert cells[0] == ["0", "61.0", "61.0", "42.0", "−19.0"]
    assert cells[1] == ["1", "31.0", "31.0", "31.0", "0.0"]
    assert cells[2] == ["2", "22.0", "22.0", "22.0", "—"]
    tab.locator(f"{MAIN} .drill").get_by_role("button", name="change").click()
    order = [name.split()[0] for name in classes.locator("th").all_inner_texts()]
    assert order == ["background", "cow", "cat", "dog", "horse"]
    column(tab, "new higher is better").click()
    below = tab.locator(f'{MAIN} > tbody > tr:has(.method:text-is("mib")) + tr')
    assert below.get_attribute("class") == "drill", "it moves with its row"


def test_the_keyboard_does_it_all(tab: Page) -> None:
    start = tab.url.partition("#")[0]
    tab.goto("about:blank")
    tab.goto(start)
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    assert tab.locator(".skip").bounding_box()["x"] >= 0, "visible once focussed"
    tab.get_by_role("link", name="pets-2-1").press("Enter")
    column(tab, "old higher is better").focus()
    tab.keyboard.press("Enter")
    assert sorted_by(tab) == [("old ↑", "descending")]
    tab.keyboard.press("Space")
    assert sorted_by(tab) == [("old ↑", "ascending")]
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent").startswith("new")
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.get_by_role("button", name="Classes of mib").focus()
    tab.keyboard.press("Enter")
    tab.locator(f"{MAIN} .drill").get_by_role("button", name="best").focus()
    tab.keyboard.press("Escape")
    assert tab.locator(f"{MAIN} .drill").count() == 0
    assert tab.evaluate("document.activeElement.getAttribute('aria-label')") == "Classes of mib"


def test_dark_and_light(tab: Page) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    assert tab.evaluate(paper) == "rgb(255, 255, 255)"
    tab.get_by_role("button", name="Switch to dark colours").click()
    assert tab.evaluate(paper) == "rgb(20, 23, 26)"
    tab.reload()
    assert tab.evaluate(paper) == "rgb(20, 23, 26)", "remembered"
    tab.get_by_role("button", name="Switch to light colours").click()
    tab.emulate_media(color_scheme="dark")
    assert tab.evaluate(paper) == "rgb(255, 255, 255)"


def test_a_phone_scrolls_tables_and_not_the_page(tab: Page) -> None:
    tab.set_viewport_size({"width": 360, "height": 740})
    tab.get_by_role("button", name="Open all").click()
    tab.get_by_role("button", name="Classes of mib").first.click()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    box = tab.locator(f".scroll:has(> {MAIN.split()[1]})").first
    assert box.evaluate("box => (box.scrollLeft = 200, box.scrollLeft)") > 0
    name = tab.locator(f"{MAIN} .method").first
    assert name.bounding_box()["x"] >= 0, "the method column stays"


def test_without_scripts_all_tables_are_there(browser: Any, file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(file.as_uri())
    assert tab.locator("table:visible").count() == 1 + 3 * 3
    assert tab.locator("tr.failed", has_text="failed: out of memory").first.is_visible()
    assert not tab.get_by_label("Filter methods").is_visible()
    context.close()
