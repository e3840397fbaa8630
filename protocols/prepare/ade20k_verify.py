"""`verify ade20k`: beyond photographs and masks, the instance maps and the JSON files of the three tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from scipy import ndimage
from tqdm import tqdm

from protocols.datasets import Ade, Dataset
from protocols.datasets.ade import FOLDERS
from protocols.datasets.dataset import Sample
from protocols.datasets.files import mask_array, open_colours, open_id_mask, open_mask, photograph_size
from protocols.datasets.segment_table import load_json
from protocols.prepare.ade_segments import instance_file, panoptic_file
from protocols.prepare.processes import in_processes
from protocols.prepare.sources import Say

Entry = dict[str, Any]
_AGAIN = "remove the JSON file and run `prepare ade20k` again"


class Job(NamedTuple):
    """One image, and what the JSON files say of it."""

    sample: Sample
    panoptic_png: Path
    size: tuple[int, int]
    """Width and height."""
    segments: list[Entry]
    instances: list[Entry]


def check(dataset: Dataset, say: Say, workers: int) -> list[str]:
    """What is missing or does not agree, one line each."""
    problems: list[str] = []
    for split in FOLDERS:
        problems += _missing_masks(dataset, split)
        if _has_samples(dataset, split):
            problems += _check_instance_maps(dataset, split, workers)
            problems += _check_segments(dataset, split, say, workers)
    return problems


def _has_samples(dataset: Dataset, split: str) -> bool:
    try:
        return bool(dataset.samples(split))
    except (FileNotFoundError, ValueError):  # said with the photographs and masks
        return False


def _missing_masks(dataset: Dataset, split: str) -> Iterator[str]:
    """Samples are listed by their masks: a photograph without one is in no list."""
    photographs = dataset.root / "images" / FOLDERS[split]
    for photograph in sorted(photographs.glob("[!.]*.jpg")):
        mask = dataset.root / "annotations" / FOLDERS[split] / f"{photograph.stem}.png"
        if not mask.is_file():
            yield f"{mask}: this mask is missing: run `prepare ade20k` again"


def _check_instance_maps(dataset: Dataset, split: str, workers: int) -> list[str]:
    """They are only needed to make the JSON files, so none at all is no problem."""
    folder = dataset.root / "annotations_instance" / FOLDERS[split]
    if not folder.is_dir():
        return []
    paths = [folder / sample.mask.name for sample in dataset.samples(split)]
    found = in_processes(_check_instance_map, paths, workers=workers)
    progress = tqdm(found, total=len(paths), desc=f"instance maps, {split}", unit="image", disable=None)
    return [problem for problem in progress if problem]


def _check_instance_map(path: Path) -> str:
    try:
        open_colours(path, "instance mask")
    except (FileNotFoundError, ValueError) as error:
        return str(error)
    return ""


def _check_segments(dataset: Dataset, split: str, say: Say, workers: int) -> list[str]:
    files = {task: dataset.root / f"ade20k_{task}_{split}.json" for task in ("panoptic", "instance")}
    missing = [path for path in files.values() if not path.is_file()]
    if missing:
        return [f"{path.name} is missing: run `prepare ade20k`" for path in missing]
    try:
        contents = {task: load_json(path) for task, path in files.items()}
    except ValueError as error:
        return [str(error)]
    samples = dataset.samples(split)
    problems = [
        f"{files[task].name}: {problem}: {_AGAIN}"
        for task, content in contents.items()
        for problem in _check_frame(content, task, [sample.mask.stem for sample in samples])
    ]
    if problems:
        return problems
    jobs = list(_jobs(samples, contents, dataset.root / f"ade20k_panoptic_{split}"))
    say(
        f"{split}: {len(samples)} images, {sum(len(job.segments) for job in jobs)} panoptic segments, "
        f"{sum(len(job.instances) for job in jobs)} instances"
    )
    results = in_processes(_check_image, jobs, workers=workers)
    progress = tqdm(results, total=len(jobs), desc=f"checking segments, {split}", unit="image", disable=None)
    found: Counter[str] = Counter()
    first: dict[str, str] = {}
    for sample, (damaged, kinds) in zip(samples, progress, strict=True):
        problems += damaged
        found.update(kinds)
        first |= {kind: sample.mask.stem for kind in kinds if kind not in first}
    return [
        *problems,
        *(f"{split}: {kind} in {n} images, such as {first[kind]}: {_AGAIN}" for kind, n in found.items()),
    ]


def _jobs(samples: Sequence[Sample], contents: dict[str, Entry], folder: Path) -> Iterator[Job]:
    panoptic = {a["image_id"]: a["segments_info"] for a in contents["panoptic"]["annotations"]}
    sizes = {image["id"]: (image["width"], image["height"]) for image in contents["panoptic"]["images"]}
    instances: dict[str, list[Entry]] = {stem: [] for stem in panoptic}
    for annotation in contents["instance"]["annotations"]:
        instances[annotation["image_id"]].append(annotation)
    for sample in samples:
        stem = sample.mask.stem
        yield Job(sample, folder / sample.mask.name, sizes[stem], panoptic[stem], instances[stem])


def _check_frame(content: Entry, task: str, stems: list[str]) -> Iterator[str]:
    """The lists of images and categories, and that every annotation belongs to an image."""
    expected = (panoptic_file if task == "panoptic" else instance_file)([])["categories"]
    try:
        keys = ("id", "isthing") if task == "panoptic" else ("id",)
        if [[c[k] for k in keys] for c in content["categories"]] != [[c[k] for k in keys] for c in expected]:
            yield "other categories than ADE20K's"
        if sorted(image["id"] for image in content["images"]) != sorted(stems):
            yield f"{len(content['images'])} images that are not the {len(stems)} of the data set"
        owners = [annotation["image_id"] for annotation in content["annotations"]]
        if (task == "panoptic" and sorted(owners) != sorted(stems)) or not set(owners) <= set(stems):
            yield "annotations of other images than the data set's"
    except (KeyError, TypeError) as error:
        yield f"not in COCO's format ({error})"


def _check_image(job: Job) -> tuple[list[str], set[str]]:
    """What is wrong with the panoptic PNG of one image, and the kinds of disagreement that the image has."""
    try:
        ids = open_id_mask(job.panoptic_png)
    except (FileNotFoundError, ValueError) as error:
        return [f"{error}: {_AGAIN}"], set()
    try:
        labels, photograph = mask_array(open_mask(job.sample.mask)), photograph_size(job.sample.image)
    except (FileNotFoundError, ValueError):  # named with the photographs and masks
        return [], set()
    if not ids.shape == labels.shape == job.size[::-1] == photograph[::-1]:
        return [], {"sizes that differ between photograph, masks and JSON"}
    return [], _disagreements(ids, labels, job.segments, job.instances)


def _disagreements(
    ids: NDArray[np.int32], labels: NDArray[np.uint8], segments: list[Entry], instances: list[Entry]
) -> set[str]:
    """Between the panoptic PNG `ids` and the semantic map `labels`, both (H, W), and the two JSON files."""
    wrong = set()
    areas = np.bincount(ids.ravel())
    areas[0] = 0  # nothing is there
    present = np.flatnonzero(areas)
    places = np.zeros(len(areas), dtype=np.int32)
    places[present] = np.arange(1, len(present) + 1)
    boxes = [_box(part) for part in ndimage.find_objects(places[ids])]
    drawn = dict(zip(present.tolist(), zip(areas[present].tolist(), boxes, strict=True), strict=True))
    listed = {segment["id"]: (segment["area"], segment["bbox"]) for segment in segments}
    if drawn.keys() != listed.keys():
        wrong.add("segments that only the PNG or only the JSON has")
    if any(drawn[number] != listed[number] for number in drawn.keys() & listed.keys()):
        wrong.add("areas or boxes that are not those of the pixels (Mask2Former's scripts write such)")
    label_of = {s["id"]: s["category_id"] + 1 for s in segments if s["category_id"] + 1 not in Ade.things}
    labels_of = np.zeros(len(areas), dtype=np.uint8)
    labels_of[present] = [label_of.get(number, 0) for number in present.tolist()]
    stuff = labels_of[ids]
    if not np.array_equal(stuff[stuff > 0], labels[stuff > 0]):
        wrong.add("stuff that the semantic map does not have")
    things = [(s["category_id"], *listed[s["id"]]) for s in segments if s["id"] not in label_of]
    if sorted(things) != sorted(map(_instance, instances)):
        wrong.add("instances that differ from the things of the panoptic file")
    return wrong


def _box(part: tuple[slice, ...]) -> list[int]:
    rows, columns = part
    return [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]


def _instance(annotation: Entry) -> tuple[int, int, list[int]]:
    """Category, and area and box of the mask itself."""
    mask = {**annotation["segmentation"], "counts": annotation["segmentation"]["counts"].encode()}
    return annotation["category_id"], int(coco_mask.area(mask)), coco_mask.toBbox(mask).astype(int).tolist()
