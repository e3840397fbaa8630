"""Class-order robustness: one dot an order, a row a method, where a protocol was run in several orders."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, stdev

from matplotlib.figure import Figure

from reports.board import Board, Section
from reports.plots.frame import (
    INK,
    finished,
    framed,
    limits,
    metric_of,
    scale_and_data,
    widest,
)
from reports.plots.labels import row_labels
from reports.plots.palette import look_of
from reports.rows import Row
from reports.text import number

WIDTH, STRIP = 280.0, 14.0
NATURAL = "a"
"""The order without a name."""


def orders(boards: Sequence[Board]) -> dict[str, Figure]:
    """A figure for each protocol, scale and kind of data that was run in two class orders or more.

    Orders of one protocol are `voc-15-1`, `voc-15-1@b`, `voc-15-1@random3`: the same name before the `@`.
    """
    groups: dict[tuple[str, str, str, str], list[tuple[Board, Section]]] = defaultdict(list)
    for board in boards:
        base = board.protocol.name.partition("@")[0]
        for section in board.sections:
            if finished(section):
                groups[base, board.protocol.task, section.scale, section.data].append((board, section))
    tasks = {base: {key[1] for key in groups if key[0] == base} for base, *_ in groups}
    figures = {}
    for (base, task, scale, data), members in sorted(groups.items()):
        if len(members) >= 2:
            name = base if len(tasks[base]) == 1 else f"{base}-{task}"
            figures[f"{name.replace('/', '-')}-{scale}-{data}-orders"] = _figure(name, members)
    return figures


def _figure(name: str, members: Sequence[tuple[Board, Section]]) -> Figure:
    board, section = members[0]
    values, looks = _values(members)
    labels = sorted(values, key=lambda label: (-fmean(values[label]), label))
    names = [board.protocol.name.partition("@")[2] or NATURAL for board, _ in members]
    metric = metric_of(board)
    title = f"{name}: {metric} over {len(members)} class orders"
    few = [label for label in labels if len(values[label]) < len(members)]
    notes = [
        f"orders: {', '.join(names)} ({NATURAL}: the natural one); bar and number: mean ± standard deviation",
        *([f"not in all orders: {', '.join(few)}"] if few else []),
    ]
    frame = framed(
        (title, f"{scale_and_data(board, section)} · one dot an order"),
        notes,
        (WIDTH, STRIP * len(labels) + 6),
        (widest(labels) + 14, 60, 30),
    )
    known = [value for label in labels for value in values[label]]
    frame.scale("x", limits(known), f"{metric} of all classes after the last step (%)")
    frame.axes.set_ylim(len(labels) - 0.4, -0.6)
    for position, label in enumerate(labels):
        frame.axes.plot(
            values[label], [position] * len(values[label]), color=look_of(*looks[label]).colour, marker="o",
            markersize=5, alpha=0.6, linestyle="none", markeredgewidth=0, label=label, clip_on=False,
            scalex=False, scaley=False,
        )  # fmt: skip
    places, means = range(len(labels)), [fmean(values[label]) for label in labels]
    frame.axes.vlines(
        means, [p - 0.32 for p in places], [p + 0.32 for p in places], colors=INK, linewidth=1.2, label="mean"
    )
    frame.names(places, labels)
    texts = [number(fmean(values[label]), _std(values[label])) for label in labels]
    frame.names(places, texts, side="right")
    return frame.figure


def _values(
    members: Sequence[tuple[Board, Section]],
) -> tuple[dict[str, list[float]], dict[str, tuple[str, str]]]:
    """By row label: `all` in every order, and what decides the row's look."""
    values: dict[str, list[float]] = defaultdict(list)
    looks: dict[str, tuple[str, str]] = {}
    for _, section in members:
        rows: list[Row] = finished(section)
        for row, label in zip(rows, row_labels(rows), strict=True):
            values[label].append(row["all"])
            looks[label] = (row["method"], row["variant"])
    return values, looks


def _std(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None
