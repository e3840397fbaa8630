"""Pixels that count: the confusion matrix, and what the evaluators of BalConpas and SimCIS make of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.metrics.semantic import ConfusionMatrix

PIXEL = np.arange(600)
LEARNT, CLASSES = 4, 6


def labels() -> NDArray[np.int64]:
    """Classes 0..5, 255 void."""
    classes = (7 * PIXEL + PIXEL // 11) % 8
    return np.where(classes >= CLASSES, 255, classes)


def predictions(unassigned: str) -> NDArray[np.int64]:
    """Classes 0..3, and 6 where the pixel is left without a class."""
    guessed = np.where(labels() < LEARNT, labels(), (PIXEL // 2) % 4)
    classes = np.where(PIXEL % 3 == 0, (5 * PIXEL) % 4, guessed)
    if unassigned != "none":
        classes = np.where(PIXEL % 7 == 0, CLASSES, classes)
    return np.where(labels() == 3, CLASSES, classes) if unassigned == "class 3" else classes


def matrix(unassigned: str) -> ConfusionMatrix:
    """As our runner counts: channel 0 is the background, which holds void and the classes not learnt yet."""
    truth = np.where(labels() < LEARNT, labels() + 1, 0)
    found = np.where(predictions(unassigned) < LEARNT, predictions(unassigned) + 1, 0)
    confusion = ConfusionMatrix(LEARNT + 1, background=True)
    for part in (slice(0, 250), slice(250, 600)):
        confusion.update(torch.from_numpy(truth[part]), torch.from_numpy(found[part]))
    return confusion


@pytest.mark.parametrize(
    ("unassigned", "assigned_only", "expected"),
    [
        ("none", False, [66.0, 57.647058823529406, 59.183673469387756, 65.11627906976744]),
        ("none", True, [66.0, 57.647058823529406, 59.183673469387756, 65.11627906976744]),
        ("some", True, [67.85714285714286, 59.72222222222222, 60.24096385542169, 65.75342465753424]),
        ("class 3", True, [70.37037037037037, 62.31884057971014, 63.29113924050633, np.nan]),
    ],
)
def test_labelled_pixels_as_the_official_evaluators(
    unassigned: str, assigned_only: bool, expected: list[float]
) -> None:
    """IoU that `SemSegEvaluator.evaluate` gives, in BalConpas@3b76142 as in SimCIS@28bc91e."""
    iou = matrix(unassigned).counts().labelled_iou(assigned_only)
    assert iou is not None and np.isnan(iou[0])
    np.testing.assert_allclose(100 * iou[1:], expected, rtol=1e-7)


def test_a_pixel_left_without_a_class_is_missed_unless_only_assigned_ones_count() -> None:
    truth, found = torch.tensor([1] * 10 + [0] * 5), torch.tensor([1] * 5 + [0] * 5 + [1] * 5)
    confusion = ConfusionMatrix(2, background=True)
    confusion.update(truth, found)
    counts = confusion.counts()
    assert counts.quality()[1] == pytest.approx(5 / 15)
    labelled, assigned = counts.labelled_iou(), counts.labelled_iou(assigned_only=True)
    assert labelled is not None and labelled[1] == pytest.approx(0.5)
    assert assigned is not None and assigned[1] == pytest.approx(1)


def test_a_protocol_without_background_has_no_labelled_pixels_of_its_own() -> None:
    confusion = ConfusionMatrix(2, background=False)
    confusion.update(torch.tensor([0, 1, 255]), torch.tensor([0, 0, 1]))
    counts = confusion.counts()
    assert (counts.intersection, counts.prediction) == ((1, 0), (2, 0))
    assert counts.labelled_iou() is counts.unassigned is None
