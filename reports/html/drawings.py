"""The plots of the page, as SVG elements in its text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from reports import plots
from reports.board import Board, Section

Drawings = Mapping[str, str]
"""SVG elements by the names of the plots."""


@dataclass(frozen=True)
class Plots:
    """Where drawings come from. They stand in the page as they are, so ids in them must be unique in it."""

    of_section: Callable[[Board, Section, str], Drawings]
    """The drawings of one section; every id in them begins with the text."""
    across: Callable[[Sequence[Board]], Drawings]
    """The drawings that compare protocols."""


def _of_section(board: Board, section: Section, prefix: str) -> Drawings:
    return _drawn(plots.figures(board, section), prefix)


def across(boards: Sequence[Board]) -> Drawings:
    """The drawings that compare protocols."""
    return _drawn(plots.across(boards), "across")


def _drawn(figures: Mapping[str, Figure], prefix: str) -> Drawings:
    return {
        name: plots.svg(figure, f"{prefix}-{position}")
        for position, (name, figure) in enumerate(figures.items())
    }


MATPLOTLIB = Plots(_of_section, across)
NO_PLOTS = Plots(lambda board, section, prefix: {}, lambda boards: {})
