"""The schedule and the confusion matrix, against the official functions' numbers (spec 7.1)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.metrics.semantic import confusion_matrix
from benchmarks.training import poly_lr, warmup_factor
from reports.record import SemanticCounts


@pytest.mark.parametrize(
    ("iteration", "expected"), [(0, 0.01), (1, 0.009909954834), (50, 0.005358867313), (99, 0.000158489319)]
)
def test_poly_schedule(iteration: int, expected: float) -> None:
    """Row 18: `PolyLR(max_iters=100)` at lr 0.01."""
    assert poly_lr(0.01, iteration, 100, 0.9) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("iteration", "expected"),
    [
        (0, 2e-4 * 1e-6),
        (750, 2e-4 * (1 - 750 / 160_000) * 0.5000005),
        (1500, 2e-4 * (1 - 1500 / 160_000)),
        (80_000, 1e-4),
        (159_999, 2e-4 / 160_000),
    ],
)
def test_warm_up_multiplies_the_schedule(iteration: int, expected: float) -> None:
    """SegViT's configs: linear over 1500 iterations, ratio 1e-6, on poly of power 1."""
    lr = poly_lr(2e-4, iteration, 160_000, 1.0) * warmup_factor(iteration, 1500)
    assert lr == pytest.approx(expected, rel=1e-12)


def test_confusion_matrix_gives_the_official_scores() -> None:
    """Row 17: `StreamSegMetrics(4)`; 255 does not count, and a class without ground truth has no IoU."""
    labels = torch.tensor([0, 0, 1, 1, 2, 255, 1, 0])
    predictions = torch.tensor([0, 1, 1, 1, 2, 2, 3, 0])
    confusion = confusion_matrix(labels, predictions, 4)
    assert confusion.sum() == 7
    counts = SemanticCounts.from_confusion(confusion.numpy(), background=True)
    iou = counts.quality()
    np.testing.assert_allclose(iou[:3], [2 / (3 + 1e-6), 2 / (4 + 1e-6), 1 / (1 + 1e-6)], atol=1e-12)
    assert np.isnan(iou[3])
    assert np.nanmean(iou) == pytest.approx(0.722221773, abs=1e-9)
    assert counts.overall_accuracy() == pytest.approx(5 / 7, abs=1e-9)
    assert counts.mean_accuracy() == pytest.approx((4 / (3 + 1e-6) + 1 / (1 + 1e-6)) / 3, abs=1e-9)
    assert counts.mean_accuracy() == pytest.approx(0.777777, abs=1e-6)
    assert counts.frequency_weighted_iou() == pytest.approx(0.642857, abs=2e-6)
