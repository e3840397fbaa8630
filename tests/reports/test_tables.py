"""The tables before a format: intervals, significance, published numbers, and what is left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from reports.board import Section, build_boards
from reports.comparison import Comparison
from reports.papers import published
from reports.record import Record
from reports.tables import Cell, Table, main_table, section_tables

Make = Callable[..., Record]


def series(last: int) -> list[list[int]]:
    return [[90, 60, 50], [90, 50, 40, 30], [90, 40, 30, 30, last]]


def only_section(records: list[Record]) -> Section:
    (board,) = build_boards(records)
    (section,) = board.sections
    return section


def column(table: Table, heading: str) -> list[Cell]:
    position = [each.heading for each in table.columns].index(heading)
    return [row[position] for row in table.rows]


@pytest.fixture
def three_seeds(make: Make) -> Section:
    """`mib` is 10 points of one class better than `plop` on each of three seeds, but for one point."""
    better = [make(series(40 + seed), "mib", seed) for seed in range(3)]
    worse = [make(series(30 + seed + (seed == 1)), "plop", seed) for seed in range(3)]
    return only_section([*better, *worse])


def test_interval_and_mark_from_three_seeds(three_seeds: Section, make: Make) -> None:
    table = main_table(three_seeds.records[0].protocol, three_seeds.rows)
    assert [cell.mark for cell in column(table, "all")] == ["", "†"]
    assert column(table, "95 % interval of all")[0].text == "46.0 to 46.4"
    assert sum("paired t-test" in note for note in table.notes) == 1
    two = only_section([record for record in three_seeds.records if record.seed < 2])
    table = main_table(two.records[0].protocol, two.rows)
    assert {cell.mark for cell in column(table, "all")} == {""}
    assert all("interval" not in each.heading for each in table.columns)


def test_seeds_that_a_row_lacks_are_named(three_seeds: Section, make: Make) -> None:
    more = only_section([*three_seeds.records, make(series(10), "finetune", 1)])
    status = {row["method"]: row["status"] for row in more.rows}
    assert status == {"mib": "ok", "plop": "ok", "finetune": "ok; not run: seeds 0, 2"}


def test_published_numbers_only_where_a_row_has_one(three_seeds: Section) -> None:
    protocol = three_seeds.records[0].protocol
    titles = [table.title for table in section_tables(protocol, three_seeds)]
    assert titles == ["", "After each step", "What was run"]
    value = next(row for row in published("voc-15-1") if row.method == "plop" and row.column == "all")
    found = Comparison("all", value, -0.54, ("second-hand, measured by others", "not reproduced"))
    other = Comparison("old", value, 1.25, ())
    rows = [
        three_seeds.rows[0],
        three_seeds.rows[1]
        | {"comparisons": (found, other), "published": 54.64, "difference": -0.54, "published_column": "all"},
    ]
    table = main_table(protocol, rows)
    assert [cell.text for cell in column(table, "published")] == ["—", "54.64"]
    assert [cell.text for cell in column(table, "difference")] == ["—", "−0.5"]
    assert column(table, "published")[1].footnotes == (1, 2)
    assert table.footnotes == ("second-hand, measured by others", "not reproduced")
    beside = section_tables(protocol, replace(three_seeds, rows=tuple(rows)))[1]
    assert beside.title == "Beside the papers"
    assert [[cell.text for cell in row[1:5]] for row in beside.rows] == [
        ["all", "44.3", "54.64", "−0.5"],
        ["old", "53.3", "54.64", "+1.2"],
    ]
    assert beside.rows[1][-1].text == "—"


def test_best_and_second(three_seeds: Section) -> None:
    table = main_table(three_seeds.records[0].protocol, three_seeds.rows)
    assert [cell.place for cell in column(table, "all")] == [1, 2]
    assert [cell.spread for cell in column(table, "all")] == ["0.2", "0.2"]
