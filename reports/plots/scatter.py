"""Two numbers a method, one point each, named beside it: old against new, cost against quality."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from reports.board import Board, Section
from reports.plots.frame import (
    FAINT,
    INK,
    LINE,
    OFFLINE_NOTE,
    SMALL,
    Frame,
    framed,
    limits,
    metric_of,
    quality_of,
    subtitle,
    without_result,
)
from reports.plots.labels import BESIDE, place, row_labels, text_width
from reports.plots.palette import look_of
from reports.rows import Row

WIDTH, HEIGHT = 380.0, 300.0
MANY_TIMES = 20
"""From so many times between the cheapest and the dearest on, the axis is logarithmic."""
Point = tuple[float, float]


def old_new(board: Board, section: Section) -> Figure | None:
    """Quality on the classes of the first step against that on those of all later steps."""
    rows = _with(section, "old", "new")
    if not rows:
        return None
    quality = quality_of(board)
    frame = _framed(
        board, section, f"{board.name}: old against new classes, mean {quality} after the last step", rows
    )
    for which, column, meaning in (("x", "old", "first step"), ("y", "new", "later steps")):
        edges = [edge for row in rows for edge in _edges(row, column)]
        frame.scale(which, limits(edges), f"mean {quality} of the classes of the {meaning} (%)")
    _points(frame, rows, "old", "new")
    return frame.figure


def cost(board: Board, section: Section) -> Figure | None:
    """Quality after the last step against the minutes that all steps took to train."""
    rows = [row for row in _with(section, "train_minutes", "all") if row["train_minutes"] > 0]
    if not rows:
        return None
    metric = metric_of(board)
    frame = _framed(board, section, f"{board.name}: {metric} against training time", rows)
    edges = [edge for row in rows for edge in _edges(row, "all")]
    frame.scale("y", limits(edges), f"{metric}, all classes (%)")
    _minutes(frame, [row["train_minutes"] for row in rows])
    _points(frame, rows, "train_minutes", "all")
    return frame.figure


def _with(section: Section, *columns: str) -> list[Row]:
    return [row for row in section.rows if all(row[column] is not None for column in columns)]


def _edges(row: Row, column: str) -> tuple[float, float]:
    deviation = row.get(f"{column}_std") or 0.0
    return row[column] - deviation, row[column] + deviation


def _framed(board: Board, section: Section, title: str, rows: Sequence[Row]) -> Frame:
    stars = [f"stars: {OFFLINE_NOTE}"] if any(row["offline"] for row in rows) else []
    texts = (title, subtitle(board, section, "crosses"))
    return framed(texts, [*stars, *without_result(section)], (WIDTH, HEIGHT), (40, 16, 30))


def _minutes(frame: Frame, minutes: Sequence[float]) -> None:
    low, high = min(minutes), max(minutes)
    if high <= MANY_TIMES * low:
        frame.scale("x", (0.0, 1.05 * high), "training time of all steps (minutes)")
        return
    units = (1,) if high > 300 * low else (1, 2, 5)
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    marks = [round(unit * 10.0**decade, -decade) for decade in decades for unit in units]
    marks = [mark for mark in marks if low / 1.4 <= mark <= high * 1.4]
    frame.scale("x", (low, high), "training time of all steps (minutes, logarithmic)", marks, room=0)
    frame.axes.set_xscale("log")
    frame.axes.set_xlim(low / 1.4, high * 1.4)


def _points(frame: Frame, rows: Sequence[Row], x: str, y: str) -> None:
    axes, labels = frame.axes, row_labels(rows)
    crosses = [cross for row in rows for cross in _cross(row, x, y)]
    points = [_spot(frame, (row[x], row[y])) for row in rows]
    sizes = [(text_width(label, SMALL), LINE - 2) for label in labels]
    bars = [(*_spot(frame, ends[0]), *_spot(frame, ends[1])) for ends, _ in crosses]
    places = place(points, sizes, (frame.width, frame.height), bars)
    leaders = []
    for row, label, point, centre, size in zip(rows, labels, points, places, sizes, strict=True):
        look = look_of(row["method"], row["variant"])
        axes.plot(
            [row[x]], [row[y]], color=look.colour, marker=look.marker, markersize=5.5, linestyle="none",
            label=label, clip_on=False, scalex=False, scaley=False,
        )  # fmt: skip
        leaders += _leader(point, centre, size)
        axes.text(
            centre[0] / frame.width, centre[1] / frame.height, label, size=SMALL, ha="center", va="center",
            transform=axes.transAxes,
        )  # fmt: skip
    lines = LineCollection(
        [[(a / frame.width, b / frame.height) for a, b in leader] for leader in leaders],
        colors=INK, alpha=3 * FAINT, linewidths=0.5, transform=axes.transAxes, zorder=1, label="leaders",
    )  # fmt: skip
    axes.add_collection(lines, autolim=False)
    ends, colours = [ends for ends, _ in crosses], [colour for _, colour in crosses]
    axes.add_collection(LineCollection(ends, colors=colours, linewidths=0.8, label="std"), autolim=False)


def _spot(frame: Frame, values: Point) -> Point:
    """Where a point of the data lies, in points from the lower left corner of the axes."""
    across, up = frame.axes.transLimits.transform(frame.axes.transScale.transform(values))
    return float(across) * frame.width, float(up) * frame.height


def _cross(row: Row, x: str, y: str) -> list[tuple[tuple[Point, Point], str]]:
    """Ends and colour of the two strokes of one standard deviation, where it is known."""
    colour = look_of(row["method"], row["variant"]).colour
    strokes: list[tuple[tuple[Point, Point], str]] = []
    if row.get(f"{x}_std") is not None:
        left, right = _edges(row, x)
        strokes.append((((left, row[y]), (right, row[y])), colour))
    if row.get(f"{y}_std") is not None:
        low, high = _edges(row, y)
        strokes.append((((row[x], low), (row[x], high)), colour))
    return strokes


def _leader(point: Point, centre: Point, size: Point) -> list[tuple[Point, Point]]:
    """A line from a point to the nearest edge of a label that is not beside it."""
    across, up = (
        min(max(at, middle - extent / 2), middle + extent / 2)
        for at, middle, extent in zip(point, centre, size, strict=True)
    )
    return [(point, (across, up))] if math.dist(point, (across, up)) > BESIDE else []
