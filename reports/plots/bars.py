"""Forgetting: a bar a method, the least forgetful on top."""

from __future__ import annotations

from matplotlib.figure import Figure

from reports.board import Board, Section
from reports.plots.frame import (
    INK,
    SMALL,
    framed,
    limits,
    quality_of,
    scale_axis,
    subtitle,
    widest,
    without_result,
)
from reports.plots.labels import row_labels
from reports.plots.palette import look_of
from reports.text import number

WIDTH, BAR = 280.0, 13.0


def forgetting(board: Board, section: Section) -> Figure | None:
    """Points lost since the best earlier step, with one standard deviation over seeds."""
    pairs = [
        pair
        for pair in zip(section.rows, row_labels(section.rows), strict=True)
        if pair[0]["forgetting"] is not None
    ]
    if not pairs:
        return None
    pairs.sort(key=lambda pair: pair[0]["forgetting"])
    rows, labels = [row for row, _ in pairs], [label for _, label in pairs]
    offline = [
        label for row, label in zip(section.rows, row_labels(section.rows), strict=True) if row["offline"]
    ]
    notes = [f"not defined where all steps are trained at once: {', '.join(offline)}"] if offline else []
    title = f"{board.name}: forgetting, in points of {quality_of(board)}"
    figure, axes = framed(
        (title, subtitle(board, section)),
        [*notes, *without_result(section)],
        (WIDTH, BAR * len(rows) + 6),
        (widest(labels) + 16, 54, 34),
    )
    values = [row["forgetting"] for row in rows]
    spreads = [row["forgetting_std"] for row in rows]
    edges = [v + side * (s or 0.0) for v, s in zip(values, spreads, strict=True) for side in (-1, 1)]
    low, high = limits([0.0, *edges], low=-100.0)
    scale_axis(axes, "x", (low, high), "forgetting (points; less is better)")
    axes.set_xlim(low - (0.03 * (high - low) if low < 0 else 0), high * 1.03)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    colours = [look_of(row["method"], row["variant"]).colour for row in rows]
    axes.barh(range(len(rows)), values, height=0.66, color=colours)
    for position, (value, spread) in enumerate(zip(values, spreads, strict=True)):
        if spread is not None:
            axes.plot(
                [value - spread, value + spread], [position] * 2, color=INK, linewidth=0.9, label="_std"
            )
        axes.text(
            1 + 6 / WIDTH, position, number(value, spread), size=SMALL, va="center_baseline",
            transform=axes.get_yaxis_transform(),
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), labels)
    axes.tick_params(axis="y", length=0, labelsize=SMALL)
    axes.spines["left"].set_position(("data", 0.0))
    axes.yaxis.set_tick_params(pad=4)
    return figure
