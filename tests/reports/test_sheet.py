"""The qualitative sheet: every cell shows what its file says, or why it cannot."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reports.board import Board, build_boards
from reports.plots.label_colours import COLOURS, picture
from reports.plots.sheet import sheet, sheet_png, sheets, shown_steps, write_sheets
from reports.record import ProtocolStep, Record
from reports.samples import LabelMap, image_folders, prediction_path, read_label_map
from tests.reports.conftest import PROTOCOL, make_record

HEIGHT, WIDTH = 24, 36
SERIES = [[90, 60, 50], [90, 50, 40, 30], [90, 40, 30, 30, 20]]


def label_map(label: int, height: int = HEIGHT, width: int = WIDTH) -> bytes:
    return LabelMap(np.full((height, width), label, dtype=np.uint8)).png()


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Whole predictions of mib, squares of finetune, one of joint; none of lwf."""
    folder = tmp_path / "runs/samples/pets-2-1/cats"
    file = BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), (10, 120, 200)).save(file, "JPEG")
    put(folder / "image.jpg", file.getvalue())
    put(folder / "truth.png", label_map(4))
    for step in range(3):
        put(prediction_path(folder, "mib", 0, step), label_map(step))
        put(prediction_path(folder, "finetune", 0, step), label_map(step, 8, 8))
    put(prediction_path(folder, "joint", 0, 2), label_map(3))
    return tmp_path / "runs"


def one_board(*records: Record) -> Board:
    (board,) = build_boards(records)
    return board


@pytest.fixture
def board() -> Board:
    named = [make_record(SERIES, name) for name in ("mib", "finetune", "lwf")]
    return one_board(*named, make_record([[90, 70, 60, 60, 60]], "joint"))


def write_all(board: Board, runs: Path, out: Path) -> list[Path]:
    (section,) = board.sections
    return write_sheets(board, section, sheets(board, section, runs), out)


def texts(board: Board, runs: Path) -> list[str]:
    words_and_pictures = sheet(board, board.sections[0], runs / "samples/pets-2-1/cats")
    assert words_and_pictures is not None
    figure, _ = words_and_pictures
    drawn = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    return [text.get_text() for text in drawn]


def test_one_file_an_image_with_what_it_shows(board: Board, runs: Path) -> None:
    (path,) = write_all(board, runs, runs / "leaderboards")
    assert path == runs / "leaderboards/plots/pets-2-1/mini-real-samples-cats.png"
    pixels = np.asarray(Image.open(path)).reshape(-1, 3)
    shown = {tuple(colour) for colour in np.unique(pixels, axis=0).tolist()}
    assert {tuple(COLOURS[label].tolist()) for label in range(5)} <= shown
    words = texts(board, runs)
    assert {"pets-2-1: cats", "after step 2", "+ horse", "cat (0)", "horse (2)", "background"} <= {*words}
    assert "Without predictions of this image: lwf." in words
    assert [word for word in words if word in ("joint", "mib", "finetune")] == ["joint", "finetune", "mib"]
    assert any("central square" in word for word in words)


def test_the_same_files_give_the_same_bytes(board: Board, runs: Path) -> None:
    (folder,) = image_folders(runs, "pets-2-1")
    section = board.sections[0]
    assert sheet_png(board, section, folder) == sheet_png(board, section, folder) is not None


def test_a_bad_file_is_a_cell_that_says_why(board: Board, runs: Path) -> None:
    folder = runs / "samples/pets-2-1/cats"
    before = texts(board, runs)
    assert "no file" not in before
    cells = [prediction_path(folder, "mib", 0, step) for step in range(3)]
    cells[0].unlink()
    cells[1].write_bytes(cells[1].read_bytes()[:40])
    cells[2].write_bytes(label_map(1, 20, 50))
    put(prediction_path(folder, "finetune", 0, 1), (folder / "image.jpg").read_bytes()[:-9])
    put(prediction_path(folder, "joint", 0, 2), b"")
    (folder / "image.jpg").unlink()
    words = texts(board, runs)
    assert words.count("no file") == 2
    assert words.count("damaged file") == 3
    assert "50 x 20 pixels,\nimage 36 x 24" in words
    (folder / "truth.png").write_bytes(b"no PNG")
    assert texts(board, runs).count("damaged file") == 3 + 3
    assert write_all(board, runs, runs / "out")


def test_nothing_is_drawn_where_nobody_has_samples(board: Board, runs: Path, tmp_path: Path) -> None:
    assert write_all(board, tmp_path / "elsewhere", tmp_path / "out") == []
    assert write_all(one_board(make_record(SERIES, "lwf")), runs, tmp_path / "out") == []
    failed = make_record([], "mib", reason="out of memory")
    assert write_all(one_board(failed), runs, tmp_path / "out") == []


def test_synthetic_data_are_named(runs: Path) -> None:
    record = make_record(SERIES, "mib")
    board = one_board(replace(record, data=replace(record.data, synthetic=True)))
    assert "mini scale · synthetic stand-in, not Pets" in texts(board, runs)


def test_many_steps_are_thinned_out(runs: Path) -> None:
    assert shown_steps(3) == [0, 1, 2]
    assert shown_steps(20) == [0, 3, 5, 8, 11, 14, 16, 19]
    names = ("background", *(f"class {label}" for label in range(1, 21)))
    steps = tuple(ProtocolStep(classes=(label,)) for label in range(1, 21))
    protocol = replace(PROTOCOL, class_names=names, steps=steps)
    channels = [tuple(range(step + 2)) for step in range(20)]
    record = make_record([[50] * len(c) for c in channels], "mib", protocol=protocol, channels=channels)
    assert "Of steps 0 to 19 these are shown: 0, 3, 5, 8, 11, 14, 16, 19." in texts(one_board(record), runs)


def test_colours_are_those_of_voc() -> None:
    known = {0: (0, 0, 0), 1: (128, 0, 0), 5: (128, 0, 128), 8: (64, 0, 0), 20: (0, 64, 128)}
    assert {label: tuple(COLOURS[label].tolist()) for label in known} == known
    assert len({tuple(colour) for colour in COLOURS.tolist()}) == 256


def test_a_white_line_parts_segments(tmp_path: Path) -> None:
    segments = np.repeat([[1, 1, 2, 2]], 3, axis=0).astype(np.uint16)
    labels = LabelMap(np.full((3, 4), 1, dtype=np.uint8), segments)
    pixels = picture(labels, 3, 4)
    assert [tuple(pixel) for pixel in pixels[1].tolist()] == [
        (128, 0, 0), (255, 255, 255), (128, 0, 0), (128, 0, 0),
    ]  # fmt: skip
    (tmp_path / "a.png").write_bytes(labels.png())
    read = read_label_map(tmp_path / "a.png")
    assert read.segments is not None and np.array_equal(read.segments, segments)
