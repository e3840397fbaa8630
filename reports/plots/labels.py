"""Labels that never overlap: how wide a text is, and where it goes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath
from numpy.typing import NDArray

from reports.rows import Row

LONGEST = 38
"""Characters of a label; longer ones lose their middle."""
BESIDE = 10.0
"""A label within so many points of its own needs no leader line."""
_RINGS = np.array([7, 12, 18, 26, 36, 48, 62, 78, 96, 116, 138, 162.0])
_ANGLES = np.radians([0, 180, 90, 270, 30, 330, 150, 210, 60, 300, 120, 240, 15, 45, 75, 105, 135, 165])
_DIRECTIONS = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1).round(6)
_OFFSETS = (_RINGS[:, None, None] * _DIRECTIONS).reshape(-1, 2)
"""From a point to the nearest edge of the labels that are tried."""
_SIDES = np.tile(np.stack([np.sign(_DIRECTIONS[:, 0]), _DIRECTIONS[:, 1]], axis=1), (len(_RINGS), 1))
"""Which edge that is: -1 to 1 across and upwards."""
_GAP = 1.5
_LIKELY = 24
"""So many places are tried for what their leader line would cross."""
_NOWHERE = np.zeros(4)


def row_labels(rows: Sequence[Row]) -> list[str]:
    """One label a row, all different: the method's name, with the variant where it has one."""
    labels: list[str] = []
    for row in rows:
        name = f"{row['method']} ({row['variant']})" if row["variant"] else str(row["method"])
        short = shortened(name)
        same = sum(label == short or label.startswith(f"{short} #") for label in labels)
        labels.append(f"{short} #{same + 1}" if same else short)
    return labels


def shortened(text: str, longest: int = LONGEST) -> str:
    """`text` on one line, its middle left out where it is longer than `longest` characters."""
    text = "".join(character if character.isprintable() else " " for character in text)
    if len(text) <= longest:
        return text
    tail = (longest - 1) // 2
    return f"{text[: longest - 1 - tail]}…{text[-tail:]}"


@lru_cache(maxsize=4096)
def text_width(text: str, size: float, bold: bool = False) -> float:
    """Points that `text` takes at `size` points."""
    font = FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")
    return float(_METRICS.get_text_width_height_descent(text, font, False)[0])


_METRICS = TextToPath()


def wrapped(text: str, width: float, size: float, bold: bool = False) -> list[str]:
    """`text` in lines of at most `width` points, broken at spaces where there are any."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size, bold) <= width:
            lines[-1] = longer
        else:
            lines.append(shortened(word, max(8, int(width / (0.66 * size)))))
    return lines


def spread(wanted: Sequence[float], distance: float, low: float, high: float) -> list[float]:
    """Positions at least `distance` apart, each as near as possible to the one wanted, in its order.

    Least squares by pooling neighbours that would collide; all lie between `low` and `high` if there is room.
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    pools: list[tuple[float, int]] = []
    for rank, index in enumerate(order):
        mean, size = wanted[index] - rank * distance, 1
        while pools and pools[-1][0] >= mean:
            other, count = pools.pop()
            mean, size = (mean * size + other * count) / (size + count), size + count
        pools.append((mean, size))
    top = max(low, high - (len(wanted) - 1) * distance)
    shifts = [min(max(mean, low), top) for mean, size in pools for _ in range(size)]
    placed = [0.0] * len(wanted)
    for rank, index in enumerate(order):
        placed[index] = shifts[rank] + rank * distance
    return placed


def place(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    bounds: tuple[float, float],
    bars: Sequence[tuple[float, float, float, float]] = (),
) -> list[tuple[float, float]]:
    """The centre of each point's label: the nearest place around the point that no label or marker takes.

    Places are worse where a leader line crosses something, or where the label covers a line.

    Args:
        points: positions in points (1/72 inch) from the lower left corner.
        sizes: width and height of the labels.
        bounds: width and height of the plot.
        bars: other things in the plot to keep off: left, bottom, right, top.
    """
    boxes = [np.array([x - 4, y - 4, x + 4, y + 4]) for x, y in points]
    lines = [_NOWHERE, *(np.array(bar) for bar in bars)]
    places: list[tuple[float, float]] = []
    for index, ((x, y), (width, height)) in enumerate(zip(points, sizes, strict=True)):
        point, centres = np.array([x, y]), _candidates(x, y, width, height)
        half = np.array([width / 2, height / 2])
        low, high = centres - half - _GAP, centres + half + _GAP
        ends = np.clip(point, centres - half, centres + half)
        outside = ((low < 0) | (high > np.array(bounds))).any(1)
        cost = np.hypot(*(ends - point).T) + 1000.0 * outside
        cost += 1000.0 * _overlaps(low, high, boxes) + 50.0 * _overlaps(low, high, lines)
        likely = np.argsort(cost, kind="stable")[:_LIKELY]
        if cost[likely[0]] > BESIDE:
            others = [_NOWHERE, *boxes[:index], *boxes[index + 1 :], *lines[1 + len(bars) :]]
            cost[likely] += 40.0 * _crossings(point, ends[likely], np.stack(others))
        best = int(likely[np.argmin(cost[likely])])
        places.append((float(centres[best, 0]), float(centres[best, 1])))
        boxes.append(np.concatenate([low[best], high[best]]))
        lines += _trail(point, ends[best])
    return places


def _overlaps(
    low: NDArray[np.float64], high: NDArray[np.float64], boxes: Sequence[NDArray[np.float64]]
) -> NDArray[np.int64]:
    """How many boxes each label (N, 2) would cover a part of."""
    taken = np.stack(boxes)
    shared = (low[:, None] < taken[:, 2:]) & (high[:, None] > taken[:, :2])
    return shared.all(-1).sum(1)


def _candidates(x: float, y: float, width: float, height: float) -> NDArray[np.float64]:
    """Centres (N, 2) of a label around a point, the nearest first."""
    return np.array([x, y]) + _OFFSETS + _SIDES * np.array([width / 2, height / 2])


def _crossings(
    start: NDArray[np.float64], ends: NDArray[np.float64], boxes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How many sampled positions of each leader line lie in a box."""
    along = np.linspace(0.1, 0.95, 16)[:, None, None]
    samples = start + along * (ends - start)
    inside = (samples[:, :, None] > boxes[:, :2]) & (samples[:, :, None] < boxes[:, 2:])
    return inside.all(-1).sum((0, 2)).astype(float)


def _trail(start: NDArray[np.float64], end: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Small boxes along a leader line, so that later labels keep off it."""
    length = float(np.hypot(*(end - start)))
    return [
        np.concatenate([spot - 1, spot + 1])
        for share in np.linspace(0, 1, int(length // 8) + 1)[1:-1]
        for spot in [start + share * (end - start)]
    ]
