"""`prepare voc`: PASCAL VOC 2012's photographs and masks, and the masks that SBD adds."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from protocols.datasets import SPLITS, Dataset, Voc
from protocols.datasets.files import mask_array, open_mask
from protocols.datasets.voc import TRAIN_LISTS
from protocols.prepare.disk import count_files
from protocols.prepare.processes import in_processes
from protocols.prepare.sources import Archive, Part, Say, Source
from protocols.prepare.voc_masks import AUGMENTED, LISTS, OWN, SBD, make_masks

COUNTS = {"JPEGImages": 17125, OWN.name: 2913, AUGMENTED.name: 12031, "SBD": 11355}
"""Files in the official archives: VOC 2012's photographs, its train and val masks, SegmentationClassAug.zip,
SBD's masks (torchvision `SBDataset`)."""
LIST_HASHES = {
    "train": "855dff350b7f447bf43cb98ea626a32e0d0b3b7c5786e03b2712a21355b635bf",
    "val": "6f8edc37993764f6e212237d39546fb595246244147e8a050813c520aac0ade1",
}
"""SHA-256 of the sorted names, a line feed between two: of the lists to which the index files of MiB, RCIL
and EWF belong (measured on github zzq96/Nested-unet@57e85f6; tests/protocols/test_voc_splits.py)."""

VOC = Archive(
    name="VOCtrainval_11-May-2012.tar",
    top="VOCdevkit/VOC2012",
    only=("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"),
    urls=(
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "https://data.pjreddie.com/files/VOCtrainval_11-May-2012.tar",
        "https://dataset.bj.bcebos.com/voc/VOCtrainval_11-May-2012.tar",  # PaddlePaddle `VOC2012`
    ),
    terms="VOC's photographs come from Flickr: use them within Flickr's terms of use "
    "(http://host.robots.ox.ac.uk/pascal/VOC/voc2012)",
    hash=("md5", "6cd6e144f989b92b3379bac3b3de84fd"),  # torchvision `datasets/voc.py`
)
AUG = Archive(
    name="SegmentationClassAug.zip",  # not its authors', and on no lasting server: taken where it lies
    top="SegmentationClassAug",
    below="SegmentationClassAug",
)
BENCHMARK = Archive(
    name="benchmark.tgz",
    top="benchmark_RELEASE/dataset",
    below="SBD",
    only=("cls",),
    urls=tuple(
        f"{server}/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz"
        for server in ("https://www2.eecs.berkeley.edu", "http://www.eecs.berkeley.edu")
    ),
    terms="SBD annotates photographs of VOC 2011, under Flickr's terms too; cite Hariharan et al., Semantic "
    "Contours from Inverse Detectors, ICCV 2011",
    hash=("md5", "82b4d87ceb2ed10f6038a1cba92111cb"),  # torchvision `datasets/sbd.py`
)


def _lacks_images(root: Path) -> str:
    if _is_whole(root):
        return ""
    for name, suffix in (("JPEGImages", ".jpg"), (OWN.name, ".png")):
        if (found := count_files(root / name, suffix)) < COUNTS[name]:
            return f"{name} has {found} of {COUNTS[name]} files {suffix}"
    return "" if (root / LISTS / "val.txt").is_file() else f"{LISTS / 'val.txt'} is missing"


def _lacks_masks(root: Path) -> str:
    found = count_files(root / AUGMENTED, ".png")
    sbd = count_files(root / SBD, ".mat")
    if found >= COUNTS[AUGMENTED.name] or sbd >= COUNTS["SBD"]:
        return ""
    if sbd:
        return f"{SBD} has {sbd} of {COUNTS['SBD']} files .mat"
    return f"{AUGMENTED} has {found} of {COUNTS[AUGMENTED.name]} files .png"


def _is_whole(root: Path) -> bool:
    """Whether all that the lists name is there, though VOC's own masks may not be."""
    if not (root / LISTS / TRAIN_LISTS[0]).is_file():
        return False
    try:
        dataset = Voc(root)
        return not dataset.differences() and all(
            sample.image.is_file() and sample.mask.is_file()
            for split in SPLITS
            for sample in dataset.samples(split)
        )
    except (FileNotFoundError, ValueError):
        return False


def check(dataset: Dataset, say: Say, workers: int) -> list[str]:
    """The lists, and that the augmented masks are VOC's own where there are such."""
    return [*_check_lists(dataset), *_check_own_masks(dataset.root, workers)]


def _check_lists(dataset: Dataset) -> Iterator[str]:
    names = {}
    for split in SPLITS:
        try:
            names[split] = [sample.mask.stem for sample in dataset.samples(split)]
        except (FileNotFoundError, ValueError):  # said already
            continue
        twice = [stem for stem, times in Counter(names[split]).items() if times > 1]
        if twice:
            yield f"{split}: {len(twice)} names are listed twice, such as {twice[0]}: correct the list"
        digest = hashlib.sha256("\n".join(sorted(names[split])).encode()).hexdigest()
        if len(names[split]) == Voc.official_sizes[split] and digest != LIST_HASHES[split]:
            yield f"{split}: the list does not name the published images: remove it, `prepare voc` writes it"
    if len(names) == len(SPLITS) and (both := sorted(set(names["train"]) & set(names["val"]))):
        yield f"{len(both)} names are in both lists, such as {both[0]}: test images would be trained on"


def _check_own_masks(root: Path, workers: int) -> list[str]:
    pairs = [
        (path, root / AUGMENTED / path.name)
        for path in sorted((root / OWN).glob("[!.]*.png"))
        if (root / AUGMENTED / path.name).is_file()
    ]
    found = in_processes(_differs, pairs, workers=workers)
    progress = tqdm(found, total=len(pairs), desc="comparing with VOC's masks", unit="mask", disable=None)
    return [problem for problem in progress if problem]


def _differs(pair: tuple[Path, Path]) -> str:
    own, augmented = pair
    try:
        same = np.array_equal(mask_array(open_mask(own)), mask_array(open_mask(augmented)))
    except ValueError as error:
        return str(error) if str(own) in str(error) else ""  # the other is named among the samples
    return "" if same else f"{augmented}: not VOC's own mask, SegmentationClass/{own.name}: remove the former"


SOURCE = Source(
    name="voc",
    key=Voc.key,
    top="VOCdevkit/VOC2012",
    parts=(Part((VOC,), _lacks_images), Part((AUG, BENCHMARK), _lacks_masks)),
    finish=make_masks,
    check=check,
)
