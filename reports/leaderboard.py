"""Leaderboards: records in; a data frame, files a protocol, or a few lines for the terminal out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from reports import latex
from reports.board import Board, build_boards
from reports.codec import dumps
from reports.columns import METRICS, column_names, definitions
from reports.files import write_text
from reports.markdown import page
from reports.record import Record
from reports.rows import DETAILS, Row, build_rows
from reports.text import number, plain_table

DIGITS = 4
"""Decimals in CSV and JSON."""


def leaderboard(records: Sequence[Record]) -> pd.DataFrame:
    """The rows of one protocol; columns as `reports.columns` defines them, missing values NaN.

    Raises:
        ValueError: records of several protocols, or none.
    """
    return _frame(build_rows(records))


def write_leaderboards(records: Iterable[Record], out_dir: Path) -> list[Path]:
    """Write `<out_dir>/<protocol>.md`, `.csv`, `.json` and `.tex` of each protocol; the paths written.

    Raises:
        ValueError: the folder cannot be written.
    """
    return [path for board in build_boards(records) for path in write_board(board, out_dir, list(TEXTS))]


def write_board(board: Board, out_dir: Path, formats: Iterable[str]) -> list[Path]:
    """Write one protocol's files in some of the formats of `TEXTS`, each atomically; the paths written."""
    paths = []
    for name in formats:
        paths.append(out_dir / f"{board.stem}.{name}")
        write_text(paths[-1], TEXTS[name](board))
    return paths


def terminal_table(boards: Iterable[Board]) -> str:
    """A short table a protocol, kind of data and scale, for the end of a run."""
    parts = []
    for board in boards:
        for section in board.sections:
            synthetic = section.data == "synthetic"
            kind = "SYNTHETIC stand-in, not comparable with published numbers" if synthetic else section.data
            heading = f"{board.name} · {section.scale} scale · {kind} · {METRICS[board.protocol.task]} in %"
            parts.append(f"{heading}\n{_short_table(section.rows)}")
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
    frame = pd.DataFrame([{key: row[key] for key in row if key not in DETAILS} for row in rows])
    measured = [name.removesuffix("_std") for name in frame.columns if name.endswith("_std")]
    of_seeds = [name for name in frame.columns if name.endswith(("_std", "_low", "_high"))]
    beside = ["p_value", "published", "difference", "train_minutes", "peak_memory_mb"]
    floats = [*measured, *of_seeds, *beside]
    wholes = ["seeds", "parameters", "replay_images", "year"]
    return frame.astype(dict.fromkeys(floats, "float64") | dict.fromkeys(wholes, "Int64"))


def _csv(board: Board) -> str:
    return _frame(board.rows).round(DIGITS).to_csv(index=False, lineterminator="\n")


def _json(board: Board) -> str:
    hidden = DETAILS.keys() - {"by_class", "all_by_seed"}
    content = {
        "announcement": board.announcement,
        "protocol": asdict(board.protocol),
        "columns": column_names(board.protocol),
        "definitions": definitions(board.protocol),
        "rows": [{key: _rounded(row[key]) for key in row if key not in hidden} for row in board.rows],
    }
    return dumps(content) + "\n"


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _rounded(item) for key, item in value.items()}
    return round(value, DIGITS) if isinstance(value, float) else value


TEXTS: dict[str, Callable[[Board], str]] = {"md": page, "csv": _csv, "json": _json, "tex": latex.page}
"""The formats of one file a protocol, and what makes each."""
