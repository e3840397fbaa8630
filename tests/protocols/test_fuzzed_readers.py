"""Whatever lies where an image, a mask, a list or an annotation should: it is read, or one line says why."""

from __future__ import annotations

import io
import json
import random
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from protocols.datasets import Folder, Sample, Voc
from protocols.datasets.ade import _drawn
from protocols.datasets.files import open_colours, open_id_mask, open_image, open_mask, photograph_size
from protocols.datasets.segment_table import SegmentTable, read_instances, read_panoptic
from tests.mutations import damage, mutate

LONGEST = 20.0
"""Seconds for one case: more is a hang."""
Case = Callable[[random.Random, Path], None]


def expect_one_line(act: Callable[[], object], path: Path | str) -> None:
    """Nothing, or an error in one line that names the file."""
    started = time.monotonic()
    try:
        act()
    except (ValueError, FileNotFoundError) as error:
        assert str(path) in str(error), str(error)
        assert "\n" not in str(error), str(error)
    assert time.monotonic() - started < LONGEST


def pictures() -> list[bytes]:
    """Photographs and masks in every format that may turn up."""
    noise = np.random.default_rng(0).integers(0, 255, (24, 20, 3), np.uint8)
    labels = noise[..., 0] % 5
    images = {
        "JPEG": Image.fromarray(noise),
        "PNG": Image.fromarray(labels).convert("P"),
        "WEBP": Image.fromarray(noise),
        "TIFF": Image.fromarray(noise),
        "BMP": Image.fromarray(noise),
        "GIF": Image.fromarray(labels),
        "PPM": Image.fromarray(noise),
    }
    found = []
    for kind, image in images.items():
        found.append(encoded(image, kind))
    more = {
        "L": labels,
        "I;16": labels.astype(np.uint16),
        "1": labels > 2,
        "RGBA": np.dstack([noise, labels]),
    }
    return found + [encoded(Image.fromarray(array), "PNG") for array in more.values()]


def encoded(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


PICTURES = pictures()
READERS: list[Callable[[Path], object]] = [
    open_image,
    open_mask,
    open_id_mask,
    photograph_size,
    lambda path: open_colours(path, "instance mask"),
]


def picture(chance: random.Random, folder: Path) -> None:
    path = folder / "picture.png"
    path.write_bytes(damage(chance.choice(PICTURES), chance))
    for read in READERS:
        expect_one_line(lambda read=read: read(path), path)  # type: ignore[misc]


PANOPTIC = {
    "images": [{"id": "a", "file_name": "a.jpg"}, {"id": "b", "file_name": "b.jpg"}],
    "annotations": [
        {
            "image_id": "a",
            "file_name": "a.png",
            "segments_info": [{"id": 7, "category_id": 0, "iscrowd": 0}, {"id": 260, "category_id": 3}],
        },
        {"image_id": "b", "file_name": "b.png", "segments_info": []},
    ],
    "categories": [{"id": 0, "name": "x", "isthing": 1}],
}
INSTANCES = {
    "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
    "annotations": [
        {
            "id": n,
            "image_id": 1 + n % 2,
            "category_id": n,
            "iscrowd": 0,
            "segmentation": {"size": [3, 3], "counts": "132"},
        }
        for n in range(3)
    ],
}


def annotation(chance: random.Random, folder: Path) -> None:
    path = folder / "annotation.json"
    content = json.loads(json.dumps(chance.choice([PANOPTIC, INSTANCES])))
    for _ in range(chance.randint(0, 3)):
        mutate(content, chance)
    data = json.dumps(content).encode()
    path.write_bytes(damage(data, chance) if chance.random() < 0.4 else data)
    for read in (read_panoptic, read_instances):
        expect_one_line(lambda read=read: use(read(path, 4)), path)  # type: ignore[misc]


def draw(table: SegmentTable, here: slice) -> None:
    anywhere = Path("a")
    _drawn(table, here, Sample(anywhere, anywhere))


def use(table: SegmentTable) -> None:
    """All that is looked up of a table that was accepted."""
    for stem in table.rows:
        here = table.segments_of(stem)
        assert len(table.ids[here]) == len(table.labels[here]) == len(table.crowd[here])
        for number in range(here.start, here.stop):
            if table.masks is not None and table.masks.sizes[number].prod() < 10**6:
                draw(table, slice(number, number + 1))
    if table.rows:
        table.counts(table.rows)


NAMES = [
    "a",
    "b.jpg",
    " c ",
    "/JPEGImages/a.jpg /SegmentationClass/a.png",
    "../../x",
    "a b c",
    "é\u0301",
    ".",
    "",
]
STRANGE_NAMES = ["\x00", "x" * 5000, "\ud800", "\u2028", "a\x00b /c", "~/x", "#", "\ufeffa"]


def name_list(chance: random.Random, folder: Path) -> None:
    names = [
        chance.choice(NAMES if chance.random() < 0.7 else STRANGE_NAMES) for _ in range(chance.randrange(6))
    ]
    data = "\n".join(names).encode("utf-8", "surrogatepass")
    data = damage(data, chance) if chance.random() < 0.3 else data
    for path in (folder / "train.txt", folder / "ImageSets/Segmentation/train_aug.txt"):
        path.write_bytes(data)
    for dataset in (Folder(folder, classes=["background", "a"]), Voc(folder)):
        expect_one_line(lambda dataset=dataset: look_at(dataset), folder)  # type: ignore[misc]


def look_at(dataset: Any) -> None:
    for sample in dataset.samples("train"):
        dataset.label_values(sample)
        dataset.read(sample)


def prepared(folder: Path) -> Path:
    for name in ("images", "masks", "ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (folder / name).mkdir(parents=True)
    return folder


def fuzz(case: Case, folder: Path, examples: int) -> None:
    @settings(max_examples=examples, deadline=None, derandomize=True, database=None)
    @given(st.randoms(use_true_random=False))
    def run(chance: random.Random) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            case(chance, folder)

    run()


CASES = pytest.mark.parametrize("case", [picture, annotation, name_list])


@CASES
def test_damaged_files(case: Case, tmp_path: Path) -> None:
    fuzz(case, prepared(tmp_path), 150)


@pytest.mark.slow
@CASES
def test_many_damaged_files(case: Case, tmp_path: Path) -> None:
    fuzz(case, prepared(tmp_path), 2500)
