"""The metric over the steps: a line a method, named at its end."""

from __future__ import annotations

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from reports.board import Board, Section
from reports.columns import step_columns
from reports.plots.frame import (
    LINE,
    OFFLINE_NOTE,
    SMALL,
    Frame,
    finished,
    framed,
    limits,
    metric_of,
    subtitle,
    widest,
    without_result,
)
from reports.plots.labels import row_labels, spread
from reports.plots.palette import look_of
from reports.rows import Row

WIDTH, LOWEST = 300.0, 170.0
MARKERS = 8
"""At most so many steps of a line have a marker, the last among them."""
APART = LINE - 0.5
"""Points from one name to the next."""


def steps(board: Board, section: Section) -> Figure | None:
    """`all` after each step, with a band of one standard deviation; offline methods as dashed levels."""
    rows, columns = finished(section), step_columns(board.protocol)
    if not rows or len(columns) < 2:
        return None
    labels = row_labels(rows)
    metric = metric_of(board)
    offline = any(row["offline"] for row in rows)
    frame = framed(
        (f"{board.name}: {metric} after each step", subtitle(board, section, "bands")),
        [*([f"level lines: {OFFLINE_NOTE}"] if offline else []), *without_result(section)],
        (WIDTH, max(LOWEST, APART * len(rows) + 10)),
        (40, widest(labels) + 38, 30),
    )
    edges = [edge for row in rows for column in columns for edge in _edges(row, column)]
    frame.scale("y", limits(edges), f"{metric}, all classes so far (%)")
    last = len(columns) - 1
    every = -(-len(columns) // 12)
    frame.scale("x", (0, last), "after step", list(range(0, len(columns), every)), room=0.04)
    for row, label in zip(rows, labels, strict=True):
        _draw(frame, row, label, columns)
    _name(frame, rows, labels, last)
    return frame.figure


def _edges(row: Row, column: str) -> list[float]:
    value, deviation = row[column], row[f"{column}_std"] or 0.0
    return [] if value is None else [value - deviation, value + deviation]


def _draw(frame: Frame, row: Row, label: str, columns: list[str]) -> None:
    look, axes = look_of(row["method"], row["variant"]), frame.axes
    if row["offline"]:
        axes.axhline(row[columns[-1]], color=look.colour, linestyle=look.dash, linewidth=1, label=label)
        return
    x = np.arange(len(columns))
    y = np.array([row[column] for column in columns], dtype=float)
    std = np.array([row[f"{column}_std"] for column in columns], dtype=float)
    every = -(-len(x) // MARKERS)
    axes.plot(
        x, y, color=look.colour, linestyle=look.dash, marker=look.marker, label=label,
        linewidth=1.3, markersize=4, markeredgewidth=0.9, scalex=False, scaley=False,
        markevery=((len(x) - 1) % every, every),
    )  # fmt: skip
    if np.isfinite(std).any():
        axes.fill_between(x, y - std, y + std, color=look.colour, alpha=0.16, linewidth=0, label=label)


def _name(frame: Frame, rows: list[Row], labels: list[str], last: int) -> None:
    """Each line's name right of its end, with a thin leader and the line's marker."""
    axes = frame.axes
    (low, high), (left, right) = axes.get_ylim(), axes.get_xlim()
    across, up = (right - left) / frame.width, (high - low) / frame.height
    ends = [row[f"step_{last}"] for row in rows]
    places = spread(ends, APART * up, low + 4 * up, high - 4 * up)
    looks = [look_of(row["method"], row["variant"]) for row in rows]
    leaders = []
    for row, end, place in zip(rows, ends, places, strict=True):
        start = right if row["offline"] else last + 3 * across
        leaders.append([(start, end), (right + 3 * across, end), (right + 16 * across, place)])
    colours = [look.colour for look in looks]
    lines = LineCollection(leaders, colors=colours, linewidths=0.6, clip_on=False, label="_leaders")
    axes.add_collection(lines, autolim=False)
    for look, label, place in zip(looks, labels, places, strict=True):
        axes.plot(
            [right + 22 * across], [place], color=look.colour, marker=look.marker, markersize=4,
            clip_on=False, scalex=False, scaley=False, label="_key",
        )  # fmt: skip
        axes.text(right + 28 * across, place, label, size=SMALL, va="center_baseline")
