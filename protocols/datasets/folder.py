"""A user's own data set: a folder of images, a folder of masks, two lists and the class names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from protocols.datasets.dataset import Dataset, Sample
from protocols.datasets.files import IMAGE_SUFFIXES, read_lines


class Folder(Dataset):
    """Images and masks paired by stem. Paths are relative to `root`.

    `classes` are names by the id in the files, or a text file with one name a line ("Sky" or "0 Sky").
    With `background` the id 0 is the background; without, 0 is a real class (CamVid's Sky) and label ids are
    one above the file's, so that label id 0 stays free. Ids in `ignore` become 255.
    """

    key: ClassVar[str] = "folder"
    title: ClassVar[str] = "this data set"

    def __init__(
        self,
        root: Path,
        *,
        images: str = "images",
        masks: str = "masks",
        train: str = "train.txt",
        val: str = "val.txt",
        classes: str | Sequence[str] = "classes.txt",
        background: bool = True,
        ignore: Sequence[int] = (),
    ) -> None:
        super().__init__(root)
        self._images, self._masks = self._folder(images), self._folder(masks)
        self._lists = {"train": self.root / train, "val": self.root / val}
        self._background = background
        self.id_offset = 0 if background else 1
        self.ignored = frozenset(ignore)
        self.class_names = self._names(classes)
        self._lut = self._table()

    @classmethod
    def is_here(cls, folder: Path) -> bool:
        return folder.is_dir()

    @classmethod
    def layout(cls) -> str:
        return "a folder with images, masks and lists"

    @property
    def has_background(self) -> bool:
        return self._background

    def list_samples(self, split: str) -> tuple[Sample, ...]:
        lines = read_lines(self._lists[split], f"the {split} list")
        images = {path.stem: path for path in self._images.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES}
        return tuple(self._sample(line, images) for line in lines)

    def raw_to_label(self) -> npt.NDArray[np.int16]:
        return self._lut

    def _sample(self, line: str, images: dict[str, Path]) -> Sample:
        name = Path(line)
        stem = name.stem if name.suffix.lower() in IMAGE_SUFFIXES else name.name
        return Sample(images.get(stem, self._images / f"{stem}.jpg"), self._masks / f"{stem}.png")

    def _folder(self, name: str) -> Path:
        folder = self.root / name
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: this folder is missing: create it or name another")
        return folder

    def _names(self, classes: str | Sequence[str]) -> tuple[str, ...]:
        """Class names by label id. The background has the name that the rules look for."""
        where = str(self.root / classes) if isinstance(classes, str) else f"{self.root}: `classes`"
        if isinstance(classes, str):
            names = _without_ids(read_lines(self.root / classes, "the list of class names"))
        else:
            names = list(classes)
        while names and len(names) - 1 in self.ignored:
            names.pop()
        self.name_of_zero = names[0] if names else ""
        names = ["background", *names[1:]] if self._background else ["unlabelled", *names]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{where}: class {twice[0]!r} is listed twice: give every class its own name")
        if not 1 < len(names) < 255:
            raise ValueError(f"{where}: {len(names) - 1} classes: there must be 1 to 253")
        return tuple(names)

    def _table(self) -> npt.NDArray[np.int16]:
        lut = np.full(256, -1, dtype=np.int16)
        last = len(self.class_names) - 1 - self.id_offset
        lut[: last + 1] = np.arange(last + 1) + self.id_offset
        lut[[255, *self.ignored]] = 255
        return lut


def _without_ids(lines: list[str]) -> list[str]:
    """Drop the leading ids of "0 Sky", "1 Building", ... where every line has the id of its place."""
    numbered = [re.fullmatch(r"(\d+)[\s:,]+(.+)", line) for line in lines]
    if all(match and int(match[1]) == i for i, match in enumerate(numbered)):
        return [match[2].strip() for match in numbered if match]
    return lines
