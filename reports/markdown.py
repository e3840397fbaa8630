"""A leaderboard as a Markdown page for GitHub."""

from __future__ import annotations

from collections.abc import Sequence

from reports.board import Board, Section
from reports.card import card_lines
from reports.columns import (
    ASSIGNED,
    LABELLED,
    LOWER_IS_BETTER,
    definitions,
    main_columns,
    step_columns,
)
from reports.record import ProtocolCard, Record
from reports.rows import Row
from reports.text import MISSING, number, pipe_table
from reports.variants import flat_recipe

HIGHER = "↑"
LOWER = "↓"
HEADINGS = {"sq": "SQ", "rq": "RQ", "ap50": "AP50", "ap75": "AP75"}


def page(board: Board) -> str:
    """The whole page: announcement, card, a section for each kind of data and scale, definitions."""
    protocol = board.protocol
    lines = [board.announcement, ""] if board.announcement else []
    title = f"{protocol.name}: {protocol.title}" if protocol.title else protocol.name
    lines += [f"# {title}", "", *card_lines(protocol)]
    for section in board.sections:
        lines += ["", *_section(protocol, section)]
    lines += ["", "## Columns", ""]
    lines += [f"- `{column}`: {meaning}" for column, meaning in definitions(protocol).items()]
    return "\n".join(lines) + "\n"


def _section(protocol: ProtocolCard, section: Section) -> list[str]:
    rows, records = section.rows, section.records
    images = dict.fromkeys(f"{record.data.train_images} training" for record in records)
    tested = dict.fromkeys(f"{record.data.val_images} validation" for record in records)
    lines = [
        f"## {section.title}",
        "",
        f"- **Images:** {', '.join(images)}; {', '.join(tested)}",
        f"- **Seeds:** {_seeds(rows)}",
        *_recipe(records),
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


def _seeds(rows: Sequence[Row]) -> str:
    seeds = sorted({int(seed) for row in rows for seed in row["seed_list"].split()})
    spread = "; mean ± standard deviation where two or more finished" if len(seeds) > 1 else ""
    return (", ".join(map(str, seeds)) or "none finished") + spread


def _recipe(records: Sequence[Record]) -> list[str]:
    """The recipe that all rows share, and what single methods have otherwise."""
    recipes = {record.method.name: flat_recipe(record) for record in records}
    keys = sorted({key for recipe in recipes.values() for key in recipe})
    shared = [key for key in keys if len({recipe.get(key) for recipe in recipes.values()}) == 1]
    lines = []
    if shared:
        first = next(iter(recipes.values()))
        lines.append("- **Recipe:** " + ", ".join(f"{key} = {first[key]}" for key in shared))
    for name, recipe in recipes.items():
        own = ", ".join(f"{key} = {value}" for key, value in sorted(recipe.items()) if key not in shared)
        if own:
            lines.append(f"  - `{name}` alone: {own}")
    return lines


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
    arrows = {column: LOWER if column in LOWER_IS_BETTER else HIGHER for column in columns}
    return {f"{_heading(column)} {arrow}": _ranked(column, rows, arrow) for column, arrow in arrows.items()}


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
    marks = [] if row["origin"] == "built-in" else [row["origin"]]
    marks += [row["variant"]] if row["variant"] else []
    return f"{name} ({_escape('; '.join(marks))})" if marks else name


def _heading(column: str) -> str:
    if column in HEADINGS:
        return HEADINGS[column]
    return column.replace("_no_background", " without background").removesuffix("_labelled").replace("_", " ")


def _ranked(column: str, rows: Sequence[Row], arrow: str) -> list[str]:
    """The cells of a column, the best bold and the second underlined, by the value as printed."""
    ranked = [row for row in rows if row[column] is not None and not row["offline"]]
    values = sorted({round(row[column], 1) for row in ranked}, reverse=arrow == HIGHER)
    cells = []
    for row in rows:
        text = number(row[column], row[f"{column}_std"])
        value = None if row[column] is None or row["offline"] else round(row[column], 1)
        if value is not None and len(ranked) > 1 and value in values[:2]:
            text = f"**{text}**" if value == values[0] else f"<u>{text}</u>"
        cells.append(text)
    return cells


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
