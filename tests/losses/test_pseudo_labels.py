import math

import numpy as np
import pytest
import torch

from methods.losses.pseudo_labels import (
    complete_labels,
    entropy_histogram,
    medians,
    official_medians,
    pixel_entropy,
)
from methods.losses.segmentation import cross_entropy
from tests.golden import base_case, wave


def test_golden_entropy():
    _, old_logits, _ = base_case()
    probabilities = old_logits.softmax(dim=1)
    entropy = pixel_entropy(probabilities)
    assert entropy.mean().item() == pytest.approx(0.147336541859, abs=1e-9)
    assert entropy.max().item() == pytest.approx(0.164314685052, abs=1e-9)
    assert entropy[0, 0, 0].item() == pytest.approx(0.134119416841, abs=1e-9)
    true = torch.distributions.Categorical(probabilities.movedim(1, -1)).entropy()
    torch.testing.assert_close(
        entropy / true, torch.full_like(true, 1 / (4 * math.log(4))), rtol=1e-6, atol=0
    )
    torch.testing.assert_close(pixel_entropy(probabilities, averaged=False), 4 * entropy)


def test_golden_pseudo_labels():
    logits, old_logits, labels = base_case()
    probabilities = old_logits.softmax(dim=1)
    predictions = probabilities.argmax(dim=1)
    thresholds = torch.tensor([0.05, 0.06, 0.07, 0.08, 0.001, 0.001, 0.001], dtype=torch.float64)
    certain = pixel_entropy(probabilities) / math.log(7) < thresholds[predictions]
    completed, share = complete_labels(labels, predictions, certain, 4)
    assert share.flatten().tolist() == pytest.approx([0.199999986667, 0.266666648889], abs=1e-9)
    assert torch.bincount(completed.flatten(), minlength=256)[[2, 3, 4, 5, 6, 255]].tolist() == [
        3,
        4,
        7,
        8,
        7,
        31,
    ]
    assert cross_entropy(logits, completed, share).item() == pytest.approx(0.301227116190, abs=1e-9)


def test_golden_thresholds():
    """`find_median` on a fake old network whose output are these logits, all labels background."""
    probabilities = wave((2, 16, 128, 128), 1.1, -0.2, 6).float().softmax(dim=1)
    values = pixel_entropy(probabilities) / math.log(17)
    histogram = entropy_histogram([(values, probabilities.argmax(dim=1))], 17, 100)
    assert histogram.sum() == 2 * 128 * 128
    thresholds = np.maximum(official_medians(histogram), 0.001)
    assert thresholds == pytest.approx([0.015] * 16 + [0.001], abs=1e-6)
    assert math.log(17) == pytest.approx(2.833213, abs=1e-6)


def test_true_medians_are_those_of_numpy():
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(4, 1000, generator=generator) ** 3
    classes = torch.arange(4)[:, None].expand(4, 1000)
    found = medians(entropy_histogram([(values, classes)], 5, 100))
    assert found[:4] == pytest.approx(np.median(values.numpy(), axis=1), abs=0.01)
    assert found[4] == 0.0


@pytest.mark.parametrize(
    "counts, expected",
    [
        ([10, 0, 0, 0], 0.125),  # half of the first bin
        ([4, 10, 0, 0], 0.25 + 0.25 * 7 / 10),  # the first bin's count is not added up, only its index 0
        ([4, 4, 4, 0], math.inf),  # no bin holds half by itself, and the last is empty
        ([0, 0, 0, 0], 0.0),
    ],
)
def test_official_medians_keep_the_fault(counts, expected):
    assert official_medians(np.array([counts]))[0] == expected


def test_true_median_within_its_bin():
    assert medians(np.array([[4, 10, 0, 0]]))[0] == pytest.approx(0.25 + 0.25 * 3 / 10)
    assert medians(np.array([[4, 4, 4, 0]]))[0] == pytest.approx(0.25 + 0.25 * 2 / 4)
    assert medians(np.array([[0, 0, 0, 5]]))[0] == pytest.approx(0.875)


def test_histograms_of_batches_add_up():
    values, classes = torch.tensor([[0.05, 0.999], [1.0, 0.05]]), torch.tensor([[0, 1], [1, 0]])
    whole = entropy_histogram([(values, classes)], 2, 10)
    assert np.array_equal(whole, entropy_histogram(zip(values, classes, strict=True), 2, 10))
    assert whole[0, 0] == 2 and whole[1, 9] == 2


def test_new_and_ignored_pixels_keep_their_labels():
    labels = torch.tensor([[[0, 1, 5, 255]]])
    predictions = torch.tensor([[[2, 2, 2, 2]]])
    completed, share = complete_labels(labels, predictions, torch.tensor([[[True, False, True, True]]]), 4)
    assert completed.tolist() == [[[2, 255, 5, 255]]]
    assert share.item() == pytest.approx(0.5)


def test_an_image_without_background_counts_nothing():
    labels = torch.full((1, 2, 2), 5)
    completed, share = complete_labels(labels, torch.zeros_like(labels), labels > 0, 4)
    assert torch.equal(completed, labels) and share.item() == 0.0
