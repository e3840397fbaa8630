"""Plots of leaderboards, one style, SVG and PNG: pure functions of boards, drawn without pyplot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from reports.board import Board, Section
from reports.files import write_bytes, write_text
from reports.plots import bars, classes, orders, scatter, steps
from reports.plots.frame import style
from reports.plots.saving import png, svg, svg_document
from reports.plots.sheet import sheets, write_sheets

__all__ = [
    "across",
    "figures",
    "sheets",
    "svg",
    "write_across",
    "write_plots",
    "write_section",
    "write_sheets",
]

_PLOTS = {
    "steps": steps.steps,
    "old-new": scatter.old_new,
    "classes": classes.classes,
    "forgetting": bars.forgetting,
    "cost": scatter.cost,
}


def figures(board: Board, section: Section) -> dict[str, Figure]:
    """The plots of one section by name (steps, old-new, classes, forgetting, cost), those that have data."""
    with style():
        drawn = {name: plot(board, section) for name, plot in _PLOTS.items()}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def across(boards: Sequence[Board]) -> dict[str, Figure]:
    """The plots over several boards by name, `<protocol>-<scale>-<data>-orders`: class-order robustness."""
    with style():
        return orders.orders(boards)


def write_plots(boards: Sequence[Board], out_dir: Path) -> list[Path]:
    """Write every plot as `<out_dir>/plots/<board>/<scale>-<data>-<name>.svg` and `.png`; the paths written.

    The plots over several boards go to `<out_dir>/plots/across/`.

    Raises:
        ValueError: the folder cannot be written.
    """
    of_sections = ((board, section) for board in boards for section in board.sections)
    paths = [
        path for board, section in of_sections
        for path in write_section(board, section, figures(board, section), out_dir)
    ]  # fmt: skip
    return paths + write_across(boards, out_dir)


def write_section(board: Board, section: Section, drawn: Mapping[str, Figure], out_dir: Path) -> list[Path]:
    """Write what `figures` has drawn of one section, as `write_plots`."""
    folder = out_dir / "plots" / board.stem
    paths = []
    for name, figure in drawn.items():
        paths += _write(figure, folder, f"{section.scale}-{section.data}-{name}")
    return paths


def write_across(boards: Sequence[Board], out_dir: Path) -> list[Path]:
    """Write the plots over several boards, as `write_plots`."""
    folder = out_dir / "plots" / "across"
    return [path for name, figure in across(boards).items() for path in _write(figure, folder, name)]


def _write(figure: Figure, folder: Path, stem: str) -> list[Path]:
    paths = [folder / f"{stem}.svg", folder / f"{stem}.png"]
    write_text(paths[0], svg_document(figure))
    write_bytes(paths[1], png(figure))
    return paths
