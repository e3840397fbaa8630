"""Which images a method keeps for replay: classes in proportion to how often they were seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from protocols.datasets import Dataset, Sample
from protocols.loading import ReplaySample
from protocols.protocol import Protocol, Step
from protocols.splits import StepSamples

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def select(counts: Integers, target: Floats, number: int, start: Integers | None = None) -> Integers:
    """Rows of `counts` (N, K) whose sum comes close to the shares `target` (K,), in the order of choice.

    Greedy: next is the row with which the least Σ |share - target| is reached, of equal ones the first; the
    shares are those of `start` (K,) and all rows chosen. Fewer than `number` if there are fewer rows.
    Source: BalConpas, memory_generator/memory_selection_pan.py@greedy_selection.
    """
    total = np.zeros(len(target)) if start is None else start.astype(np.float64)
    sizes, free = counts.sum(axis=1), np.ones(len(counts), dtype=bool)
    buffer, rows = np.empty(counts.shape), np.ascontiguousarray(counts, dtype=np.float64)
    chosen: list[int] = []
    for _ in range(min(number, len(counts))):
        new_sizes = sizes + total.sum()
        np.add(rows, total, out=buffer)
        np.divide(buffer, new_sizes.clip(min=1)[:, None], out=buffer)
        np.subtract(buffer, target, out=buffer)
        distances = np.abs(buffer, out=buffer).sum(axis=1)
        distances[new_sizes == 0] = 2.0  # no shares: as far as can be
        distances[~free] = np.inf
        best = int(distances.argmin())
        free[best] = False
        chosen.append(best)
        total += rows[best]
    return np.array(chosen, dtype=np.int64)


def class_proportional_memory(
    protocol: Protocol, dataset: Dataset, seen: Sequence[StepSamples], capacity: int
) -> tuple[ReplaySample, ...]:
    """The memory after the steps `seen`, which are the first ones of the protocol; in order of file names.

    After each step a share of the memory stays, that of the earlier classes among all seen so far, and the
    rest is filled with the step's images. Both are chosen by `select`, the target being how often each class
    was seen in all steps. The annotation of an image holds the classes of those steps in which it was seen
    and then belonged to the memory.
    Source: BalConpas section "class-proportional memory"; memory_generator/memory_selection_pan.py and, for
    the other tasks, _sem.py and _inst.py. There ties are broken by the order of a set of strings.
    """
    labels = sorted({label for step in protocol.steps for label in step.classes})
    totals = np.zeros(len(labels), dtype=np.int64)
    memory: dict[Sample, Integers] = {}
    for step, samples in zip(protocol.steps, seen, strict=False):
        counts = samples.class_counts(dataset)[:, labels].astype(np.int64)
        visible = counts * np.isin(labels, step.classes)
        totals += visible.sum(axis=0)
        now = dict(zip(samples.train, visible, strict=True))
        merged = {sample: before + now.pop(sample, 0) for sample, before in memory.items()}
        num_kept = num_kept_images(capacity, step)
        stay = _choose(merged, totals, num_kept, np.zeros_like(totals))
        chosen = stay | _choose(now, totals, capacity - num_kept, sum(stay.values(), np.zeros_like(totals)))
        memory = dict(sorted(chosen.items(), key=lambda entry: entry[0].image))
    return tuple(
        ReplaySample(sample, tuple(labels[i] for i in np.flatnonzero(held)))
        for sample, held in memory.items()
    )


def num_kept_images(capacity: int, step: Step) -> int:
    """How many images of the memory stay after `step`: the share of the earlier classes, rounded down."""
    return capacity * len(step.old_classes) // len(step.old_classes + step.classes)


def _choose(
    images: dict[Sample, Integers], totals: Integers, number: int, start: Integers
) -> dict[Sample, Integers]:
    """`number` of the images with their counts, or all if they are fewer."""
    if not images:
        return {}
    samples = list(images)
    chosen = select(np.stack([*images.values()]), totals / totals.sum(), number, start)
    return {samples[i]: images[samples[i]] for i in chosen}
