"""A leaderboard as a Markdown page for GitHub."""

from __future__ import annotations

from collections.abc import Sequence

from reports.board import Board, Section
from reports.columns import definitions
from reports.facts import RECIPE, as_markdown, protocol_facts, run_facts
from reports.record import ProtocolCard
from reports.tables import Cell, Column, Table, section_tables
from reports.text import pipe_table


def page(board: Board) -> str:
    """The whole page: announcement, card, definitions, a section for each kind of data and scale."""
    protocol = board.protocol
    lines = [board.announcement, ""] if board.announcement else []
    title = f"{protocol.name}: {protocol.title}" if protocol.title else protocol.name
    lines += [f"# {title}", "", *as_markdown(protocol_facts(protocol)), ""]
    meanings = [f"- `{column}`: {meaning}" for column, meaning in definitions(protocol).items()]
    lines += folded("What the columns mean", meanings)
    for section in board.sections:
        lines += ["", *_section(protocol, section)]
    return "\n".join(lines) + "\n"


def table_lines(table: Table) -> list[str]:
    """A table with its title, notes and footnotes."""
    lines = ["", f"### {table.title}", ""] if table.title else []
    headers = [_header(column) for column in table.columns]
    body = [[_cell(cell) for cell in row] for row in table.rows]
    numbers = {_header(column) for column in table.columns if column.is_number}
    lines.append(pipe_table(headers, body, numbers))
    if any(cell.place for row in table.rows for cell in row):
        lines += ["", "Best in **bold**, second <u>underlined</u>."]
    elif table.notes:
        lines.append("")
    lines += table.notes
    lines += [f"<br><sup>{i}</sup> {_escape(text)}" for i, text in enumerate(table.footnotes, start=1)]
    return lines


def folded(summary: str, lines: Sequence[str]) -> list[str]:
    """Lines that GitHub shows at a click."""
    return [f"<details><summary>{summary}</summary>", "", *lines, "", "</details>"]


def _section(protocol: ProtocolCard, section: Section) -> list[str]:
    facts = run_facts(section.records, section.rows)
    lines = [f"## {section.title}", "", *as_markdown(fact for fact in facts if fact.label != RECIPE), ""]
    recipe = as_markdown(fact for fact in facts if fact.label == RECIPE)
    lines += [*folded(RECIPE, recipe), ""] if recipe else []
    for table in section_tables(protocol, section):
        lines += table_lines(table)
    return lines


def _header(column: Column) -> str:
    return f"{column.heading} {column.arrow}".rstrip()


def _cell(cell: Cell) -> str:
    text = _escape(cell.text) + (f" ± {cell.spread}" if cell.spread else "")
    if cell.code:
        text = f"`{text}`"
    if cell.place:
        text = f"**{text}**" if cell.place == 1 else f"<u>{text}</u>"
    if cell.remark:
        text += f" ({_escape(cell.remark)})"
    if cell.url:
        text = f"[{text}]({cell.url})"
    footnotes = ", ".join(map(str, cell.footnotes))
    return text + cell.mark + (f" <sup>{footnotes}</sup>" if footnotes else "")


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
