"""The plots of the page, as elements in its text."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO

from matplotlib.figure import Figure
from PIL import Image

from reports import plots
from reports.board import Board, Section

Drawings = Mapping[str, str]
"""SVG or image elements by the names of the plots."""


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


def drawn_before(sections: Mapping[str, Mapping[str, Figure]], sheets: Mapping[str, bytes]) -> Plots:
    """The given figures of each section, by its title, and a sheet as PNG; none that compare protocols."""

    def of_section(board: Board, section: Section, prefix: str) -> Drawings:
        drawn = dict(in_page(sections[section.title], prefix))
        if section.title in sheets:
            drawn["samples"] = in_page_small(sheets[section.title], f"{board.name}: sample predictions")
        return drawn

    return Plots(of_section, lambda boards: {})


def in_page_small(png: bytes, words: str) -> str:
    """A PNG as an image element, at half its size and of 256 colours: a tenth of its bytes."""
    with Image.open(BytesIO(png)) as picture:
        width, height = picture.width // 2, picture.height // 2
        small = picture.convert("RGB").resize((width, height), Image.Resampling.BOX)
    buffer = BytesIO()
    small.quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG")
    data = b64encode(buffer.getvalue()).decode()
    return f'<img width="{width}" height="{height}" alt="{escape(words)}" src="data:image/png;base64,{data}">'


MATPLOTLIB = Plots(lambda board, section, prefix: in_page(plots.figures(board, section), prefix), across)
NO_PLOTS = Plots(lambda board, section, prefix: {}, lambda boards: {})
