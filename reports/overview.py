"""All protocols side by side: who was run where, and how much depends on the order of the classes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean, stdev

import pandas as pd

from reports.board import Board, Section
from reports.columns import METRICS
from reports.facts import STAND_IN
from reports.markdown import table_lines
from reports.ranking import HIGHER, marks, places
from reports.rows import Row
from reports.tables import METHOD, Cell, Column, Table
from reports.text import MISSING, number

NOT_RUN = "not run"
COLUMNS = (
    *("protocol", "task", "data", "scale", "method", "variant", "status", "metric"),
    *("old", "new", "all", "all_std", "forgetting", "average", "seeds", "train_minutes", "parameters"),
)
"""Of the CSV: one line a row of any leaderboard."""
Kind = tuple[str, str, str]
"""What may stand in one table: task, kind of data, scale."""
Key = tuple[str, str]
"""A row's name, and what tells it from others of its name."""
Place = tuple[str, Section]
"""A section and the name of its board."""


def page(boards: Sequence[Board]) -> str:
    """The Markdown page: for each task, kind of data and scale a table methods x protocols; the orders."""
    kinds = _kinds(boards)
    lines = []
    if any(data == "synthetic" for _, data, _ in kinds):
        lines += [f"> **{STAND_IN}** Tables marked synthetic are not comparable with published numbers.", ""]
    lines += ["# All protocols", ""]
    for table in (*overviews(boards), *order_tables(boards)):
        lines += [*table_lines(table), ""]
    return "\n".join(lines).rstrip() + "\n"


def csv(boards: Sequence[Board]) -> str:
    """One line a row of any leaderboard; `COLUMNS`."""
    rows = [{"protocol": board.name, **row} for board in boards for row in board.rows]
    frame = pd.DataFrame([{name: row.get(name) for name in COLUMNS} for row in rows], columns=list(COLUMNS))
    return frame.round(4).to_csv(index=False, lineterminator="\n")


def overviews(boards: Sequence[Board]) -> list[Table]:
    """Of each task, kind of data and scale: `all` after the last step, rows methods, columns protocols."""
    return [_overview(kind, protocols) for kind, protocols in _kinds(boards).items()]


def order_tables(boards: Sequence[Board]) -> list[Table]:
    """Of each protocol that was run in two class orders or more: how `all` varies with the order."""
    orders: dict[tuple[str, Kind], dict[str, Section]] = defaultdict(dict)
    for kind, protocols in _kinds(boards).items():
        for name, section in protocols:
            base, _, order = name.partition("@")
            orders[base, kind][order or "a"] = section
    return [_orders(*key, sections) for key, sections in sorted(orders.items()) if len(sections) > 1]


def _kinds(boards: Iterable[Board]) -> dict[Kind, list[Place]]:
    kinds: dict[Kind, list[Place]] = defaultdict(list)
    for board in boards:
        for section in board.sections:
            kinds[board.protocol.task, section.data, section.scale].append((board.name, section))
    return dict(sorted(kinds.items()))


def _overview(kind: Kind, protocols: Sequence[Place]) -> Table:
    cells = [_cells(section.rows) for _, section in protocols]
    values = _values(section for _, section in protocols)
    best_first = sorted(values, key=lambda key: (-len(values[key]), -_mean(values[key]), key))
    columns = [Column(name, HIGHER, is_number=True) for name, _ in protocols]
    body = [
        (Cell(key[0], code=True, remark=key[1]), *(of_place.get(key, Cell(NOT_RUN)) for of_place in cells))
        for key in best_first
    ]
    task, title = kind[0], protocols[0][1].title
    note = f"{METRICS[task]} of all classes in %, after the last step; `{NOT_RUN}`: no record of it."
    return Table(f"{task}, {title}", (METHOD, *columns), tuple(body), (note,))


def _key(row: Row) -> Key:
    return row["method"], marks(row)


def _cells(rows: Sequence[Row]) -> dict[Key, Cell]:
    return {
        _key(row): Cell(row["status"].partition(":")[0])
        if row["all"] is None
        else Cell(number(row["all"]), "" if row["all_std"] is None else number(row["all_std"]), place)
        for row, place in zip(rows, places("all", rows), strict=True)
    }


def _values(sections: Iterable[Section]) -> dict[Key, list[float]]:
    """`all` of each row in every section where it has one; a row that always failed has none."""
    values: dict[Key, list[float]] = {}
    for section in sections:
        for row in section.rows:
            values.setdefault(_key(row), []).extend([] if row["all"] is None else [row["all"]])
    return values


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0


def _orders(base: str, kind: Kind, sections: dict[str, Section]) -> Table:
    values = {key: found for key, found in _values(sections.values()).items() if found}
    numbers = ("orders", "mean", "standard deviation", "worst", "best")
    body = [
        (
            Cell(name, code=True, remark=remark),
            Cell(f"{len(of_orders)} of {len(sections)}"),
            Cell(number(fmean(of_orders))),
            Cell(number(stdev(of_orders)) if len(of_orders) > 1 else MISSING),
            Cell(number(min(of_orders))),
            Cell(number(max(of_orders))),
        )
        for (name, remark), of_orders in sorted(values.items(), key=lambda item: -fmean(item[1]))
    ]
    meant = f"{METRICS[kind[0]]} of all classes in %, after the last step"
    note = f"{meant}, over the class orders {', '.join(sections)}."
    columns = (METHOD, *(Column(heading, is_number=True) for heading in numbers))
    title = next(iter(sections.values())).title
    return Table(f"{base}: class orders, {title}", columns, tuple(body), (note,))
