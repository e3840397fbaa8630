"""Batches of all three tasks, replay, counts and whole test images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from protocols.datasets import Ade
from protocols.datasets.synthetic import draw_standin
from protocols.loading import Batch, ReplaySample, StepData
from protocols.names import parse
from protocols.shares import Share, divided
from protocols.short_edge import ShortEdgeCrop
from protocols.splits import step_samples
from protocols.transforms import IMAGENET, BoxCrop

Make = Callable[..., StepData]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """(task, step, workers) -> the data of that step of ade-50-50."""
    dataset = Ade(draw_standin("ade", tmp_path_factory.mktemp("loading"), train=40, val=12, workers=1))
    cache = tmp_path_factory.mktemp("cache")

    def step_data(task: str, index: int = 1, workers: int = 0, box: bool = False) -> StepData:
        protocol = parse("ade-50-50", task)
        samples = step_samples(protocol, dataset, cache, workers=1)[index]
        return StepData(
            dataset=dataset,
            protocol=protocol,
            index=index,
            train=samples.train,
            test=samples.test,
            earlier=[samples],
            augmentation=BoxCrop(32, (0.5, 2.0)) if box else ShortEdgeCrop(64, 64, 256),
            batch=4,
            statistics=IMAGENET,
            seed=5,
            workers=workers,
            device=torch.device("cpu"),
        )

    return step_data


def equal(one: Batch, other: Batch) -> bool:
    segments = zip(one.segments or [], other.segments or [], strict=True)
    return (
        torch.equal(one.images, other.images)
        and torch.equal(one.labels, other.labels)
        and all(torch.equal(a.classes, b.classes) and torch.equal(a.masks, b.masks) for a, b in segments)
    )


@pytest.mark.parametrize("task", ["semantic", "panoptic", "instance"])
def test_workers_and_resuming_change_no_bit(make: Make, task: str) -> None:
    batches = list(make(task).training_batches(4))
    with_workers = list(make(task, workers=2).training_batches(4))
    resumed = list(make(task).training_batches(4, first=2))
    assert all(map(equal, batches, with_workers))
    assert all(map(equal, batches[2:], resumed)) and len(resumed) == 2


@pytest.mark.parametrize("task", ["panoptic", "instance"])
def test_segments_are_of_the_steps_classes_alone(make: Make, task: str) -> None:
    data, empty = make(task), 0
    old, now = len(data.protocol.steps[0].classes), len(data.protocol.channels(1))
    for batch in data.training_batches(10):
        assert batch.segments is not None and len(batch.segments) == len(batch.images) == 4
        for labels, segments in zip(batch.labels, batch.segments, strict=True):
            assert segments.classes.dtype == torch.int64 and segments.masks.dtype == torch.bool
            assert segments.masks.shape == (len(segments.classes), 64, 64)
            assert len(segments.classes) and ((segments.classes >= old) & (segments.classes < now)).all()
            assert segments.masks.sum(0).max() <= 1
            empty += int((segments.masks.sum((1, 2)) == 0).sum())
            for known, mask in zip(segments.classes, segments.masks, strict=True):
                assert (labels[mask] == known).all()
            assert (labels[~segments.masks.any(0)] == 255).all()
    assert empty > 0  # a segment outside the crop stays


def test_a_crop_that_holds_the_image_shows_all_of_its_segments(make: Make) -> None:
    data = make("panoptic")

    class Unchanged(ShortEdgeCrop):
        def training_sides(self) -> tuple[int, ...]:
            return (64,) * 16

    data.augmentation = Unchanged(100, 64, 1000)
    for batch in data.training_batches(3):
        assert batch.segments is not None
        for segments in batch.segments:
            assert (segments.masks.sum((1, 2)) > 0).all()
            assert not segments.masks[:, 80:].any()  # no photograph is higher than 5/4 of its width


def test_the_semantic_task_takes_either_augmentation(make: Make) -> None:
    for box in (False, True):
        data = make("semantic", box=box)
        batch = next(data.training_batches(1))
        assert batch.segments is None and batch.labels.dtype == torch.int64
        known = set(data.training_lut.tolist())
        assert set(batch.labels.unique().tolist()) <= known | {255}
    side = make("semantic", box=False)
    assert any((b.labels == 255).any() for b in side.training_batches(6))  # padding


def test_replayed_images_show_their_kept_labels_only(make: Make) -> None:
    data = make("panoptic")
    kept = make("panoptic", index=0)
    counts = kept.earlier[0].class_counts(kept.dataset)
    entries = []
    for sample, row in zip(kept.train[:6], counts, strict=False):
        entries.append(ReplaySample(sample, (int(row[:51].argmax()),)))
    alone = StepData(**{**vars(data), "train": (), "replay": tuple(entries), "batch": 6})
    batch = next(alone.training_batches(1))
    assert batch.segments is not None
    allowed = sorted(data.protocol.channels(1).index(entry.labels[0]) for entry in entries)
    assert sorted(int(s.classes[0]) for s in batch.segments) == allowed
    assert all(len(s.classes.unique()) == 1 for s in batch.segments)
    mixed = data.with_replay(entries)
    per_epoch = (len(data.train) + 6) // 4
    assert len(list(mixed.first_epoch())) == per_epoch
    assert data.replay == ()


def test_replayed_labels_of_the_semantic_task(make: Make) -> None:
    data, kept = make("semantic"), make("semantic", index=0)
    label = int(kept.earlier[0].class_counts(kept.dataset)[0, 1:51].argmax()) + 1
    alone = StepData(
        **{**vars(data), "train": (), "replay": (ReplaySample(kept.train[0], (label,)),), "batch": 1}
    )
    shown = {v for batch in alone.training_batches(8) for v in batch.labels.unique().tolist()}
    assert shown == {0, data.protocol.channels(1).index(label), 255}


def test_counts_of_classes(make: Make) -> None:
    data = make("panoptic")
    (samples,) = data.earlier
    counts = samples.class_counts(data.dataset)
    assert counts.shape == (len(data.train), 256)
    for sample, row in zip(data.train, counts, strict=True):
        labels = data.dataset.read_segments(sample, "panoptic").labels
        assert np.array_equal(row, np.bincount(labels, minlength=256))
    (known,) = make("semantic").earlier
    uncounted = dataclasses.replace(known, train_counts=None)  # as in a domain protocol
    assert np.array_equal(uncounted.class_counts(data.dataset), known.class_counts(data.dataset))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("task", ["semantic", "panoptic", "instance"])
def test_whole_test_images(make: Make, task: str, workers: int) -> None:
    data = make(task, index=0, workers=workers)
    images = list(data.test_images())
    assert len(images) == len(data.test)
    for found, sample in zip(images, data.test, strict=True):
        photograph, labels = data.dataset.read(sample)
        assert found.size == (photograph.height, photograph.width)
        assert found.image.shape[:2] == (1, 3) and min(found.image.shape[2:]) == 64
        assert found.image.dtype == torch.float32
        if task == "semantic":
            assert found.labels is not None and found.segments is None
            assert np.array_equal(found.labels.numpy(), data.test_lut[labels])
            continue
        assert found.labels is None and found.segments is not None and found.channels is not None
        assert np.array_equal(found.segments.ids, data.dataset.read_segments(sample, task).ids)
        channels = data.protocol.channels(0)
        expected = [channels.index(x) if x in channels else -1 for x in found.segments.labels.tolist()]
        assert found.channels.tolist() == expected and max(expected) >= 0


def names(tests: Iterable[Any]) -> list[bytes]:
    return [test.image.numpy().tobytes() for test in tests]


@pytest.mark.parametrize("task", ["semantic", "panoptic", "instance"])
def test_shares_are_parts_of_the_same_batches(make: Make, task: str) -> None:
    """Two processes and two passes, of one image each: process 0 has images 0 and 2 of a batch."""
    data = make(task)
    whole = list(data.training_batches(3))
    shares = [replace(data, share=Share(rank, 2, 2)) for rank in range(2)]
    for rank, share in enumerate(shares):
        parts = list(share.training_batches(3))
        assert [part.is_last_pass for part in parts] == [False, True] * 3
        for number, part in enumerate(parts):
            image = 2 * (number % 2) + rank
            batch = whole[number // 2]
            assert torch.equal(part.images, batch.images[image : image + 1])
            assert torch.equal(part.labels, batch.labels[image : image + 1])
            if task != "semantic":
                assert part.segments is not None and batch.segments is not None
                assert torch.equal(part.segments[0].masks, batch.segments[image].masks)
    resumed = list(shares[1].training_batches(3, first=1))
    assert all(map(equal, resumed, list(shares[1].training_batches(3))[2:]))
    epochs = [list(share.first_epoch()) for share in shares]
    assert all(map(equal, *epochs)) and len(epochs[0]) == 4 * len(list(data.first_epoch()))


@pytest.mark.parametrize("processes", [2, 3, 7])
def test_every_test_image_is_one_process_s(make: Make, processes: int) -> None:
    data, boxes = make("panoptic"), make("semantic", box=True)
    data, boxes = replace(data, test=data.test[:5]), replace(boxes, test=boxes.test[:9])
    found = [names(replace(data, share=Share(r, processes)).test_images()) for r in range(processes)]
    whole = names(data.test_images())
    assert len(whole) == 5
    assert [found[i % processes][i // processes] for i in range(5)] == whole
    parts = [list(replace(boxes, share=Share(r, processes)).test_batches()) for r in range(processes)]
    for number, batch in enumerate(boxes.test_batches()):  # 4, 4 and 1 images, as one process has them
        assert equal(parts[number % processes][number // processes], batch)
    assert sum(len(batch.images) for part in parts for batch in part) == 9


@pytest.mark.parametrize(
    ("batch", "processes", "at_most", "passes", "text"),
    [
        (24, 1, None, 1, "24 = 24 images"),
        (24, 2, None, 1, "24 = 2 processes x 12 images"),
        (24, 2, 6, 2, "24 = 2 processes x 6 images x 2 passes"),
        (24, 1, 7, 4, "24 = 6 images x 4 passes"),
        (24, 3, 100, 1, "24 = 3 processes x 8 images"),
        (14, 2, 4, 7, "14 = 2 processes x 1 images x 7 passes"),
    ],
)
def test_how_a_batch_is_divided(
    batch: int, processes: int, at_most: int | None, passes: int, text: str
) -> None:
    share = divided(batch, 0, processes, at_most)
    assert share == Share(0, processes, passes)
    assert share.describe(batch) == text
    parts = [part for r in range(processes) for part in replace(share, rank=r).of_batch(range(batch))]
    assert sorted(n for part in parts for n in part) == list(range(batch))


def test_a_batch_that_cannot_be_divided() -> None:
    with pytest.raises(ValueError, match="24 images cannot be shared evenly by 5 processes; start"):
        divided(24, 0, 5, None)
    with pytest.raises(ValueError, match="--batch-per-device 0: must be 1 or more"):
        divided(24, 0, 1, 0)
