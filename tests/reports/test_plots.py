"""Plots say what the rows say."""

from __future__ import annotations

from pathlib import Path

from reports.board import build_boards
from reports.plots import across, figures, svg, write_plots
from reports.record import Record


def test_every_plot_of_a_board(board: list[Record]) -> None:
    (drawn,) = build_boards(board)
    plots = figures(drawn, drawn.sections[0])
    assert list(plots) == ["steps", "old-new", "classes", "forgetting", "cost"]
    assert all(svg(figure).startswith("<svg ") for figure in plots.values())
    assert across([drawn]) == {}


def test_files(board: list[Record], tmp_path: Path) -> None:
    paths = write_plots(build_boards(board), tmp_path)
    assert all(path.is_file() for path in paths)
    assert paths[0] == tmp_path / "plots" / "pets-2-1" / "mini-real-steps.svg"
