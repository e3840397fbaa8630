"""Forgetting: a bar a method, the least forgetful on top."""

from __future__ import annotations

from matplotlib.figure import Figure

from reports.board import Board, Section
from reports.plots.frame import INK, framed, limits, quality_of, subtitle, ticks, widest, without_result
from reports.plots.labels import row_labels
from reports.plots.palette import look_of
from reports.text import number

WIDTH, LINE, BAR = 280.0, 13.0, 8.5


def forgetting(board: Board, section: Section) -> Figure | None:
    """Points lost since the best earlier step, with one standard deviation over seeds."""
    pairs = list(zip(section.rows, row_labels(section.rows), strict=True))
    offline = [label for row, label in pairs if row["offline"]]
    pairs = [(row, label) for row, label in pairs if row["forgetting"] is not None]
    if not pairs:
        return None
    pairs.sort(key=lambda pair: pair[0]["forgetting"])
    labels = [label for _, label in pairs]
    values = [row["forgetting"] for row, _ in pairs]
    deviations = [row["forgetting_std"] for row, _ in pairs]
    notes = [f"not defined where all steps are trained at once: {', '.join(offline)}"] if offline else []
    frame = framed(
        (
            f"{board.name}: forgetting, in points of {quality_of(board)}",
            subtitle(board, section, "thin lines"),
        ),
        [*notes, *without_result(section)],
        (WIDTH, LINE * len(pairs) + 6),
        (widest(labels) + 14, 58, 30),
        lines="b",
    )
    edges = [
        value + sign * (deviation or 0.0)
        for value, deviation in zip(values, deviations, strict=True)
        for sign in (-1, 1)
    ]
    bounds = limits([0.0, *edges], low=-100.0)
    frame.scale("x", bounds, "forgetting (points; less is better)", ticks(*bounds), room=0.01)
    frame.axes.set_ylim(len(pairs) - 0.4, -0.6)
    colours = [look_of(row["method"], row["variant"]).colour for row, _ in pairs]
    places = range(len(pairs))
    frame.axes.hlines(places, 0, values, colors=colours, linewidth=BAR, label="forgetting")
    known = [(p, v, d) for p, v, d in zip(places, values, deviations, strict=True) if d is not None]
    if known:
        frame.axes.hlines(
            [place for place, _, _ in known],
            [value - deviation for _, value, deviation in known],
            [value + deviation for _, value, deviation in known],
            colors=INK, linewidth=0.9, label="deviation",
        )  # fmt: skip
    frame.axes.axvline(0, color=INK, linewidth=0.8)
    frame.names(places, labels)
    frame.names(places, [number(v, d) for v, d in zip(values, deviations, strict=True)], side="right")
    return frame.figure
