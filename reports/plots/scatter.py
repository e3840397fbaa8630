"""Two numbers a method, one point each, named beside it: old against new, cost against quality."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.board import Board, Section
from reports.plots.frame import (
    FAINT,
    INK,
    LINE,
    OFFLINE_NOTE,
    SMALL,
    framed,
    limits,
    metric_of,
    quality_of,
    scale_axis,
    subtitle,
    without_result,
)
from reports.plots.labels import place, row_labels, text_width
from reports.plots.palette import look_of
from reports.rows import Row

WIDTH, HEIGHT = 380.0, 300.0
MANY_TIMES = 20
"""From so many times between the cheapest and the dearest on, the axis is logarithmic."""


def old_new(board: Board, section: Section) -> Figure | None:
    """Quality on the classes of the first step against that on those of all later steps."""
    rows = _with(section, "old", "new")
    if not rows:
        return None
    quality = quality_of(board)
    title = f"{board.name}: old against new classes, mean {quality} after the last step"
    figure, axes = _framed(board, section, title, rows)
    for which, column, meaning in (("x", "old", "first step"), ("y", "new", "later steps")):
        edges = [edge for row in rows for edge in _edges(row, column)]
        scale_axis(axes, which, limits(edges), f"mean {quality} of the classes of the {meaning} (%)")
    _points(axes, rows, "old", "new")
    return figure


def cost(board: Board, section: Section) -> Figure | None:
    """Quality after the last step against the minutes that all steps took to train."""
    rows = [row for row in _with(section, "train_minutes", "all") if row["train_minutes"] > 0]
    if not rows:
        return None
    metric = metric_of(board)
    figure, axes = _framed(board, section, f"{board.name}: {metric} against training time", rows)
    scale_axis(
        axes, "y", limits([e for row in rows for e in _edges(row, "all")]), f"{metric}, all classes (%)"
    )
    _minutes(axes, [row["train_minutes"] for row in rows])
    _points(axes, rows, "train_minutes", "all")
    return figure


def _with(section: Section, *columns: str) -> list[Row]:
    return [row for row in section.rows if all(row[column] is not None for column in columns)]


def _edges(row: Row, column: str) -> tuple[float, float]:
    spread = row.get(f"{column}_std") or 0.0
    return row[column] - spread, row[column] + spread


def _framed(board: Board, section: Section, title: str, rows: Sequence[Row]) -> tuple[Figure, Axes]:
    hollow = [f"stars: {OFFLINE_NOTE}"] if any(row["offline"] for row in rows) else []
    notes = [*hollow, *without_result(section)]
    return framed((title, subtitle(board, section)), notes, (WIDTH, HEIGHT), (40, 16, 34))


def _minutes(axes: Axes, minutes: Sequence[float]) -> None:
    low, high = min(minutes), max(minutes)
    if high <= MANY_TIMES * low:
        top = 1.08 * high
        scale_axis(axes, "x", (0.0, top), "training time of all steps (minutes)")
        return
    scale_axis(axes, "x", (low, high), "training time of all steps (minutes, logarithmic)")
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xlim(low / 1.3, high * 1.3)
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    units = (1,) if high > 300 * low else (1, 2, 5)
    marks = [unit * 10.0**decade for decade in decades for unit in units]
    marks = [mark for mark in marks if low / 1.3 <= mark <= high * 1.3]
    axes.set_xticks(marks, [f"{mark:g}" for mark in marks])


def _points(axes: Axes, rows: Sequence[Row], x: str, y: str) -> None:
    labels = row_labels(rows)
    spots = [tuple(axes.transLimits.transform(axes.transScale.transform((row[x], row[y])))) for row in rows]
    points = [(u * WIDTH, v * HEIGHT) for u, v in spots]
    sizes = [(text_width(label, SMALL), LINE - 2) for label in labels]
    places = place(points, sizes, (WIDTH, HEIGHT))
    for row, label, point, centre, size in zip(rows, labels, points, places, sizes, strict=True):
        look = look_of(row["method"], row["variant"])
        _cross(axes, row, x, y)
        axes.plot(
            [row[x]], [row[y]], color=look.colour, marker=look.marker, markersize=5.5, linestyle="none",
            label=label, clip_on=False,
        )  # fmt: skip
        _leader(axes, point, centre, size)
        axes.text(
            centre[0] / WIDTH, centre[1] / HEIGHT, label, size=SMALL, ha="center", va="center",
            transform=axes.transAxes,
        )  # fmt: skip


def _cross(axes: Axes, row: Row, x: str, y: str) -> None:
    """A thin cross of one standard deviation, where it is known."""
    colour = look_of(row["method"], row["variant"]).colour
    across, up = row.get(f"{x}_std"), row.get(f"{y}_std")
    if across is not None:
        axes.plot(_edges(row, x), [row[y]] * 2, color=colour, linewidth=0.8, label="_std")
    if up is not None:
        axes.plot([row[x]] * 2, _edges(row, y), color=colour, linewidth=0.8, label="_std")


def _leader(
    axes: Axes, point: tuple[float, float], centre: tuple[float, float], size: tuple[float, float]
) -> None:
    """A faint line from a point to the nearest edge of a label that is not beside it."""
    end = [
        min(max(at, middle - extent / 2), middle + extent / 2)
        for at, middle, extent in zip(point, centre, size, strict=True)
    ]
    if math.dist(point, end) > 10:
        axes.plot(
            [point[0] / WIDTH, end[0] / WIDTH], [point[1] / HEIGHT, end[1] / HEIGHT], color=INK,
            alpha=3 * FAINT, linewidth=0.5, transform=axes.transAxes, label="_leader", clip_on=False,
            zorder=1,
        )  # fmt: skip
