"""Leaderboards: records in; a data frame, three files a protocol, or a few lines for the terminal out."""

from __future__ import annotations

from collections import Counter, defaultdict
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
    """Records by protocol name, names in order, so that no table depends on the order of `records`.

    Where a user has given one name to protocols of several tasks, the task is added to it.
    """
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda record: (record.method.name, record.scale, record.seed)):
        groups[record.protocol.name, record.protocol.task].append(record)
    names = Counter(name for name, _ in groups)
    return {
        name if names[name] == 1 else f"{name}-{task}": groups[name, task] for name, task in sorted(groups)
    }


def leaderboard(records: Sequence[Record]) -> pd.DataFrame:
    """The rows of one protocol; columns as `reports.columns` defines them, missing values NaN.

    Raises:
        ValueError: records of several protocols, or none.
    """
    return _frame(build_rows(records))


def write_leaderboards(records: Sequence[Record], out_dir: Path) -> list[Path]:
    """Write `<out_dir>/<protocol>.md`, `.csv` and `.json`, each atomically; the paths written.

    Raises:
        ValueError: the folder cannot be written.
    """
    paths = []
    for name, members in by_protocol(records).items():
        rows = build_rows(members)
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
        for (data, scale), rows in groupby(build_rows(members), key=lambda row: (row["data"], row["scale"])):
            kind = (
                "SYNTHETIC stand-in, not comparable with published numbers" if data == "synthetic" else data
            )
            heading = f"{name} · {scale} scale · {kind} · {METRICS[members[0].protocol.task]} in %"
            parts.append(f"{heading}\n{_short_table(list(rows))}")
    return "\n\n".join(parts)


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
    protocol = card_of(records)
    kinds = {row["data"] for row in rows}
    content = {
        "announcement": announcement(protocol.dataset_title, len(kinds) > 1) if "synthetic" in kinds else "",
        "protocol": asdict(protocol),
        "columns": column_names(protocol),
        "definitions": definitions(protocol),
        "rows": [{key: _rounded(value) for key, value in row.items()} for row in rows],
    }
    return dumps(content) + "\n"


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _rounded(item) for key, item in value.items()}
    return round(value, DIGITS) if isinstance(value, float) else value
