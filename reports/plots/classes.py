"""Quality of every class after every step: a narrow panel a method, classes in the order of learning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from reports.board import Board, Section
from reports.facts import FEW_CLASSES
from reports.plots.frame import INK, SMALL, framed, quality_of, subtitle, widest, without_result
from reports.plots.labels import row_labels, shortened, spread, text_width
from reports.record import ProtocolCard
from reports.rows import Row

COLOURS = colormaps["viridis"].resampled(50)
WIDTH = 430.0
NARROWEST, WIDEST = 3.2, 16.0
"""Points of a cell."""
LONGEST_NAME = 26
NARROWEST_PLOT = 230.0
BAR = (90.0, 7.0)
"""Width and height of the colour bar."""


@dataclass(frozen=True)
class _Grid:
    """Sizes of a plot in points: bands of panels, panels of cells."""

    steps: int
    classes: int
    bands: tuple[tuple[int, ...], ...]
    """Row numbers in each band."""
    cell: float
    line: float
    gap: int
    """Cells between two panels."""
    upright: bool
    """Whether the methods' names are written upwards."""
    heads: tuple[float, ...]
    """Height of the methods' names above each band."""

    @property
    def width(self) -> float:
        return max(NARROWEST_PLOT, self.cell * (self.period * len(self.bands[0]) - self.gap))

    @property
    def period(self) -> int:
        """Cells from one panel to the next."""
        return self.steps + self.gap

    @property
    def tops(self) -> list[float]:
        """Where the cells of each band begin, and where the last band ends."""
        below = self.line * self.classes + 16
        ends = [0.0, *accumulate(head + below for head in self.heads)]
        return [end + head for end, head in zip(ends, (*self.heads, 0.0), strict=True)]


def classes(board: Board, section: Section) -> Figure | None:
    """One column a step, one line a class; blank where a class is not learnt yet or has no ground truth."""
    rows = [row for row in section.rows if row["by_class_and_step"]]
    if not rows:
        return None
    quality = quality_of(board)
    groups = _groups(board.protocol, rows)
    order = [label for _, labels in groups for label in labels]
    names = [shortened(label, LONGEST_NAME) for label in row_labels(rows)]
    grid = _grid(len(board.protocol.steps), len(order), names)
    named = len(order) <= FEW_CLASSES
    captions = [name for name, _ in groups]
    words = [shortened(board.protocol.class_names[label], LONGEST_NAME) for label in order] if named else []
    left = widest(captions) + (widest(words) + 10 if named else 0) + 18
    last = grid.steps - 1
    columns = f"columns: after step 0 to {last}, left to right; " if last else ""
    notes = [f"{columns}blank: not learnt yet, not measured, or no ground truth", *without_result(section)]
    title = f"{board.name}: {quality} of every class after every step"
    height = grid.tops[-1] + 22
    frame = framed((title, subtitle(board, section)), notes, (grid.width, height), (left, 16, 4), lines="")
    axes = frame.axes
    axes.set_xlim(0, grid.width)
    axes.set_ylim(height, 0)
    values = [_matrix(row, order, grid.steps) for row in rows]
    top = _top(values)
    for index, members in enumerate(grid.bands):
        start = grid.tops[index]
        _band(axes, grid, start, [values[member] for member in members], top)
        _lines(axes, grid, start, len(members), [len(labels) for _, labels in groups])
        _heads(axes, grid, start, [names[member] for member in members])
        _sides(axes, grid, start, groups, words)
    _colour_bar(axes, height - 18, top, quality)
    return frame.figure


def _groups(protocol: ProtocolCard, rows: Sequence[Row]) -> list[tuple[str, list[int]]]:
    """Caption and label ids of each group: the background where it is measured, then the classes by step."""
    measured = {label for row in rows for label in row["by_class_and_step"]}
    groups: list[tuple[str, list[int]]] = []
    for index, step in enumerate(protocol.steps):
        seen = {label for _, labels in groups for label in labels}
        labels = [label for label in step.classes if label in measured and label not in seen]
        if index == 0:
            labels = sorted(measured - {label for each in protocol.steps for label in each.classes}) + labels
        if labels:
            groups.append((f"step {index}", labels))
    if protocol.is_domain_incremental:
        groups = [("all steps", labels) for _, labels in groups]
    return groups


def _grid(steps: int, classes: int, names: Sequence[str]) -> _Grid:
    gap = 1 + steps // 12
    most = max(1, int((WIDTH / NARROWEST + gap) // (steps + gap)))
    bands = math.ceil(len(names) / most)
    each = math.ceil(len(names) / bands)
    cell = min(WIDEST, WIDTH / ((steps + gap) * each - gap))
    room = cell * (steps + gap) - 3 if each > 1 else WIDTH
    line = 9.5 if classes <= FEW_CLASSES else max(1.5, min(9.0, 230 / classes))
    members = tuple(
        tuple(range(first, min(first + each, len(names)))) for first in range(0, len(names), each)
    )
    widths = [widest(names[member] for member in band) for band in members]
    upright = widest(names) > room
    return _Grid(
        steps, classes, members, cell, line, gap, upright, tuple(w + 6 if upright else 15.0 for w in widths)
    )


def _matrix(row: Row, order: Sequence[int], steps: int) -> NDArray[np.float64]:
    """(classes, steps) in per cent, NaN where there is no value."""
    series = row["by_class_and_step"]
    return np.array([series.get(label, (None,) * steps) for label in order], dtype=float)


def _top(values: Sequence[NDArray[np.float64]]) -> float:
    known = np.concatenate([each[np.isfinite(each)] for each in values])
    return float(max(20, 20 * math.ceil(known.max() / 20))) if known.size else 100.0


def _band(axes: Axes, grid: _Grid, start: float, values: Sequence[NDArray[np.float64]], top: float) -> None:
    gap = np.full((grid.classes, grid.gap), np.nan)
    picture = np.concatenate([part for each in values for part in (each, gap)][:-1], axis=1)
    _paint(axes, picture, top, (0, grid.cell * picture.shape[1], start + grid.line * grid.classes, start))


def _paint(axes: Axes, values: NDArray[np.float64], top: float, extent: tuple[float, ...]) -> None:
    """`values` (H, W) from 0 to `top` as colours, transparent where NaN. Bytes are fast to enlarge."""
    colours = COLOURS(np.ma.masked_invalid(values) / top, bytes=True)
    left, right, bottom, upper = extent
    axes.imshow(colours, interpolation="none", aspect="auto", extent=(left, right, bottom, upper))


def _lines(axes: Axes, grid: _Grid, start: float, panels: int, sizes: Sequence[int]) -> None:
    """A frame around each panel, and a line wherever a new step begins."""
    end = start + grid.line * grid.classes
    borders = start + grid.line * np.cumsum([0, *sizes])
    segments: list[list[tuple[float, float]]] = []
    for panel in range(panels):
        low = panel * grid.cell * grid.period
        high = low + grid.cell * grid.steps
        segments += [[(low, start), (low, end)], [(high, start), (high, end)]]
        segments += [[(low, float(y)), (high, float(y))] for y in borders]
    path = Path(np.reshape(segments, (-1, 2)), [Path.MOVETO, Path.LINETO] * len(segments))
    axes.add_patch(PathPatch(path, fill=False, edgecolor=INK, linewidth=0.5, alpha=0.5, clip_on=False))


def _heads(axes: Axes, grid: _Grid, start: float, names: Sequence[str]) -> None:
    """The method above, the first and the last step below each panel."""
    bottom = start + grid.line * grid.classes + 8
    for panel, name in enumerate(names):
        low = panel * grid.cell * grid.period
        middle = low + grid.cell * grid.steps / 2
        if grid.upright:
            axes.text(middle, start - 3, name, size=SMALL, rotation=90, ha="center", va="bottom")
        elif len(names) > 1:
            axes.text(middle, start - 3, name, size=SMALL, ha="center", va="bottom")
        else:
            axes.text(low, start - 3, name, size=SMALL, va="bottom")
        if grid.steps > 1 and grid.cell * (grid.steps - 1) > 14:
            axes.text(low + grid.cell / 2, bottom, "0", size=6, ha="center")
            axes.text(low + grid.cell * (grid.steps - 0.5), bottom, str(grid.steps - 1), size=6, ha="center")


def _sides(
    axes: Axes, grid: _Grid, start: float, groups: Sequence[tuple[str, list[int]]], words: Sequence[str]
) -> None:
    """Left of a band: the classes' names where they are few, and the step that learns them."""
    for position, word in enumerate(words):
        y = start + grid.line * (position + 0.5)
        axes.text(-5, y, word, size=SMALL, ha="right", va="center_baseline")
    ends = np.cumsum([len(labels) for _, labels in groups]) * grid.line
    middles = [
        float(end) - grid.line * len(labels) / 2 for end, (_, labels) in zip(ends, groups, strict=True)
    ]
    places = spread(middles, 8, 4, grid.line * grid.classes - 4)
    x = -widest(words) - 13 if words else -5.0
    for (caption, _), y in zip(groups, places, strict=True):
        axes.text(x, start + y, caption, size=SMALL, ha="right", va="center_baseline")


def _colour_bar(axes: Axes, y: float, top: float, quality: str) -> None:
    width, height = BAR
    _paint(axes, np.linspace(0, top, 64)[None], top, (text_width("0", SMALL) + 4, width, y + height, y))
    axes.text(0, y + height - 1, "0", size=SMALL)
    axes.text(width + 4, y + height - 1, f"{top:g} {quality} (%)", size=SMALL)
