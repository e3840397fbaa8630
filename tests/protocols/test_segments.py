"""Panoptic and instance annotations: what is read, which images a step has, and what is said of mistakes."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from protocols.datasets import Ade, Voc
from protocols.datasets.files import open_mask
from protocols.datasets.synthetic import draw_standin
from protocols.names import parse
from protocols.presence import segment_counts
from protocols.splits import step_samples


@pytest.fixture(scope="module")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Ade:
    return Ade(draw_standin("ade", tmp_path_factory.mktemp("segments"), train=60, val=20, workers=1))


@pytest.fixture
def copy(standin: Ade, tmp_path: Path) -> Ade:
    """One that may be damaged."""
    shutil.copytree(standin.root, tmp_path / "ADEChallengeData2016")
    return Ade(tmp_path)


def test_panoptic_segments_agree_with_the_semantic_map(standin: Ade) -> None:
    for sample in standin.samples("val"):
        segments, labels = standin.read_segments(sample, "panoptic"), standin.read_labels(sample)
        assert segments.ids.dtype == np.int32 and segments.labels.dtype == np.uint8
        assert segments.ids.shape == labels.shape
        classes = np.concatenate([[0], segments.labels])[segments.ids]
        assert np.array_equal(classes, labels)
        assert np.bincount(segments.ids.ravel(), minlength=len(segments.labels) + 1)[1:].all()
        assert not segments.crowd.any()
        stuff = [label for label in segments.labels.tolist() if label not in standin.things]
        assert len(stuff) == len(set(stuff))


def test_instances_are_the_things_of_the_panoptic_map(standin: Ade) -> None:
    for sample in standin.samples("val"):
        panoptic, instances = (standin.read_segments(sample, task) for task in ("panoptic", "instance"))
        things = np.isin(panoptic.labels, sorted(standin.things))
        assert panoptic.labels[things].tolist() == instances.labels.tolist()
        for n, m in enumerate(np.flatnonzero(things) + 1, start=1):
            assert np.array_equal(instances.ids == n, panoptic.ids == m)


def test_an_image_belongs_to_each_step_of_which_it_has_a_segment(standin: Ade, tmp_path: Path) -> None:
    for task in ("panoptic", "instance"):
        protocol = parse("ade-50-10", task)
        steps = step_samples(protocol, standin, tmp_path, workers=1)
        shown = {s: set(standin.read_segments(s, task).labels.tolist()) for s in standin.samples("train")}
        tested = {s: set(standin.read_segments(s, task).labels.tolist()) for s in standin.samples("val")}
        for step, samples in zip(protocol.steps, steps, strict=True):
            assert samples.train == tuple(s for s in shown if shown[s] & set(step.classes))
            seen = set(step.classes + step.old_classes)
            assert samples.test == tuple(s for s in tested if tested[s] & seen)
            assert samples.train_counts is not None
            for sample, counts in zip(samples.train, samples.train_counts, strict=True):
                labels = standin.read_segments(sample, task).labels
                assert np.array_equal(counts, np.bincount(labels, minlength=256))
    assert not list(tmp_path.iterdir())  # no mask is opened, so none is indexed


def test_semantic_counts_are_presence(standin: Ade, tmp_path: Path) -> None:
    first = step_samples(parse("ade-50-10"), standin, tmp_path, workers=1)[0]
    assert first.train_counts is not None
    for sample, counts in zip(first.train, first.train_counts, strict=True):
        assert set(np.flatnonzero(counts)) == set(np.unique(standin.read_labels(sample)).tolist())
        assert counts.max() == 1


def test_a_spawned_process_gets_no_tables(standin: Ade) -> None:
    segment_counts(standin, "train", "panoptic")
    assert len(pickle.dumps(standin)) < 1000
    assert standin.segment_table("train", "panoptic") is standin.segment_table("train", "panoptic")


def test_real_panoptic_files_are_read(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    """COCO's PNG and JSON in the place of ADE20K's, with its categories squeezed into 0..149."""
    source = shared_data("coco-panoptic-sample")
    root = tmp_path / "ADEChallengeData2016"
    (root / "annotations" / "validation").mkdir(parents=True)
    shutil.copytree(source / "panoptic_png", root / "ade20k_panoptic_val")
    content = json.loads((source / "annotations" / "panoptic.json").read_text())
    for annotation in content["annotations"]:
        for segment in annotation["segments_info"]:
            segment["category_id"] %= 150
        name = annotation["file_name"]
        width, height = Image.open(source / "panoptic_png" / name).size
        Image.new("L", (width, height)).save(root / "annotations" / "validation" / name)
    (root / "ade20k_panoptic_val.json").write_text(json.dumps(content))
    dataset = Ade(tmp_path)
    listed = {Path(a["file_name"]).stem: a["segments_info"] for a in content["annotations"]}
    for sample in dataset.samples("val"):
        segments, expected = dataset.read_segments(sample, "panoptic"), listed[sample.mask.stem]
        assert segments.labels.tolist() == [s["category_id"] + 1 for s in expected]
        assert segments.crowd.tolist() == [bool(s["iscrowd"]) for s in expected]
        areas = np.bincount(segments.ids.ravel(), minlength=len(expected) + 1)
        assert areas[1:].tolist() == [s["area"] for s in expected]
    voids = {
        s.mask.stem: int((dataset.read_segments(s, "panoptic").ids == 0).sum())
        for s in dataset.samples("val")
    }
    assert voids == {"000000142238": 2712, "000000439180": 7189}


def edit(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_mistakes_are_one_line_with_a_remedy(copy: Ade) -> None:
    sample, path = copy.samples("val")[0], copy.root / "ade20k_panoptic_val.json"
    whole = path.read_text()

    def says(message: str, task: str = "panoptic", kind: type[Exception] = ValueError) -> None:
        with pytest.raises(kind, match=message) as caught:
            Ade(copy.root).read_with_segments(sample, task)
        assert "\n" not in str(caught.value)

    edit(path, lambda c: c["annotations"][0]["segments_info"].pop())
    says(r"00000001.png: segment id \d+ is not in the JSON file: prepare the panoptic annotations again")
    path.write_text(whole)
    edit(path, lambda c: c["annotations"][0]["segments_info"][0].update(category_id=150))
    says(r"ade20k_panoptic_val.json: not a panoptic annotation file .category id 150 is outside 0..149")
    path.write_text(whole)
    edit(path, lambda c: c["annotations"].pop(0))
    says(r"image 'ADE_val_00000001' is not in it: remove the file and prepare")
    path.write_text(whole)
    edit(path, lambda c: c.pop("annotations"))
    says(r"not a panoptic annotation file \(no 'annotations'\): remove it")
    path.write_text(whole[:100])
    says(r"ade20k_panoptic_val.json: damaged \(.*\): remove it and prepare")
    path.unlink()
    says(rf"are missing: run `python run_benchmark.py prepare ade20k --data-root {copy.root.parent}`",
         kind=FileNotFoundError)  # fmt: skip
    path.write_text(whole)

    png = copy.root / "ade20k_panoptic_val" / "ADE_val_00000001.png"
    Image.open(png).convert("L").save(png)
    says("this panoptic mask is of mode L instead of RGB")
    Image.new("RGB", (3, 2)).save(png)
    says(r"ADE_val_00000001.jpg is \d+x\d+ pixels but its panoptic annotation is 3x2")
    path = copy.root / "ade20k_instance_val.json"
    edit(path, lambda c: c["annotations"][0]["segmentation"].update(size=[3, 2]))
    says("ade20k_instance_val.json: a mask of ADE_val_00000001 is damaged", "instance")
    edit(path, lambda c: c["annotations"][0]["segmentation"].update(size=[70, 70], counts="PX4"))
    says("a mask of ADE_val_00000001 is damaged|its instance annotation is 70x70", "instance")


def test_an_image_without_instances_is_all_void(copy: Ade) -> None:
    path, sample = copy.root / "ade20k_instance_val.json", copy.samples("val")[0]
    edit(
        path,
        lambda c: c.update(annotations=[a for a in c["annotations"] if a["image_id"] != sample.mask.stem]),
    )
    segments = Ade(copy.root).read_segments(sample, "instance")
    assert not segments.ids.any() and not len(segments.labels)
    assert segments.ids.shape == open_mask(sample.mask).size[::-1]


def test_a_data_set_without_segments_says_so(tiny_voc: Path) -> None:
    dataset = Voc(tiny_voc)
    with pytest.raises(ValueError, match="PASCAL VOC 2012 has no panoptic annotations"):
        dataset.read_segments(dataset.samples("val")[0], "panoptic")
    with pytest.raises(ValueError, match="PASCAL VOC 2012 has no instance annotations"):
        dataset.segment_table("val", "instance")
