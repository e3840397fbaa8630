"""From samples on disk to batches, the same bits whatever the number of loader workers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from protocols.datasets import Dataset, Sample
from protocols.labels import Table, replay_lut, test_lut, training_lut, with_next_class
from protocols.protocol import IGNORE, Protocol
from protocols.reading import CentreReader, TrainingReader, WholeReader, as_it_is, collate
from protocols.segments import NOT_LEARNT, SegmentMap, Segments
from protocols.shares import WHOLE, Share
from protocols.short_edge import ShortEdgeCrop
from protocols.splits import StepSamples
from protocols.transforms import BoxCrop, PixelStatistics, normalise


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from any printable parts; different parts give independent streams."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


@dataclass
class Batch:
    """What a method trains on."""

    images: Tensor
    """float32 (B, 3, H, W), normalised."""
    labels: Tensor
    """int64 (B, H, W): channel index, 0 background, 255 ignored. Where there are segments: the class of the
    segment that lies there, 255 where there is none."""
    segments: list[Segments] | None = None
    """What panoptic and instance protocols are learnt from, one entry an image; None for semantic ones."""
    is_last_pass: bool = True
    """Whether the parameters move after it; not so for the other passes of a batch whose gradients add up."""


@dataclass(frozen=True)
class ReplaySample:
    """An image of the memory, with the label ids that its kept annotation holds."""

    sample: Sample
    labels: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class TestImage:
    """A whole test image. Either `labels`, or `segments` and their `channels`, are there."""

    __test__ = False  # pytest would collect it where a test imports it

    image: Tensor
    """float32 (1, 3, h, w), normalised, the short side as the recipe has it; not padded."""
    size: tuple[int, int]
    """Height and width of the photograph."""
    labels: Tensor | None = None
    """int64 (H, W) at the photograph's size: channel index, 255 ignored."""
    segments: SegmentMap | None = None
    channels: Tensor | None = None
    """int64 (N,) on the CPU: channel index of each segment, -1 for a class that is not learnt yet."""


class _ShuffledBatches:
    """A share of the batches of a whole step from batch `first` on, each a list of (sample number, seed).

    A batch is the same whatever the share.

    The last incomplete batch of an epoch is dropped as in the official loaders; a set smaller than one
    batch is repeated until it fills one. The Mask2Former family's own loader never ends and groups images by
    aspect ratio; with crops that are all padded to one square, that changes nothing but the order.
    """

    def __init__(
        self, num_samples: int, batch: int, iterations: int, first: int, seed: int, share: Share
    ) -> None:
        self.num_samples, self.batch, self.seed, self.share = num_samples, batch, seed, share
        self.iterations, self.first = iterations, first

    def __iter__(self) -> Iterator[Sequence[tuple[int, int]]]:
        per_epoch = batches_per_epoch(self.num_samples, self.batch)
        order: list[int] = []
        for iteration in range(self.first, self.iterations):
            epoch, position = divmod(iteration, per_epoch)
            if not order or position == 0:
                order = self._order(epoch)
            start = position * self.batch
            numbers = order[start : start + self.batch]
            whole = [(n, derive_seed(self.seed, iteration, i)) for i, n in enumerate(numbers)]
            yield from self.share.of_batch(whole)

    def __len__(self) -> int:
        return (self.iterations - self.first) * self.share.passes

    def _order(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", epoch))
        order = torch.randperm(self.num_samples, generator=generator).tolist()
        repeats = -(-self.batch // self.num_samples)
        return order * repeats


def batches_per_epoch(num_samples: int, batch: int) -> int:
    """Full batches in one pass over the set; at least one."""
    return max(1, num_samples // batch)


@dataclass
class StepData:
    """What may be seen in one step, handed to a method's hooks."""

    dataset: Dataset
    protocol: Protocol
    index: int
    """Of the step."""
    train: Sequence[Sample]
    test: Sequence[Sample]
    augmentation: BoxCrop | ShortEdgeCrop
    """DeepLab's family or Mask2Former's."""
    batch: int
    statistics: PixelStatistics
    seed: int
    workers: int
    device: torch.device
    replay: Sequence[ReplaySample] = ()
    """Images of the memory, trained on besides `train`."""
    earlier: Sequence[StepSamples] = ()
    """What the steps before had, for a method to choose its memory from; empty if it does not replay."""
    share: Share = WHOLE
    """This process's part of each batch, and of the test images."""
    next_class_labelled: bool = False
    """A known fault of two official repositories: `protocols.labels.with_next_class`."""

    @cached_property
    def training_lut(self) -> Table:
        """uint8 (256,): label id -> training label."""
        lut = training_lut(self.protocol, self.index)
        return with_next_class(lut, self.protocol, self.index) if self.next_class_labelled else lut

    @cached_property
    def test_lut(self) -> Table:
        """uint8 (256,): label id -> test label."""
        return test_lut(self.protocol, self.index)

    def with_replay(self, replay: Iterable[ReplaySample]) -> StepData:
        """The same step with images of the memory: one list, each image once an epoch, no oversampling.

        An image may be in both lists, with other labels. Source: BalConpas `train_continual.py@main`, which
        joins the lists of the step and of the memory.
        """
        return replace(self, replay=tuple(replay))

    def with_next_class(self) -> StepData:
        """The same step with the first class of the next one labelled already."""
        return replace(self, next_class_labelled=True)

    def training_batches(self, iterations: int, first: int = 0) -> Iterator[Batch]:
        """Augmented, shuffled batches number `first` to `iterations` - 1 of this step; this process's share.

        Where a batch is seen in several passes, each is yielded by itself.
        """
        samples = self._training_samples
        luts = [self.training_lut] * len(self.train)
        luts += [replay_lut(self.protocol, self.index, entry.labels) for entry in self.replay]
        task = self.protocol.task
        if self.protocol.has_segments:
            self.dataset.segment_table("train", task)  # before the loader forks, so that one process reads it
        loader: DataLoader = DataLoader(
            TrainingReader(self.dataset, task, samples, luts, self.augmentation),
            batch_sampler=_ShuffledBatches(  # type: ignore[arg-type]
                len(samples), self.batch, iterations, first, self.seed, self.share
            ),
            collate_fn=collate,
            **self._processes(),
        )
        for number, (images, targets, classes) in enumerate(loader, start=1):
            yield self._batch(images, targets, classes, number % self.share.passes == 0)

    def samples_of_batch(self, iteration: int) -> list[Sample]:
        """What batch number `iteration`, from 0 on, is made of, in all processes together."""
        samples = self._training_samples
        batches = _ShuffledBatches(len(samples), self.batch, iteration + 1, iteration, self.seed, WHOLE)
        return [samples[number] for batch in batches for number, _ in batch]

    def first_epoch(self) -> Iterator[Batch]:
        """The batches of the first epoch of this step's training images, for statistics before it trains.

        Every process gets all of them, so that all come to the same.
        """
        whole = replace(self, share=Share(passes=self.share.parts))
        return whole.training_batches(batches_per_epoch(len(self._training_samples), self.batch))

    def test_batches(self) -> Iterator[Batch]:
        """Every test image once, in list order, centre-cropped, with the labels of the test rule.

        With several processes each gets whole batches of those that one process would have, every n-th.
        """
        assert isinstance(self.augmentation, BoxCrop), "whole images are tested: use `test_images`"
        numbers = list(range(len(self.test)))
        batches = [numbers[i : i + self.batch] for i in range(0, len(self.test), self.batch)]
        loader: DataLoader = DataLoader(
            CentreReader(self.dataset, self.test, self.test_lut, self.augmentation),
            batch_sampler=self.share.of_tests(batches),
            **self._processes(),
        )
        for images, labels in loader:
            yield Batch(normalise(self._there(images), self.statistics), self._there(labels).long())

    def test_images(self) -> Iterator[TestImage]:
        """Every test image once, in list order, whole; with several processes every n-th for each."""
        assert isinstance(self.augmentation, ShortEdgeCrop), "centre crops are tested: use `test_batches`"
        if self.protocol.has_segments:
            self.dataset.segment_table("val", self.protocol.task)  # as in `training_batches`
        samples = self.share.of_tests(self.test)
        reader = WholeReader(self.dataset, self.protocol.task, samples, self.test_lut, self.augmentation)
        loader: DataLoader = DataLoader(
            reader,
            batch_size=None,
            collate_fn=as_it_is,  # type: ignore[arg-type]
            **self._processes(),
        )
        for pixels, size, truth in loader:
            image = normalise(self._there(pixels)[None], self.statistics)
            if isinstance(truth, SegmentMap):
                channels = torch.from_numpy(self.test_lut[truth.labels].astype(np.int64))
                channels[channels == IGNORE] = NOT_LEARNT
                yield TestImage(image, size, segments=truth, channels=channels)
            else:
                yield TestImage(image, size, labels=self._there(truth).long())

    @property
    def _training_samples(self) -> list[Sample]:
        """Those of the step, then those of the memory."""
        return [*self.train, *(entry.sample for entry in self.replay)]

    def _batch(self, images: Tensor, targets: Tensor, classes: Sequence[Tensor], is_last_pass: bool) -> Batch:
        """On the device: pixels normalised, and masks made from the numbers of the segments."""
        pixels, targets = normalise(self._there(images), self.statistics), self._there(targets).long()
        if not self.protocol.has_segments:
            return Batch(pixels, targets, is_last_pass=is_last_pass)
        segments, labels = [], []
        nowhere = torch.tensor([IGNORE], device=self.device)
        for numbers, known in zip(targets, map(self._there, classes), strict=True):
            ordinals = torch.arange(1, len(known) + 1, device=self.device)
            segments.append(Segments(known, numbers == ordinals[:, None, None]))
            labels.append(torch.cat([nowhere, known])[numbers])
        return Batch(pixels, torch.stack(labels), segments, is_last_pass)

    def _there(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)

    def _processes(self) -> dict[str, Any]:
        return {
            "num_workers": self.workers,
            "pin_memory": self.device.type == "cuda",
            # Else the loader draws from the global stream of the training.
            "generator": torch.Generator(),
        }
