"""Sample predictions: which images, in which files, and that nothing else depends on them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.samples import SURE, _label_map, choose_samples
from methods.predictions import InstancePrediction, PanopticPrediction
from protocols.datasets import Sample
from reports.samples import read_label_map

Runner = Callable[..., int]
CHOSEN = ["val_1", "val_3", "val_4", "val_5"]
"""Of val_0 to val_5: those of the lowest SHA-256 of images/<name>.png."""
SEGVIT = "finetune@segvit[iterations=2,later_iterations=2]"


def laid_out(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*"))


def test_every_method_shows_the_same_images(run_tiny: Runner, tmp_path: Path) -> None:
    few = [f"finetune@segvit.{name}=2" for name in ("iterations", "later_iterations")]
    short = ["--scale", "mini", "--set", few[0], "--set", few[1]]
    assert run_tiny(*short, methods="finetune,joint,finetune@segvit") == 0
    folder = tmp_path / "runs/samples/tiny-2-1"
    assert sorted(path.name for path in folder.iterdir()) == CHOSEN
    of_steps = [f"{m}/seed-0/step-{t}.png" for m in ("finetune", SEGVIT) for t in range(3)]
    for image in CHOSEN:
        found = laid_out(folder / image)
        assert found == sorted([*of_steps, "joint/seed-0/step-2.png", "image.jpg", "truth.png"])
        truth = read_label_map(folder / image / "truth.png").labels
        assert np.array_equal(truth, np.asarray(Image.open(tmp_path / f"tiny/masks/{image}.png")))
        crop, whole = (
            read_label_map(folder / image / m / "seed-0/step-0.png").labels for m in ("finetune", SEGVIT)
        )
        assert crop.shape == (32, 32) and whole.shape == truth.shape == (36, 40)
        assert {*np.unique(crop), *np.unique(whole)} <= {0, 1, 2}  # red and green: what the step knows


def test_a_shared_step_brings_its_samples(run_tiny: Runner, tmp_path: Path) -> None:
    run_tiny(methods="finetune")
    run_tiny(methods="mib")
    folder = tmp_path / "runs/samples/tiny-2-1/val_1"
    first, shared = (folder / f"{method}/seed-0/step-0.png" for method in ("finetune", "mib"))
    assert first.read_bytes() == shared.read_bytes()


def test_steps_stored_without_samples_are_used_as_they_are(run_tiny: Runner, tmp_path: Path) -> None:
    run_tiny(methods="finetune")
    stored = {path.name for path in (tmp_path / "runs/store").iterdir()}
    for path in (tmp_path / "runs/store").glob("*/samples"):
        shutil.rmtree(path)
    shutil.rmtree(tmp_path / "runs/samples")
    run_tiny(methods="mib")
    assert laid_out(tmp_path / "runs/samples/tiny-2-1/val_1") == [
        "image.jpg", "mib/seed-0/step-1.png", "mib/seed-0/step-2.png", "truth.png",
    ]  # fmt: skip
    (tmp_path / "runs/records/tiny-2-1/finetune/seed-0.json").unlink()
    run_tiny(methods="finetune")
    assert not (tmp_path / "runs/samples/tiny-2-1/val_1/finetune").exists()
    assert len(stored) + 2 == len(list((tmp_path / "runs/store").iterdir()))  # MiB's two later steps


def test_predictions_of_other_settings_are_not_left_behind(run_tiny: Runner, tmp_path: Path) -> None:
    run_tiny(methods="finetune")
    folder = tmp_path / "runs/samples/tiny-2-1/val_1/finetune/seed-0"
    (folder / "step-7.png").write_bytes(b"of a longer protocol")
    (tmp_path / "runs/records/tiny-2-1/finetune/seed-0.json").unlink()
    run_tiny(methods="finetune")
    assert laid_out(folder) == ["step-0.png", "step-1.png", "step-2.png"]


def test_the_choice_knows_names_alone(tmp_path: Path) -> None:
    samples = [Sample(tmp_path / f"images/val_{i}.png", tmp_path / f"masks/{i}.png") for i in range(6)]
    assert sorted(choose_samples(samples, tmp_path)) == CHOSEN
    assert choose_samples(samples[::-1], tmp_path) == choose_samples(samples, tmp_path)
    equal = [Sample(tmp_path / f"{city}/1.png", tmp_path / "1.png") for city in "abc"]
    assert list(choose_samples(equal, tmp_path)) == ["1"]


CHANNELS = np.asarray([0, 7, 9], dtype=np.uint8)


def test_segments_keep_labels_and_numbers(tmp_path: Path) -> None:
    ids = torch.tensor([[1, 0], [2, 300]], dtype=torch.int32)
    found = PanopticPrediction(ids, torch.tensor([2, 1] + [1] * 298))
    (tmp_path / "a.png").write_bytes(_label_map(found, CHANNELS).png())
    read = read_label_map(tmp_path / "a.png")
    assert read.labels.tolist() == [[9, 255], [7, 7]]
    assert read.segments is not None and read.segments.tolist() == [[1, 0], [2, 300]]


def test_surer_instances_lie_on_top() -> None:
    masks = torch.tensor([[[True, True, False]], [[False, True, True]], [[True, True, True]]])
    found = InstancePrediction(masks, torch.tensor([1, 2, 1]), torch.tensor([0.9, 0.8, SURE - 0.1]))
    shown = _label_map(found, CHANNELS)
    assert shown.labels.tolist() == [[7, 7, 9]]
    assert shown.segments is not None and shown.segments.tolist() == [[1, 1, 2]]
    unsure = InstancePrediction(masks, found.channels, torch.zeros(3))
    assert _label_map(unsure, CHANNELS).labels.tolist() == [[255, 255, 255]]


@pytest.mark.slow
def test_segments_of_the_standin(tmp_path: Path) -> None:
    from benchmarks.cli import main

    options = [
        "--task",
        "panoptic",
        "--methods",
        "finetune",
        "--set",
        "recipe.iterations=2",
        "--device",
        "cpu",
    ]
    options += ["--set", "recipe.later_iterations=2", "--runs", str(tmp_path)]
    assert main(["--protocol", "ade-100-50", *options]) == 0
    folders = list((tmp_path / "samples").glob("*/*"))
    assert len(folders) == 4
    for folder in folders:
        truth = read_label_map(folder / "truth.png")
        assert truth.segments is not None and truth.segments.any()
        assert np.array_equal(truth.segments == 0, truth.labels == 255)
        (step,) = folder.rglob("step-1.png")
        assert read_label_map(step).labels.shape == truth.labels.shape
