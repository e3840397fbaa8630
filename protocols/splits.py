"""Which samples a step may train on and is tested on (MiB `dataset/utils.py@filter_images`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from protocols.datasets import Dataset, Sample
from protocols.datasets.segment_table import Counts
from protocols.domains import Indices, domain_indices
from protocols.partition import assign_steps
from protocols.presence import Presence, count, presence, segment_counts
from protocols.protocol import BACKGROUND, IGNORE, Protocol


@dataclass(frozen=True)
class StepSamples:
    """What one step trains on and what the model is tested on after it, in the order of the lists."""

    train: tuple[Sample, ...]
    test: tuple[Sample, ...]
    train_counts: Counts | None = field(default=None, compare=False, repr=False)
    """(training images, 256): segments of each label id in an image; 1 for a class that is there where
    there are no segments. None in a domain protocol, which looks at no mask."""

    def class_counts(self, dataset: Dataset) -> Counts:
        """`train_counts`; where they are not known, counted: every mask is opened."""
        if self.train_counts is not None:
            return self.train_counts
        return count(dataset, self.train).astype(np.uint16)


def train_indices(protocol: Protocol, dataset: Dataset, present: Presence) -> list[Indices]:
    """Positions in the training list, ascending, for every step of a class-incremental protocol.

    `present` (N, 256) is the table of the training list. Overlapped: images with a class of the step.
    Disjoint: of these, the ones without any class of a later step. Partitioned: each image in one step.
    """
    if protocol.setting == "partitioned":
        assigned = assign_steps(protocol, dataset, present)
        return [np.flatnonzero(assigned == step.index) for step in protocol.steps]
    result = []
    for step in protocol.steps:
        chosen = present[:, list(step.classes)].any(axis=1)
        if protocol.setting == "disjoint":
            # Classes that no step learns are never "future", so they block no image.
            allowed = [BACKGROUND, IGNORE, *step.old_classes, *step.classes, *protocol.left_out]
            chosen &= ~np.delete(present, allowed, axis=1).any(axis=1)
        result.append(np.flatnonzero(chosen))
    return result


def test_indices(protocol: Protocol, present: Presence) -> list[Indices]:
    """Positions in the validation list, ascending: for every step the images with any class seen so far.

    The same in all three settings.
    """
    return [
        np.flatnonzero(present[:, list(step.old_classes + step.classes)].any(axis=1))
        for step in protocol.steps
    ]


test_indices.__test__ = False  # type: ignore[attr-defined]  # pytest would collect it where a test imports it


def step_samples(protocol: Protocol, dataset: Dataset, cache_dir: Path, workers: int) -> list[StepSamples]:
    """The samples of every step. Opens no photograph, and no mask that `cache_dir` has an index of."""
    train = dataset.samples("train")
    val = dataset.samples("val")
    if protocol.is_domain_incremental:
        pool = train + val
        split = domain_indices(protocol, [sample.domain for sample in pool])
        return [StepSamples(_pick(pool, chosen), _pick(pool, test)) for chosen, test in split]
    counts, val_counts = (_counts(protocol, dataset, split, cache_dir, workers) for split in ("train", "val"))
    chosen_train = train_indices(protocol, dataset, counts > 0)
    chosen_val = test_indices(protocol, val_counts > 0)
    return [
        StepSamples(_pick(train, chosen), _pick(val, test), counts[chosen])
        for chosen, test in zip(chosen_train, chosen_val, strict=True)
    ]


def _counts(protocol: Protocol, dataset: Dataset, split: str, cache_dir: Path, workers: int) -> Counts:
    """(N, 256). An image belongs to a panoptic or instance step for which it has at least one segment
    (BalConpas `continual/prepare_datasets.py`)."""
    if protocol.has_segments:
        return segment_counts(dataset, split, protocol.task)
    return presence(dataset, dataset.samples(split), cache_dir, workers).astype(np.uint16)


def check_steps(protocol: Protocol, steps: Sequence[StepSamples]) -> None:
    """What must hold before hours of training: every step has images, and all of them are on disk.

    ValueError names the classes or cities of a step with nothing to train or to test on, FileNotFoundError
    the first photograph that is missing.
    """
    for step, samples in zip(protocol.steps, steps, strict=True):
        for kind, found in (("training", samples.train), ("validation", samples.test)):
            if not found:
                what = ", ".join(step.domains or (protocol.class_names[i] for i in step.classes))
                raise ValueError(
                    f"protocol {protocol.name}: step {step.index} ({what}) has no {kind} image in this "
                    "data set: choose classes that it shows, or another setting"
                )
    photographs = dict.fromkeys(s.image for step in steps for s in (*step.train, *step.test))
    missing = [path for path in photographs if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{missing[0]}: {len(missing)} of {len(photographs)} images are not on disk, this is the first: "
            "extract the images again or correct the list"
        )


def _pick(samples: Sequence[Sample], indices: Indices) -> tuple[Sample, ...]:
    return tuple(samples[i] for i in indices.tolist())
