"""The metric over the steps: a line a method, named at its end."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from reports.board import Board, Section
from reports.columns import step_columns
from reports.plots.frame import (
    LINE,
    OFFLINE_NOTE,
    SMALL,
    finished,
    framed,
    limits,
    metric_of,
    scale_axis,
    subtitle,
    widest,
    without_result,
)
from reports.plots.labels import row_labels, spread
from reports.plots.palette import look_of
from reports.rows import Row

WIDTH, LOWEST = 300.0, 170.0


def steps(board: Board, section: Section) -> Figure | None:
    """`all` after each step, with a band of one standard deviation; offline methods as dashed levels."""
    rows = finished(section)
    if not rows:
        return None
    columns = step_columns(board.protocol)
    labels = row_labels(rows)
    metric = metric_of(board)
    height = max(LOWEST, (LINE - 0.5) * len(rows) + 10)
    notes = [*_meaning(rows), *without_result(section)]
    title = f"{board.name}: {metric} after each step"
    figure, axes = framed(
        (title, subtitle(board, section)), notes, (WIDTH, height), (40, widest(labels) + 40, 34)
    )
    edges = [edge for row in rows for column in columns for edge in _edges(row, column)]
    scale_axis(axes, "y", limits(edges), f"{metric}, all classes so far (%)")
    axes.set_xlim(-0.04 * len(columns), len(columns) - 1 + 0.04 * len(columns))
    every = -(-len(columns) // 12)
    axes.set_xticks(range(0, len(columns), every), [str(index) for index in range(0, len(columns), every)])
    axes.set_xlabel("after step", labelpad=4)
    for row, label in zip(rows, labels, strict=True):
        _draw(axes, row, label, columns)
    _name(axes, height, rows, labels, columns[-1])
    return figure


def _meaning(rows: list[Row]) -> list[str]:
    return [f"level lines: {OFFLINE_NOTE}"] if any(row["offline"] for row in rows) else []


def _edges(row: Row, column: str) -> list[float]:
    value, spread_ = row[column], row[f"{column}_std"] or 0.0
    return [] if value is None else [value - spread_, value + spread_]


def _draw(axes: Axes, row: Row, label: str, columns: list[str]) -> None:
    look = look_of(row["method"], row["variant"])
    if row["offline"]:
        axes.axhline(row[columns[-1]], color=look.colour, linestyle=look.dash, linewidth=1, label=label)
        return
    x = np.arange(len(columns))
    y = np.array([row[column] for column in columns], dtype=float)
    std = np.array([row[f"{column}_std"] for column in columns], dtype=float)
    axes.plot(
        x, y, color=look.colour, linestyle=look.dash, marker=look.marker, label=label,
        linewidth=1.3, markersize=4, markeredgewidth=0.9,
    )  # fmt: skip
    if np.isfinite(std).any():
        axes.fill_between(x, y - std, y + std, color=look.colour, alpha=0.16, linewidth=0, label=label)


def _name(axes: Axes, height: float, rows: list[Row], labels: list[str], column: str) -> None:
    """Each line's name right of its end, with a thin leader and the line's marker."""
    (low, high), (left, right) = axes.get_ylim(), axes.get_xlim()
    across, up = (right - left) / WIDTH, (high - low) / height
    ends = [row[column] for row in rows]
    places = spread(ends, (LINE - 0.5) * up, low + 4 * up, high - 4 * up)
    looks = [look_of(row["method"], row["variant"]) for row in rows]
    last = int(column.removeprefix("step_"))
    starts = [right if row["offline"] else last + 3 * across for row in rows]
    leaders = [
        [(start, end), (right + 3 * across, end), (right + 16 * across, place)]
        for start, end, place in zip(starts, ends, places, strict=True)
    ]
    axes.add_collection(
        LineCollection(leaders, colors=[look.colour for look in looks], linewidths=0.6, clip_on=False),
        autolim=False,
    )
    for look, label, place in zip(looks, labels, places, strict=True):
        axes.plot(
            [right + 22 * across], [place], color=look.colour, marker=look.marker, markersize=4,
            clip_on=False, scalex=False, scaley=False,
        )  # fmt: skip
        axes.text(right + 28 * across, place, label, size=SMALL, va="center_baseline")
