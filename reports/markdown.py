"""A leaderboard as a Markdown page for GitHub."""

from __future__ import annotations

from collections.abc import Sequence

from reports.board import Board, Section
from reports.card import as_markdown, protocol_facts, run_facts
from reports.columns import ASSIGNED, LABELLED, definitions, main_columns, step_columns
from reports.ranking import arrow, heading, marks, places
from reports.record import ProtocolCard
from reports.rows import Row
from reports.text import MISSING, number, pipe_table


def page(board: Board) -> str:
    """The whole page: announcement, card, a section for each kind of data and scale, definitions."""
    protocol = board.protocol
    lines = [board.announcement, ""] if board.announcement else []
    title = f"{protocol.name}: {protocol.title}" if protocol.title else protocol.name
    lines += [f"# {title}", "", *as_markdown(protocol_facts(protocol))]
    for section in board.sections:
        lines += ["", *_section(protocol, section)]
    lines += ["", "## Columns", ""]
    lines += [f"- `{column}`: {meaning}" for column, meaning in definitions(protocol).items()]
    return "\n".join(lines) + "\n"


def _section(protocol: ProtocolCard, section: Section) -> list[str]:
    rows = section.rows
    lines = [
        f"## {section.title}",
        "",
        *as_markdown(run_facts(section.records, rows)),
        "",
        _main_table(protocol, rows),
        "",
        f"{rows[0]['metric']} in %, after the last step. Best in **bold**, second <u>underlined</u>; "
        f"{MISSING} is not defined.",
    ]
    if any(row["offline"] for row in rows):
        lines.append("Methods that train all steps as one are an upper bound and not ranked.")
    lines += _labelled(rows)
    lines += ["", "### After each step", "", _step_table(protocol, rows), "", "### What was run", ""]
    return [*lines, _run_table(rows)]


def _main_table(protocol: ProtocolCard, rows: Sequence[Row]) -> str:
    cells = _cells(main_columns(protocol), rows)
    numbers = {*cells, "seeds", "minutes"}
    headers = ["method", *cells, "seeds", "minutes", "status"]
    body = [
        [
            _name(row),
            *(column[position] for column in cells.values()),
            str(row["seeds"]),
            number(row["train_minutes"]),
            _escape(row["status"]),
        ]
        for position, row in enumerate(rows)
    ]
    return pipe_table(headers, body, numbers)


def _step_table(protocol: ProtocolCard, rows: Sequence[Row]) -> str:
    return _measured_table(_cells(step_columns(protocol), rows), rows)


def _labelled(rows: Sequence[Row]) -> list[str]:
    """The table of the evaluations that test labelled pixels alone, where a row has them."""
    if all(row.get(LABELLED[0]) is None for row in rows):
        return []
    pairs = [(row[one], row[other]) for row in rows for one, other in zip(LABELLED, ASSIGNED, strict=True)]
    differ = any(number(one) != number(other) for one, other in pairs)
    lines = ["", "### Labelled pixels only", ""]
    lines.append(_measured_table(_cells([*LABELLED, *(ASSIGNED if differ else ())], rows), rows))
    lines += [
        "",
        "mIoU in %, after the last step, as BalConpas tests: pixels of no class learnt so far do not count.",
    ]
    if differ:
        lines.append("`assigned`, as SimCIS tests: nor do those that the method leaves in the background.")
    return lines


def _measured_table(cells: dict[str, list[str]], rows: Sequence[Row]) -> str:
    body = [
        [_name(row), *(column[position] for column in cells.values())] for position, row in enumerate(rows)
    ]
    return pipe_table(["method", *cells], body, set(cells))


def _cells(columns: Sequence[str], rows: Sequence[Row]) -> dict[str, list[str]]:
    """The cells of some measured columns by their headings."""
    return {f"{heading(column)} {arrow(column)}": _ranked(column, rows) for column in columns}


def _run_table(rows: Sequence[Row]) -> str:
    body = []
    for row in rows:
        size = None if row["parameters"] is None else row["parameters"] / 1e6
        published = " ".join(str(part) for part in (row["venue"], row["year"]) if part)
        cells = (row["title"], published, row["network"], row["backbone"])
        body.append(
            [
                f"[{_name(row)}]({row['url']})" if row["url"] else _name(row),
                *(_escape(str(cell)) if cell else MISSING for cell in cells),
                number(size, digits=2),
                str(row["replay_images"]),
                number(row["peak_memory_mb"], digits=0),
                _escape(row["provenance"]),
            ]
        )
    numbers = ["parameters (M)", "replay images", "memory (MB)"]
    headers = ["method", "paper", "published", "network", "backbone", *numbers, "provenance"]
    return pipe_table(headers, body, set(numbers))


def _name(row: Row) -> str:
    name = f"`{_escape(row['method'])}`"
    return f"{name} ({_escape(marks(row))})" if marks(row) else name


def _ranked(column: str, rows: Sequence[Row]) -> list[str]:
    """The cells of a column, the best bold and the second underlined."""
    cells = []
    for row, place in zip(rows, places(column, rows), strict=True):
        text = number(row[column], row[f"{column}_std"])
        cells.append(f"**{text}**" if place == 1 else f"<u>{text}</u>" if place == 2 else text)
    return cells


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
