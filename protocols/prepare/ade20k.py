"""`prepare ade20k`: from the two official archives to semantic, panoptic and instance annotations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from protocols.datasets import Ade
from protocols.datasets.ade import FOLDERS
from protocols.datasets.dataset import Sample
from protocols.datasets.files import mask_array, open_colours, open_mask, photograph_size
from protocols.prepare.ade20k_verify import check
from protocols.prepare.ade_segments import Record, annotate, instance_file, panoptic_file
from protocols.prepare.disk import atomic, count_files
from protocols.prepare.processes import in_processes
from protocols.prepare.sources import Archive, Part, Source

TOP = "ADEChallengeData2016"
_VERSION = 1
"""Of the journal: raise it whenever what stands in it changes."""
_TERMS = (
    "ADE20K's photographs may be used for non-commercial research and education only: "
    "https://groups.csail.mit.edu/vision/datasets/ADE20K/terms"
)


def _lacks(*kinds: str) -> Callable[[Path], str]:
    """What a folder of ADE20K lacks of `kinds`, each with as many files as there are samples."""

    def lacks(root: Path) -> str:
        for kind in kinds:
            for split, name in FOLDERS.items():
                found, official = count_files(root / kind / name, ""), Ade.official_sizes[split]
                if found < official:
                    return f"{kind}/{name} has {found} of {official} files"
        return ""

    return lacks


ARCHIVES = (
    Archive(
        name="ADEChallengeData2016.zip",
        top=TOP,
        urls=("http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",),
        terms=_TERMS,
        hash=("sha1", "219e1696abb36c8ba3a3afe7fb2f4b4606a897c7"),  # GluonCV `scripts/datasets/ade20k.py`
    ),
    Archive(
        name="annotations_instance.tar",
        top="annotations_instance",
        below="annotations_instance",
        urls=("http://sceneparsing.csail.mit.edu/data/ChallengeData2017/annotations_instance.tar",),
        terms=_TERMS,
        hash=(  # TensorFlow Datasets `url_checksums/scene_parse150.txt`
            "sha256",
            "5eb0db23c64779bc646ca535a3d495db0a75700b9467f8a79eecaf728b266acd",
        ),
    ),
)


def annotate_splits(root: Path, workers: int) -> None:
    for split in FOLDERS:
        annotate_split(Ade(root), split, workers)


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


SOURCE = Source(
    name="ade20k",
    key=Ade.key,
    top=TOP,
    parts=(
        Part((ARCHIVES[0],), _lacks("images", "annotations")),
        Part((ARCHIVES[1],), _lacks("annotations_instance")),
    ),
    finish=annotate_splits,
    check=check,
)
