"""The official values are in tests/networks/segvit/test_head.py, behind the official heads."""

import pytest
import torch
import torch.nn.functional as F

from methods.losses.attention_to_mask import classes_shown, mask_losses, presence_loss
from tests.golden import wave

LABELS = torch.tensor([[[0, 2], [2, 255]], [[255, 255], [255, 255]]])


def test_classes_shown() -> None:
    assert classes_shown(LABELS, 3).tolist() == [[True, False, True], [False] * 3]


def test_the_own_class_or_absent() -> None:
    logits = wave((2, 2, 3, 4), 0.7, 0.1, 2)
    weight = torch.tensor([1, 1, 1, 0.1], dtype=torch.float64)
    targets = torch.tensor([[0, 3, 2], [3, 3, 3]])
    for prediction, loss in zip(logits, presence_loss(logits, classes_shown(LABELS, 3)), strict=True):
        assert loss.item() == pytest.approx(
            F.cross_entropy(prediction.transpose(1, 2), targets, weight).item()
        )


def test_one_classifier_for_all_classes() -> None:
    logits = wave((1, 2, 3, 2), 0.7, 0.1, 2)
    targets = torch.tensor([[0, 1, 0], [1, 1, 1]])
    expected = F.cross_entropy(logits[0].transpose(1, 2), targets, torch.tensor([1, 0.1]).double())
    (found,) = presence_loss(logits, classes_shown(LABELS, 3))
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_unlabelled_pixels_are_negatives() -> None:
    masks = wave((1, 2, 3, 2, 2), 0.7, 0.1, 2)
    shown = classes_shown(LABELS, 3)
    (before,), _ = mask_losses(masks, LABELS, shown)
    masks[0, 0, 2, 1, 1] += 3  # where the label is 255
    (after,), _ = mask_losses(masks, LABELS, shown)
    assert after > before


def test_masks_of_absent_classes_get_no_gradient() -> None:
    masks = wave((3, 2, 3, 2, 2), 0.7, 0.1, 2).requires_grad_()
    focal, dice = mask_losses(
        masks, LABELS.repeat_interleave(4, 1).repeat_interleave(4, 2), classes_shown(LABELS, 3)
    )
    assert focal.shape == dice.shape == (3,)
    (focal.sum() + dice.sum()).backward()
    assert masks.grad is not None
    assert masks.grad[:, 0, [0, 2]].all() and not masks.grad[:, 0, 1].any() and not masks.grad[:, 1].any()


def test_a_batch_without_labels() -> None:
    masks = wave((3, 2, 3, 2, 2), 0.7, 0.1, 2).requires_grad_()
    labels = torch.full_like(LABELS, 255)
    shown = classes_shown(labels, 3)
    focal, dice = mask_losses(masks, labels, shown)
    assert focal.tolist() == dice.tolist() == [0, 0, 0]
    (focal.sum() + dice.sum()).backward()
    assert masks.grad is not None and not masks.grad.any()
    assert presence_loss(torch.zeros(1, 2, 3, 2), shown).item() == pytest.approx(torch.log(torch.tensor(2.0)))
