"""One HTML file with all leaderboards: it loads nothing, and its tables can be read without scripts."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from reports.board import Board, Section
from reports.card import STAND_IN, Fact, protocol_facts, run_facts
from reports.columns import METRICS, QUALITIES, definitions
from reports.html.classes import classes_json
from reports.html.drawings import MATPLOTLIB, Plots
from reports.html.tables import Method, TableView, methods, table_views
from reports.ranking import DIGITS
from reports.rows import Row
from reports.text import number

HERE = Path(__file__).parent


def page(boards: Sequence[Board], plots: Plots = MATPLOTLIB) -> str:
    """The page. What comes from a record is text in it: markup in a name is shown, never followed."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"code": _code, "web": _web}
    script = (HERE / "page.js").read_text(encoding="utf-8")
    anchors = _anchors([board.name for board in boards])
    views = [
        _board(board, anchor, f"b{position}", plots)
        for position, (board, anchor) in enumerate(zip(boards, anchors, strict=True))
    ]
    return environment.get_template("page.html.j2").render(
        boards=views,
        overview=[entry for view in views for entry in _overview(view)],
        across=_safe(plots.across(boards)),
        stand_in=STAND_IN,
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=_hash(script),
    )


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


def _board(board: Board, anchor: str, key: str, plots: Plots) -> _BoardView:
    protocol = board.protocol
    return _BoardView(
        anchor=anchor,
        name=board.name,
        title=protocol.title,
        warning=board.warning,
        facts=protocol_facts(protocol),
        definitions=definitions(protocol),
        sections=[
            _section(board, section, f"{key}s{index}", plots) for index, section in enumerate(board.sections)
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


@dataclass(frozen=True)
class _Entry:
    """One line of the overview: a section of a board."""

    board: _BoardView
    section: _SectionView
    task: str
    steps: int
    scale: str
    count: int
    failed: int
    metric: str
    best: str
    value: str


def _overview(view: _BoardView) -> list[_Entry]:
    return [
        _Entry(
            board=view,
            section=section,
            task=view.board.protocol.task,
            steps=len(view.board.protocol.steps),
            scale=section.section.scale,
            count=len(section.methods),
            failed=sum(bool(method.failure) for method in section.methods),
            metric=METRICS[view.board.protocol.task],
            best=", ".join(row["method"] for row in best),
            value=number(best[0]["all"] if best else None),
        )
        for section in view.sections
        for best in [_best(section.section.rows)]
    ]


def _best(rows: Sequence[Row]) -> list[Row]:
    """The ranked rows with the highest `all` as printed."""
    ranked = [row for row in rows if row["all"] is not None and not row["offline"]]
    top = max((round(row["all"], DIGITS) for row in ranked), default=None)
    return [row for row in ranked if round(row["all"], DIGITS) == top]


def _anchors(names: Sequence[str]) -> list[str]:
    """The boards' ids, which links may name: other characters than these would need escapes there."""
    anchors: list[str] = []
    for name in names:
        anchor = "board-" + re.sub(r"[^A-Za-z0-9._+@-]", "-", name)
        anchors.append(f"{anchor}-{len(anchors)}" if anchor in anchors else anchor)
    return anchors


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
