"""The tables of one section for the page: each row knows whose it is and whether its run failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.board import Section
from reports.columns import definitions, meaning
from reports.ranking import marks
from reports.record import ProtocolCard
from reports.rows import Row
from reports.tables import Cell, Column, Table, section_tables

SEARCHED = (
    *("method", "variant", "origin", "network", "backbone", "provenance"),
    *("title", "venue", "year", "status"),
)


@dataclass(frozen=True)
class Method:
    """What every table says of a row besides its cells."""

    offline: bool
    failure: str
    """The reason where no seed finished, else ""."""
    words: str
    """What the filter searches, in lower case."""


@dataclass(frozen=True)
class Line:
    """One row of a table."""

    position: int
    """Of its method among the section's rows."""
    cells: Sequence[Cell]


@dataclass(frozen=True)
class TableView:
    table: Table
    meanings: Sequence[str]
    """What each column means; "" where it need not be said."""
    lines: Sequence[Line]

    @property
    def heads(self) -> list[tuple[Column, str]]:
        return list(zip(self.table.columns, self.meanings, strict=True))

    @property
    def is_ranked(self) -> bool:
        return any(cell.place for line in self.lines for cell in line.cells)


def methods(rows: Sequence[Row]) -> list[Method]:
    return [
        Method(
            offline=row["offline"],
            failure="" if row["seeds"] else row["status"],
            words=" ".join(str(row[name]) for name in SEARCHED if row[name] is not None).lower(),
        )
        for row in rows
    ]


def table_views(protocol: ProtocolCard, section: Section) -> list[TableView]:
    meanings = definitions(protocol)
    positions = {(row["method"], marks(row)): position for position, row in enumerate(section.rows)}
    return [_view(table, meanings, positions) for table in section_tables(protocol, section)]


def _view(table: Table, meanings: Mapping[str, str], positions: Mapping[tuple[str, str], int]) -> TableView:
    return TableView(
        table=table,
        meanings=[meaning(column.name or column.heading, meanings) for column in table.columns],
        lines=[Line(positions[cells[0].text, cells[0].remark], cells) for cells in table.rows],
    )
