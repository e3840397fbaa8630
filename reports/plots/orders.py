"""Class-order robustness: one dot an order, a row a method, where a protocol was run in several orders."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from matplotlib.figure import Figure

from reports.board import Board, Section
from reports.plots.frame import (
    INK,
    SMALL,
    finished,
    framed,
    limits,
    metric_of,
    scale_axis,
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
    values, look_rows = _values(members)
    labels = sorted(values, key=lambda label: (-fmean(values[label]), label))
    names = [board.protocol.name.partition("@")[2] or NATURAL for board, _ in members]
    metric = metric_of(board)
    title = f"{name}: {metric} over {len(members)} class orders"
    dataset = board.protocol.dataset_title
    where = f"synthetic stand-in, not {dataset}" if section.data == "synthetic" else dataset
    few = [label for label in labels if len(values[label]) < len(members)]
    notes = [
        f"orders: {', '.join(names)} ({NATURAL}: the natural one); bar and number: mean ± standard deviation",
        *([f"not in all orders: {', '.join(few)}"] if few else []),
    ]
    figure, axes = framed(
        (title, f"{section.scale} scale · {where} · one dot an order"),
        notes,
        (WIDTH, STRIP * len(labels) + 6),
        (widest(labels) + 16, 60, 34),
    )
    known = [value for label in labels for value in values[label]]
    scale_axis(axes, "x", limits(known), f"{metric} of all classes after the last step (%)")
    axes.set_ylim(len(labels) - 0.4, -0.6)
    for position, label in enumerate(labels):
        look, each = look_of(*look_rows[label]), values[label]
        mean = fmean(each)
        axes.plot(
            each, [position] * len(each), color=look.colour, marker="o", markersize=5, alpha=0.6,
            linestyle="none", markeredgewidth=0, label=label, clip_on=False,
        )  # fmt: skip
        axes.plot([mean] * 2, [position - 0.32, position + 0.32], color=INK, linewidth=1.2, label="_mean")
        axes.text(
            1 + 8 / WIDTH, position, number(mean, _std(each)), size=SMALL, va="center_baseline",
            transform=axes.get_yaxis_transform(),
        )  # fmt: skip
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", length=0, labelsize=SMALL)
    axes.grid(axis="y", color=INK, alpha=0.08, linewidth=0.6)
    return figure


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
    if len(values) < 2:
        return None
    mean = fmean(values)
    return float((sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5)
