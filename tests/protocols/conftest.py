"""Real masks and small written data sets for the tests of `protocols`."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from protocols.datasets import Voc


@pytest.fixture(scope="session")
def voc_masks(shared_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Voc:
    """All 12031 masks and the lists in the layout of VOC2012, without a single photograph."""
    source = shared_data("voc-masks")
    root = tmp_path_factory.mktemp("voc") / "VOCdevkit" / "VOC2012"
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for name in ("train_aug.txt", "val.txt"):
        shutil.copy(source / name, lists / name)
    with tarfile.open(source / "SegmentationClassAug.tar.gz") as archive:
        archive.extractall(root, filter="data")
    return Voc(root)


@pytest.fixture(scope="session")
def voc_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("voc-cache")


def _save_mask(path: Path, values: list[list[int]], mode: str = "P") -> None:
    """Write a label PNG; mode P gets a palette whose colours differ from the ids."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.array(values, dtype=np.uint8))
    if mode == "P":
        image.putpalette([(7 * i + 3) % 256 for i in range(768)])
    image.save(path)


def _save_image(path: Path, size: tuple[int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (10, 20, 30)).save(path)


@pytest.fixture
def save_mask() -> Callable[..., None]:
    return _save_mask


@pytest.fixture
def save_image() -> Callable[..., None]:
    return _save_image


@pytest.fixture
def tiny_voc(tmp_path: Path) -> Path:
    """A data root with a VOC of three training and two validation images, 2x2 pixels each."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    masks = {"a": [[0, 1], [2, 255]], "b": [[0, 0], [3, 3]], "c": [[1, 3], [0, 0]], "d": [[1, 1], [0, 0]]}
    masks["e"] = [[0, 0], [2, 20]]
    for stem, values in masks.items():
        _save_mask(root / "SegmentationClassAug" / f"{stem}.png", values)
        _save_image(root / "JPEGImages" / f"{stem}.jpg", (2, 2))
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train_aug.txt").write_text("a\nb\nc\n")
    (lists / "val.txt").write_text("d\n/JPEGImages/e.jpg /SegmentationClassAug/e.png")
    return tmp_path
