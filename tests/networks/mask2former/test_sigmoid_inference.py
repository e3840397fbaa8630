"""Golden numbers: SimCIS@28bc91e, maskformer_model.py@MaskFormer.{semantic,panoptic}_inference."""

import pytest
import torch

from methods.networks.mask2former.inference import panoptic_prediction
from methods.networks.mask2former.sigmoid_inference import (
    assigned_classes,
    learnt_segments,
    likely_queries,
    resize_classes,
)
from methods.predictions import PanopticPrediction
from tests.golden import wave

QUERIES, CLASSES, HEIGHT, WIDTH = 12, 7, 20, 24


def queries() -> tuple[torch.Tensor, torch.Tensor]:
    """Class logits, and the mask logits of discs that overlap."""
    logits = wave((QUERIES, CLASSES), 1.7, 0.3, 2.5).float() * wave((QUERIES, 1), 0.9, 0.2, 1).abs() - 0.5
    q, y, x = torch.arange(QUERIES)[:, None, None], torch.arange(HEIGHT)[:, None], torch.arange(WIDTH)
    distance = ((y - q * 7 % HEIGHT) ** 2 + (x - q * 11 % WIDTH) ** 2).float().sqrt()
    return logits.float(), 2 * (3 + q % 4 - distance)


def checksum(classes: torch.Tensor) -> int:
    return int((classes * torch.arange(classes.numel()).view(classes.shape)).sum())


def class_map(learnt: int) -> torch.Tensor:
    logits, masks = queries()
    index, scores, classes = likely_queries(logits, 0.4, except_class=learnt)
    return assigned_classes(scores, classes, masks[index], nothing=CLASSES)


@pytest.mark.parametrize(
    "learnt, pixels, total",
    [
        (7, [0, 0, 0, 97, 65, 95, 0, 223], 622354),
        (4, [0, 10, 0, 97, 0, 46, 0, 327], 693888),  # class 4, the first one not learnt, is left out
    ],
)
def test_golden_class_map(learnt, pixels, total):
    found = class_map(learnt)
    assert found.flatten().bincount(minlength=CLASSES + 1).tolist() == pixels
    assert checksum(found) == total


def test_golden_resized_class_map():
    # detectron2@02b5c4e modeling/postprocessing.py@sem_seg_postprocess of the official map, and its argmax
    found = resize_classes(class_map(7)[:18, :22], (31, 29))
    assert found.flatten().bincount(minlength=CLASSES + 1).tolist() == [0, 0, 0, 199, 135, 131, 0, 434]
    assert checksum(found) == 2178955


@pytest.mark.parametrize(
    "threshold, channels, pixels, total",
    [
        (0.2, [5, 3, 4, 5], [223, 49, 97, 65, 46], 162946),
        (0.7, [1, 5, 6, 3, 4, 5], [140, 48, 50, 22, 100, 72, 48], 312789),
    ],
)
def test_golden_panoptic_segments(threshold, channels, pixels, total):
    logits, masks = queries()
    index, scores, classes = likely_queries(logits, threshold)
    things = torch.tensor([c in (0, 2, 5) for c in range(CLASSES)])
    found = panoptic_prediction(scores, classes, masks[index], things)
    assert found.channels.tolist() == channels
    assert found.ids.flatten().bincount(minlength=len(channels) + 1).tolist() == pixels
    assert checksum(found.ids) == total


def test_a_query_that_owns_far_more_than_its_mask_does_not_count():
    near, far = torch.full((1, 10), -0.1), torch.full((1, 10), -9.0)
    near[:, :2] = 5  # the only query: it owns all pixels, its mask has two
    nothing = torch.zeros(1, dtype=torch.int64)
    assert assigned_classes(torch.ones(1), nothing, near[None], 3).unique().tolist() == [3]
    mask = torch.where(torch.arange(10) < 8, 5.0, far)
    assert assigned_classes(torch.ones(1), nothing, mask[None], 3).tolist() == [[0] * 8 + [3] * 2]


def test_no_query_is_likely():
    index, scores, classes = likely_queries(torch.full((4, 3), -5.0), 0.4)
    assert len(index) == len(scores) == len(classes) == 0
    assert assigned_classes(scores, classes, torch.zeros(0, 5, 6), 3).eq(3).all()


def test_segments_of_later_classes_become_void():
    prediction = PanopticPrediction(
        torch.tensor([[0, 1, 2], [3, 3, 4]], dtype=torch.int32), torch.tensor([4, 0, 9, 1])
    )
    found = learnt_segments(prediction, 5)
    assert found.ids.tolist() == [[0, 1, 2], [0, 0, 3]]
    assert found.ids.dtype == torch.int32
    assert found.channels.tolist() == [4, 0, 1]
