"""ADE20K's semantic and instance maps of one image -> its panoptic and instance annotations.

Formats and rules: Mask2Former `datasets/prepare_ade20k_{pan,ins}_seg.py`. Two things differ. Area and box of
a stuff segment are measured after the things are pasted over it, there before: the official file counts the
covered pixels in `area`, and keeps a segment of which nothing is left. And a segment's colour says what it
is, there the colours of things are random.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from scipy import ndimage

from protocols.datasets.ade import CLASS_NAMES, STUFF_IDS, THING_IDS

Entry = dict[str, Any]


class Annotations(NamedTuple):
    """What one image contributes to the two JSON files, and its panoptic PNG."""

    colours: NDArray[np.uint8]
    """(H, W, 3): red is the number of the instance, 0 for stuff; green the label id, 1..150."""
    panoptic: list[Entry]
    """`segments_info`: stuff by label id, then things by number."""
    instances: list[Entry]
    """As in `annotations`, but for `id` and `image_id`."""


def annotate(labels: NDArray[np.uint8], instances: NDArray[np.uint8]) -> Annotations:
    """labels (H, W): 0 or label id. instances (H, W, 3): category 1..100, number of the instance or 0, 0.

    A pixel of a thing class without an instance is in no segment. ValueError for shapes that do not fit, and
    for an instance with two categories or an unknown one.
    """
    if instances.ndim != 3 or labels.shape != instances.shape[:2]:
        raise ValueError(f"the semantic map is {labels.shape}, the instance map {instances.shape}")
    values = _STUFF[labels].astype(np.int32)
    number = instances[..., 1]
    if (instances[..., 0] > len(THING_IDS)).any():
        raise ValueError(f"instance category {instances[..., 0].max()} is outside 1..{len(THING_IDS)}")
    things = _THINGS[instances[..., 0]]
    values = (np.where(number > 0, things, values) << 8) | number
    areas = np.bincount(values.ravel(), minlength=256)
    if areas[1:256].any():
        raise ValueError(f"instance {areas[1:256].argmax() + 1} has no category")
    segments = np.flatnonzero(areas)
    segments = segments[segments > 0]
    segments = segments[np.lexsort([segments >> 8, segments & 255])]
    numbers = segments[segments & 255 > 0] & 255
    if len(set(numbers.tolist())) < len(numbers):
        raise ValueError(f"instance {np.bincount(numbers).argmax()} has two categories")

    places = np.zeros(len(areas), dtype=np.int32)
    places[segments] = np.arange(1, len(segments) + 1)
    boxes = ndimage.find_objects(places[values])
    panoptic, annotations = [], []
    for segment, box in zip(segments.tolist(), boxes, strict=True):
        common = {
            "category_id": (segment >> 8) - 1,
            "area": int(areas[segment]),
            "bbox": [box[1].start, box[0].start, box[1].stop - box[1].start, box[0].stop - box[0].start],
            "iscrowd": 0,
        }
        panoptic.append({"id": segment, **common})
        if segment & 255:
            mask = np.asfortranarray(values == segment, dtype=np.uint8)
            lengths = coco_mask.encode(mask)
            lengths["counts"] = lengths["counts"].decode("ascii")
            annotations.append({**common, "segmentation": lengths})
    colours = np.stack([number, (values >> 8).astype(np.uint8), np.zeros_like(number)], axis=-1)
    return Annotations(colours, panoptic, annotations)


class Record(NamedTuple):
    """One image in both files."""

    stem: str
    width: int
    height: int
    panoptic: list[Entry]
    instances: list[Entry]


def panoptic_file(records: Sequence[Record]) -> dict[str, Any]:
    """The content of `ade20k_panoptic_*.json`."""
    return {
        "images": [_image(record) for record in records],
        "annotations": [
            {"image_id": r.stem, "file_name": f"{r.stem}.png", "segments_info": r.panoptic} for r in records
        ],
        "categories": [
            {"id": label - 1, "name": name, "isthing": int(label in THING_IDS), "color": [0, label, 0]}
            for label, name in enumerate(CLASS_NAMES[1:], start=1)
        ],
    }


def instance_file(records: Sequence[Record]) -> dict[str, Any]:
    """The content of `ade20k_instance_*.json`."""
    annotations = [(record.stem, entry) for record in records for entry in record.instances]
    return {
        "images": [_image(record) for record in records],
        "annotations": [
            {"id": number, "image_id": stem, **entry}
            for number, (stem, entry) in enumerate(annotations, start=1)
        ],
        "categories": [{"id": label - 1, "name": CLASS_NAMES[label]} for label in THING_IDS],
    }


def _image(record: Record) -> Entry:
    return {
        "id": record.stem,
        "file_name": f"{record.stem}.jpg",
        "width": record.width,
        "height": record.height,
    }


def _table(values: Sequence[int], places: Sequence[int]) -> NDArray[np.int32]:
    """(256,): `values` at `places`, 0 elsewhere."""
    table = np.zeros(256, dtype=np.int32)
    table[list(places)] = values
    return table


_STUFF = _table(STUFF_IDS, STUFF_IDS)
_THINGS = _table(THING_IDS, range(1, len(THING_IDS) + 1))
"""Category of the instance files -> label id (Mask2Former `datasets/ade20k_instance_catid_mapping.txt`): the
things in ascending order."""
