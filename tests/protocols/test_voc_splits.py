"""The VOC splits are those that MiB, RCIL and EWF publish as index files, index by index."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from protocols import presence, splits
from protocols.datasets import Voc
from protocols.names import class_steps, parse

# Count and first 12 hex digits of the md5 over little-endian int64, of the official `train-<t>.npy`.
TRAIN = {
    "voc-19-1-disjoint": "10034 bd41b3dbd1c1, 548 77b7512a1b90",
    "voc-19-1": "10410 469394f195bc, 548 77b7512a1b90",
    "voc-15-5-disjoint": "8437 eccd6e5fa764, 2145 cfb95376639f",
    "voc-15-5": "9568 15d3a0cf7a15, 2145 cfb95376639f",
    "voc-15-1-disjoint": "8437 eccd6e5fa764, 378 85b6eb1db048, 299 115f9923aeb1, 420 3f7febad8d02, "
    "500 afc85246e6ca, 548 77b7512a1b90",
    "voc-15-1": "9568 15d3a0cf7a15, 487 862ba8366ea5, 299 115f9923aeb1, 491 4c618a7d32a6, "
    "500 afc85246e6ca, 548 77b7512a1b90",
    "voc-10-1-disjoint": "3706 b2a5e34cb180, 188 b172719b03c1, 868 640bc3e68e2c, 227 7550c26d0877, "
    "201 ba534dd9e980, 3247 b485dc668a07, 378 85b6eb1db048, 299 115f9923aeb1, 420 3f7febad8d02, "
    "500 afc85246e6ca, 548 77b7512a1b90",
    "voc-10-1": "6139 7e3b04f0efc5, 528 db45e2786d58, 1177 be05c62cba07, 444 729be9b2ed3e, "
    "482 e87553627fb7, 3898 f803b1b398e7, 487 862ba8366ea5, 299 115f9923aeb1, 491 4c618a7d32a6, "
    "500 afc85246e6ca, 548 77b7512a1b90",
}
TEST = {
    "voc-15-1": [1240, 1277, 1329, 1353, 1421, 1449],
    "voc-10-1": [869, 893, 1005, 1081, 1140, 1240, 1277, 1329, 1353, 1421, 1449],
}


@pytest.mark.parametrize("name", TRAIN)
def test_training_images_are_the_published_ones(name: str, voc_masks: Voc, voc_cache: Path) -> None:
    present = presence.presence(voc_masks, voc_masks.samples("train"), voc_cache, workers=2)
    chosen = splits.train_indices(parse(name), voc_masks, present)
    sums = [hashlib.md5(indices.astype("<i8").tobytes()).hexdigest()[:12] for indices in chosen]
    found = [f"{len(indices)} {md5}" for indices, md5 in zip(chosen, sums, strict=True)]
    assert found == TRAIN[name].split(", ")


@pytest.mark.parametrize("setting", ["", "-disjoint", "-partitioned"])
@pytest.mark.parametrize("name", TEST)
def test_test_images_grow_and_do_not_depend_on_the_setting(
    name: str, setting: str, voc_masks: Voc, voc_cache: Path
) -> None:
    present = presence.presence(voc_masks, voc_masks.samples("val"), voc_cache, workers=2)
    assert [len(x) for x in splits.test_indices(parse(name + setting), present)] == TEST[name]


def test_facade_pairs_indices_with_samples_and_opens_no_photograph(voc_masks: Voc, voc_cache: Path) -> None:
    steps = splits.step_samples(parse("voc-15-1"), voc_masks, voc_cache, workers=2)
    assert [len(step.train) for step in steps] == [9568, 487, 299, 491, 500, 548]
    assert [len(step.test) for step in steps] == TEST["voc-15-1"]
    assert not steps[0].train[0].image.exists()
    assert voc_masks.samples("train")[3].mask.stem == "2007_000068"


def test_disjoint_default_order_and_every_partition_use_each_image_once(
    voc_masks: Voc, voc_cache: Path
) -> None:
    present = presence.presence(voc_masks, voc_masks.samples("train"), voc_cache, workers=2)
    for name in ("voc-10-1-disjoint", "voc-10-1-partitioned", "voc-15-5-partitioned@random3"):
        together = np.concatenate(splits.train_indices(parse(name), voc_masks, present))
        assert np.array_equal(np.sort(together), np.arange(10582)), name


def test_partition_gives_an_image_only_to_a_step_whose_class_it_shows(
    voc_masks: Voc, voc_cache: Path
) -> None:
    present = presence.presence(voc_masks, voc_masks.samples("train"), voc_cache, workers=2)
    protocol = parse("voc-15-1-partitioned")
    for step, chosen in zip(protocol.steps, splits.train_indices(protocol, voc_masks, present), strict=True):
        assert present[chosen][:, list(step.classes)].any(axis=1).all()


def test_a_step_without_images_is_one_clear_line(tiny_voc: Path, tmp_path: Path) -> None:
    protocol = parse("voc-19-1")
    steps = splits.step_samples(protocol, Voc(tiny_voc), tmp_path / "cache", workers=1)
    with pytest.raises(ValueError, match=r"voc-19-1: step 1 \(tvmonitor\) has no training image.*choose"):
        splits.check_steps(protocol, steps)


def test_missing_photographs_are_found_before_training(tiny_voc: Path, tmp_path: Path) -> None:
    voc = Voc(tiny_voc)
    protocol = replace(parse("voc-19-1"), steps=class_steps([(1,), (2,)]))
    steps = splits.step_samples(protocol, voc, tmp_path / "cache", workers=1)
    splits.check_steps(protocol, steps)
    voc.samples("val")[0].image.unlink()
    with pytest.raises(FileNotFoundError, match=r"d.jpg: 1 of 4 images are not on disk"):
        splits.check_steps(protocol, steps)


def test_classes_of_no_step_never_block_a_disjoint_image(tiny_voc: Path, tmp_path: Path) -> None:
    voc = Voc(tiny_voc)
    protocol = replace(parse("voc-19-1-disjoint"), steps=class_steps([(1,), (2,)]))
    steps = splits.step_samples(protocol, voc, tmp_path / "cache", workers=1)
    assert [[s.mask.stem for s in step.train] for step in steps] == [["c"], ["a"]]
    assert [[s.mask.stem for s in step.test] for step in steps] == [["d"], ["d", "e"]]
