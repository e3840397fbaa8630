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


def in_page(figures: Mapping[str, Figure], prefix: str) -> Drawings:
    """Figures as SVG elements whose ids begin with the prefix."""
    return {
        name: plots.svg(figure, f"{prefix}-{position}")
        for position, (name, figure) in enumerate(figures.items())
    }


def across(boards: Sequence[Board]) -> Drawings:
    """The drawings that compare protocols."""
    return in_page(plots.across(boards), "across")


def drawn_before(figures: Mapping[str, Mapping[str, Figure]]) -> Plots:
    """The given figures of each section, by its title, and none that compare protocols."""
    return Plots(
        lambda board, section, prefix: in_page(figures[section.title], prefix),
        lambda boards: {},
    )


MATPLOTLIB = Plots(lambda board, section, prefix: in_page(plots.figures(board, section), prefix), across)
NO_PLOTS = Plots(lambda board, section, prefix: {}, lambda boards: {})
