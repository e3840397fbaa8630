"""Plots say what the rows say, in ink that a page can choose, the same each time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.testing.compare import compare_images

from methods.registry import builtin_methods
from reports.board import Board, build_boards
from reports.plots import across, figures, svg, write_plots
from reports.plots.classes import COLOURS
from reports.plots.frame import limits, ticks
from reports.plots.labels import place, row_labels, shortened, spread, text_width
from reports.plots.palette import BUILT_IN, look_of
from reports.plots.saving import png, svg_document
from reports.record import ProtocolCard, ProtocolStep, Record

GOLDEN = Path(__file__).parent / "golden"
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def pets(board: list[Record]) -> Board:
    return build_boards(board)[0]


@pytest.fixture
def plots(pets: Board) -> dict[str, Figure]:
    return figures(pets, pets.sections[0])


def words(figure: Figure) -> str:
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    return "\n".join(text.get_text() for text in texts)


def collection(figure: Figure, label: str) -> LineCollection:
    (found,) = [each for each in figure.axes[0].collections if each.get_label() == label]
    assert isinstance(found, LineCollection)
    return found


def test_every_plot_that_has_data(plots: dict[str, Figure]) -> None:
    assert list(plots) == ["steps", "old-new", "classes", "forgetting", "cost"]


def test_lines_are_the_rows_steps(pets: Board, plots: dict[str, Figure]) -> None:
    lines = {str(line.get_label()): line for line in plots["steps"].axes[0].lines}
    rows = {row["method"]: row for row in pets.rows if row["seeds"]}
    for name in ("mib", "finetune", "flaky[alpha=2]"):
        assert list(lines[name].get_ydata()) == [rows[name][f"step_{step}"] for step in range(3)]
        assert list(lines[name].get_xdata()) == [0, 1, 2]
    assert list(lines["joint"].get_ydata()) == [rows["joint"]["all"]] * 2
    assert "plop" not in lines


def test_bands_are_one_standard_deviation_of_what_has_seeds(pets: Board, plots: dict[str, Figure]) -> None:
    bands = {str(each.get_label()): each for each in plots["steps"].axes[0].collections}
    (row,) = [row for row in pets.rows if row["method"] == "mib"]
    corners = bands["mib"].get_paths()[0].vertices
    for step in range(3):
        heights = corners[corners[:, 0] == step, 1]
        value, deviation = row[f"step_{step}"], row[f"step_{step}_std"]
        assert (heights.min(), heights.max()) == pytest.approx((value - deviation, value + deviation))
    assert "flaky[alpha=2]" not in bands


def test_points_and_crosses(pets: Board, plots: dict[str, Figure]) -> None:
    for plot, x, y in (("old-new", "old", "new"), ("cost", "train_minutes", "all")):
        lines = {str(line.get_label()): line for line in plots[plot].axes[0].lines}
        for row in pets.rows:
            if row["seeds"]:
                xy = lines[row["method"]].get_xydata()
                assert np.asarray(xy).tolist() == [[row[x], row[y]]]
    (mib,) = [row for row in pets.rows if row["method"] == "mib"]
    strokes = np.array(collection(plots["old-new"], "std").get_segments())
    assert len(strokes) == 4
    expected = [[mib["old"] - mib["old_std"], mib["new"]], [mib["old"] + mib["old_std"], mib["new"]]]
    assert any(np.allclose(stroke, expected) for stroke in strokes)


def test_bars_are_sorted(pets: Board, plots: dict[str, Figure]) -> None:
    axes = plots["forgetting"].axes[0]
    ends = [segment[1][0] for segment in collection(plots["forgetting"], "forgetting").get_segments()]
    rows = sorted((row for row in pets.rows if row["forgetting"] is not None), key=lambda r: r["forgetting"])
    assert ends == pytest.approx([row["forgetting"] for row in rows])
    names = [row["method"] for row in rows]
    shown = sorted((t for t in axes.texts if t.get_text() in names), key=lambda text: text.get_position()[1])
    assert [text.get_text() for text in shown] == names
    whiskers = collection(plots["forgetting"], "deviation").get_segments()
    assert len(whiskers) == 2
    assert "joint" in words(plots["forgetting"]).partition("trained at once")[2]


def test_getting_better_is_negative_forgetting(make: Callable[..., Record]) -> None:
    (board,) = build_boards([make([[90, 40, 40], [90, 50, 50, 40], [90, 60, 60, 50, 20]])])
    figure = figures(board, board.sections[0])["forgetting"]
    assert collection(figure, "forgetting").get_segments()[0][1][0] == pytest.approx(-10)
    assert "\u221210" in words(figure)
    low, high = figure.axes[0].get_xlim()
    assert low <= -10 and high >= 0


def test_cells_are_the_classes_by_step(pets: Board, plots: dict[str, Figure]) -> None:
    picture = np.asarray(plots["classes"].axes[0].images[0].get_array())
    rows = [row for row in pets.rows if row["seeds"]]
    assert picture.shape == (5, 4 * len(rows) - 1, 4)
    for position, row in enumerate(rows):
        panel = picture[:, 4 * position : 4 * position + 3]
        for label, series in row["by_class_and_step"].items():
            for step, value in enumerate(series):
                colour = (0, 0, 0, 0) if value is None else COLOURS(value / 100, bytes=True)
                assert tuple(panel[label, step]) == colour
    text = words(plots["classes"])
    for name in ("background", "horse", "step 2", "100 IoU (%)", "blank: not learnt yet"):
        assert name in text


def test_many_classes_are_grouped_by_step(make: Callable[..., Record], protocol: ProtocolCard) -> None:
    names = ("background", *(f"class{label}" for label in range(1, 61)))
    steps = (ProtocolStep(classes=tuple(range(1, 51))), ProtocolStep(classes=tuple(range(51, 61))))
    many = replace(protocol, class_names=names, steps=steps)
    record = make([[50] * 51, [40] * 61], protocol=many, channels=(range(51), range(61)))
    (board,) = build_boards([record])
    text = words(figures(board, board.sections[0])["classes"])
    assert "step 1" in text and "class1" not in text


def test_units_and_protocol_everywhere(pets: Board, plots: dict[str, Figure]) -> None:
    for name, figure in plots.items():
        text = words(figure)
        assert "pets-2-1" in text and "mini scale" in text and "IoU" in text
        assert ("points" if name == "forgetting" else "(%)") in text
        assert "no result: plop" in text
        assert "synthetic" not in text


def test_the_stand_in_is_announced(board: list[Record]) -> None:
    drawn = [replace(record, data=replace(record.data, synthetic=True)) for record in board]
    other = [replace(each, protocol=replace(each.protocol, name="pets-2-1@b")) for each in drawn]
    boards = build_boards([*drawn, *other])
    shown = [*figures(boards[0], boards[0].sections[0]).values(), *across(boards).values()]
    assert len(shown) == 6
    for figure in shown:
        assert "synthetic stand-in" in words(figure)
        assert "synthetic stand-in" in svg(figure)


def test_nothing_finished_is_no_plot(make: Callable[..., Record]) -> None:
    (board,) = build_boards([replace(make([], reason="out of memory"), network=None, cost=None)])
    assert figures(board, board.sections[0]) == {}


def test_one_step_has_no_series(make: Callable[..., Record], protocol: ProtocolCard) -> None:
    single = replace(protocol, steps=(ProtocolStep(classes=(1, 2, 3, 4)),))
    (board,) = build_boards([make([[90, 60, 50, 40, 30]], protocol=single, channels=(range(5),))])
    assert list(figures(board, board.sections[0])) == ["classes", "cost"]


def test_dear_and_cheap_on_a_logarithmic_axis(board: list[Record]) -> None:
    dear = [
        replace(record, cost=slower(record)) if record.method.key == "mib" else record for record in board
    ]
    (drawn,) = build_boards(dear)
    figure = figures(drawn, drawn.sections[0])["cost"]
    assert figure.axes[0].get_xscale() == "log"
    assert "(minutes, logarithmic)" in words(figure)


def slower(record: Record):  # type: ignore[no-untyped-def]
    assert record.cost
    return replace(record.cost, steps=tuple(replace(s, train_seconds=3000.0) for s in record.cost.steps))


def test_orders_of_one_protocol(make: Callable[..., Record], protocol: ProtocolCard) -> None:
    def run(name: str, iou: int, method: str = "mib") -> Record:
        named = replace(protocol, name=name)
        return make([[90, 60, 50], [90, 50, 40, 30], [90, 40, 30, 30, iou]], method, protocol=named)

    records = [run("pets-2-1", 10), run("pets-2-1@b", 20), run("pets-2-1@random3", 30)]
    records += [run("pets-2-1", 5, "plop"), run("pets-2-1-disjoint", 90), run("pets-2-1+mib@b", 90)]
    found = across(build_boards(records))
    assert list(found) == ["pets-2-1-mini-real-orders"]
    (figure,) = found.values()
    dots = {str(line.get_label()): list(line.get_xdata()) for line in figure.axes[0].lines}
    assert dots == {"mib": pytest.approx([40, 42, 44]), "plop": pytest.approx([39])}
    text = words(figure)
    assert "3 class orders" in text and "orders: a, b, random3" in text
    assert "42.0 ± 2.0" in text and "not in all orders: plop" in text


def test_svg_is_the_same_each_time_and_can_be_put_anywhere(pets: Board) -> None:
    first = figures(pets, pets.sections[0])
    second = figures(pets, pets.sections[0])
    page = ""
    for name, figure in first.items():
        text = svg(figure, name)
        assert text == svg(figure, name) == svg(second[name], name)
        assert "#000000" not in text and "currentColor" in text and "<style" not in text
        assert "<?xml" not in text and "<metadata" not in text
        root = ElementTree.fromstring(text)
        assert root[0].tag.endswith("title") and root[0].text == figure.get_label()
        page += text
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids)) > 0
    assert {name for pair in re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', page) for name in pair} <= {
        "",
        *ids,
    }
    assert all(each.startswith(tuple(first)) for each in ids)


def test_svg_without_a_prefix_has_ids_of_its_own(plots: dict[str, Figure]) -> None:
    ids = re.findall(r' id="([^"]*)"', "".join(svg(figure) for figure in plots.values()))
    assert len(ids) == len(set(ids))


def test_names_are_escaped_and_no_formulas(make: Callable[..., Record]) -> None:
    (board,) = build_boards([make([[90, 60, 50], [90, 50, 40, 30], [90, 40, 30, 30, 20]], "a$x^2$<b>&")])
    for figure in figures(board, board.sections[0]).values():
        ElementTree.fromstring(svg(figure))
    assert "a$x^2$&lt;b&gt;&amp;" in svg(figure)


def test_files(board: list[Record], tmp_path: Path) -> None:
    paths = write_plots(build_boards(board), tmp_path)
    assert len(paths) == len(set(paths)) == 10
    assert paths[:2] == [tmp_path / f"plots/pets-2-1/mini-real-steps.{suffix}" for suffix in ("svg", "png")]
    assert "currentColor" not in paths[0].read_text() and "#ffffff" in paths[0].read_text()
    assert paths[1].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["steps", "old-new", "classes", "forgetting", "cost"])
def test_pictures(plots: dict[str, Figure], name: str, tmp_path: Path) -> None:
    """The tolerance is root-mean-square grey levels: fonts differ a little between versions."""
    drawn = tmp_path / f"{name}.png"
    drawn.write_bytes(png(plots[name]))
    golden = GOLDEN / f"plot-{name}.png"
    if os.environ.get("CONTISEG_RENEW_GOLDEN"):
        golden.write_bytes(drawn.read_bytes())
    assert compare_images(str(golden), str(drawn), tol=6) is None


def test_drawing_a_picture_leaves_the_figure_alone(pets: Board, plots: dict[str, Figure]) -> None:
    before = plots["steps"].get_dpi(), plots["steps"].get_facecolor()
    png(plots["steps"])
    assert (plots["steps"].get_dpi(), plots["steps"].get_facecolor()) == before
    untouched = figures(pets, pets.sections[0])["steps"]
    assert svg_document(plots["steps"]) == svg_document(untouched)


def test_pyplot_stays_out() -> None:
    code = "import sys, reports.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


def test_labels_keep_apart() -> None:
    points = [(50 + index % 3, 40 + index % 2) for index in range(22)]
    sizes = [(40.0 + index, 8.0) for index in range(22)]
    centres = place(points, sizes, (380, 300))
    boxes = [
        (x - w / 2, y - h / 2, x + w / 2, y + h / 2) for (x, y), (w, h) in zip(centres, sizes, strict=True)
    ]
    for index, (left, bottom, right, top) in enumerate(boxes):
        assert left >= 0 and bottom >= 0 and right <= 380 and top <= 300
        for other in boxes[:index]:
            assert left >= other[2] or right <= other[0] or bottom >= other[3] or top <= other[1]


def test_spread_keeps_order_and_distance() -> None:
    placed = spread([5.0, 5.0, 4.0, 90.0], 10, 0, 100)
    assert placed == pytest.approx([10.0, 20.0, 0.0, 90.0])
    assert spread([50.0, 70.0], 10, 0, 100) == [50.0, 70.0]


def test_long_names_are_shortened_and_stay_different() -> None:
    names = ["m[" + "a" * 60 + middle + "b" * 60 + "]" for middle in "xyz"]
    labels = row_labels([{"method": name, "variant": ""} for name in names])
    assert len(set(labels)) == 3 and all(len(label) < 45 for label in labels)
    assert shortened("mib[kd_weight=100,lr=0.01]") == "mib[kd_weight=100,lr=0.01]"
    assert text_width("mib", 7) < text_width("mibmib", 7)


def test_looks_of_built_in_methods_differ() -> None:
    names = list(builtin_methods())
    assert set(BUILT_IN) <= set(names)
    assert len({look_of(name) for name in names}) == len(names)
    assert len({look.colour for look in BUILT_IN.values()}) == len(BUILT_IN)
    assert look_of("mib[kd_weight=1]").colour == look_of("mib").colour
    assert look_of("mib[kd_weight=1]") != look_of("mib")
    assert look_of("mine") == look_of("mine")


def test_ticks_and_limits() -> None:
    assert ticks(0, 80) == [0, 20, 40, 60, 80]
    assert ticks(-20, 10) == [-20, -15, -10, -5, 0, 5, 10]
    assert limits([0.3, 74.4]) == (0, 80)
    assert limits([100.0]) == (90, 100)
    assert limits([50.0]) == (40, 60)
