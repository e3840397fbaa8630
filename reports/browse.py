"""Published numbers by themselves: `report --published ade-100-10`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from difflib import get_close_matches

import pandas as pd

from reports.codec import dumps
from reports.markdown import table_lines
from reports.papers import FLAGS, ORIGINS, VOID, PublishedValue, published
from reports.tables import METHOD, Cell, Column, Table
from reports.text import plain_table

GROUPS = ("old", "new", "all", "average")
"""The groups of classes that have a column; others are steps and ranges of classes."""
FORMATS = ("txt", "md", "csv", "json")


def browse(protocols: Sequence[str], style: str = "txt") -> str:
    """What papers print for these protocols, as text in one of `FORMATS`.

    Raises:
        ValueError: no paper has numbers for one of them; names the nearest that some have.
    """
    values = [value for name in protocols for value in _values(name)]
    if style == "csv":
        return pd.DataFrame([_plain(value) for value in values]).to_csv(index=False, lineterminator="\n")
    if style == "json":
        return dumps([_plain(value) for value in values]) + "\n"
    tables = [table for name in protocols for table in _tables(name)]
    draw = _as_text if style == "txt" else _as_markdown
    return "\n\n".join(draw(table) for table in tables) + "\n"


def known_protocols() -> list[str]:
    """The protocols for which papers have numbers, in the order of their names."""
    return sorted({value.protocol for value in published()})


def _values(name: str) -> tuple[PublishedValue, ...]:
    found = published(name)
    if not found:
        near = get_close_matches(name, known_protocols(), n=3, cutoff=0.4) or known_protocols()[:5]
        raise ValueError(f"--published {name!r}: no paper here has numbers for it; near: {', '.join(near)}")
    return found


def _plain(value: PublishedValue) -> dict[str, object]:
    plain = asdict(value)
    return {name: " ".join(item) if isinstance(item, tuple) else item for name, item in plain.items()}


def _tables(name: str) -> list[Table]:
    """One table a metric and convention: what stands in one may be compared."""
    conventions: dict[tuple[str, bool, str], list[PublishedValue]] = {}
    for value in _values(name):
        conventions.setdefault((value.metric, value.background, value.void), []).append(value)
    return [_table(name, convention, values) for convention, values in sorted(conventions.items())]


def _table(name: str, convention: tuple[str, bool, str], values: Sequence[PublishedValue]) -> Table:
    metric, background, void = convention
    runs: dict[tuple[str, ...], list[PublishedValue]] = {}
    for value in values:
        method = f"{value.method}[{value.variant}]" if value.variant else value.method
        orders = "" if value.orders in (("a",), (name.partition("@")[2],)) else " ".join(value.orders)
        runs.setdefault((method, orders, value.origin, value.paper, value.source), []).append(value)
    groups = [group for group in GROUPS if any(value.group == group for value in values)]
    others = any(value.group not in GROUPS for value in values)
    columns = [METHOD, *(Column(group, is_number=True) for group in groups)]
    columns += [Column("other groups")] if others else []
    columns += [Column(heading) for heading in ("measured by", "source", "remarks")]
    body = []
    for (method, orders, origin, paper, source), run in sorted(runs.items(), key=_best_first):
        of_group = {value.group: f"{value.value:g}" for value in run}
        rest = [f"{group} {text}" for group, text in of_group.items() if group not in GROUPS]
        body.append(
            (
                Cell(method, code=True, remark=f"mean of the orders {orders}" if orders else ""),
                *(Cell(of_group.get(group, "")) for group in groups),
                *([Cell(", ".join(rest))] if others else []),
                Cell(origin),
                Cell(f"{paper}: {source}", url=run[0].url),
                Cell("; ".join(_remarks(run))),
            )
        )
    counted = f"background {'counted' if background else 'not counted'}" if metric == "mIoU" else ""
    notes = [f"{metric} in %. Void: {VOID[void]}."]
    notes += [f"{word}: {ORIGINS[word]}." for word in dict.fromkeys(value.origin for value in values)]
    notes += [f"{flag}: {FLAGS[flag]}." for flag in dict.fromkeys(f for v in values for f in v.flags)]
    return Table(
        ", ".join([f"{name}: published {metric}", *([counted] if counted else [])]),
        tuple(columns),
        tuple(body),
        tuple(notes),
    )


def _best_first(item: tuple[tuple[str, ...], list[PublishedValue]]) -> tuple[float, tuple[str, ...]]:
    whole = [value.value for value in item[1] if value.group == "all"]
    return -max(whole, default=0.0), item[0]


def _remarks(run: Sequence[PublishedValue]) -> list[str]:
    flags = dict.fromkeys(flag for value in run for flag in value.flags)
    notes = dict.fromkeys(part for value in run for part in value.note.split("; ") if part)
    return [*flags, *notes]


def _as_markdown(table: Table) -> str:
    return "\n".join(table_lines(table)).strip()


def _as_text(table: Table) -> str:
    headers = [column.heading for column in table.columns]
    body = [[f"{cell.text} ({cell.remark})" if cell.remark else cell.text for cell in r] for r in table.rows]
    numbers = {column.heading for column in table.columns if column.is_number}
    return "\n".join([table.title, *table.notes, "", plain_table(headers, body, numbers)])
