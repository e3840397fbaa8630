"""One HTML file with all leaderboards: it loads nothing, and its tables can be read without scripts."""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from reports.board import Board, Section
from reports.columns import METRICS, QUALITIES, definitions
from reports.facts import STAND_IN, Fact, protocol_facts, run_facts
from reports.html.classes import classes_json
from reports.html.drawings import MATPLOTLIB, Drawings, Plots
from reports.html.tables import Method, TableView, methods, table_views
from reports.ranking import DIGITS
from reports.rows import Row
from reports.text import number

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Entry:
    """One line of the page's overview: a section of a board."""

    anchor: str
    name: str
    synthetic: bool
    task: str
    steps: int
    scale: str
    count: int
    failed: int
    metric: str
    best: str
    value: str


@dataclass(frozen=True)
class Part:
    """What one board gives to the page; it depends on no other board."""

    html: str
    entries: tuple[Entry, ...]


def page(boards: Sequence[Board], plots: Plots = MATPLOTLIB) -> str:
    """The page. What comes from a record is text in it: markup in a name is shown, never followed."""
    return assemble([part(board, plots) for board in boards], plots.across(boards))


def part(board: Board, plots: Plots = MATPLOTLIB) -> Part:
    """The part of one board, its plots included."""
    view = _board(board, plots)
    html = _templates().get_template("board.html.j2").render(view=view, stand_in=STAND_IN)
    return Part(html, tuple(_entries(view)))


def assemble(parts: Sequence[Part], across: Drawings) -> str:
    """The page from the parts of its boards and the drawings that compare them."""
    script = (HERE / "page.js").read_text(encoding="utf-8")
    return (
        _templates()
        .get_template("page.html.j2")
        .render(
            boards=[Markup(part.html) for part in parts],
            overview=[entry for part in parts for entry in part.entries],
            across=_safe(across),
            style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
            script=Markup(script),
            script_hash=_hash(script),
        )
    )


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"code": _code, "web": _web}
    return environment


@dataclass(frozen=True)
class _SectionView:
    key: str
    title: str
    synthetic: bool
    quality: str
    """What a class has: IoU, PQ or AP."""
    facts: Sequence[Fact]
    methods: Sequence[Method]
    tables: Sequence[TableView]
    classes: Markup
    plots: Mapping[str, Markup]
    section: Section


@dataclass(frozen=True)
class _BoardView:
    anchor: str
    name: str
    title: str
    warning: str
    facts: Sequence[Fact]
    definitions: Mapping[str, str]
    sections: Sequence[_SectionView]
    board: Board


def _board(board: Board, plots: Plots) -> _BoardView:
    protocol, anchor = board.protocol, _anchor(board.name)
    return _BoardView(
        anchor=anchor,
        name=board.name,
        title=protocol.title,
        warning=board.warning,
        facts=protocol_facts(protocol),
        definitions=definitions(protocol),
        sections=[
            _section(board, section, f"{anchor}-s{index}", plots)
            for index, section in enumerate(board.sections)
        ],
        board=board,
    )


def _section(board: Board, section: Section, key: str, plots: Plots) -> _SectionView:
    return _SectionView(
        key=key,
        title=section.title,
        synthetic=section.data == "synthetic",
        quality=QUALITIES[board.protocol.task],
        facts=run_facts(section.records, section.rows),
        methods=methods(section.rows),
        tables=table_views(board.protocol, section),
        classes=classes_json(board.protocol, section.rows),
        plots=_safe(plots.of_section(board, section, key)),
        section=section,
    )


def _entries(view: _BoardView) -> Iterator[Entry]:
    protocol = view.board.protocol
    for section in view.sections:
        best = _best(section.section.rows)
        yield Entry(
            anchor=view.anchor,
            name=view.name,
            synthetic=section.synthetic,
            task=protocol.task,
            steps=len(protocol.steps),
            scale=section.section.scale,
            count=len(section.methods),
            failed=sum(bool(method.failure) for method in section.methods),
            metric=METRICS[protocol.task],
            best=", ".join(row["method"] for row in best),
            value=number(best[0]["all"] if best else None),
        )


def _best(rows: Sequence[Row]) -> list[Row]:
    """The ranked rows with the highest `all` as printed."""
    ranked = [row for row in rows if row["all"] is not None and not row["offline"]]
    top = max((round(row["all"], DIGITS) for row in ranked), default=None)
    return [row for row in ranked if round(row["all"], DIGITS) == top]


def _anchor(name: str) -> str:
    """A board's id, which links may name: other characters than these would need escapes there."""
    plain = re.sub(r"[^A-Za-z0-9._+@-]", "-", name)
    return f"board-{plain}" if plain == name else f"board-{plain}-{zlib.crc32(name.encode()):x}"


def _code(text: str) -> Markup:
    """The text escaped, what stands in `backticks` as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _web(url: str) -> str:
    """The address if a page may link to it, else ""."""
    return url if urlsplit(url).scheme in ("http", "https") else ""


def _safe(drawings: Mapping[str, str]) -> dict[str, Markup]:
    return {title: Markup(svg) for title, svg in drawings.items()}


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
