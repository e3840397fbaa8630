"""SegmentationClassAug: VOC's own masks, and those of the Semantic Boundaries Dataset where VOC has none.

These are the masks of DeepLab (github DrSleep/tensorflow-deeplab-resnet, `SegmentationClassAug.zip`) and of
all continual segmentation since: 2913 of VOC with a void border, 9118 of SBD without any void.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from protocols.datasets import Voc
from protocols.datasets.files import open_mask
from protocols.datasets.voc import CLASS_NAMES, TRAIN_LISTS, palette
from protocols.prepare.disk import atomic
from protocols.prepare.matlab import read_field
from protocols.prepare.processes import in_processes

SBD = Path("SBD", "cls")
OWN = Path("SegmentationClass")
AUGMENTED = Path("SegmentationClassAug")
LISTS = Path("ImageSets", "Segmentation")


def make_masks(root: Path, workers: int) -> None:
    """Write the masks that `root`/SegmentationClassAug lacks, then `train_aug.txt` if there is none."""
    target = root / AUGMENTED
    target.mkdir(exist_ok=True)
    missing = sorted((_stems(root / OWN, ".png") | _stems(root / SBD, ".mat")) - _stems(target, ".png"))
    written = in_processes(write_mask, missing, root, workers=workers)
    for _ in tqdm(written, total=len(missing), desc="augmented masks", unit="mask", disable=None):
        pass
    _write_list(root)


def write_mask(stem: str, root: Path) -> None:
    """The mask of one image; ValueError that names the file it is made of."""
    own = root / OWN / f"{stem}.png"
    if own.is_file():
        open_mask(own)
        content = own.read_bytes()
        with atomic(root / AUGMENTED / own.name) as file:
            file.write(content)
        return
    mask = Image.fromarray(read_sbd(root / SBD / f"{stem}.mat"))
    mask.putpalette(palette())
    with atomic(root / AUGMENTED / own.name) as file:
        mask.save(file, format="PNG")


def read_sbd(path: Path) -> NDArray[np.uint8]:
    """(H, W) label ids 0..20: `GTcls.Segmentation` of a Matlab file of SBD. ValueError if it is damaged."""
    try:
        labels = read_field(path, "GTcls", "Segmentation")
        if labels.ndim != 2 or labels.size == 0:
            raise ValueError(f"a label map of shape {labels.shape}")
        if not np.isin(labels, np.arange(len(CLASS_NAMES))).all():
            raise ValueError(f"a label outside 0..{len(CLASS_NAMES) - 1}")
    except ValueError as error:
        raise ValueError(
            f"{path}: this mask of SBD is damaged ({error}): remove it and run `prepare voc` again"
        ) from None
    return np.ascontiguousarray(labels, dtype=np.uint8)


def _write_list(root: Path) -> None:
    """All masks but those of `val.txt`, by name: the published `train_aug.txt`, line for line."""
    path = root / LISTS / TRAIN_LISTS[0]
    if path.is_file():
        return
    val = {sample.mask.stem for sample in Voc(root).samples("val")}
    with atomic(path) as file:
        file.write("".join(f"{stem}\n" for stem in sorted(_stems(root / AUGMENTED, ".png") - val)).encode())


def _stems(folder: Path, suffix: str) -> set[str]:
    if not folder.is_dir():
        return set()
    return {path.stem for path in folder.iterdir() if path.suffix == suffix and path.name[0] != "."}
