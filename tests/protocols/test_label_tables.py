"""The look-up tables against the spec's "Label mapping per split" on toy masks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from protocols import labels
from protocols.names import class_steps, parse
from protocols.protocol import BACKGROUND, IGNORE

# voc-15-5 at step 1 of voc-10-5: background, old (3), current (12), future (18), void.
VOC_MASK = np.array([0, 3, 12, 18, 255])
ADE_MASK = np.array([0, 3, 105, 140])


@pytest.mark.parametrize(
    ("rules", "train", "test"),
    [
        ("", [0, 0, 12, 0, 255], [0, 3, 12, 0, 255]),
        ("+mib", [0, 0, 12, 0, 0], [0, 3, 12, 255, 255]),
    ],
)
def test_voc(rules: str, train: list[int], test: list[int]) -> None:
    protocol = parse(f"voc-10-5{rules}")
    assert labels.training_lut(protocol, 1)[VOC_MASK].tolist() == train
    assert labels.test_lut(protocol, 1)[VOC_MASK].tolist() == test
    assert labels.training_lut(protocol, 1).dtype == np.uint8


@pytest.mark.parametrize(
    ("rules", "train", "test"),
    [("", [0, 0, 105, 0], [0, 3, 105, 0]), ("+mib", [0, 0, 105, 0], [255, 3, 105, 255])],
)
def test_ade(rules: str, train: list[int], test: list[int]) -> None:
    protocol = parse(f"ade-100-10{rules}")
    assert labels.training_lut(protocol, 1)[ADE_MASK].tolist() == train
    assert labels.test_lut(protocol, 1)[ADE_MASK].tolist() == test


def test_channels_follow_a_permuted_order() -> None:
    protocol = parse("voc-15-1@b")
    assert labels.training_lut(protocol, 1)[17] == 16
    assert labels.training_lut(protocol, 0)[12] == 1
    assert labels.test_lut(protocol, 5)[10] == 20
    assert sorted(labels.test_lut(protocol, 5)[:21].tolist()) == list(range(21))


def test_domain_protocol_labels_all_classes_at_every_step_without_background() -> None:
    protocol = parse("cityscapes-domain-11-5")
    for step in range(3):
        for lut in (labels.training_lut(protocol, step), labels.test_lut(protocol, step)):
            assert lut[[0, 1, 19, 255]].tolist() == [255, 0, 18, 255]


def test_class_incremental_cityscapes_folds_the_unlabelled_rest_into_the_background() -> None:
    protocol = parse("cityscapes-14-1")
    assert labels.training_lut(protocol, 1)[[0, 1, 15, 16]].tolist() == [0, 0, 15, 0]
    assert labels.test_lut(protocol, 1)[[0, 1, 15, 16]].tolist() == [0, 1, 15, 0]


@pytest.mark.parametrize("rules", ["", "+mib"])
def test_without_background_whatever_a_step_does_not_learn_is_ignored(rules: str) -> None:
    protocol = replace(parse(f"voc-10-5{rules}"), background=False)
    assert labels.training_lut(protocol, 1)[VOC_MASK].tolist() == [255, 255, 11, 255, 255]
    assert labels.test_lut(protocol, 1)[VOC_MASK].tolist() == [255, 2, 11, 255, 255]


@pytest.mark.parametrize("value", [BACKGROUND, IGNORE])
def test_classes_of_no_step_go_where_the_protocol_says(value: int) -> None:
    protocol = replace(parse("voc-19-1"), steps=class_steps([(8, 10), (12,)]), other_classes=value)
    assert labels.training_lut(protocol, 1)[[0, 8, 12, 15]].tolist() == [0, 0, 3, value]
    assert labels.test_lut(protocol, 0)[[0, 8, 10, 12, 15]].tolist() == [0, 1, 2, 0, value]


def test_the_next_class_can_be_labelled_already() -> None:
    """ADE 100-10: label ids 1..100, then 101..110; a known fault of BalConpas and SimCIS."""
    protocol = parse("ade-100-10")
    for step, following in ((0, 101), (1, 111)):
        correct = labels.training_lut(protocol, step)
        lut = labels.with_next_class(correct, protocol, step)
        assert correct[following] == 0
        assert (lut != correct).nonzero()[0].tolist() == [following]
        assert lut[following] == len(protocol.channels(step))
    last = labels.training_lut(protocol, 5)
    assert (labels.with_next_class(last, protocol, 5) == last).all()
