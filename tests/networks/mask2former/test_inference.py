"""Against BalConpas 3b76142 MaskFormer.{semantic,panoptic,instance}_inference: 12 queries, 5 classes, 1 and 4
things."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from methods.networks.mask2former.inference import (
    confident_queries,
    instance_prediction,
    panoptic_prediction,
    resize_logits,
    semantic_scores,
)
from tests.golden import scatter

THINGS = torch.tensor([False, True, False, False, True])


def case() -> tuple[Tensor, Tensor]:
    logits = 2 * scatter((12, 6), 7)
    logits[torch.arange(9), torch.tensor([0, 1, 2, 3, 4, 1, 3, 0, 4])] += 9
    masks = (8 * scatter((1, 12, 4, 5), 8) - 4.5).float()
    return logits.float(), F.interpolate(masks, size=(24, 30), mode="bilinear", align_corners=False)[0]


def test_golden_semantic():
    scores = semantic_scores(*case())
    assert scores.shape == (5, 24, 30)
    assert scores.double().sum().item() == pytest.approx(1158.3394703903468, rel=1e-6)
    assert scores[3, 10, 0].item() == pytest.approx(0.18719245493, rel=1e-6)
    assert scores.argmax(0).flatten().bincount(minlength=5).tolist() == [193, 144, 58, 241, 84]


@pytest.mark.parametrize(
    "threshold, areas, checksum",
    [(0.8, [347, 89, 83, 41, 75, 43, 42], 419614), (0.3, [330, 106, 83, 41, 75, 43, 42], 425137)],
)
def test_golden_panoptic(threshold, areas, checksum):
    logits, masks = case()
    index, scores, classes = confident_queries(logits, 0.8)
    found = panoptic_prediction(scores, classes, masks[index], THINGS, threshold)
    assert found.ids.dtype == torch.int32 and found.channels.tolist() == [0, 1, 2, 3, 4, 1]
    assert found.ids.flatten().bincount().tolist() == areas
    assert (found.ids.flatten().long() * torch.arange(720)).sum().item() == checksum


def test_nothing_is_sure():
    logits, masks = case()
    index, scores, classes = confident_queries(logits, 1.0)
    found = panoptic_prediction(scores, classes, masks[index], THINGS)
    assert not found.ids.any() and found.ids.shape == (24, 30) and found.channels.shape == (0,)


def test_no_pixel_is_left():
    """Every segment is dropped: all masks are everywhere negative."""
    logits, masks = case()
    index, scores, classes = confident_queries(logits, 0.8)
    found = panoptic_prediction(scores, classes, masks[index] - 100, THINGS)
    assert not found.ids.any() and found.channels.shape == (0,)


@pytest.mark.parametrize(
    "things, number, total, best, classes, areas, all_areas",
    [
        (THINGS, 7, 3.1763176172971725, 0.7422415018, [1, 1, 4, 4, 4, 1], [52, 115, 83, 7, 155, 117], 646),
        (None, 20, 8.32601260393858, 0.7554941177, [0, 2, 3, 1, 1, 0], [104, 67, 70, 52, 115, 63], 2025),
    ],
)
def test_golden_instance(things, number, total, best, classes, areas, all_areas):
    found = instance_prediction(*case(), top_k=20, is_thing=things)
    order = found.scores.argsort(descending=True, stable=True)[:6]
    assert len(found.scores) == len(found.channels) == number and found.masks.dtype == torch.bool
    assert found.scores.double().sum().item() == pytest.approx(total, rel=1e-6)
    assert found.scores[order[0]].item() == pytest.approx(best, rel=1e-6)
    assert found.channels[order].tolist() == classes
    assert found.masks[order].sum((1, 2)).tolist() == areas and found.masks.sum().item() == all_areas


def test_resizing_undoes_the_padding():
    maps = torch.zeros(1, 8, 8)
    maps[:, :, 6:] = 100  # lies in the padding alone
    assert resize_logits(maps, (32, 32), (32, 20), (64, 40)).shape == (1, 64, 40)
    assert not resize_logits(maps, (32, 32), (32, 20), (64, 40)).any()


def test_no_query_is_sure() -> None:
    """Then there is nothing to resize, and the image is void."""
    none = resize_logits(torch.zeros(0, 8, 6), (32, 24), (30, 24), (15, 12))
    assert none.shape == (0, 15, 12)
    nothing = torch.zeros(0)
    found = panoptic_prediction(nothing, nothing.long(), none, torch.ones(3, dtype=torch.bool))
    assert found.ids.shape == (15, 12) and not found.ids.any() and len(found.channels) == 0
