"""The synthetic stand-ins: same bytes each time, the official layouts, and never a half-written folder."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from protocols.datasets import STANDIN_MARKER, open_dataset, synthetic
from protocols.datasets.cityscapes import CITIES
from protocols.datasets.synthetic import draw_standin, plan, read_marker, textures
from protocols.datasets.synthetic_layouts import CITYSCAPES_IGNORED, LAYOUTS, city_of

SIZES = {"voc": (12, 6), "ade": (40, 10), "cityscapes": (20, 6)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("standins")
    return {key: draw_standin(key, root, train=t, val=v, workers=1) for key, (t, v) in SIZES.items()}


def read(path: Path) -> NDArray[np.int64]:
    return np.asarray(Image.open(path)).astype(np.int64)


def digest(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("key", SIZES)
def test_same_bytes_with_any_number_of_workers(key: str, folders: dict[str, Path], tmp_path: Path) -> None:
    train, val = SIZES[key]
    again = draw_standin(key, tmp_path, train=train, val=val, workers=2)
    assert digest(again) == digest(folders[key])


@pytest.mark.parametrize("key", SIZES)
@pytest.mark.parametrize("split", ["train", "val"])
def test_default_sizes_hold_every_class(key: str, split: str) -> None:
    layout = LAYOUTS[key]
    hands = plan(key, split, getattr(layout, split))
    images = Counter(label for hand in hands for label in set(hand.regions + hand.objects))
    assert set(images) == set(layout.classes)
    assert min(images.values()) >= (20 if split == "train" else 4)
    assert max(images.values()) > 2 * min(images.values())


def test_every_city_shows_every_class() -> None:
    seen: dict[str, set[int]] = {city: set() for city in CITIES}
    for split in ("train", "val"):
        for i, hand in enumerate(plan("cityscapes", split, getattr(LAYOUTS["cityscapes"], split))):
            seen[city_of(split, i)].update(hand.regions + hand.objects)
    assert all(len(classes) >= 17 for classes in seen.values())


def test_disjoint_and_overlapped_settings_find_images() -> None:
    hands = [set(hand.regions + hand.objects) for hand in plan("ade", "train", LAYOUTS["ade"].train)]
    for first, last in [(1, 50), (51, 100), (101, 110), (111, 120), (121, 130), (131, 140), (141, 150)]:
        learns_now = [hand for hand in hands if any(first <= label <= last for label in hand)]
        assert len([hand for hand in learns_now if max(hand) <= last]) >= 50
        if last < 150:
            assert len([hand for hand in learns_now if max(hand) > last]) >= 50


@pytest.mark.parametrize("count", [19, 20, 150])
def test_textures_differ(count: int) -> None:
    looks = {(t.ground.tobytes(), t.accent.tobytes(), t.pattern) for t in textures(count)}
    assert len(looks) == count


@pytest.mark.parametrize("key", SIZES)
def test_own_reader_reads_it(key: str, folders: dict[str, Path]) -> None:
    dataset = open_dataset(key, folders[key])
    assert dataset.is_synthetic
    assert tuple(len(dataset.samples(split)) for split in ("train", "val")) == SIZES[key]
    for split in ("train", "val"):
        for sample in dataset.samples(split):
            image, labels = dataset.read(sample)
            assert min(image.size) >= 64
            assert labels.any()


def test_voc_layout(folders: dict[str, Path]) -> None:
    top = folders["voc"]
    lists = {p.stem: p.read_text().splitlines() for p in (top / "ImageSets/Segmentation").iterdir()}
    assert {name: len(lines) for name, lines in lists.items()} == {"train_aug": 12, "train": 6, "val": 6}
    image, mask = lists["train_aug"][0].split()
    assert Image.open(top / image[1:]).size == Image.open(top / mask[1:]).size
    for stem in lists["train"] + lists["val"]:
        assert Image.open(top / f"SegmentationClassAug/{stem}.png").mode == "P"
        labels = read(top / f"SegmentationClassAug/{stem}.png")
        instances = read(top / f"SegmentationObject/{stem}.png")
        np.testing.assert_array_equal(labels, read(top / f"SegmentationClass/{stem}.png"))
        assert set(np.unique(labels)) <= {*range(21), 255}
        np.testing.assert_array_equal(labels == 255, instances == 255)
        np.testing.assert_array_equal(labels == 0, instances == 0)
        assert 0 < (labels == 255).mean() < 0.15
        assert min(labels.shape) >= 64
        for number in set(np.unique(instances)) - {0, 255}:
            assert len(np.unique(labels[instances == number])) == 1


def test_ade_layout(folders: dict[str, Path]) -> None:
    top = folders["ade"]
    things = LAYOUTS["ade"].objects
    for split, folder, count in [("train", "training", 40), ("val", "validation", 10)]:
        stems = [f"ADE_{split}_{i:08d}" for i in range(1, count + 1)]
        assert sorted(p.stem for p in (top / "images" / folder).glob("*.jpg")) == stems
        for stem in stems:
            labels = read(top / f"annotations/{folder}/{stem}.png")
            category, number, rest = np.moveaxis(
                read(top / f"annotations_instance/{folder}/{stem}.png"), -1, 0
            )
            assert labels.max() <= 150
            assert not rest.any()
            np.testing.assert_array_equal(number > 0, np.isin(labels, things))
            np.testing.assert_array_equal(category > 0, number > 0)
            np.testing.assert_array_equal(np.array(things)[category[number > 0] - 1], labels[number > 0])
            for n in set(np.unique(number)) - {0}:
                assert len(np.unique(category[number == n])) == 1


def test_cityscapes_layout(folders: dict[str, Path]) -> None:
    top = folders["cityscapes"]
    images = sorted((top / "leftImg8bit").rglob("*_leftImg8bit.png"))
    assert {path.parent.name for path in images} == set(CITIES)
    assert {path.parent.parent.name for path in images} == {"train", "val"}
    known = {*LAYOUTS["cityscapes"].classes, *CITYSCAPES_IGNORED}
    seen: set[int] = set()
    for path in images:
        stem = str(path).replace("leftImg8bit/", "gtFine/").removesuffix("_leftImg8bit.png")
        labels = read(Path(f"{stem}_gtFine_labelIds.png"))
        instance_ids = read(Path(f"{stem}_gtFine_instanceIds.png"))
        seen |= set(np.unique(labels).tolist())
        assert Image.open(path).size == labels.shape[::-1]
        has_instances = np.isin(labels, [24, 25, 26, 27, 28, 31, 32, 33])
        np.testing.assert_array_equal(np.where(has_instances, instance_ids // 1000, instance_ids), labels)
    assert seen <= known
    assert seen & set(CITYSCAPES_IGNORED)


def test_cities_differ_in_light(folders: dict[str, Path]) -> None:
    means = {}
    for city in CITIES:
        files = (folders["cityscapes"] / "leftImg8bit").rglob(f"{city}_*.png")
        means[city] = np.mean([read(path).mean(axis=(0, 1)) for path in files], axis=0)
    assert np.ptp(list(means.values()), axis=0).min() > 40


def test_finished_is_not_redrawn(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "_draw_and_install", lambda *_: pytest.fail("drawn again"))
    folder = folders["voc"]
    assert draw_standin("voc", folder.parents[1], train=12, val=6) == folder
    assert read_marker(folder) == {"standin": "voc", "version": synthetic.VERSION, "train": 12, "val": 6}


def test_old_version_is_redrawn(tmp_path: Path) -> None:
    folder = draw_standin("voc", tmp_path, train=2, val=1)
    before = digest(folder)
    (folder / STANDIN_MARKER).write_text(json.dumps({"standin": "voc", "version": 0, "train": 2, "val": 1}))
    (folder / "JPEGImages/stale.jpg").touch()
    assert digest(draw_standin("voc", tmp_path, train=2, val=1)) == before


def test_killed_drawing_is_redone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def draw_half(key: str, top: Path, sizes: dict[str, int], workers: int) -> None:
        (top / "half").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_, **__: None)  # a killed process cleans nothing up
        patch.setattr(synthetic, "_draw_all", draw_half)
        with pytest.raises(KeyboardInterrupt):
            draw_standin("ade", tmp_path, train=2, val=1)
    assert list(tmp_path.glob(".standin-ade-*/new/half"))
    assert not (tmp_path / "ADEChallengeData2016").exists()
    folder = draw_standin("ade", tmp_path, train=2, val=1)
    assert read_marker(folder)
    assert not list(tmp_path.glob(".standin-*"))


def test_real_data_is_never_touched(tmp_path: Path) -> None:
    real = tmp_path / "ADEChallengeData2016/images/training/ADE_train_00000001.jpg"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"real")
    with pytest.raises(ValueError, match="is not a stand-in"):
        draw_standin("ade", tmp_path, train=2, val=1)
    assert real.read_bytes() == b"real"


def test_unwritable_root_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="choose another data root"):
        draw_standin("voc", tmp_path / "file", train=2, val=1)
