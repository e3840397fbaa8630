"""The HTML page as text: a golden file, hostile records, nothing loaded, well-formed."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from reports import html
from reports.board import build_boards
from reports.html.drawings import NO_PLOTS, Plots
from reports.html.page import HERE, page
from reports.record import ProtocolCard, Record

Make = Callable[..., Record]
GOLDEN = Path(__file__).parent / "golden"
SERIES = [[90, 60, 50], [90, 50, 40, 30], [90, 40, 30, 30, 20]]
VOID = {"meta", "link", "input", "br", "img", "hr"}
HOSTILE = '</noscript></script><script>alert("x")</script><img src=x onerror=alert(1)>\'"&`<b>`'


class Reader(HTMLParser):
    """Collects elements and text; complains about end tags that close nothing or the wrong element."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"an attribute twice: {tag} {attrs}"
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack and self.stack.pop() == tag, f"</{tag}> in {self.stack}, at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        into = self.scripts if self.stack and self.stack[-1] == "script" else self.texts
        into.append(data)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.stack, f"never closed: {reader.stack}"
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    return reader


def synthetic(record: Record) -> Record:
    return replace(record, data=replace(record.data, synthetic=True))


def hostile(make: Make, protocol: ProtocolCard) -> list[Record]:
    """Two records, one failed, with markup wherever a record has free text."""
    protocol = replace(
        protocol,
        name=HOSTILE,
        title=HOSTILE,
        dataset_title=HOSTILE,
        notes=(HOSTILE,),
        class_names=tuple(f"{name}{HOSTILE}" for name in protocol.class_names),
    )
    record = synthetic(make(SERIES, protocol=protocol))
    texts = dict.fromkeys(("name", "title", "venue", "provenance", "origin"), HOSTILE)
    method = replace(record.method, **texts, url="javascript:alert(1)")
    recipe = {HOSTILE: HOSTILE}
    record = replace(record, method=method, recipe=recipe, hyperparameters={})
    failed = synthetic(make([], "other", protocol=protocol, reason=HOSTILE))
    assert record.network is not None
    network = replace(record.network, name=HOSTILE, backbone=HOSTILE)
    return [replace(record, network=network), failed]


def test_golden_file(board: list[Record], make: Make) -> None:
    other = make(SERIES)
    other = synthetic(replace(other, protocol=replace(other.protocol, name="pets-2-1@b")))
    text = page(build_boards([*board, other]), NO_PLOTS)
    for name in ("page.css", "page.js"):
        text = text.replace((HERE / name).read_text(encoding="utf-8"), f"/* {name} */\n")
    text = re.sub(r"sha256-[\w+/=]+", "sha256-HASH", text)
    golden = GOLDEN / "leaderboards.html"
    if os.environ.get("CONTISEG_RENEW_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_well_formed_and_with_all_tables(board: list[Record]) -> None:
    reader = read(page(build_boards(board), NO_PLOTS))
    assert [tag for tag, _ in reader.elements].count("table") == 1 + 3
    words = " ".join(" ".join(reader.texts).split())
    for expected in ("The two cats look alike.", "failed: out of memory", "± 1.4", "upper bound"):
        assert expected in words
    assert "Synthetic stand-in" not in words


def test_a_page_without_records_says_so() -> None:
    assert "no records yet" in " ".join(read(page([], NO_PLOTS)).texts)


def test_the_stand_in_is_announced_first(make: Make) -> None:
    text = page(build_boards([synthetic(make(SERIES))]), NO_PLOTS)
    content = text.partition("<noscript>")[2].strip()
    assert content.startswith(
        '<p class="stand-in" role="note"><strong>Synthetic stand-in.</strong> All numbers'
    )


def test_markup_in_a_record_stays_text(make: Make, protocol: ProtocolCard) -> None:
    reader = read(page(build_boards(hostile(make, protocol)), NO_PLOTS))
    tags = [tag for tag, _ in reader.elements]
    assert tags.count("script") == 2 and "img" not in tags
    for _, attributes in reader.elements:
        assert not [name for name in attributes if name.startswith("on")]
        assert "javascript" not in (attributes.get("href") or "")
    data = json.loads(reader.scripts[-1])
    assert data["classes"][1] == [f"cat{HOSTILE}", 0]
    assert HOSTILE in reader.texts


def test_nothing_is_loaded(board: list[Record]) -> None:
    """Only links to papers leave the page; the policy forbids the rest and allows the one script."""
    text = page(build_boards(board), NO_PLOTS)
    assert not re.search(r"@import|url\(", text)
    reader = read(text)
    for tag, attributes in reader.elements:
        assert not {"src", "srcset", "data", "action", "poster"} & attributes.keys(), tag
        target = attributes.get("href") or "#"
        assert target.startswith("#") or (tag, target) == ("link", "data:,") or tag == "a"
    policy = next(
        a["content"] for _, a in reader.elements if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None and policy.startswith("default-src 'none'; script-src 'sha256-")
    digest = base64.b64encode(hashlib.sha256(reader.scripts[0].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy and "unsafe-eval" not in policy


def test_classes_say_when_they_were_learnt(make: Make) -> None:
    records = [make(SERIES), make([[95, 70, 60, None, 60]], "joint"), make([], "plop", reason="no memory")]
    data = json.loads(read(page(build_boards(records), NO_PLOTS)).scripts[-1])
    assert data["classes"] == [["background", 0], ["cat", 0], ["dog", 0], ["cow", 1], ["horse", 2]]
    joint, mib, plop = data["rows"]
    assert mib == [[900, 900, 900], [600, 600, 400], [500, 500, 300], [300, 300, 300], [200, 200, 200]]
    assert joint[1] == [None, 700, 700] and joint[3] == [None, None, None] and joint[4] == [600, 600, 600]
    assert plop is None and data["steps"] == 3


def test_plots_stand_inline(board: list[Record]) -> None:
    plots = Plots(lambda board, section, prefix: {"steps": f'<svg id="{prefix}"></svg>'}, lambda boards: {})
    assert '<svg id="board-pets-2-1-s0"></svg>' in page(build_boards(board), plots)


@pytest.mark.parametrize("names", [("a/b", "a-b"), ("a b", "a/b")])
def test_each_board_has_its_own_anchor(make: Make, names: tuple[str, str]) -> None:
    record = make(SERIES)
    records = [replace(record, protocol=replace(record.protocol, name=name)) for name in names]
    read(page(build_boards(records), NO_PLOTS))


def test_the_package_gives_the_page() -> None:
    assert html.page is page
