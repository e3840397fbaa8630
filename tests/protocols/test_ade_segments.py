"""Semantic and instance maps of ADE20K -> panoptic and instance annotations."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from protocols.datasets.ade import CLASS_NAMES, THING_IDS
from protocols.prepare.ade_segments import Record, annotate, instance_file, panoptic_file

BED, WINDOW, WALL, SKY = 8, 9, 1, 3
LABELS = np.array(
    [
        [WALL, WALL, WALL, WALL, SKY],
        [WALL, WALL, WALL, WALL, WINDOW],
        [0, 0, BED, BED, BED],
    ],
    np.uint8,
)


def instances(*places: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """(row, column, category, number) of single pixels."""
    result = np.zeros((3, 5, 3), np.uint8)
    for row, column, category, number in places:
        result[row, column, :2] = category, number
    return result


def test_things_are_pasted_over_stuff_before_areas_are_measured() -> None:
    """The official file says area 8, box [0, 0, 4, 2] for the wall and keeps the sky that is all covered."""
    thing = instances((0, 4, 1, 7), (0, 3, 1, 7), (1, 3, 1, 7), (2, 2, 2, 3), (2, 3, 2, 3))
    colours, panoptic, found = annotate(LABELS, thing)
    assert [(s["id"], s["category_id"], s["area"], s["bbox"]) for s in panoptic] == [
        (WALL << 8, 0, 6, [0, 0, 3, 2]),
        (WINDOW << 8 | 3, 8, 2, [2, 2, 2, 1]),
        (BED << 8 | 7, 7, 3, [3, 0, 2, 2]),
    ]
    ids = colours.astype(int) @ [1, 256, 65536]
    assert set(np.unique(ids)) == {0, *(s["id"] for s in panoptic)}
    assert (ids[1, 4], ids[2, 4]) == (0, 0)  # a window and a bed without instance are in no segment
    assert [(s["category_id"], s["area"]) for s in found] == [(8, 2), (7, 3)]
    for segment, number in zip(found, (3, 7), strict=True):
        assert np.array_equal(coco_mask.decode(segment["segmentation"]), thing[..., 1] == number)


def test_an_image_without_any_segment() -> None:
    colours, panoptic, found = annotate(np.zeros((3, 5), np.uint8), instances())
    assert not colours.any() and panoptic == [] and found == []


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (instances((0, 0, 101, 1)), "instance category 101 is outside 1..100"),
        (instances((0, 0, 0, 9)), "instance 9 has no category"),
        (instances((0, 0, 1, 9), (0, 1, 2, 9)), "instance 9 has two categories"),
        (instances()[:2], r"semantic map is \(3, 5\), the instance map \(2, 5, 3\)"),
    ],
)
def test_maps_that_contradict_each_other(thing: NDArray[np.uint8], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        annotate(LABELS, thing)


def test_files_have_the_official_formats() -> None:
    _, panoptic, found = annotate(LABELS, instances((0, 0, 1, 1), (0, 1, 100, 2)))
    records = [Record(f"ADE_val_0000000{i}", 5, 3, panoptic, found) for i in (1, 2)]
    content = panoptic_file(records)
    image = {"id": "ADE_val_00000001", "file_name": "ADE_val_00000001.jpg", "width": 5, "height": 3}
    assert content["images"][0] == image
    assert content["annotations"][1]["file_name"] == "ADE_val_00000002.png"
    assert content["annotations"][1]["image_id"] == content["images"][1]["id"]
    assert [c["id"] for c in content["categories"]] == list(range(150))
    assert sum(c["isthing"] for c in content["categories"]) == 100
    content = instance_file(records)
    assert [(a["id"], a["image_id"]) for a in content["annotations"]] == [
        (1, "ADE_val_00000001"),
        (2, "ADE_val_00000001"),
        (3, "ADE_val_00000002"),
        (4, "ADE_val_00000002"),
    ]
    assert content["annotations"][1]["category_id"] == THING_IDS[99] - 1 == 149
    assert content["categories"][-1] == {"id": 149, "name": CLASS_NAMES[150]}
