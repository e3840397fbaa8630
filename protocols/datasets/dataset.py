"""A data set on disk: which samples it has, in which order, and how one of them is read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from protocols.datasets.files import mask_array, mask_values, open_image, open_mask
from protocols.datasets.segment_table import SegmentTable
from protocols.segments import SegmentMap

SPLITS = ("train", "val")
STANDIN_MARKER = "STANDIN.json"
"""Lies in a folder that we drew: no number measured on it may stand beside a published one."""


@dataclass(frozen=True)
class Sample:
    """One photograph and its mask. `domain` is the city for Cityscapes, empty elsewhere."""

    image: Path
    mask: Path
    domain: str = ""


class Dataset(ABC):
    """A data set at `root`.

    Label ids are uint8: 0 background or unlabelled, 1..K the classes (`class_names[label_id]`), 255 void.
    The values in the files ("raw") become label ids through `raw_to_label`; -1 there marks a value that a
    sound mask never holds.
    """

    key: ClassVar[str]
    title: ClassVar[str]
    official_sizes: ClassVar[dict[str, int]] = {}
    """Samples a split of the published data set."""
    tasks: ClassVar[tuple[str, ...]] = ("semantic",)
    """What its annotations allow."""
    things: ClassVar[frozenset[int]] = frozenset()
    """Label ids of the countable classes, where there are panoptic annotations; the others are stuff."""
    class_names: tuple[str, ...]
    id_offset: int = 0
    """Label id minus the id in the files: 1 where the files have no background and raw 0 is a class."""
    ignored: frozenset[int] = frozenset()
    """Ids in the files that a user wants to be void."""

    def __init__(self, root: Path) -> None:
        self.root = self.locate(Path(root))
        self._samples: dict[str, tuple[Sample, ...]] = {}
        self._tables: dict[tuple[str, str], SegmentTable] = {}

    def __getstate__(self) -> dict[str, object]:
        """Without lists and tables: a spawned process gets the samples that it needs and reads its own."""
        return {**self.__dict__, "_samples": {}, "_tables": {}}

    @classmethod
    def candidates(cls, root: Path) -> tuple[Path, ...]:
        """The folders that may be the data set when the user says `root`, best first."""
        return (root,)

    @classmethod
    @abstractmethod
    def is_here(cls, folder: Path) -> bool:
        """Whether `folder` has the layout of this data set."""

    @classmethod
    def locate(cls, root: Path) -> Path:
        """The data set's own folder in or at `root`; FileNotFoundError when it is not there."""
        for folder in cls.candidates(root):
            if cls.is_here(folder):
                return folder
        problem = "holds no" if root.is_dir() else "does not exist; it should hold"
        expected = cls.layout()
        raise FileNotFoundError(
            f"{root} {problem} {cls.title} ({expected}): pass the folder that has it as data root"
        )

    @classmethod
    @abstractmethod
    def layout(cls) -> str:
        """The folders that mark this data set, in words for an error message."""

    @abstractmethod
    def list_samples(self, split: str) -> tuple[Sample, ...]:
        """The samples of `split` in the official order, read from lists and folders alone."""

    @abstractmethod
    def raw_to_label(self) -> npt.NDArray[np.int16]:
        """(256,) value in the file -> label id, -1 where the value must not occur."""

    def list_segments(self, split: str, task: str) -> SegmentTable:
        """Which segments each image of `split` has, read from disk. FileNotFoundError, ValueError."""
        raise ValueError(f"{self.title} has no {task} annotations: choose a protocol of another data set")

    def read_segments(self, sample: Sample, task: str) -> SegmentMap:
        """The segments of `sample`; ValueError for a damaged file."""
        raise ValueError(f"{self.title} has no {task} annotations: choose a protocol of another data set")

    @property
    def is_synthetic(self) -> bool:
        """Whether this is a stand-in drawn by us: `root` holds the marker."""
        return (self.root / STANDIN_MARKER).is_file()

    @property
    def has_background(self) -> bool:
        """Whether a network for this data set has a background channel 0."""
        return True

    def samples(self, split: str) -> tuple[Sample, ...]:
        """The samples of `split` ("train" or "val") in the official order. ValueError when there are none."""
        if split not in SPLITS:
            raise ValueError(f"split {split!r} of {self.title}: there are only {' and '.join(SPLITS)}")
        if split not in self._samples:
            found = self.list_samples(split)
            if not found:
                raise ValueError(
                    f"{self.root}: the {split} list of {self.title} is empty, put its samples there"
                )
            self._samples[split] = found
        return self._samples[split]

    def segment_table(self, split: str, task: str) -> SegmentTable:
        """Which segments the images of `split` have for `task`; read once in a process."""
        if (split, task) not in self._tables:
            self._tables[split, task] = self.list_segments(split, task)
        return self._tables[split, task]

    def differences(self) -> tuple[str, ...]:
        """One sentence for each split whose number of samples is not the published data set's."""
        return tuple(
            f"{self.title} has {official} {split} images, {len(self.samples(split))} are here"
            for split, official in self.official_sizes.items()
            if len(self.samples(split)) != official
        )

    def read_image(self, sample: Sample) -> Image.Image:
        """The photograph as a loaded RGB image."""
        return open_image(sample.image)

    def read_labels(self, sample: Sample) -> npt.NDArray[np.uint8]:
        """(H, W) uint8 label ids. ValueError for a value that the data set does not have."""
        mask = open_mask(sample.mask)
        self.check_values(sample.mask, mask_values(mask))
        return self.raw_to_label().astype(np.uint8)[mask_array(mask)]

    def read(self, sample: Sample) -> tuple[Image.Image, npt.NDArray[np.uint8]]:
        """The RGB image and its (H, W) uint8 label ids; ValueError when their sizes differ."""
        image, labels = self.read_image(sample), self.read_labels(sample)
        check_size(sample.image, image, f"its mask {sample.mask}", labels.shape)
        return image, labels

    def read_with_segments(self, sample: Sample, task: str) -> tuple[Image.Image, SegmentMap]:
        """The RGB image and its segments; ValueError when their sizes differ."""
        image, segments = self.read_image(sample), self.read_segments(sample, task)
        check_size(sample.image, image, f"its {task} annotation", segments.ids.shape)
        return image, segments

    def label_values(self, sample: Sample) -> npt.NDArray[np.bool_]:
        """(256,) bool: which label ids the mask of `sample` shows. Opens no photograph."""
        raw = mask_values(open_mask(sample.mask))
        self.check_values(sample.mask, raw)
        present = np.zeros(256, dtype=bool)
        present[self.raw_to_label()[raw]] = True
        return present

    def check_values(self, mask: Path, raw: npt.NDArray[np.integer]) -> None:
        """ValueError that names `mask` and its first raw value outside this data set's range."""
        allowed = self.raw_to_label() >= 0
        wrong = raw[~allowed[raw]]
        if wrong.size:
            raise ValueError(
                f"{mask}: label value {wrong[0]} is none of {self.title}'s "
                f"({_ranges(np.flatnonzero(allowed).tolist())}): convert the mask to these ids, or mark its "
                "pixels 255 (void)"
            )


def check_size(path: Path, image: Image.Image, mask: str, shape: tuple[int, ...]) -> None:
    height, width = shape
    if image.size != (width, height):
        raise ValueError(
            f"{path} is {image.width}x{image.height} pixels but {mask} is "
            f"{width}x{height}: give both the same size (nearest neighbour for masks)"
        )


def _ranges(values: list[int]) -> str:
    """[0, 1, 2, 255] -> "0..2, 255"."""
    parts: list[list[int]] = []
    for value in values:
        if parts and value == parts[-1][-1] + 1:
            parts[-1].append(value)
        else:
            parts.append([value])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}..{part[-1]}" for part in parts)


def identity_lut(last_class: int) -> npt.NDArray[np.int16]:
    """(256,) table of a data set whose files hold label ids 0..last_class and 255 themselves."""
    lut = np.full(256, -1, dtype=np.int16)
    lut[: last_class + 1] = np.arange(last_class + 1)
    lut[255] = 255
    return lut
