"""The frame that all plots share: fonts, title, subtitle, footnotes, axes at a fixed place.

Nothing is laid out by trial drawing: the size of every text is known beforehand, so margins are computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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


def subtitle(board: Board, section: Section) -> str:
    """Scale, data and seeds, in one line."""
    title = board.protocol.dataset_title
    data = f"synthetic stand-in, not {title}" if section.data == "synthetic" else title
    return f"{section.scale} scale · {data} · {_seeds(finished(section))}"


def _seeds(rows: Sequence[Row]) -> str:
    numbers = sorted({int(row["seeds"]) for row in rows})
    if not numbers:
        return "no seed finished"
    count = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    spread = ", ± standard deviation" if numbers[-1] > 1 else ""
    return f"{count} seed{'s' if numbers[-1] > 1 else ''}{spread}"


def without_result(section: Section) -> list[str]:
    """The footnote that names the rows without a result, if there are any."""
    labels = row_labels(section.rows)
    names = [label for row, label in zip(section.rows, labels, strict=True) if row["all"] is None]
    return [f"no result: {', '.join(names)}"] if names else []


def framed(
    texts: tuple[str, str],
    notes: Iterable[str],
    plot: tuple[float, float],
    margins: tuple[float, float, float],
) -> tuple[Figure, Axes]:
    """A figure with texts around empty axes.

    Args:
        texts: title and subtitle.
        notes: footnotes.
        plot: width and height of the axes in points.
        margins: points left, right and below the axes, for tick labels and the like.
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
    axes.patch.set_visible(False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    y = height - 6.0
    for lines, size, weight, step in ((title, TITLE, "bold", 12.0), (under, SIZE, "normal", LINE)):
        for line in lines:
            y -= step
            figure.text(6 / width, (y + 2) / height, line, size=size, weight=weight)
    for index, line in enumerate(reversed(foot)):
        figure.text(6 / width, (6 + index * LINE) / height, line, size=SMALL)
    return figure, axes


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


def scale_axis(axes: Axes, which: str, bounds: tuple[float, float], label: str) -> None:
    """Limits with some room at both ends, round ticks, faint grid lines and a label."""
    low, high = bounds
    room = 0.03 * (high - low)
    marks = ticks(low, high)
    getattr(axes, f"set_{which}lim")(low - room, high + room)
    getattr(axes, f"set_{which}ticks")(marks, [f"{mark:g}".replace("-", "\u2212") for mark in marks])
    getattr(axes, f"set_{which}label")(label, size=SIZE, labelpad=4)
    axes.grid(axis="x" if which == "x" else "y", color=INK, alpha=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SMALL, length=2.5, width=0.6, pad=2)


def widest(labels: Iterable[str], size: float = SMALL) -> float:
    return max((text_width(label, size) for label in labels), default=0.0)
