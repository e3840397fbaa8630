"""PASCAL VOC 2012 with the augmented masks: 10582 training and 1449 validation images, 20 classes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from protocols.datasets.dataset import Dataset, Sample, identity_lut
from protocols.datasets.files import read_lines

CLASS_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *(
        "diningtable",
        "dog",
        "horse",
        "motorbike",
        "person",
        "pottedplant",
        "sheep",
        "sofa",
        "train",
        "tvmonitor",
    ),
)
TRAIN_LISTS = ("train_aug.txt", "trainaug.txt")


class Voc(Dataset):
    """`VOC2012/{JPEGImages, SegmentationClassAug or SegmentationClass, ImageSets/Segmentation}`.

    Official order: the lines of `train_aug.txt` and `val.txt`; the published index files mean exactly these.
    """

    key: ClassVar[str] = "voc"
    title: ClassVar[str] = "PASCAL VOC 2012"
    official_sizes: ClassVar[dict[str, int]] = {"train": 10582, "val": 1449}
    class_names = CLASS_NAMES

    @classmethod
    def candidates(cls, root: Path) -> tuple[Path, ...]:
        return root, root / "VOC2012", root / "VOCdevkit" / "VOC2012"

    @classmethod
    def is_here(cls, folder: Path) -> bool:
        return (folder / "ImageSets" / "Segmentation").is_dir()

    @classmethod
    def layout(cls) -> str:
        return "VOCdevkit/VOC2012/ImageSets/Segmentation"

    @property
    def mask_folder(self) -> Path:
        augmented = self.root / "SegmentationClassAug"
        return augmented if augmented.is_dir() else self.root / "SegmentationClass"

    def list_samples(self, split: str) -> tuple[Sample, ...]:
        path = self._list_file(split)
        return tuple(
            self._sample(path, line) for line in read_lines(path, f"the {split} list of {self.title}")
        )

    def raw_to_label(self) -> npt.NDArray[np.int16]:
        return _LUT

    def _list_file(self, split: str) -> Path:
        lists = self.root / "ImageSets" / "Segmentation"
        if split == "val":
            return lists / "val.txt"
        for name in TRAIN_LISTS:
            if (lists / name).is_file():
                return lists / name
        if self.mask_folder.name == "SegmentationClass" and (lists / "train.txt").is_file():
            warnings.warn(
                f"{self.root}: no SegmentationClassAug and no train_aug.txt, so training uses the 1464 "
                "images of train.txt; published numbers use 10582",
                stacklevel=2,
            )
            return lists / "train.txt"
        return lists / TRAIN_LISTS[0]

    def _sample(self, list_file: Path, line: str) -> Sample:
        """A line is a stem, or the pair `/JPEGImages/x.jpg /SegmentationClassAug/x.png`."""
        parts = line.split()
        if len(parts) == 1:
            return Sample(self.root / "JPEGImages" / f"{line}.jpg", self.mask_folder / f"{line}.png")
        if len(parts) == 2:
            return Sample(self.root / parts[0].lstrip("/"), self.root / parts[1].lstrip("/"))
        raise ValueError(
            f"{list_file}: line {line!r} is neither an image name nor an image and a mask: correct it"
        )


def palette() -> bytes:
    """The colours of VOC's PNG files: the bits of the label id dealt to R, G, B from the highest bit down."""
    ids = np.arange(256)
    rgb = np.zeros((256, 3), int)
    for bit in range(8):
        for channel in range(3):
            rgb[:, channel] |= ((ids >> (3 * bit + channel)) & 1) << (7 - bit)
    return rgb.astype(np.uint8).tobytes()


_LUT = identity_lut(len(CLASS_NAMES) - 1)
