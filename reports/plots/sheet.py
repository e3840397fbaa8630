"""The qualitative sheet: a test image, and what every method says of it after every step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from reports.board import Board, Section
from reports.files import write_bytes
from reports.plots.frame import LINE, SMALL, Frame, framed, scale_and_data, style, widest
from reports.plots.label_colours import COLOURS, WHITE, Pixels, not_tested, picture
from reports.plots.labels import row_labels, shortened, text_width
from reports.record import ProtocolCard
from reports.samples import NOTHING, LabelMap, image_folders, prediction_path, read_label_map, read_pixels

MOST_STEPS = 8
"""More are shown by this many, evenly chosen, first and last included."""
WIDEST, GRID = 110.0, 560.0
"""Points: of a cell, and of all cells of a row unless there are few."""
DPI = 200
GAP = 3.0
HEADING = 2 * LINE + 2
TINY = 5.0
BORDER = 190
"""Grey of the thin line around a picture, which may be white."""


@dataclass(frozen=True)
class _Row:
    """A method of one seed; a cell is a prediction, why there is none, or None where none can be."""

    label: str
    cells: tuple[LabelMap | str | None, ...]


def sheets(board: Board, section: Section, runs: Path) -> dict[str, bytes]:
    """The sheets of a section as PNG, for each image of `<runs>/samples` that a row has predictions of."""
    drawn = {
        image.name: sheet_png(board, section, image) for image in image_folders(runs, board.protocol.name)
    }
    return {name: content for name, content in drawn.items() if content is not None}


def write_sheets(board: Board, section: Section, drawn: Mapping[str, bytes], out_dir: Path) -> list[Path]:
    """Write `<out_dir>/plots/<board>/<scale>-<data>-samples-<image>.png`; the paths written.

    Raises:
        ValueError: the folder cannot be written.
    """
    stem = f"{section.scale}-{section.data}-samples"
    paths = [out_dir / "plots" / board.stem / f"{stem}-{name}.png" for name in drawn]
    for path, content in zip(paths, drawn.values(), strict=True):
        write_bytes(path, content)
    return paths


def sheet_png(board: Board, section: Section, image: Path) -> bytes | None:
    """The sheet of one of `reports.samples.image_folders` as PNG; None where no row has a prediction."""
    with style():
        drawn = sheet(board, section, image)
        if drawn is None:
            return None
        figure, pictures = drawn
        figure.set_dpi(DPI)
        figure.set_facecolor("white")
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    buffer = BytesIO()
    Image.fromarray(pictures.over(np.asarray(canvas.buffer_rgba())[..., :3])).save(
        buffer, "PNG", dpi=(DPI, DPI)
    )
    return buffer.getvalue()


def sheet(board: Board, section: Section, image: Path) -> tuple[Figure, Pictures] | None:
    """The words, and the pictures that lie between them; None where no row has a prediction.

    Above the photograph and what the colours mean; below a row a method: the truth, then each step.
    """
    steps = shown_steps(len(board.protocol.steps))
    rows, without = _rows(section, image, steps, len(board.protocol.steps))
    if not rows:
        return None
    truth, photograph = _truth(image), _photograph(image)
    height, width = _shape(truth, photograph)
    columns = 1 + len(steps)
    cell = min(WIDEST, GRID / columns)
    size = (cell, cell * min(max(height / width, 0.4), 2.0))
    large = (1.6 * size[0] + GAP, 1.6 * size[1] + GAP)
    grid = (size[1] + GAP) * len(rows)
    plot = (max(columns * (cell + GAP), 260.0), large[1] + 8 + HEADING + grid)
    frame = framed(
        (f"{board.name}: {shortened(image.name)}", scale_and_data(board, section)),
        _notes(board, steps, rows, without),
        plot,
        (widest(row.label for row in rows) + 10, 8, 4),
        lines="",
    )
    frame.axes.set_xlim(0, plot[0])
    frame.axes.set_ylim(plot[1], 0)
    canvas = Pictures(frame)
    canvas.put(0, 0, large, photograph, (height, width))
    _legend(frame, board.protocol, large, _counts(truth, rows))
    _headings(frame, board.protocol, steps, cell, large[1] + 8)
    top = large[1] + 8 + HEADING
    for number, row in enumerate(rows):
        y = top + number * (size[1] + GAP)
        for place, content in enumerate((truth, *row.cells)):
            canvas.put(place * (cell + GAP), y, size, content, (height, width))
        frame.names([y + size[1] / 2], [row.label])
    return frame.figure, canvas


def shown_steps(count: int) -> list[int]:
    """All steps, or `MOST_STEPS` of them, evenly chosen."""
    chosen = np.linspace(0, count - 1, min(count, MOST_STEPS)).round().astype(int)
    return [int(step) for step in chosen]


def _rows(section: Section, image: Path, steps: Sequence[int], count: int) -> tuple[list[_Row], list[str]]:
    """The rows with a prediction, in the order of the leaderboard, and the names of those without."""
    rows, without = [], []
    for row, label in zip(section.rows, row_labels(section.rows), strict=True):
        if not row["seeds"]:
            continue
        seed = min(map(int, row["seed_list"].split()))
        paths = [prediction_path(image, row["method"], seed, step) for step in range(count)]
        if not any(path.is_file() for path in paths):
            without.append(label)
            continue
        alone = row["offline"]
        cells = [None if alone and step < count - 1 else _label_map(paths[step]) for step in steps]
        rows.append(_Row(label if seed == 0 else f"{label}, seed {seed}", tuple(cells)))
    return rows, without


def _label_map(path: Path) -> LabelMap | str:
    try:
        return read_label_map(path)
    except ValueError as error:
        return str(error)


def _truth(image: Path) -> LabelMap | str:
    return _label_map(image / "truth.png")


def _photograph(image: Path) -> Pixels | str:
    try:
        return read_pixels(image / "image.jpg")
    except ValueError as error:
        return str(error)


def _shape(truth: LabelMap | str, photograph: Pixels | str) -> tuple[int, int]:
    """Height and width of the photograph, as far as they are known."""
    if isinstance(truth, LabelMap):
        height, width = truth.labels.shape
        return height, width
    return photograph.shape[:2] if isinstance(photograph, np.ndarray) else (3, 4)


def _notes(board: Board, steps: Sequence[int], rows: Sequence[_Row], without: Sequence[str]) -> list[str]:
    notes = ["The image is one of those whose names have the lowest SHA-256: nobody picked it."]
    if not board.protocol.steps[0].domains:
        notes[0] += " (n): learnt in step n."
    if len(steps) < len(board.protocol.steps):
        shown = ", ".join(map(str, steps))
        notes.append(f"Of steps 0 to {len(board.protocol.steps) - 1} these are shown: {shown}.")
    squares = [cell for row in rows for cell in row.cells if isinstance(cell, LabelMap)]
    if any(len(set(cell.labels.shape)) == 1 for cell in squares):
        notes.append("Hatched: not tested; methods of the DeepLab family are tested on the central square.")
    if board.protocol.task == "instance":
        notes.append("Predicted instances of a score of 0.5 and more; surer ones lie on top.")
    if without:
        notes.append(f"Without predictions of this image: {', '.join(without)}.")
    return notes


class Pictures:
    """All pictures of a sheet in one; where one is missing there are words in the frame."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.scale = DPI / 72
        shape = round(frame.height * self.scale), round(frame.width * self.scale), 3
        self.pixels = np.full(shape, WHITE, dtype=np.uint8)

    def put(
        self,
        x: float,
        y: float,
        size: tuple[float, float],
        content: Pixels | LabelMap | str | None,
        shape: tuple[int, int],
    ) -> None:
        """At points from the upper left corner; `shape` is the photograph's height and width."""
        if content is None:
            return
        left, top = round(x * self.scale), round(y * self.scale)
        width, height = (round(side * self.scale) for side in size)
        target = self.pixels[top : top + height, left : left + width]
        height, width = target.shape[:2]
        if isinstance(content, LabelMap):
            content = _fitted(content, shape, height, width)
        if isinstance(content, str):
            target[:] = 244
            self.frame.axes.text(
                x + size[0] / 2, y + size[1] / 2, content, size=TINY, ha="center", va="center"
            )
            return
        if content.shape != target.shape:
            content = np.asarray(Image.fromarray(content).resize((width, height), Image.Resampling.BOX))
        target[:] = content
        for edge in (target[0], target[-1], target[:, 0], target[:, -1]):
            edge[:] = BORDER

    def over(self, drawn: Pixels) -> Pixels:
        """The drawn figure, dark words on white, with the pictures: pixel by pixel and at once, where
        matplotlib's `imshow` would take seconds."""
        box = self.frame.axes.get_position()
        left, top = round(box.x0 * drawn.shape[1]), round((1 - box.y1) * drawn.shape[0])
        both = drawn.copy()
        under = both[top : top + len(self.pixels), left : left + self.pixels.shape[1]]
        np.minimum(under, self.pixels[: under.shape[0], : under.shape[1]], out=under)
        return both


def _fitted(labels: LabelMap, shape: tuple[int, int], height: int, width: int) -> Pixels | str:
    """A prediction of the whole photograph, or of its central square, in a cell of height x width pixels."""
    rows, columns = labels.labels.shape
    if abs(columns * shape[0] / (rows * shape[1]) - 1) < 0.03:
        return picture(labels, height, width)
    if rows != columns:
        return f"{columns} x {rows} pixels,\nimage {shape[1]} x {shape[0]}"
    side = min(shape)
    down, across = round(height * side / shape[0]), round(width * side / shape[1])
    pixels = not_tested(height, width)
    top, left = (height - down) // 2, (width - across) // 2
    pixels[top : top + down, left : left + across] = picture(labels, down, across)
    return pixels


def _headings(frame: Frame, protocol: ProtocolCard, steps: Sequence[int], cell: float, y: float) -> None:
    """Over the columns: what they show, and what a step learnt."""
    words = [("truth", "all classes")] + [(f"after step {step}", _learnt(protocol, step)) for step in steps]
    for place, lines in enumerate(words):
        x = place * (cell + GAP) + cell / 2
        for number, line in enumerate(lines):
            fitting = shortened(line, max(6, int(cell / 4)))
            frame.axes.text(x, y + (number + 1) * LINE - 2, fitting, size=SMALL - number, ha="center")


def _learnt(protocol: ProtocolCard, step: int) -> str:
    """ "100 classes", "+ 10 classes", "+ sofa", "+ 1 city"."""
    here = protocol.steps[step]
    sign = "+ " if step else ""
    if here.domains:
        return f"{sign}{len(here.domains)} {'city' if len(here.domains) == 1 else 'cities'}"
    if len(here.classes) == 1:
        return f"{sign}{protocol.class_names[here.classes[0]]}"
    return f"{sign}{len(here.classes)} classes"


def _counts(truth: LabelMap | str, rows: Sequence[_Row]) -> dict[int, bool]:
    """The label ids that a cell shows, those of the truth (True) first, each group by its area."""
    true: Counter[int] = Counter()
    found: Counter[int] = Counter()
    if isinstance(truth, LabelMap):
        true.update(dict(enumerate(np.bincount(truth.labels.ravel()))))
    for row in rows:
        for cell in row.cells:
            if isinstance(cell, LabelMap):
                shares = np.bincount(cell.labels.ravel()) * 10_000 // cell.labels.size
                found.update(dict(enumerate(map(int, shares))))
    known = [label for label, area in true.most_common() if area]
    others = [label for label, share in found.most_common() if share and label not in known]
    return dict.fromkeys(known, True) | dict.fromkeys(others, False)


def _legend(
    frame: Frame, protocol: ProtocolCard, photograph: tuple[float, float], labels: dict[int, bool]
) -> None:
    """Right of the photograph, in columns: what the truth holds, then what is only predicted."""
    x, bottom = photograph[0] + 10, photograph[1]
    groups = [("in the image", True), ("only predicted", False)]
    entries: list[tuple[int | None, str]] = []
    for heading, known in groups:
        members = [label for label, true in labels.items() if true == known]
        if members:
            entries += [(None, heading), *((label, _name(protocol, label)) for label in members)]
    per_column = max(1, int(bottom // LINE))
    while entries:
        column, entries = entries[:per_column], entries[per_column:]
        width = max(text_width(name, SMALL) for _, name in column) + 22
        more = f"and {len(column) + len(entries)} more"
        if x + width + (text_width(more, SMALL) if entries else 0) > frame.width:
            frame.axes.text(x, LINE - 3, more, size=SMALL)
            return
        for number, (label, name) in enumerate(column):
            _entry(frame, x, number * LINE, label, name)
        x += width


def _entry(frame: Frame, x: float, y: float, label: int | None, name: str) -> None:
    if label is None:
        frame.axes.text(x, y + LINE - 3, name, size=SMALL, weight="bold")
        return
    frame.axes.add_patch(
        Rectangle((x, y + 1.5), 9, 7, facecolor=COLOURS[label] / 255, edgecolor="#777777", linewidth=0.4)
    )
    frame.axes.text(x + 12, y + LINE - 3, name, size=SMALL)


def _name(protocol: ProtocolCard, label: int) -> str:
    """The class and the step that learns it."""
    if label == NOTHING:
        return "ignored or nothing"
    if label >= len(protocol.class_names):
        return f"label {label}"
    name = shortened(protocol.class_names[label], 22)
    steps = [index for index, step in enumerate(protocol.steps) if label in step.classes and not step.domains]
    return f"{name} ({steps[0]})" if steps else name
