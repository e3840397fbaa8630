"""The tables of a leaderboard as cells, before a format is chosen: Markdown and LaTeX draw the same ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from reports.board import Section
from reports.columns import ASSIGNED, LABELLED, main_columns, step_columns
from reports.comparison import Comparison
from reports.ranking import arrow, heading, marks, places
from reports.record import ProtocolCard
from reports.rows import Row
from reports.text import MISSING, number, signed

SIGNIFICANT = 0.05
MARK = "†"


@dataclass(frozen=True)
class Column:
    """One column's head."""

    heading: str
    arrow: str = ""
    is_number: bool = False
    name: str = ""
    """The column of the CSV, by which `columns.meaning` knows it; "" where the heading is that name."""


@dataclass(frozen=True)
class Cell:
    """What stands in one place of a table."""

    text: str
    spread: str = ""
    """The standard deviation, printed behind a ±."""
    place: int | None = None
    """1 for the best of the column, 2 for the second."""
    mark: str = ""
    code: bool = False
    """Whether the text is a name on the command line."""
    remark: str = ""
    """What stands in brackets behind a name."""
    url: str = ""
    footnotes: tuple[int, ...] = ()
    """Numbers of the table's footnotes, from 1."""


@dataclass(frozen=True)
class Table:
    """One table: every row has a cell a column."""

    title: str
    """ "" for the first table of a section."""
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    """Sentences below the table."""
    footnotes: tuple[str, ...] = ()


METHOD = Column("method")


def section_tables(protocol: ProtocolCard, section: Section) -> list[Table]:
    """Everything that a section shows: the main table first, then what not every protocol or run has."""
    rows = section.rows
    return [
        main_table(protocol, rows),
        *_published(rows),
        *_labelled(rows),
        _measured("After each step", step_columns(protocol), rows),
        _run(rows),
    ]


def main_table(protocol: ProtocolCard, rows: Sequence[Row]) -> Table:
    """The table that people cite: the groups of classes, what papers have, seeds, minutes and status."""
    columns = main_columns(protocol)
    measured = _columns_of(columns)
    cells = [_cells(column, rows) for column in columns]
    has_interval = any(row["all_low"] is not None for row in rows)
    if has_interval:
        measured.append(Column("95 % interval of all", is_number=True, name="all_low"))
        cells.append([_interval(row) for row in rows])
    footnotes = list(dict.fromkeys(remark for row in rows for remark in _headline_remarks(row)))
    if any(row["comparisons"] for row in rows):
        measured += [Column("published", is_number=True), Column("difference", is_number=True)]
        cells.append([_published_cell(row, footnotes) for row in rows])
        cells.append([Cell(signed(row["difference"])) for row in rows])
    measured += [
        Column("seeds", is_number=True),
        Column("minutes", is_number=True, name="train_minutes"),
        Column("status"),
    ]
    cells.append([Cell(str(row["seeds"])) for row in rows])
    cells.append([Cell(number(row["train_minutes"])) for row in rows])
    cells.append([Cell(row["status"]) for row in rows])
    return Table(
        "",
        (METHOD, *measured),
        _transposed([[_name(row) for row in rows], *cells]),
        (_ranking_note(rows), *_main_notes(rows, has_interval)),
        tuple(footnotes),
    )


def _main_notes(rows: Sequence[Row], has_interval: bool) -> Iterable[str]:
    if any(row["offline"] for row in rows):
        yield "Methods that train all steps as one are an upper bound and not ranked."
    if any(_is_significant(row) for row in rows):
        yield (
            f"{MARK} `all` differs from the best row's by more than chance: paired t-test over the same "
            f"seeds, Holm-corrected p < {SIGNIFICANT}."
        )
    if has_interval:
        yield "95 % interval: percentile bootstrap over seeds; with few seeds rather too narrow."
    if any(row["comparisons"] for row in rows):
        yield (
            "Published: the paper's own number where data, task, setting and the counting of background and "
            "void are the same; difference: measured minus published, in points."
        )


def _ranking_note(rows: Sequence[Row]) -> str:
    return f"{rows[0]['metric']} in %, after the last step; forgetting in points. {MISSING} is not defined."


def _headline_remarks(row: Row) -> list[str]:
    """The footnotes of a row's published number."""
    if not row["comparisons"]:
        return []
    first: Comparison = row["comparisons"][0]
    other = [] if first.column == "all" else [f"compared with `{first.column}`, as the paper counts"]
    return [*other, *first.remarks]


def _published_cell(row: Row, footnotes: Sequence[str]) -> Cell:
    found = _headline_remarks(row)
    url = row["comparisons"][0].published.url if row["comparisons"] else ""
    return Cell(
        _as_printed(row["published"]),
        url=url,
        footnotes=tuple(footnotes.index(remark) + 1 for remark in found),
    )


def _as_printed(value: float | None) -> str:
    """With the decimals that the paper gives."""
    return MISSING if value is None else f"{value:g}"


def _published(rows: Sequence[Row]) -> list[Table]:
    """All numbers of papers that have a measured counterpart."""
    pairs = [(row, found) for row in rows for found in row["comparisons"]]
    if not pairs:
        return []
    numbers = ("measured", "published", "difference")
    columns = (METHOD, Column("column"), *(Column(name, is_number=True) for name in numbers))
    body = tuple(
        (
            _name(row),
            Cell(heading(found.column)),
            Cell(number(row[found.column])),
            Cell(_as_printed(found.published.value)),
            Cell(signed(found.difference)),
            Cell(f"{found.published.paper}: {found.published.source}", url=found.published.url),
            Cell("; ".join(found.remarks) or MISSING),
        )
        for row, found in pairs
    )
    return [Table("Beside the papers", (*columns, Column("source"), Column("remarks")), body)]


def _labelled(rows: Sequence[Row]) -> list[Table]:
    """The table of the evaluations that test labelled pixels alone, where a row has them."""
    if all(row.get(LABELLED[0]) is None for row in rows):
        return []
    pairs = [(row[one], row[other]) for row in rows for one, other in zip(LABELLED, ASSIGNED, strict=True)]
    differ = any(number(one) != number(other) for one, other in pairs)
    notes = [
        "mIoU in %, after the last step, as BalConpas tests: pixels of no class learnt so far do not count."
    ]
    if differ:
        notes.append("`assigned`, as SimCIS tests: nor do those that the method leaves in the background.")
    table = _measured("Labelled pixels only", [*LABELLED, *(ASSIGNED if differ else ())], rows)
    return [replace(table, notes=tuple(notes))]


def _measured(title: str, columns: Sequence[str], rows: Sequence[Row]) -> Table:
    cells = [[_name(row) for row in rows], *(_cells(column, rows) for column in columns)]
    return Table(title, (METHOD, *_columns_of(columns)), _transposed(cells))


def _run(rows: Sequence[Row]) -> Table:
    columns = [
        Column("paper", name="title"),
        Column("published", name="venue"),
        Column("network"),
        Column("backbone"),
        Column("parameters (M)", is_number=True, name="parameters"),
        Column("replay images", is_number=True, name="replay_images"),
        Column("memory (MB)", is_number=True, name="peak_memory_mb"),
        Column("provenance"),
    ]
    body = []
    for row in rows:
        size = None if row["parameters"] is None else row["parameters"] / 1e6
        venue = " ".join(str(part) for part in (row["venue"], row["year"]) if part)
        texts = [row["title"], venue, row["network"], row["backbone"]]
        texts += [number(size, digits=2), str(row["replay_images"]), number(row["peak_memory_mb"], digits=0)]
        cells = [Cell(text or MISSING) for text in (*texts, row["provenance"])]
        body.append((replace(_name(row), url=row["url"]), *cells))
    return Table("What was run", (METHOD, *columns), tuple(body))


def _columns_of(columns: Sequence[str]) -> list[Column]:
    return [Column(heading(column), arrow(column), is_number=True, name=column) for column in columns]


def _cells(column: str, rows: Sequence[Row]) -> list[Cell]:
    """The cells of a measured column, the best and the second marked."""
    return [
        Cell(
            number(row[column]),
            "" if row[f"{column}_std"] is None else number(row[f"{column}_std"]),
            place,
            MARK if column == "all" and _is_significant(row) else "",
        )
        for row, place in zip(rows, places(column, rows), strict=True)
    ]


def _is_significant(row: Row) -> bool:
    return row["p_value"] is not None and row["p_value"] < SIGNIFICANT


def _interval(row: Row) -> Cell:
    low, high = row["all_low"], row["all_high"]
    return Cell(MISSING if low is None else f"{number(low)} to {number(high)}")


def _name(row: Row) -> Cell:
    return Cell(row["method"], code=True, remark=marks(row))


def _transposed(columns: Sequence[Sequence[Cell]]) -> tuple[tuple[Cell, ...], ...]:
    return tuple(zip(*columns, strict=True))
