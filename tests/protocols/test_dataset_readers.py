"""Reading data sets: the official layouts, and one clear line for every mistake of the user's."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from protocols.datasets import Ade, Cityscapes, Dataset, Folder, Voc, find, open_dataset
from protocols.datasets.ade import STUFF_IDS, THING_IDS

Shared = Callable[[str], Path]
Save = Callable[..., None]


def mistake(match: str, kind: type[Exception], action: Callable[[], object]) -> None:
    """`action` fails with one line that matches."""
    with pytest.raises(kind, match=match) as caught:
        action()
    assert "\n" not in str(caught.value)


def test_class_lists() -> None:
    assert len(Voc.class_names) == 21
    assert Voc.class_names[15] == "person"
    assert len(set(Ade.class_names)) == 151
    assert (Ade.class_names[1], Ade.class_names[13], Ade.class_names[150]) == ("wall", "person", "flag")
    assert (len(THING_IDS), len(STUFF_IDS)) == (100, 50)
    assert sum(i <= 100 for i in THING_IDS) == 64
    assert len(Cityscapes.class_names) == 20


@pytest.mark.parametrize("inside", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_voc_opens_from_any_of_its_folders(inside: str, tiny_voc: Path) -> None:
    voc = open_dataset("voc", tiny_voc / inside)
    assert voc.root == tiny_voc / "VOCdevkit" / "VOC2012"
    assert [sample.mask.stem for sample in voc.samples("train")] == ["a", "b", "c"]
    assert [sample.image.name for sample in voc.samples("val")] == ["d.jpg", "e.jpg"]
    assert not voc.is_synthetic
    assert voc.differences()[0] == "PASCAL VOC 2012 has 10582 train images, 3 are here"


@pytest.mark.parametrize("mode", ["P", "L"])
def test_masks_are_ids_whatever_their_palette(mode: str, tiny_voc: Path, save_mask: Save) -> None:
    voc = Voc(tiny_voc)
    sample = voc.samples("train")[0]
    save_mask(sample.mask, [[0, 1], [2, 255]], mode)
    assert voc.read_labels(sample).tolist() == [[0, 1], [2, 255]]
    assert voc.read_labels(sample).dtype == np.uint8
    assert np.flatnonzero(voc.label_values(sample)).tolist() == [0, 1, 2, 255]
    image, labels = voc.read(sample)
    assert (image.mode, image.size, labels.shape) == ("RGB", (2, 2), (2, 2))


def test_voc_without_augmented_masks_warns_and_uses_train_txt(tiny_voc: Path) -> None:
    root = tiny_voc / "VOCdevkit" / "VOC2012"
    lists = root / "ImageSets" / "Segmentation"
    (lists / "train_aug.txt").rename(lists / "train.txt")
    mistake("train_aug.txt: the train list", FileNotFoundError, lambda: Voc(root).samples("train"))
    (root / "SegmentationClassAug").rename(root / "SegmentationClass")
    with pytest.warns(UserWarning, match="no SegmentationClassAug.*10582"):
        assert len(Voc(root).samples("train")) == 3
    (lists / "train.txt").rename(lists / "trainaug.txt")
    assert Voc(root).samples("train")[0].mask.parent.name == "SegmentationClass"


def test_marker_makes_a_standin(tiny_voc: Path) -> None:
    (tiny_voc / "VOCdevkit" / "VOC2012" / "STANDIN.json").write_text("{}")
    assert open_dataset("voc", tiny_voc).is_synthetic


def test_real_ade_sample(shared_data: Shared) -> None:
    ade = find("ade", shared_data("ade20k-sample"))
    assert ade is not None
    samples = ade.samples("val")
    assert [sample.mask.stem for sample in samples] == [f"ADE_val_0000000{i}" for i in (1, 2, 3)]
    image, labels = ade.read(samples[0])
    assert image.size == labels.shape[::-1] == (683, 512)
    present = np.any([ade.label_values(sample) for sample in samples], axis=0)
    seen = [0, 1, 2, 3, 5, 7, 10, 12, 14, 18, 21, 44, 81, 88, 97, 103]
    assert np.flatnonzero(present).tolist() == seen
    assert [ade.class_names[i] for i in (81, 88, 103)] == ["bus", "street lamp", "van"]
    mistake("annotations/training: the train masks", FileNotFoundError, lambda: ade.samples("train"))


def test_real_voc_animals(shared_data: Shared) -> None:
    voc = open_dataset("voc", shared_data("voc-animals"))
    assert (len(voc.samples("train")), len(voc.samples("val"))) == (1001, 445)
    image, labels = voc.read(voc.samples("val")[0])
    assert image.size == labels.shape[::-1]


def test_cityscapes_ids_become_train_ids_plus_one(tmp_path: Path, save_mask: Save, save_image: Save) -> None:
    for split, city in (("train", "zurich"), ("train", "aachen"), ("val", "munster")):
        stem = f"{split}/{city}/{city}_000000_000019"
        save_mask(tmp_path / "gtFine" / f"{stem}_gtFine_labelIds.png", [[7, 8, 33], [0, 6, 255]], "L")
        save_image(tmp_path / "leftImg8bit" / f"{stem}_leftImg8bit.png", (3, 2))
    cityscapes = open_dataset("cityscapes", tmp_path)
    assert [sample.domain for sample in cityscapes.samples("train")] == ["aachen", "zurich"]
    _, labels = cityscapes.read(cityscapes.samples("val")[0])
    assert labels.tolist() == [[1, 2, 19], [0, 0, 0]]


def test_camvid_through_the_folder_layout(shared_data: Shared) -> None:
    camvid = Folder(shared_data("camvid"), masks="labels", background=False, ignore=[11])
    assert camvid.class_names[:3] == ("unlabelled", "Sky", "Building")
    assert camvid.class_names[-1] == "Bicyclist"
    assert not camvid.has_background
    assert len(camvid.samples("train")) == 367
    sample = camvid.samples("val")[0]
    image, labels = camvid.read(sample)
    raw = np.asarray(Image.open(sample.mask))
    assert image.size == (480, 360)
    assert np.array_equal(labels == 255, raw == 11)
    assert np.array_equal(labels[raw < 11], raw[raw < 11] + 1)


def test_folder_with_a_background_and_other_suffixes(
    tmp_path: Path, save_mask: Save, save_image: Save
) -> None:
    save_mask(tmp_path / "masks" / "x.1.png", [[0, 1], [2, 9]])
    save_image(tmp_path / "images" / "x.1.png", (2, 2))
    (tmp_path / "train.txt").write_text("x.1\n")
    (tmp_path / "val.txt").write_text("images/x.1.png\n")
    folder = Folder(tmp_path, classes=["nothing", "nut", "bolt"], ignore=[9])
    assert folder.class_names == ("background", "nut", "bolt")
    for split in ("train", "val"):
        assert folder.read(folder.samples(split)[0])[1].tolist() == [[0, 1], [2, 255]]
    names = ["nothing", "nut", "nut"]
    mistake("class 'nut' is listed twice", ValueError, lambda: Folder(tmp_path, classes=names))
    mistake("photos: this folder is missing", FileNotFoundError, lambda: Folder(tmp_path, images="photos"))
    mistake("classes.txt: the list of class names is missing", FileNotFoundError, lambda: Folder(tmp_path))


def test_missing_folders_are_named(tmp_path: Path) -> None:
    assert find("voc", tmp_path) is None
    for key, expected in (
        ("voc", "VOCdevkit/VOC2012"),
        ("ade", "ADEChallengeData2016"),
        ("cityscapes", "gtFine"),
    ):
        mistake(
            f"{tmp_path} holds no .*{expected}.*pass",
            FileNotFoundError,
            lambda k=key: open_dataset(k, tmp_path),
        )
    nowhere = tmp_path / "nowhere"
    mistake(f"{nowhere} does not exist", FileNotFoundError, lambda: open_dataset("ade", nowhere))
    mistake(
        "unknown data set 'coco': there are voc, ade, cityscapes", ValueError, lambda: find("coco", tmp_path)
    )


@pytest.fixture
def voc(tiny_voc: Path) -> Dataset:
    return Voc(tiny_voc)


def test_missing_and_empty_lists(voc: Dataset) -> None:
    lists = voc.root / "ImageSets" / "Segmentation"
    (lists / "val.txt").unlink()
    (lists / "train_aug.txt").write_text("\n\n")
    mistake("val.txt: the val list.*is missing", FileNotFoundError, lambda: voc.samples("val"))
    mistake("the train list of PASCAL VOC 2012 is empty", ValueError, lambda: voc.samples("train"))
    mistake("split 'test'.*only train and val", ValueError, lambda: voc.samples("test"))
    (lists / "train_aug.txt").write_text("one two three\n")
    mistake("train_aug.txt: line 'one two three'", ValueError, lambda: voc.samples("train"))


def test_missing_and_damaged_files(voc: Dataset, save_mask: Save, save_image: Save) -> None:
    a, b, c = voc.samples("train")
    a.mask.unlink()
    a.image.unlink()
    mistake("a.png: this mask is in the list but not on disk", FileNotFoundError, lambda: voc.read_labels(a))
    mistake("a.jpg: this image is in the list but not on disk", FileNotFoundError, lambda: voc.read_image(a))
    noise = np.random.default_rng(0).integers(0, 20, (64, 64)).tolist()
    save_mask(b.mask, noise)
    for keep in (0, 30, 200, 1500):
        b.mask.write_bytes(b.mask.read_bytes()[:keep] if keep else b"")
        mistake("b.png: this mask is damaged.*again", ValueError, lambda: voc.read_labels(b))
        mistake("b.png: this mask is damaged.*again", ValueError, lambda: voc.label_values(b))
        save_mask(b.mask, noise)
    save_image(c.image, (300, 300))
    c.image.write_bytes(c.image.read_bytes()[:-600])
    mistake("c.jpg: this image is damaged", ValueError, lambda: voc.read_image(c))


def test_values_colours_and_sizes(voc: Dataset, save_mask: Save, save_image: Save) -> None:
    a, b, c = voc.samples("train")
    save_mask(a.mask, [[0, 21], [254, 255]])
    for read in (voc.read_labels, voc.label_values):
        mistake(r"a.png: label value 21 .*\(0..20, 255\)", ValueError, lambda read=read: read(a))
    save_image(b.mask, (2, 2))
    mistake("b.png: a mask of mode RGB.*convert its colours", ValueError, lambda: voc.read_labels(b))
    Image.fromarray(np.zeros((2, 2), dtype=np.uint16)).save(c.mask)
    mistake("c.png: a mask of mode I;16", ValueError, lambda: voc.label_values(c))
    save_mask(c.mask, [[0, 1, 1]])
    mistake("c.jpg is 2x2 pixels but its mask .*c.png is 3x1", ValueError, lambda: voc.read(c))


def test_a_folder_that_is_a_file_is_no_traceback(tiny_voc: Path) -> None:
    lists = tiny_voc / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation"
    shutil.rmtree(lists)
    lists.write_text("")
    mistake("holds no PASCAL VOC 2012", FileNotFoundError, lambda: open_dataset("voc", tiny_voc))
