"""The tables over all protocols: methods x protocols, and class orders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import StringIO

import pandas as pd
import pytest

from reports import overview
from reports.board import Board, build_boards
from reports.record import Record

Make = Callable[..., Record]


def series(last: int) -> list[list[int]]:
    return [[90, 60, 50], [90, 50, 40, 30], [90, 40, 30, 30, last]]


def named(record: Record, name: str) -> Record:
    return replace(record, protocol=replace(record.protocol, name=name))


@pytest.fixture
def boards(make: Make) -> list[Board]:
    """mib: 42 on order a, 44 on order b; plop: 46 on a alone; finetune: failed; another protocol: mib."""
    failed = make([], "finetune", reason="loss is NaN")
    records = [make(series(20)), make(series(40), "plop"), failed]
    records += [named(make(series(30)), "pets-2-1@b"), named(make(series(60)), "zoo-1")]
    return build_boards(records)


def test_methods_by_protocols(boards: list[Board]) -> None:
    (table,) = overview.overviews(boards)
    assert table.title == "semantic, mini scale, real data"
    assert [column.heading for column in table.columns] == ["method", "pets-2-1", "pets-2-1@b", "zoo-1"]
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["mib", "42.0", "44.0", "50.0"],
        ["plop", "46.0", "not run", "not run"],
        ["finetune", "failed", "not run", "not run"],
    ]
    assert [row[1].place for row in table.rows] == [2, 1, None]


def test_class_orders(boards: list[Board]) -> None:
    (table,) = overview.order_tables(boards)
    assert table.title == "pets-2-1: class orders, mini scale, real data"
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["plop", "1 of 2", "46.0", "—", "46.0", "46.0"],
        ["mib", "2 of 2", "43.0", "1.4", "42.0", "44.0"],
    ]
    assert "over the class orders a, b" in table.notes[0]
    assert overview.order_tables(boards[2:]) == []


def test_kinds_of_data_are_never_in_one_table(make: Make, boards: list[Board]) -> None:
    drawn = make(series(20))
    synthetic = replace(drawn, data=replace(drawn.data, synthetic=True))
    tables = overview.overviews(build_boards([make(series(20)), synthetic]))
    assert [table.title for table in tables] == [
        "semantic, mini scale, real data",
        "semantic, mini scale, synthetic stand-in data",
    ]
    page = overview.page(build_boards([synthetic]))
    assert page.startswith("> **Synthetic stand-in.**")
    assert not overview.page(boards).startswith(">")


def test_csv_has_a_line_a_row(boards: list[Board]) -> None:
    frame = pd.read_csv(StringIO(overview.csv(boards)))
    assert tuple(frame.columns) == overview.COLUMNS
    assert list(zip(frame["protocol"], frame["method"], strict=True)) == [
        ("pets-2-1", "plop"),
        ("pets-2-1", "mib"),
        ("pets-2-1", "finetune"),
        ("pets-2-1@b", "mib"),
        ("zoo-1", "mib"),
    ]
    assert list(frame["all"].dropna()) == pytest.approx([46, 42, 44, 50], abs=1e-3)
