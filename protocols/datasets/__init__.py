"""The data sets that ContiSeg knows, where they usually lie, and how to open one."""

from __future__ import annotations

from pathlib import Path

from protocols.datasets.ade import Ade
from protocols.datasets.cityscapes import Cityscapes
from protocols.datasets.dataset import SPLITS, STANDIN_MARKER, Dataset, Sample
from protocols.datasets.folder import Folder
from protocols.datasets.voc import Voc

DATASETS: dict[str, type[Dataset]] = {cls.key: cls for cls in (Voc, Ade, Cityscapes)}
USUAL_FOLDERS = {
    "voc": ("", "VOCdevkit", "VOC2012", "voc", "VOC", "PascalVOC12"),
    "ade": ("", "ADEChallengeData2016", "ade", "ADE20K", "ade20k"),
    "cityscapes": ("", "cityscapes", "Cityscapes"),
}

__all__ = [
    "DATASETS",
    "SPLITS",
    "STANDIN_MARKER",
    "USUAL_FOLDERS",
    "Ade",
    "Cityscapes",
    "Dataset",
    "Folder",
    "Sample",
    "Voc",
    "find",
    "open_dataset",
]


def find(key: str, data_root: Path) -> Dataset | None:
    """The data set in one of its usual folders in `data_root`, or None when it is in none of them."""
    cls = _class(key)
    for name in USUAL_FOLDERS[key]:
        if any(cls.is_here(folder) for folder in cls.candidates(data_root / name)):
            return cls(data_root / name)
    return None


def open_dataset(key: str, root: Path) -> Dataset:
    """The data set at `root`. FileNotFoundError names the folders that should be there."""
    return find(key, root) or _class(key)(root)


def _class(key: str) -> type[Dataset]:
    if key not in DATASETS:
        raise ValueError(f"unknown data set {key!r}: there are {', '.join(DATASETS)}")
    return DATASETS[key]
