"""Everything that a folder of records can be drawn as: tables and plots a protocol, one page of all."""

from __future__ import annotations

import gc
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from reports import html, overview, plots
from reports.board import Board, build_boards
from reports.files import write_text
from reports.leaderboard import TEXTS, write_board
from reports.load import read_records, record_paths

FORMATS = (*TEXTS, "html", "png")
"""A protocol's tables as md, csv, json and tex; `html`: one page of all; `png`: the plots as PNG and SVG."""
MANY = 8
"""From so many protocols on they are drawn side by side: it takes seconds to start a process."""
Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Redrawn:
    """What was drawn."""

    boards: tuple[Board, ...]
    """Of all protocols, in the order of their names, without their records."""
    paths: tuple[Path, ...]
    problems: tuple[str, ...]
    """One line for each record that could not be used."""


@dataclass(frozen=True)
class _Drawn:
    """What comes of the records of one folder."""

    boards: list[Board]
    parts: list[html.Part]
    paths: list[Path]
    problems: list[str]


@dataclass(frozen=True)
class _Order:
    """What is to be drawn; each process is sent one."""

    runs: Path
    formats: tuple[str, ...]
    protocols: tuple[str, ...] | None

    @property
    def out_dir(self) -> Path:
        return self.runs / "leaderboards"

    def wants(self, board: Board) -> bool:
        return self.protocols is None or board.protocol.name in self.protocols


def _nothing() -> None:
    """A lambda could not be sent to a process."""


def redraw(
    runs: Path,
    formats: Sequence[str] = FORMATS,
    protocols: Sequence[str] | None = None,
    jobs: int = 1,
    tell: Tell = lambda done, total: None,
    settle: Callable[[], None] = _nothing,
) -> Redrawn:
    """Draw `<runs>/leaderboards` anew from `<runs>/records`, with many protocols in up to `jobs` processes.

    Files of their own are written for `protocols` alone, or for all; `index.html` and `overview.{md,csv}`
    always show all. `tell(done, total)` hears how many folders of records are done; `settle()`, a function of
    a module, is called first in every process but this one.

    Raises:
        ValueError: an unknown format, a protocol without a record, or a folder that cannot be written.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise ValueError(f"--format {unknown[0]!r}: there are {', '.join(FORMATS)}")
    paths, problems = record_paths(runs)
    folders: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        folders[path.relative_to(runs / "records").parts[0]].append(path)
    order = _Order(runs, tuple(formats), None if protocols is None else tuple(protocols))
    with _executor(jobs if len(folders) >= MANY else 1, settle) as executor:
        drawn = _draw_all(executor, order, folders, tell)
    known = sorted({board.protocol.name for each in drawn for board in each.boards})
    for name in protocols or ():
        if name not in known:
            raise ValueError(f"--protocol {name!r}: no record of it in {runs}; there are: {', '.join(known)}")
    return _finish(order, drawn, problems)


def _executor(jobs: int, settle: Callable[[], None]) -> AbstractContextManager[Executor | None]:
    if jobs < 2:
        return nullcontext()
    return ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_settle, initargs=(settle,))


def _settle(more: Callable[[], None]) -> None:
    """Modules stay, and a record is many tuples: looked at for garbage less often, all takes a tenth less."""
    more()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)


def _draw_all(
    executor: Executor | None, order: _Order, folders: Mapping[str, Sequence[Path]], tell: Tell
) -> list[_Drawn]:
    """Each folder by itself; those that turn out to hold runs of one protocol are drawn again as one."""
    tasks = [(order, paths) for paths in folders.values()]
    results: Iterable[_Drawn] = executor.map(_draw, tasks) if executor else map(_draw, tasks)
    drawn = []
    for result in results:
        drawn.append(result)
        tell(len(drawn), len(tasks))
    names = [{board.protocol.name for board in each.boards} for each in drawn]
    places = Counter(name for each in names for name in each)
    split = [any(places[name] > 1 for name in each) for each in names]
    if not any(split):
        return drawn
    apart = [each for each, is_split in zip(drawn, split, strict=True) if not is_split]
    paths = [path for (_, paths), is_split in zip(tasks, split, strict=True) if is_split for path in paths]
    return [*apart, _draw((order, sorted(paths)))]


def _draw(task: tuple[_Order, Sequence[Path]]) -> _Drawn:
    order, paths = task
    records, problems = read_records(paths)
    boards = build_boards(records)
    written: list[Path] = []
    for board in filter(order.wants, boards):
        written += write_board(board, order.out_dir, [name for name in order.formats if name in TEXTS])
    parts = [_plotted(board, order, written) for board in boards]
    return _Drawn([_light(board) for board in boards], [part for part in parts if part], written, problems)


def _plotted(board: Board, order: _Order, written: list[Path]) -> html.Part | None:
    """Write the plots and give the board's part of the page, if wanted: each figure is drawn once."""
    wants_files, wants_part = "png" in order.formats and order.wants(board), "html" in order.formats
    if not wants_files and not wants_part:
        return None
    figures = {section.title: plots.figures(board, section) for section in board.sections}
    sheets = {section.title: plots.sheets(board, section, order.runs) for section in board.sections}
    if wants_files:
        for section in board.sections:
            written += plots.write_section(board, section, figures[section.title], order.out_dir)
            written += plots.write_sheets(board, section, sheets[section.title], order.out_dir)
    first = {title: next(iter(of_section.values())) for title, of_section in sheets.items() if of_section}
    return html.part(board, html.drawn_before(figures, first)) if wants_part else None


def _light(board: Board) -> Board:
    """Without the records, which are large and done with."""
    return replace(board, sections=tuple(replace(section, records=()) for section in board.sections))


def _finish(order: _Order, drawn: Sequence[_Drawn], problems: Sequence[str]) -> Redrawn:
    """What shows all protocols."""
    boards = sorted((board for each in drawn for board in each.boards), key=lambda board: board.name)
    paths = [path for each in drawn for path in each.paths]
    texts: dict[str, str] = {}
    if boards and "md" in order.formats:
        texts["overview.md"] = overview.page(boards)
    if boards and "csv" in order.formats:
        texts["overview.csv"] = overview.csv(boards)
    if boards and "html" in order.formats:
        pairs = (pair for each in drawn for pair in zip(each.boards, each.parts, strict=True))
        parts = [part for _, part in sorted(pairs, key=lambda pair: pair[0].name)]
        texts["index.html"] = html.assemble(parts, html.across(boards))
    for name, text in texts.items():
        paths.append(order.out_dir / name)
        write_text(paths[-1], text)
    if "png" in order.formats:
        paths += plots.write_across(boards, order.out_dir)
    told = [*problems, *(problem for each in drawn for problem in each.problems)]
    return Redrawn(tuple(boards), tuple(paths), tuple(told))
