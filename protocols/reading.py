"""What a loader process does: read one sample, map its labels or segments to channels, cut and resize it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import default_collate

from protocols.datasets import Dataset, Sample
from protocols.labels import Table
from protocols.protocol import IGNORE
from protocols.segments import SegmentMap
from protocols.short_edge import ShortEdgeCrop
from protocols.transforms import BoxCrop

TrainingItem = tuple[Tensor, Tensor, Tensor]
"""Image uint8 (3, S, S); labels uint8 (S, S), or numbers int16 (S, S) of segments, 0 where there is none;
classes int64 (N,) of the segments, empty for the semantic task. Numbers, because they are a byte or two a
pixel on their way from the loader process, where masks are N."""


class TrainingReader(TorchDataset[TrainingItem]):
    """Keys are (sample number, seed)."""

    def __init__(
        self,
        dataset: Dataset,
        task: str,
        samples: Sequence[Sample],
        luts: Sequence[Table],
        augmentation: BoxCrop | ShortEdgeCrop,
    ) -> None:
        """`luts`: the look-up table of each sample, label id -> channel or 255."""
        self.dataset, self.task, self.samples, self.luts = dataset, task, samples, luts
        self.augmentation = augmentation

    def __getitem__(self, key: tuple[int, int]) -> TrainingItem:
        number, seed = key
        sample, lut = self.samples[number], self.luts[number]
        if self.task == "semantic":
            image, labels = self.dataset.read(sample)
            pixels, target = self.augmentation(image, lut[labels], seed)
            return pixels, target, torch.empty(0, dtype=torch.int64)
        assert isinstance(self.augmentation, ShortEdgeCrop), "boxes are for labels"
        image, segments = self.dataset.read_with_segments(sample, self.task)
        numbers, classes = _training_segments(segments, lut)
        pixels, target = self.augmentation(image, numbers, seed, segments=True)
        return pixels, target, classes


def _training_segments(segments: SegmentMap, lut: Table) -> tuple[np.ndarray, Tensor]:
    """Numbers int16 (H, W) and classes (N,) of the segments that have a channel; crowds are never learnt.

    All others become 0: their pixels are in no target, which is neither background nor ignored.
    """
    classes = lut[segments.labels]
    kept = (classes != IGNORE) & ~segments.crowd
    renumbered = np.zeros(len(classes) + 1, dtype=np.int16)
    renumbered[1:][kept] = np.arange(1, kept.sum() + 1)
    return renumbered[segments.ids], torch.from_numpy(classes[kept].astype(np.int64))


def collate(items: Sequence[TrainingItem]) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Images and targets stacked; the classes of each image as they are."""
    images, targets = default_collate([item[:2] for item in items])
    return images, targets, [item[2] for item in items]


class CentreReader(TorchDataset[tuple[Tensor, Tensor]]):
    """The central crop of a test image, uint8 (3, S, S), and its labels, uint8 (S, S)."""

    def __init__(self, dataset: Dataset, samples: Sequence[Sample], lut: Table, boxes: BoxCrop) -> None:
        self.dataset, self.samples, self.lut, self.boxes = dataset, samples, lut, boxes

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        image, labels = self.dataset.read(self.samples[number])
        return self.boxes.for_test(image, self.lut[labels])

    def __len__(self) -> int:
        return len(self.samples)


WholeItem = tuple[Tensor, tuple[int, int], Any]
"""Resized image uint8 (3, h, w); height and width of the photograph; labels uint8 (H, W) or a SegmentMap."""


class WholeReader(TorchDataset[WholeItem]):
    """A whole test image with what is true of it at the photograph's own size."""

    def __init__(
        self, dataset: Dataset, task: str, samples: Sequence[Sample], lut: Table, sizes: ShortEdgeCrop
    ) -> None:
        self.dataset, self.task, self.samples, self.lut, self.sizes = dataset, task, samples, lut, sizes

    def __getitem__(self, number: int) -> WholeItem:
        truth: Tensor | SegmentMap
        if self.task == "semantic":
            image, labels = self.dataset.read(self.samples[number])
            truth = torch.from_numpy(self.lut[labels])
        else:
            image, truth = self.dataset.read_with_segments(self.samples[number], self.task)
        return self.sizes.for_test(image), (image.height, image.width), truth

    def __len__(self) -> int:
        return len(self.samples)


def as_it_is(item: WholeItem) -> WholeItem:
    """In place of torch's collation: images of different sizes do not stack."""
    return item
