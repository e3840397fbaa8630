"""`verify ade20k`: are all files there, do they agree, and are the archives the published ones?"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from scipy import ndimage
from tqdm import tqdm

from protocols.datasets import Ade
from protocols.datasets.ade import FOLDERS
from protocols.datasets.dataset import Sample
from protocols.datasets.files import mask_array, open_id_mask, open_mask, photograph_size
from protocols.datasets.segment_table import load_json
from protocols.datasets.synthetic import read_marker
from protocols.prepare.ade20k import ARCHIVES, dataset_folder, file_hash, find_archive, in_processes
from protocols.prepare.ade_segments import instance_file, panoptic_file

Say = Callable[[str], None]
Entry = dict[str, Any]
_AGAIN = "remove the JSON file and run `prepare ade20k` again"


def verify(data_root: Path, say: Say, workers: int | None = None) -> list[str]:
    """Check ADE20K in `data_root`; tell `say` what was found, and return what is wrong, one sentence each.

    FileNotFoundError where there is no ADE20K, ValueError for a JSON file that cannot be read.
    """
    dataset = Ade(dataset_folder(data_root))
    problems = list(_counts(dataset))
    for split in FOLDERS:
        problems += _check_split(dataset, split, say, workers or os.cpu_count() or 1)
    return problems + _check_archives(dataset, data_root, say)


def _counts(dataset: Ade) -> Iterator[str]:
    """Against the published numbers of images, or those of the stand-in."""
    marker = read_marker(dataset.root) or {}
    for split, official in dataset.official_sizes.items():
        expected, found = marker.get(split, official), len(dataset.samples(split))
        if found != expected:
            yield f"{split}: {found} masks instead of {expected}: unpack the archive again"


def _check_split(dataset: Ade, split: str, say: Say, workers: int) -> list[str]:
    samples = dataset.samples(split)
    files = {task: dataset.root / f"ade20k_{task}_{split}.json" for task in ("panoptic", "instance")}
    missing = [path for path in files.values() if not path.is_file()]
    if missing:
        return [f"{path.name} is missing: run `prepare ade20k`" for path in missing]
    contents = {task: load_json(path) for task, path in files.items()}
    problems = [
        f"{files[task].name}: {problem}: {_AGAIN}"
        for task, content in contents.items()
        for problem in _check_frame(content, task, [sample.mask.stem for sample in samples])
    ]
    if problems:
        return problems
    panoptic = {a["image_id"]: a["segments_info"] for a in contents["panoptic"]["annotations"]}
    instances: dict[str, list[Entry]] = {stem: [] for stem in panoptic}
    for annotation in contents["instance"]["annotations"]:
        instances[annotation["image_id"]].append(annotation)
    sizes = {image["id"]: (image["width"], image["height"]) for image in contents["panoptic"]["images"]}
    folder = dataset.root / f"ade20k_panoptic_{split}"
    jobs = [
        (sample, folder, sizes[sample.mask.stem], panoptic[sample.mask.stem], instances[sample.mask.stem])
        for sample in samples
    ]
    found: Counter[str] = Counter()
    first: dict[str, str] = {}
    results = in_processes(_check_image, jobs, workers=workers)
    progress = tqdm(results, total=len(jobs), desc=f"checking {split}", unit="image", disable=None)
    for sample, kinds in zip(samples, progress, strict=True):
        found.update(kinds)
        first |= {kind: sample.mask.stem for kind in kinds if kind not in first}
    segments = sum(map(len, panoptic.values()))
    say(
        f"{split}: {len(samples)} images, {segments} panoptic segments, "
        f"{len(contents['instance']['annotations'])} instances"
    )
    return [f"{split}: {kind} in {n} images, such as {first[kind]}: {_AGAIN}" for kind, n in found.items()]


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


def _check_image(job: tuple[Sample, Path, tuple[int, int], list[Entry], list[Entry]]) -> set[str]:
    """The kinds of mistakes that one image has."""
    sample, folder, size, segments, instances = job
    try:
        ids, labels = open_id_mask(folder / sample.mask.name), mask_array(open_mask(sample.mask))
        photograph = photograph_size(sample.image)
    except (FileNotFoundError, ValueError) as error:
        return {"a file that is missing or damaged (" + str(error).split(": ", 1)[-1] + ")"}
    if not ids.shape == labels.shape == size[::-1] == photograph[::-1]:
        return {"sizes that differ between photograph, masks and JSON"}
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


def _check_archives(dataset: Ade, data_root: Path, say: Say) -> list[str]:
    problems = []
    for archive in ARCHIVES:
        path = find_archive(archive, dataset.root, data_root)
        if path is None:
            say(f"{archive.name}: not here, so not checked")
        elif not archive.sha1:
            say(f"{archive.name}: SHA-256 {file_hash(path, 'sha256')}; no published hash to compare it with")
        elif file_hash(path, "sha1") == archive.sha1:
            say(f"{archive.name}: SHA-1 as published")
        else:
            problems.append(f"{path}: SHA-1 is not {archive.sha1}: remove it and run `prepare ade20k` again")
    return problems
