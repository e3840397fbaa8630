"""Plots of leaderboards, one style, SVG and PNG: pure functions of boards, drawn without pyplot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from reports.board import Board, Section
from reports.files import write_bytes, write_text
from reports.plots import bars, classes, orders, scatter, steps
from reports.plots.frame import style
from reports.plots.saving import png, svg, svg_document

__all__ = ["across", "figures", "svg", "write_plots"]

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
    paths = []
    for board in boards:
        for section in board.sections:
            for name, figure in figures(board, section).items():
                stem = f"{section.scale}-{section.data}-{name}"
                paths += _write(figure, out_dir / "plots" / board.stem, stem)
    for name, figure in across(boards).items():
        paths += _write(figure, out_dir / "plots" / "across", name)
    return paths


def _write(figure: Figure, folder: Path, stem: str) -> list[Path]:
    paths = [folder / f"{stem}.svg", folder / f"{stem}.png"]
    write_text(paths[0], svg_document(figure))
    write_bytes(paths[1], png(figure))
    return paths
