"""Cityscapes fine annotations: 2975 training and 500 validation images, 19 evaluated classes, 21 cities."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from protocols.datasets.dataset import Dataset, Sample
from protocols.datasets.files import list_folder

CLASS_NAMES = (
    *("unlabelled", "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign"),
    *(
        "vegetation",
        "terrain",
        "sky",
        "person",
        "rider",
        "car",
        "truck",
        "bus",
        "train",
        "motorcycle",
        "bicycle",
    ),
)
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The ids of the 19 evaluated classes in `*_gtFine_labelIds.png`, in train id order (cityscapesScripts)."""
CITIES = (
    *("aachen", "bremen", "darmstadt", "erfurt", "hanover", "krefeld", "strasbourg", "tubingen", "weimar"),
    *("bochum", "cologne", "dusseldorf", "hamburg", "jena", "monchengladbach", "stuttgart", "ulm", "zurich"),
    *("frankfurt", "lindau", "munster"),
)
"""The order in which PLOP's domain protocols meet the cities (PLOP `dataset/cityscapes_domain.py`)."""

MASK_SUFFIX = "_gtFine_labelIds.png"
IMAGE_SUFFIX = "_leftImg8bit.png"


class Cityscapes(Dataset):
    """`leftImg8bit/{train,val}/<city>/*_leftImg8bit.png` and `gtFine/.../*_gtFine_labelIds.png`.

    Label id = train id + 1; every pixel outside the 19 classes is 0. Order: cities, then files, by name.
    """

    key: ClassVar[str] = "cityscapes"
    title: ClassVar[str] = "Cityscapes"
    official_sizes: ClassVar[dict[str, int]] = {"train": 2975, "val": 500}
    class_names = CLASS_NAMES

    @classmethod
    def candidates(cls, root: Path) -> tuple[Path, ...]:
        return root, root / "cityscapes", root / "Cityscapes"

    @classmethod
    def is_here(cls, folder: Path) -> bool:
        return (folder / "gtFine").is_dir()

    @classmethod
    def layout(cls) -> str:
        return "gtFine and leftImg8bit, each with train/<city> and val/<city>"

    def list_samples(self, split: str) -> tuple[Sample, ...]:
        folder = self.root / "gtFine" / split
        cities = [
            path for path in list_folder(folder, "", f"the {split} masks of Cityscapes") if path.is_dir()
        ]
        return tuple(sample for city in cities for sample in self._city(split, city))

    def raw_to_label(self) -> npt.NDArray[np.int16]:
        return _LUT

    def _city(self, split: str, masks: Path) -> list[Sample]:
        images = self.root / "leftImg8bit" / split / masks.name
        found = list_folder(masks, MASK_SUFFIX, "a city's masks")
        stems = [mask.name.removesuffix(MASK_SUFFIX) for mask in found]
        return [
            Sample(images / f"{stem}{IMAGE_SUFFIX}", mask, masks.name)
            for stem, mask in zip(stems, found, strict=True)
        ]


def _lut() -> npt.NDArray[np.int16]:
    lut = np.full(256, -1, dtype=np.int16)
    lut[:34] = 0
    lut[255] = 0  # the licence plate, -1 in cityscapesScripts
    lut[list(LABEL_IDS)] = np.arange(1, 20)
    return lut


_LUT = _lut()
