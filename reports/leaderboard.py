"""Leaderboards: records in; a data frame, three files a protocol, or a few lines for the terminal out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

import pandas as pd

from reports.card import announcement
from reports.codec import dumps
from reports.columns import METRICS, column_names, definitions
from reports.files import write_text
from reports.markdown import page
from reports.record import Record
from reports.rows import Row, build_rows, card_of
from reports.text import number, plain_table

DIGITS = 4
"""Decimals in CSV and JSON."""


def by_protocol(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records by protocol name, names in order, so that no table depends on the order of `records`."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda record: (record.method.name, record.scale, record.seed)):
        groups[record.protocol.name].append(record)
    return {name: groups[name] for name in sorted(groups)}


def by_task(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The records of one protocol by task; each has a card, rows and columns of its own."""
    tasks = {task: [record for record in records if record.protocol.task == task] for task in METRICS}
    return {task: members for task, members in tasks.items() if members}


def leaderboard(records: Sequence[Record]) -> pd.DataFrame:
    """The rows of one protocol, task after task; columns as in `reports.columns`, missing values NaN.

    Raises:
        ValueError: records of several protocols, or none.
    """
    return _frame(_all_rows(records))


def write_leaderboards(records: Sequence[Record], out_dir: Path) -> list[Path]:
    """Write `<out_dir>/<protocol>.md`, `.csv` and `.json`, each atomically; the paths written.

    Raises:
        ValueError: the folder cannot be written.
    """
    paths = []
    for name, members in by_protocol(records).items():
        rows = _all_rows(members)
        stem = name.replace("/", "-")
        texts = {"md": page(members, rows), "csv": _csv(rows), "json": _json(members, rows)}
        for suffix, text in texts.items():
            paths.append(out_dir / f"{stem}.{suffix}")
            write_text(paths[-1], text)
    return paths


def terminal_table(records: Sequence[Record]) -> str:
    """A short table a protocol, kind of data and scale, for the end of a run."""
    parts = []
    for name, members in by_protocol(records).items():
        kinds = groupby(_all_rows(members), key=lambda row: (row["task"], row["data"], row["scale"]))
        for (task, data, scale), rows in kinds:
            kind = (
                "SYNTHETIC stand-in, not comparable with published numbers" if data == "synthetic" else data
            )
            title = name if task == "semantic" else f"{name}, {task}"
            heading = f"{title} · {scale} scale · {kind} · {METRICS[task]} in %"
            parts.append(f"{heading}\n{_short_table(list(rows))}")
    return "\n\n".join(parts)


def _all_rows(records: Sequence[Record]) -> list[Row]:
    """The rows of one protocol, task after task.

    Raises:
        ValueError: records of several protocols, or none.
    """
    return [row for members in (by_task(records) or {"": []}).values() for row in build_rows(members)]


def _short_table(rows: Sequence[Row]) -> str:
    measured = ["old", "new", "all", "forgetting", "average"]
    body = []
    for row in rows:
        marks = [mark for mark in (row["origin"], row["variant"]) if mark and mark != "built-in"]
        name = f"{row['method']} ({'; '.join(marks)})" if marks else row["method"]
        values = [number(row[column], row[f"{column}_std"]) for column in measured]
        body.append([name, *values, number(row["train_minutes"]), row["status"]])
    headers = [
        "method",
        *(column if column != "average" else "avg" for column in measured),
        "minutes",
        "status",
    ]
    return plain_table(headers, body, {*headers[1:-1]})


def _frame(rows: Sequence[Row]) -> pd.DataFrame:
    frame = pd.DataFrame([{key: value for key, value in row.items() if key != "by_class"} for row in rows])
    measured = [name.removesuffix("_std") for name in frame.columns if name.endswith("_std")]
    floats = [*measured, *(f"{name}_std" for name in measured), "train_minutes", "peak_memory_mb"]
    wholes = ["seeds", "parameters", "replay_images", "year"]
    return frame.astype(dict.fromkeys(floats, "float64") | dict.fromkeys(wholes, "Int64"))


def _csv(rows: Sequence[Row]) -> str:
    return _frame(rows).round(DIGITS).to_csv(index=False, lineterminator="\n")


def _json(records: Sequence[Record], rows: Sequence[Row]) -> str:
    cards = {task: card_of(members) for task, members in by_task(records).items()}
    kinds = {row["data"] for row in rows}
    said = announcement(records[0].protocol.dataset_title, partly=len(kinds) > 1)
    content = {
        "announcement": said if "synthetic" in kinds else "",
        "protocols": {task: asdict(card) for task, card in cards.items()},
        "columns": list(dict.fromkeys(name for card in cards.values() for name in column_names(card))),
        "definitions": {task: definitions(card) for task, card in cards.items()},
        "rows": [{key: _rounded(value) for key, value in row.items()} for row in rows],
    }
    return dumps(content) + "\n"


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _rounded(item) for key, item in value.items()}
    return round(value, DIGITS) if isinstance(value, float) else value
