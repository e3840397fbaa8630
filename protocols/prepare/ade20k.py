"""`prepare ade20k`: from the two official archives to semantic, panoptic and instance annotations."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from tqdm import tqdm

from protocols.datasets import STANDIN_MARKER, Ade, find
from protocols.datasets.ade import FOLDERS
from protocols.datasets.dataset import Sample
from protocols.datasets.files import mask_array, open_colours, open_mask, photograph_size
from protocols.prepare.ade_segments import Record, annotate, instance_file, panoptic_file
from protocols.prepare.archives import atomic, extract
from protocols.prepare.download import download

TOP = "ADEChallengeData2016"
_VERSION = 1
"""Of the journal: raise it whenever what stands in it changes."""


class Archive(NamedTuple):
    """One of the two files that are published."""

    name: str
    url: str
    top: str
    """Its only folder."""
    below: str
    """Where the content of `top` goes in the data set's folder."""
    folders: tuple[str, ...]
    """What it brings, below the data set's folder."""
    sha1: str = ""
    """Empty: nobody has published one."""


ARCHIVES = (
    Archive(
        name="ADEChallengeData2016.zip",
        url="http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
        top=TOP,
        below=".",
        folders=("images", "annotations"),
        sha1="219e1696abb36c8ba3a3afe7fb2f4b4606a897c7",  # GluonCV `scripts/datasets/ade20k.py`
    ),
    Archive(
        name="annotations_instance.tar",
        url="http://sceneparsing.csail.mit.edu/data/ChallengeData2017/annotations_instance.tar",
        top="annotations_instance",
        below="annotations_instance",
        folders=("annotations_instance",),
    ),
)


def prepare(data_root: Path, workers: int | None = None) -> Ade:
    """Make all annotations of ADE20K in `data_root`; what is there already is not made again.

    An archive is fetched where neither it nor what it brings is there. A kill loses the image in work.
    ValueError, FileNotFoundError or ConnectionError in one line that names the file and the remedy.
    """
    root = dataset_folder(data_root)
    if (root / STANDIN_MARKER).is_file():
        raise ValueError(f"{root} is a synthetic stand-in, complete as it is: choose another data root")
    for archive in ARCHIVES:
        _unpack(archive, root, data_root)
    dataset = Ade(root)
    for split in FOLDERS:
        annotate_split(dataset, split, workers or os.cpu_count() or 1)
    return dataset


def dataset_folder(data_root: Path) -> Path:
    """Where ADE20K lies in `data_root`, or is to lie."""
    found = find("ade", data_root)
    if found is not None:
        return found.root
    return data_root if data_root.name == TOP else data_root / TOP


def find_archive(archive: Archive, root: Path, data_root: Path) -> Path | None:
    """The archive in the data root, beside the data set or in it."""
    places = (folder / archive.name for folder in (data_root, root.parent, root))
    return next((place for place in places if place.is_file()), None)


def _unpack(archive: Archive, root: Path, data_root: Path) -> None:
    path = find_archive(archive, root, data_root)
    if path is None:
        if _is_unpacked(archive, root):
            return
        path = data_root / archive.name
        data_root.mkdir(parents=True, exist_ok=True)
        download(archive.url, path)
    if archive.sha1 and file_hash(path, "sha1") != archive.sha1:
        print(f"{path}: not the published file (its SHA-1 differs); going on with it", file=sys.stderr)
    extract(path, archive.top, root / archive.below)


def _is_unpacked(archive: Archive, root: Path) -> bool:
    """Whether each folder has as many files as the published one."""
    return all(
        sum(1 for _ in (root / folder / name).glob("ADE_*")) == Ade.official_sizes[split]
        for folder in archive.folders
        for split, name in FOLDERS.items()
    )


def file_hash(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def annotate_split(dataset: Ade, split: str, workers: int) -> None:
    """Write `ade20k_panoptic_*` and `ade20k_instance_*` of one split, if they are not there.

    Finished images stand in a journal, one a line, until both JSON files are written.
    """
    outputs = [dataset.root / f"ade20k_{task}_{split}.json" for task in ("panoptic", "instance")]
    journal = dataset.root / f".ade20k_{split}.jsonl"
    if all(path.is_file() for path in outputs) and not journal.exists():
        return
    samples = dataset.samples(split)
    colours = dataset.root / f"ade20k_panoptic_{split}"
    colours.mkdir(exist_ok=True)
    records = {record.stem: record for record in _resume(journal)}
    missing = [sample for sample in samples if sample.mask.stem not in records]
    with (
        journal.open("a", encoding="utf-8") as file,
        tqdm(
            total=len(samples),
            initial=len(samples) - len(missing),
            desc=f"panoptic and instance annotations, {split}",
            unit="image",
            disable=None,
        ) as progress,
    ):
        for record in in_processes(_annotate_image, missing, colours, workers=workers):
            file.write(json.dumps(record, separators=(",", ":")) + "\n")
            file.flush()
            records[record.stem] = record
            progress.update()
    ordered = [records[sample.mask.stem] for sample in samples]
    for path, content in zip(outputs, (panoptic_file(ordered), instance_file(ordered)), strict=True):
        with atomic(path) as target:
            target.write(json.dumps(content, separators=(",", ":")).encode())
    journal.unlink()


def _resume(journal: Path) -> list[Record]:
    """The images in the journal, which is cut after its last whole line, or begun."""
    header = json.dumps({"version": _VERSION})
    lines = journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []
    records = []
    if lines and lines[0] == header:
        for line in lines[1:]:
            try:
                records.append(Record(*json.loads(line)))
            except (ValueError, TypeError):  # a kill may have cut the last one
                break
    whole = [header, *lines[1 : 1 + len(records)]]
    with atomic(journal) as file:
        file.write("".join(f"{line}\n" for line in whole).encode())
    return records


def _annotate_image(sample: Sample, colours: Path) -> Record:
    """Write the PNG of one image and return what the JSON files say of it."""
    instance_path = (
        sample.mask.parents[2] / "annotations_instance" / sample.mask.parent.name / sample.mask.name
    )
    width, height = photograph_size(sample.image)
    labels = mask_array(open_mask(sample.mask))
    if labels.shape != (height, width):
        raise ValueError(
            f"{sample.image} is {width}x{height} pixels, its mask {labels.shape[1]}x{labels.shape[0]}: "
            "unpack the archive again"
        )
    try:
        pixels, panoptic, instances = annotate(labels, open_colours(instance_path, "instance mask"))
    except ValueError as error:
        raise ValueError(f"{instance_path}: {error}: unpack the archive again") from None
    with atomic(colours / sample.mask.name) as file:
        Image.fromarray(pixels).save(file, format="PNG")
    return Record(sample.mask.stem, width, height, panoptic, instances)


def in_processes(work: Callable[..., Any], items: list[Any], *arguments: Any, workers: int) -> Iterator[Any]:
    """work(item, *arguments) of each item, in order. Processes only where there is enough to do."""
    workers = min(workers, len(items) // 16)
    if workers < 2:
        yield from (work(item, *arguments) for item in items)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_interrupts)
    try:
        yield from pool.map(work, items, *(repeat(argument) for argument in arguments), chunksize=4)
    except BrokenProcessPool:
        raise ValueError(
            "a worker process was killed, perhaps for want of memory: run the same command with --workers 1"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts() -> None:
    """Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
