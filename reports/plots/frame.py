"""The frame that all plots share: fonts, title, subtitle, footnotes, axes at a fixed place.

Nothing is laid out by trial drawing: the size of every text is known beforehand, so margins are computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.transforms import Transform

from reports.board import Board, Section
from reports.columns import METRICS, QUALITIES
from reports.plots.labels import row_labels, text_width, wrapped
from reports.rows import Row

SIZE, SMALL, TITLE = 8.0, 7.0, 9.5
LINE = 10.0
"""Points from one line of text to the next."""
INK = "#000000"
FAINT = 0.15
"""Opacity of grid lines; only opacity makes ink lighter, so that a page can choose the ink."""
RC: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": SIZE,
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "contiseg",
    "path.simplify": True,
}
OFFLINE_NOTE = "joint methods train all steps at once: an upper bound"


def style() -> Any:
    """The settings to draw in; restored on leaving."""
    return matplotlib.rc_context(RC)


def metric_of(board: Board) -> str:
    return METRICS[board.protocol.task]


def quality_of(board: Board) -> str:
    return QUALITIES[board.protocol.task]


def finished(section: Section) -> list[Row]:
    return [row for row in section.rows if row["all"] is not None]


def subtitle(board: Board, section: Section, spread: str = "") -> str:
    """Scale, data and seeds, in one line; `spread` is how the deviation over seeds is drawn."""
    return f"{scale_and_data(board, section)} · {_seeds(finished(section), spread)}"


def scale_and_data(board: Board, section: Section) -> str:
    title = board.protocol.dataset_title
    data = f"synthetic stand-in, not {title}" if section.data == "synthetic" else title
    return f"{section.scale} scale · {data}"


def _seeds(rows: Sequence[Row], spread: str) -> str:
    numbers = sorted({int(row["seeds"]) for row in rows})
    if numbers[-1:] < [2]:
        return "1 seed"
    count = f"{numbers[0]} to {numbers[-1]}" if numbers[0] < numbers[-1] else str(numbers[0])
    deviation = f", {spread}: ± standard deviation" if spread else ""
    return f"mean of {count} seeds{deviation}"


def without_result(section: Section) -> list[str]:
    """The footnote that names the rows without a result, if there are any."""
    labels = row_labels(section.rows)
    names = [label for row, label in zip(section.rows, labels, strict=True) if row["all"] is None]
    return [f"no result: {', '.join(names)}"] if names else []


@dataclass(frozen=True)
class Frame:
    """A figure and its axes, whose size in points is known.

    Axis lines, grid and tick labels are drawn here: matplotlib's own `Axis` takes a third of the time.
    """

    figure: Figure
    axes: Axes
    width: float
    height: float

    def scale(
        self,
        which: str,
        bounds: tuple[float, float],
        label: str,
        marks: Sequence[float] | None = None,
        room: float = 0.03,
    ) -> None:
        """Limits with some `room` at both ends, grid lines and numbers at `marks`, a label with the unit."""
        low, high = bounds
        marks = ticks(low, high) if marks is None else marks
        getattr(self.axes, f"set_{which}lim")(low - room * (high - low), high + room * (high - low))
        names = [f"{mark:g}".replace("-", "\u2212") for mark in marks]
        if which == "x":
            self._grid([[(mark, 0.0), (mark, 1.0)] for mark in marks], self.axes.get_xaxis_transform())
            for mark, name in zip(marks, names, strict=True):
                self._text(mark, -11 / self.height, name, self.axes.get_xaxis_transform(), ha="center")
            self._text(0.5, -25 / self.height, label, self.axes.transAxes, ha="center", size=SIZE)
            return
        self._grid([[(0.0, mark), (1.0, mark)] for mark in marks], self.axes.get_yaxis_transform())
        self.names(marks, names)
        self._text(
            -28 / self.width, 0.5, label, self.axes.transAxes,
            ha="center", va="center", rotation=90, size=SIZE,
        )  # fmt: skip

    def names(self, places: Iterable[float], names: Sequence[str], side: str = "left") -> None:
        """Words left or right of the axes at these heights (data)."""
        x, align = (-5 / self.width, "right") if side == "left" else (1 + 8 / self.width, "left")
        for place, name in zip(places, names, strict=True):
            self._text(x, place, name, self.axes.get_yaxis_transform(), ha=align, va="center_baseline")

    def _grid(self, lines: list[list[tuple[float, float]]], transform: Transform) -> None:
        grid = LineCollection(
            lines, colors=INK, alpha=FAINT, linewidths=0.6, transform=transform, zorder=0.5, clip_on=False
        )
        self.axes.add_collection(grid, autolim=False)

    def _text(self, x: float, y: float, text: str, transform: Transform, **how: Any) -> None:
        self.axes.text(x, y, text, transform=transform, **({"size": SMALL} | how))


def framed(
    texts: tuple[str, str],
    notes: Iterable[str],
    plot: tuple[float, float],
    margins: tuple[float, float, float],
    lines: str = "lb",
) -> Frame:
    """A frame with texts around empty axes.

    Args:
        texts: title and subtitle.
        notes: footnotes.
        plot: width and height of the axes in points.
        margins: points left, right and below the axes, for tick labels and the like.
        lines: which axis lines are drawn, left and bottom.
    """
    left, right, below = margins
    width = left + plot[0] + right
    title = wrapped(texts[0], width - 12, TITLE, bold=True)
    under = wrapped(texts[1], width - 12, SIZE)
    foot = [line for note in notes for line in wrapped(note, width - 12, SMALL)]
    above = 10 + 12 * len(title) + LINE * len(under) + 8
    bottom = below + LINE * len(foot) + (6 if foot else 0)
    height = above + plot[1] + bottom
    figure = Figure(figsize=(width / 72, height / 72), facecolor="none")
    figure.set_label(f"{texts[0]}. {texts[1]}")
    axes = figure.add_axes((left / width, bottom / height, plot[0] / width, plot[1] / height))
    axes.set_axis_off()
    ends = {"l": [(0.0, 0.0), (0.0, 1.0)], "b": [(0.0, 0.0), (1.0, 0.0)]}
    borders = LineCollection(
        [ends[side] for side in lines], colors=INK, linewidths=0.8, transform=axes.transAxes, clip_on=False
    )
    axes.add_collection(borders, autolim=False)
    y = height - 6.0
    for words, size, weight, step in ((title, TITLE, "bold", 12.0), (under, SIZE, "normal", LINE)):
        for line in words:
            y -= step
            figure.text(6 / width, (y + 2) / height, line, size=size, weight=weight)
    for index, line in enumerate(reversed(foot)):
        figure.text(6 / width, (6 + index * LINE) / height, line, size=SMALL)
    return Frame(figure, axes, *plot)


def limits(values: Iterable[float], low: float = 0.0, high: float = 100.0) -> tuple[float, float]:
    """A range of whole tens around `values`, inside `low` and `high`."""
    known = list(values)
    bottom = max(low, 10 * math.floor(min(known) / 10))
    top = min(high, 10 * math.ceil(max(known) / 10))
    return (bottom, top) if top > bottom else (max(low, bottom - 10), min(high, bottom + 10))


def ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round numbers from `low` to `high`, at most `most`."""
    span = max(high - low, 1e-9)
    for step in (scale * unit for scale in (0.1, 1, 10, 100) for unit in (1, 2, 5)):
        if span / step <= most - 1:
            break
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 1) for index in range(first, last + 1)]


def widest(labels: Iterable[str], size: float = SMALL) -> float:
    return max((text_width(label, size) for label in labels), default=0.0)
