from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from methods.replay import class_proportional_memory, num_kept_images, select
from protocols.datasets import Dataset, Sample
from protocols.names import parse
from protocols.protocol import Protocol, Step
from protocols.splits import StepSamples

DATASET = cast(Dataset, None)
"""Asked for counts that are not known yet, as in a domain protocol."""


def counts() -> np.ndarray:
    """(60, 12) with many equal rows and one class that is never seen."""
    row, column = np.arange(60)[:, None], np.arange(12)
    return ((7 * row + 11 * column * column + row * column) % 13 < 3) * (1 + (row + column) % 3)


def test_golden_selection():
    """BalConpas@3b76142 memory_generator/memory_selection_pan.py@greedy_selection, first from nothing, then
    of the rest, going on from the sum of the first choice."""
    table = counts()
    target = table.sum(axis=0) / table.sum()
    first = select(table, target, 15)
    assert first.tolist() == [28, 35, 38, 14, 8, 29, 5, 19, 4, 47, 3, 20, 1, 58, 13]
    start = table[first].sum(axis=0)
    rest = np.delete(table, first, axis=0)
    then = select(rest, target, 10, start)
    assert then.tolist() == [14, 31, 27, 16, 11, 4, 1, 21, 24, 15]
    assert (start + rest[then].sum(axis=0)).tolist() == [9, 8, 8, 9, 9, 8, 0, 6, 8, 9, 8, 8]


def test_of_equal_rows_the_first_is_taken_and_none_twice():
    table = np.array([[1, 1], [0, 0], [1, 1], [1, 1]])
    assert select(table, np.array([0.5, 0.5]), 3).tolist() == [0, 1, 2]
    assert sorted(select(table, np.array([0.5, 0.5]), 9)) == [0, 1, 2, 3]


def test_rows_without_segments_come_last_as_long_as_there_are_no_shares():
    table = np.array([[0, 0], [0, 3], [0, 0]])
    assert select(table, np.array([0.9, 0.1]), 1).tolist() == [1]
    assert sorted(select(np.zeros((3, 2), int), np.array([0.9, 0.1]), 3)) == [0, 1, 2]


# The published shares of 300 images, computed in floating point in memory_selection_{pan,sem,inst}.py.
@pytest.mark.parametrize(
    "name, task, kept",
    [
        ("ade-100-10", "panoptic", [272, 275, 276, 278, 280]),
        ("ade-100-5", "panoptic", [285, 286, 286, 287, 288, 288, 288, 289, 289, 290]),
        ("ade-100-50", "semantic", [200]),
        ("ade-50-50", "semantic", [150, 200]),
        ("ade-50-10", "instance", [250, 257, 262, 266, 270]),
        ("ade-50-50", "instance", [150]),
        ("ade-50-5", "instance", [272, 275, 276, 278, 280, 281, 282, 283, 284, 285]),
    ],
)
def test_the_share_that_stays(name, task, kept):
    steps = parse(name, task).steps[1:]
    assert [num_kept_images(300, step) for step in steps] == kept


def protocol(sizes: list[int]) -> Protocol:
    ends = np.cumsum([1, *sizes])
    steps = tuple(
        Step(i, tuple(range(start, end)), tuple(range(1, start)))
        for i, (start, end) in enumerate(pairwise(ends))
    )
    names = tuple(map(str, range(ends[-1])))
    return Protocol("own", "ade", "panoptic", "overlapped", steps, names, background=False)


def overlapped(protocol: Protocol, table: np.ndarray) -> list[StepSamples]:
    """What `step_samples` gives for images with these (N, classes) counts."""
    whole = np.zeros((len(table), 256), np.uint16)
    whole[:, 1 : table.shape[1] + 1] = table
    samples = [Sample(Path(f"{i:02}.jpg"), Path(f"{i:02}.png")) for i in range(len(table))]
    found = []
    for step in protocol.steps:
        chosen = np.flatnonzero(whole[:, list(step.classes)].any(axis=1))
        found.append(StepSamples(tuple(samples[i] for i in chosen), (), whole[chosen]))
    return found


def test_memory_follows_the_classes_that_were_seen():
    own = protocol([6, 3, 3])
    seen = overlapped(own, counts())
    numbers, labels = {}, {}
    for step in range(3):
        memory = class_proportional_memory(own, DATASET, seen[: step + 1], 12)
        numbers[step] = [int(entry.sample.image.stem) for entry in memory]
        labels[step] = dict(zip(numbers[step], (set(entry.labels) for entry in memory), strict=True))
        assert numbers[step] == sorted(set(numbers[step])) and len(memory) == 12
    assert len(set(numbers[1]) & set(numbers[0])) == 12 * 6 // 9
    assert len(set(numbers[2]) & set(numbers[1])) == 12 * 9 // 12
    shown = [{i + 1 for i in np.flatnonzero(row)} for row in counts()]
    for image, kept in labels[1].items():
        visible = {1, 2, 3, 4, 5, 6, 7, 8, 9} if image in numbers[0] else {7, 8, 9}
        assert kept == shown[image] & visible


def test_memory_smaller_than_its_capacity_holds_all_images():
    own = protocol([6, 3, 3])
    seen = overlapped(own, counts()[:5])
    assert len(class_proportional_memory(own, DATASET, seen[:1], 300)) == len(seen[0].train)
    assert len(class_proportional_memory(own, DATASET, seen, 300)) == 5
    assert class_proportional_memory(own, DATASET, seen, 0) == ()
    assert class_proportional_memory(own, DATASET, (), 300) == ()
