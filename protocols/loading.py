"""From samples on disk to batches, the same bits whatever the number of loader workers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from protocols.datasets import Dataset, Sample
from protocols.segments import Segments
from protocols.transforms import PixelStatistics, augment, centre_crop, normalise


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
    """int64 (B, H, W): channel index, 0 background, 255 ignored."""
    segments: list[Segments] | None = None
    """Of each image, where the protocol has segments."""


class _Crops(TorchDataset[tuple[Tensor, Tensor]]):
    """Reads a sample, maps its label ids through the look-up table and cuts the crop.

    Keys are (sample number, seed); the seed is None for evaluation, which crops the centre.
    """

    def __init__(
        self,
        dataset: Dataset,
        samples: Sequence[Sample],
        lut: np.ndarray,
        crop: int,
        area_factor: tuple[float, ...],
    ) -> None:
        self.dataset, self.samples, self.lut = dataset, samples, lut
        self.crop, self.area_factor = crop, area_factor

    def __getitem__(self, key: tuple[int, int | None]) -> tuple[Tensor, Tensor]:
        number, seed = key
        image, labels = self.dataset.read(self.samples[number])
        if seed is None:
            return centre_crop(image, self.lut[labels], self.crop)
        return augment(image, self.lut[labels], self.crop, self.area_factor, seed)

    def __len__(self) -> int:
        return len(self.samples)


class _ShuffledBatches:
    """The batches of a whole step from batch `first` on, each a list of (sample number, seed).

    The last incomplete batch of an epoch is dropped as in the official loaders; a set smaller than one
    batch is repeated until it fills one.
    """

    def __init__(self, num_samples: int, batch: int, iterations: int, first: int, seed: int) -> None:
        self.num_samples, self.batch, self.seed = num_samples, batch, seed
        self.iterations, self.first = iterations, first

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        per_epoch = batches_per_epoch(self.num_samples, self.batch)
        order: list[int] = []
        for iteration in range(self.first, self.iterations):
            epoch, position = divmod(iteration, per_epoch)
            if not order or position == 0:
                order = self._order(epoch)
            start = position * self.batch
            numbers = order[start : start + self.batch]
            yield [(n, derive_seed(self.seed, iteration, i)) for i, n in enumerate(numbers)]

    def __len__(self) -> int:
        return self.iterations - self.first

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
    train: Sequence[Sample]
    test: Sequence[Sample]
    training_lut: np.ndarray
    """uint8 (256,): label id -> training label."""
    test_lut: np.ndarray
    """uint8 (256,): label id -> test label."""
    crop: int
    area_factor: tuple[float, ...]
    """Least and most area of a training box, relative to the image."""
    batch: int
    statistics: PixelStatistics
    seed: int
    workers: int
    device: torch.device

    def training_batches(self, iterations: int, first: int = 0) -> Iterator[Batch]:
        """Augmented, shuffled batches number `first` to `iterations` - 1 of this step."""
        batches = _ShuffledBatches(len(self.train), self.batch, iterations, first, self.seed)
        return self._load(self.train, self.training_lut, batches)

    def first_epoch(self) -> Iterator[Batch]:
        """The batches of the first pass over this step's training images, for statistics before it trains."""
        return self.training_batches(batches_per_epoch(len(self.train), self.batch))

    def test_batches(self) -> Iterator[Batch]:
        """Every test image once, in list order, centre-cropped, with the labels of the test rule."""
        numbers = [(i, None) for i in range(len(self.test))]
        batches = [numbers[i : i + self.batch] for i in range(0, len(numbers), self.batch)]
        return self._load(self.test, self.test_lut, batches)

    def _load(self, samples: Sequence[Sample], lut: np.ndarray, batches: object) -> Iterator[Batch]:
        loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
            _Crops(self.dataset, samples, lut, self.crop, self.area_factor),
            batch_sampler=batches,  # type: ignore[arg-type]
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # else the loader draws from the global stream of the training
        )
        for images, labels in loader:
            images = images.to(self.device, non_blocking=True)
            labels = labels.to(self.device, non_blocking=True).long()
            yield Batch(normalise(images, self.statistics), labels)
