"""Which segments the images of one split have: panoptic and instance annotations in COCO's JSON formats."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.uint16]
LARGEST_SIDE = 32767
"""Pixels; what is beyond is damage, and would be allocated."""


@dataclass(frozen=True, eq=False)
class SegmentTable:
    """The segments of all images, one after another: arrays, as 300000 dicts would take half a GiB."""

    path: Path
    """The JSON file."""
    rows: dict[str, int]
    """File stem of an image -> its number."""
    starts: npt.NDArray[np.int64]
    """(images + 1,): the segments of image n are number starts[n] to starts[n + 1] - 1."""
    labels: npt.NDArray[np.uint8]
    """(segments,) label id."""
    crowd: npt.NDArray[np.bool_]
    ids: npt.NDArray[np.int64]
    """(segments,) panoptic: the value in the PNG, R + 256 G + 65536 B."""
    masks: RunLengths | None = None
    """Instance: the mask of each segment."""

    def segments_of(self, stem: str) -> slice:
        """The numbers of an image's segments. ValueError for an image that the file does not name."""
        try:
            row = self.rows[stem]
        except KeyError:
            raise ValueError(
                f"{self.path}: image {stem!r} is not in it: remove the file and prepare the data set again"
            ) from None
        return slice(int(self.starts[row]), int(self.starts[row + 1]))

    def counts(self, stems: Iterable[str]) -> Counts:
        """(N, 256): how many segments of each label id the images have. ValueError as `segments_of`."""
        return np.stack(
            [np.bincount(self.labels[self.segments_of(stem)], minlength=256) for stem in stems]
        ).astype(np.uint16)


@dataclass(frozen=True, eq=False)
class RunLengths:
    """COCO's compressed run lengths of many masks, end to end."""

    text: bytes
    ends: npt.NDArray[np.int64]
    """(segments,)"""
    sizes: npt.NDArray[np.int32]
    """(segments, 2) height and width."""

    def __getitem__(self, number: int) -> dict[str, Any]:
        """One mask as pycocotools takes it."""
        start = int(self.ends[number - 1]) if number else 0
        counts = self.text[start : int(self.ends[number])]
        return {"size": self.sizes[number].tolist(), "counts": counts}


def read_panoptic(path: Path, num_classes: int) -> SegmentTable:
    """A COCO panoptic file whose category ids are 0..num_classes-1; label ids are one above.

    ValueError in one line for a file that is damaged or of another format.
    """
    content = load_json(path)
    with _one_line(path, "panoptic"):
        images = [(Path(a["file_name"]).stem, a["segments_info"]) for a in content["annotations"]]
        segments = [segment for _, found in images for segment in found]
        ids = np.array([segment["id"] for segment in segments], dtype=np.int64)
        return _table(path, [(stem, len(found)) for stem, found in images], segments, ids, num_classes)


def read_instances(path: Path, num_classes: int) -> SegmentTable:
    """A COCO instance file with run lengths; category ids as in `read_panoptic`. ValueError as there."""
    content = load_json(path)
    with _one_line(path, "instance"):
        stem_of = {image["id"]: Path(image["file_name"]).stem for image in content["images"]}
        by_image: dict[str, list[dict[str, Any]]] = {stem: [] for stem in stem_of.values()}
        for annotation in content["annotations"]:
            by_image[stem_of[annotation["image_id"]]].append(annotation)
        segments = [segment for found in by_image.values() for segment in found]
        counts = [segment["segmentation"]["counts"].encode("ascii") for segment in segments]
        sizes = np.array([segment["segmentation"]["size"] for segment in segments], dtype=np.int32)
        sizes = sizes.reshape(len(segments), 2)
        if sizes.size and not 0 < sizes.min() <= sizes.max() <= LARGEST_SIDE:
            raise ValueError(f"the size of a mask is outside 1..{LARGEST_SIDE}")
        lengths = np.array([len(text) for text in counts], dtype=np.int64)
        masks = RunLengths(b"".join(counts), np.cumsum(lengths), sizes)
        numbers = np.arange(len(segments))
        lists = [(stem, len(found)) for stem, found in by_image.items()]
        return _table(path, lists, segments, numbers, num_classes, masks)


def _table(
    path: Path,
    images: Sequence[tuple[str, int]],
    segments: Sequence[dict[str, Any]],
    ids: npt.NDArray[np.int64],
    num_classes: int,
    masks: RunLengths | None = None,
) -> SegmentTable:
    """`images`: each one's stem and number of segments."""
    labels = np.array([segment["category_id"] for segment in segments], dtype=np.int64) + 1
    wrong = labels[(labels < 1) | (labels > num_classes)]
    if wrong.size:
        raise ValueError(f"category id {wrong[0] - 1} is outside 0..{num_classes - 1}")
    return SegmentTable(
        path=path,
        rows={stem: row for row, (stem, _) in enumerate(images)},
        starts=np.cumsum([0, *(number for _, number in images)], dtype=np.int64),
        labels=labels.astype(np.uint8),
        crowd=np.array([segment.get("iscrowd", 0) for segment in segments], dtype=bool),
        ids=ids,
        masks=masks,
    )


def load_json(path: Path) -> dict[str, Any]:
    """The content of an annotation file. ValueError in one line where it is damaged."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: damaged ({reason}): remove it and prepare the data set again") from None
    with _one_line(path, "COCO"):
        if not isinstance(content, dict):
            raise ValueError("no table at the top")
    return content


@contextmanager
def _one_line(path: Path, kind: str) -> Iterator[None]:
    """Whatever is wrong with the content becomes a ValueError that names the file."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise ValueError(
            f"{path}: not a {kind} annotation file ({reason}): remove it and prepare the data set again"
        ) from None
