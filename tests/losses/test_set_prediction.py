import pytest
import torch

from methods.losses.matching import Matching, match
from methods.losses.set_prediction import class_loss, mask_losses, matched_masks, num_masks, target_classes
from tests.losses.test_matching import case


def test_target_classes():
    *_, targets = case()
    matching = Matching(
        torch.tensor([0, 2]), torch.tensor([[5, 1], [0, 0]]), torch.tensor([[2, 3], [1, 11]]), (1, 0, 1)
    )
    classes = target_classes(matching, targets, num_queries=6, no_object=4)
    assert classes.shape == (2, 3, 6) and (classes == 4).sum() >= 36 - 4
    assert classes[0, 0, 5] == targets[0].classes[2] and classes[0, 2, 1] == targets[2].classes[0]
    assert classes[1, 0, 0] == targets[0].classes[1] and classes[1, 2, 0] == targets[2].classes[8]


def test_class_loss_is_the_weighted_mean():
    logits = torch.randn(2, 3, 6, 5)
    classes = torch.randint(5, (2, 3, 6))
    weight = torch.tensor([1.0, 1, 1, 1, 0.1])
    for layer, loss in enumerate(class_loss(logits, classes)):
        expected = torch.nn.functional.cross_entropy(
            logits[layer].flatten(0, 1), classes[layer].flatten(), weight
        )
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_mask_losses_reach_the_network():
    logits, embeddings, features, targets = case()
    embeddings.requires_grad_(), features.requires_grad_()
    matching = match(logits, embeddings, features, targets, num_points=20)
    assert matched_masks(embeddings, features, matching).shape == (2, 9, 8, 10)
    cross, dice = mask_losses(embeddings, features, targets, matching, num_masks(targets), num_points=20)
    assert cross.shape == dice.shape == (2,)
    (cross.sum() + dice.sum()).backward()
    assert features.grad[[0, 2]].any() and not features.grad[1].any()
    assert embeddings.grad.abs().sum((0, 3)).count_nonzero() <= 2 * 9


def test_without_targets_mask_losses_are_zero():
    logits, embeddings, features, targets = case(counts=(0, 0))
    matching = match(logits, embeddings.requires_grad_(), features, targets, num_points=10)
    losses = mask_losses(embeddings, features, targets, matching, num_masks(targets), num_points=10)
    assert [loss.tolist() for loss in losses] == [[0, 0], [0, 0]]
    (losses[0] + losses[1]).sum().backward()
    assert not embeddings.grad.any()
